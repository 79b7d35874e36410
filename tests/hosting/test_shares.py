"""Who holds what: shares of the network's sites, stepping in, letting go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from decentraspace.config import Config, load
from decentraspace.identity.keys import NodeKey
from decentraspace.placement import ranked
from decentraspace.records.schema import site_id
from decentraspace.records.store import RecordStore
from decentraspace.records.verdict import NetworkRules
from decentraspace.shares import Shares
from tests.records.factory import (
    address_of,
    make_announcement,
    make_receipt,
    make_session,
    make_site,
    make_wallet,
    take,
)

R = 3


class World:
    """Eight announced nodes, one site that `nodes[0]` took."""

    def __init__(self, folder: Path) -> None:
        self.config: Config = load(
            environ={},
            overrides={
                "hosting": {"replicas": R, "check_every": 10.0, "release_after": 100.0, "live_for": 600}
            },
        )
        self.rules = NetworkRules.from_config(self.config)
        self.records = RecordStore(folder / "records.sqlite", self.rules)
        self.now = int(time.time())
        self.time = 0.0
        wallet = make_wallet()
        site = site_id(address_of(wallet), "site")
        keys = {key.public: key for key in (NodeKey.generate() for _ in range(8))}
        self.by_rank = [keys[public] for public in ranked(site, keys)]
        self.nodes = self.by_rank[::-1]  # the taker is the last in rank
        for node in self.nodes:
            self.announce(node)
        session = make_session(wallet, self.rules, issued_at=self.now - 60, expires_at=self.now + 3600)
        record = make_site(wallet, session, self.rules, created=self.now - 1)
        self.records.add(take(record, self.nodes[0], self.now), now=self.now)
        [self.head] = self.records.all_heads()
        assert self.head.site_id == site

    def announce(self, node: NodeKey, **changes: Any) -> None:
        record = make_announcement(node, self.rules, **{"created": self.now, "seq": self.now, **changes})
        self.records.add(take(record, node, self.now), now=self.now)

    def hold(self, node: NodeKey, held: bool = True) -> None:
        record = make_receipt(
            node, self.rules, root=self.head.root, site=self.head.site_id, held=held, created=self.now
        )
        assert self.records.add(take(record, node, self.now), now=self.now).status == "accepted"

    def shares(self, node: NodeKey, **more: Any) -> Shares:
        return Shares(self.config, node.public, self.records, clock=lambda: self.time, **more)

    @property
    def others(self) -> list[NodeKey]:
        """By rank, without the one that took the deploy."""
        return [node for node in self.by_rank if node is not self.nodes[0]]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.records.close()


def test_the_first_in_rank_and_the_taker_want_it(world: World) -> None:
    wanting = {node.public for node in world.nodes if world.shares(node).wants(world.head)}
    assert wanting == {node.public for node in world.by_rank[:R]} | {world.nodes[0].public}


def test_with_no_number_everybody_does(world: World) -> None:
    world.config = replace(world.config, hosting=replace(world.config.hosting, replicas=0))
    assert all(world.shares(node).wants(world.head) for node in world.nodes)


@pytest.mark.parametrize("asked", [1, 2, 3, 5, 6, 7, 1000])
def test_the_record_says_how_many_hold_it(world: World, asked: int) -> None:
    """As far as each node heeds that: here six at most."""
    world.config = replace(world.config, hosting=replace(world.config.hosting, replicas_max=6))
    head, copies = world.head._replace(replicas=asked), min(asked, 6)
    wanting = {node.public for node in world.nodes if world.shares(node).wants(head)}
    assert wanting == {node.public for node in world.by_rank[:copies]} | {world.nodes[0].public}
    last = world.shares(world.nodes[0])
    live = last.live()
    assert last.enough(head, live) == copies
    for number, node in enumerate(world.others[:copies]):
        assert not last.enough_others(head, live)
        assert last.copies(head, held=True) == (copies, number + 1)
        world.hold(node)
    assert last.enough_others(head, live)
    assert last.copies(head, held=False) == (copies, copies)


def test_one_that_holds_all_does_so_whatever_records_ask_for(world: World) -> None:
    world.config = replace(world.config, hosting=replace(world.config.hosting, replicas=0))
    head = world.head._replace(replicas=1)
    shares = world.shares(world.nodes[3])
    assert shares.wants(head)
    assert shares.enough(head, shares.live()) == 1, "and when it leaves, one other is enough"


@pytest.mark.parametrize("asked", [1, 5])
def test_the_next_in_line_step_in_when_fewer_hold_it_than_the_record_asks_for(
    world: World, asked: int
) -> None:
    head = world.head._replace(replicas=asked)
    for node in world.by_rank[: asked - 1]:
        world.hold(node)
    first = world.shares(world.by_rank[asked])
    steps = []
    for world.time in range(0, 60, 10):
        steps.append(first.wants(head))
    assert steps == [False, False, True, True, True, True]
    world.hold(world.by_rank[asked - 1])
    assert not first.wants(head)


def test_a_site_that_is_too_large_here_is_not_wanted(world: World) -> None:
    shares = world.shares(world.nodes[0])
    assert not shares.wants(world.head._replace(size=world.config.hosting.max_site_bytes + 1))


def test_the_next_in_line_step_in_one_after_the_other_while_too_few_hold_it(world: World) -> None:
    first, second = (world.shares(node) for node in world.by_rank[R : R + 2])
    steps = []
    for world.time in range(0, 100, 10):
        steps.append((first.wants(world.head), second.wants(world.head)))
    assert steps[:2] == [(False, False)] * 2
    assert steps[2:4] == [(True, False)] * 2
    assert steps[4] == (True, True)


def test_nobody_steps_in_when_enough_hold_it(world: World) -> None:
    for node in world.by_rank[:R]:
        world.hold(node)
    shares = world.shares(
        world.by_rank[R] if world.by_rank[R] is not world.nodes[0] else world.by_rank[R + 1]
    )
    for world.time in range(0, 1000, 10):
        assert not shares.wants(world.head)


def test_a_node_that_fell_silent_or_left_does_not_count(world: World) -> None:
    shares = world.shares(world.nodes[0])
    silent, leaving, alone = world.nodes[1:4]
    world.announce(silent, created=world.now - 601, seq=world.now + 1)
    world.announce(leaving, capacity=0, seq=world.now + 1)
    world.announce(alone, gateway="http://127.0.0.1:1", seq=world.now + 1)
    assert shares.live() == {node.public for node in world.nodes} - {silent.public, leaving.public}
    connected = world.shares(world.nodes[0], connected=lambda: [silent.peer_id])
    assert silent.public in connected.live()


def test_a_copy_is_let_go_only_after_enough_others_have_held_it_for_a_while(world: World) -> None:
    shares = world.shares(world.nodes[0])
    live = shares.live()
    for node in world.others[: R - 1]:
        world.hold(node)
    world.time = 1000.0
    assert not shares.may_let_go(world.head, live)
    world.hold(world.others[R - 1])
    assert not shares.may_let_go(world.head, live)
    world.time += 99
    assert not shares.may_let_go(world.head, live)
    world.time += 2
    assert shares.may_let_go(world.head, live)
    world.now += 1
    world.hold(world.others[0], held=False)
    assert not shares.may_let_go(world.head, live)


def test_holders_that_look_at_the_same_time_do_not_all_let_go(world: World) -> None:
    """Those that come first in rank cannot get it; the one that took it is gone; four others hold it."""
    gone, *spare = world.nodes[:5]
    world.announce(gone, capacity=0, seq=world.now + 1)
    for node in spare:
        world.hold(node)
    going = []
    for node in spare:
        shares = world.shares(node)
        live = shares.live()
        world.time = 0.0
        assert not shares.may_let_go(world.head, live)
        world.time = 1000.0
        if shares.may_let_go(world.head, live):
            going.append(node)
    assert going == [spare[0]], "only the last in rank: three before it hold the site"


def test_with_fewer_nodes_than_copies_the_others_all_have_to_hold_it(world: World) -> None:
    for node in world.others[2:]:
        world.announce(node, capacity=0, seq=world.now + 1)
    shares = world.shares(world.nodes[0])
    world.hold(world.others[0])
    assert not shares.enough_others(world.head, shares.live())
    world.hold(world.others[1])
    assert shares.enough_others(world.head, shares.live())


def test_what_spot_checks_refuted_does_not_count(world: World) -> None:
    for node in world.others[:R]:
        world.hold(node)
    liar = world.others[0].public
    shares = world.shares(world.nodes[0], refuted=lambda key, root: key == liar)
    assert shares.others(world.head, shares.live()) == R - 1


def test_who_leaves_wants_nothing_and_goes_when_the_others_have_it(world: World) -> None:
    shares = world.shares(world.nodes[0])
    shares.leaving = True
    assert not shares.wants(world.head)
    assert world.nodes[0].public not in shares.live()
    assert not shares.may_let_go(world.head, shares.live())
    for node in world.others[:R]:
        world.hold(node)
    assert shares.may_let_go(world.head, shares.live())


def test_the_last_node_there_lets_nothing_go(world: World) -> None:
    shares = world.shares(world.nodes[0])
    assert not shares.may_let_go(world.head, frozenset({world.nodes[0].public}))
