"""Spot checks of other nodes' copies: who passes, who fails, and what follows. Real HTTP servers answer."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from decentraspace.challenges import Challenges
from decentraspace.identity.keys import NodeKey
from tests.api.small_node import Person, SmallNode
from tests.network.gateways import Dag, Request, gateway, make_dag
from tests.records.factory import make_announcement, make_receipt, take
from tests.support import free_port

REFUTE_AFTER = 100.0


async def honest(request: Request) -> None:
    assert request.headers["cache-control"] == "only-if-cached"
    await request.honest()


async def lacks_it(request: Request) -> None:
    await request.whole(b"not here", "412 Precondition Failed")


async def sends_other_bytes(request: Request) -> None:
    await request.whole(b"something else")


class World:
    """A node that holds one site, and others that say they do."""

    def __init__(self, folder: Path) -> None:
        self.node = SmallNode(
            folder, network={"allow_private": True}, hosting={"refute_after": REFUTE_AFTER, "replicas": 3}
        )
        self.now = time.time()
        self.checks = self.node.hosting.challenges = Challenges(
            self.node.config,
            self.node.key.public,
            self.node.records,
            self.node.blocks,
            self.node.hosting.holdings,
            clock=lambda: self.now,
        )
        self.node.hosting.shares.refuted = self.checks.refuted
        self.node.hosting.standing.challenges = self.checks
        self.person = Person(self.node)

    async def deploy(self, label: str) -> Dag:
        dag = make_dag({f"file{n}": f"{label}{n}".encode() * 400 for n in range(6)})
        self.node.blocks.put_many(list(dag.blocks.items()))
        owner = self.person
        with self.node.blocks.hold():
            record = take_record(owner, dag, label)
            await self.node.hosting.deploy(owner.address, record)
        return dag

    def other(self, url: str, *labels: str) -> NodeKey:
        """A node announced with that gateway, which has signed for the sites."""
        key, now = NodeKey.generate(), int(time.time())
        records = [make_announcement(key, self.node.rules, gateway=url, created=now)]
        for label in labels:
            head = self.node.records.head(self.person.site_id(label))
            assert head is not None
            records.append(
                make_receipt(key, self.node.rules, root=head.root, site=head.site_id, seq=1, created=now)
            )
        for record in records:
            self.node.records.add(take(record, key, now), now=now)
        return key

    async def challenge(self, count: int = 1, every: float = 1.0) -> None:
        for _ in range(count):
            self.now += every
            assert await self.checks.challenge() is not None

    def counted(self, label: str) -> int:
        """Others that count as holders of a site."""
        head = self.node.records.head(self.person.site_id(label))
        assert head is not None
        return self.node.hosting.shares.others(head, self.node.hosting.shares.live())


def take_record(owner: Person, dag: Dag, label: str) -> bytes:
    return base64.b64decode(owner.site(dag.root, label=label)["record"])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    object.__setattr__(made.node.config.limits, "free_sites", 10)
    yield made
    made.node.close()


async def test_who_gives_blocks_from_its_own_disk_has_been_checked(world: World) -> None:
    dag = await world.deploy("one")
    async with gateway(dag, honest) as server:
        key = world.other(server.url, "one")
        assert world.checks.checked(key.public, dag.root) is None
        await world.challenge(60)
        assert len({cid for cid, form in server.asked if form == "raw"}) > 3, "random blocks"
    assert world.checks.checked(key.public, dag.root) == world.now
    assert not world.checks.refuted(key.public, dag.root)
    status = await world.node.hosting.status(world.person.site_id("one"))
    checked = {holder["peer_id"]: holder["checked"] for holder in status["holders"]}
    assert checked[world.node.key.peer_id] is None
    assert checked[key.peer_id] is not None


@pytest.mark.parametrize("wrong", [lacks_it, sends_other_bytes])
async def test_who_fails_again_and_again_no_longer_counts_until_it_passes(
    world: World, wrong: object
) -> None:
    dag = await world.deploy("one")
    behaviour = [wrong]

    async def answers(request: Request) -> None:
        await behaviour[0](request)  # type: ignore[operator]

    async with gateway(dag, answers) as server:
        key = world.other(server.url, "one")
        await world.challenge(5)
        assert world.counted("one") == 1, "five failures, but within seconds"
        await world.challenge(1, REFUTE_AFTER)
        assert world.checks.refuted(key.public, dag.root)
        assert world.counted("one") == 0
        behaviour[0] = honest
        await world.challenge()
        assert world.counted("one") == 1


async def test_two_failures_are_not_enough_however_far_apart(world: World) -> None:
    dag = await world.deploy("one")
    async with gateway(dag, lacks_it) as server:
        world.other(server.url, "one")
        await world.challenge(2, 10 * REFUTE_AFTER)
        assert world.counted("one") == 1


async def test_who_lacks_one_site_still_counts_for_others(world: World) -> None:
    one, two = await world.deploy("one"), await world.deploy("two")
    both = Dag(one.root, {**one.blocks, **two.blocks})

    async def lacks_two(request: Request) -> None:
        await (lacks_it if request.cid in two.blocks else honest)(request)

    async with gateway(both, lacks_two) as server:
        key = world.other(server.url, "one", "two")
        while not world.checks.refuted(key.public, two.root):
            await world.challenge(1, REFUTE_AFTER / 2)
        assert (world.counted("one"), world.counted("two")) == (1, 0)


async def test_who_does_not_answer_at_all_counts_for_nothing_while_others_answer(world: World) -> None:
    dag = await world.deploy("one")
    gone = world.other(f"http://127.0.0.1:{free_port()}", "one")
    await world.challenge(20, REFUTE_AFTER)
    assert not world.checks.refuted(gone.public, dag.root), "it may be this node that is cut off"
    async with gateway(dag, honest) as server:
        there = world.other(server.url, "one")
        for _ in range(500):
            if world.checks.refuted(gone.public, dag.root):
                break
            await world.challenge(1, REFUTE_AFTER / 20)
    assert world.checks.refuted(gone.public, dag.root)
    assert not world.checks.refuted(there.public, dag.root)
    assert world.counted("one") == 1


async def test_nothing_to_ask_for_is_no_failure(world: World) -> None:
    assert await world.checks.challenge() is None
    dag = await world.deploy("one")
    assert await world.checks.challenge() is None, "nobody else is there"
    async with gateway(dag, honest) as server:
        key = world.other(server.url)
        assert await world.checks.challenge() is None, "nobody else has signed for it"
        assert not server.asked
    assert not world.checks.refuted(key.public, dag.root)


@pytest.mark.parametrize("instead", [lacks_it, sends_other_bytes, "nobody"])
async def test_a_copy_is_let_go_only_when_those_relied_on_give_blocks(world: World, instead: object) -> None:
    """Both have signed for it, no spot check was made yet."""
    node, dag = world.node, await world.deploy("one")
    node.hosting.shares.leaving = True
    node.hosting.copies.challenges = world.checks
    [head] = node.records.all_heads()
    behaviour: list[object] = [lacks_it if instead == "nobody" else instead]

    async def answers(request: Request) -> None:
        await behaviour[0](request)  # type: ignore[operator]

    async with gateway(dag, honest) as one, gateway(dag, answers) as other:
        world.other(one.url, "one")
        world.other(f"http://127.0.0.1:{free_port()}" if instead == "nobody" else other.url, "one")
        assert world.counted("one") == 2
        await node.hosting.copies.look()
        assert node.hosting.holdings.holds(head.cid)
        if instead == "nobody":
            return
        behaviour[0] = honest
        await node.hosting.copies.look()
        assert not node.hosting.holdings.holds(head.cid)
