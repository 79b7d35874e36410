"""/domain/: names linked over HTTP, by who has a proof and by who has none."""

from __future__ import annotations

import base64
import io
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from decentraspace.api.domains import Questions
from decentraspace.content.importer import add_directory, add_file
from decentraspace.errors import TooMany
from decentraspace.records.schema import DomainLink
from decentraspace.records.signing import sign_domain
from tests.api.small_node import Person, SmallNode
from tests.names.knot import ZONE, Knot, Liar, knot

ALIKE = "\u0430pple.example"  # with a Cyrillic a


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    with knot(tmp_path_factory.mktemp("knot")) as running:
        yield running


@pytest.fixture
async def node(server: Knot, tmp_path: Path) -> AsyncIterator[SmallNode]:
    made = SmallNode(
        tmp_path / "node",
        names={"nameservers": [server.server], "timeout": 20.0},
        gateway={"domain": "gate.example", "public_url": "https://www.gate.example"},
        limits={"free_names": 3},
    )
    yield made
    made.close()


class Owner:
    """Somebody with a site, over HTTP."""

    def __init__(self, client: httpx.AsyncClient, person: Person, label: str) -> None:
        self.client, self.person, self.label = client, person, label
        self.numbers: dict[str, int] = {}

    async def ask(self, **query: Any) -> httpx.Response:
        return await self.client.get("/domain/link/", params=query, headers=self.person.headers)

    async def send(
        self, name: str, *, label: str | None = "", seq: int = 0, **changes: Any
    ) -> httpx.Response:
        """`label` None: take it off."""
        person = self.person
        self.numbers[name] = seq or self.numbers.get(name, 0) + 1
        site = None if label is None else label or self.label
        body = DomainLink(
            **{
                "owner": person.address,
                "name": name,
                "seq": self.numbers[name],
                "created": int(time.time()),
                "founder": person.address if site else None,
                "label": site,
                **changes,
            }
        )
        record = sign_domain(body, person.key, person.delegation, person.node.rules)
        path = "/domain/unlink/" if site is None else "/domain/link/"
        return await self.client.post(
            path, json={"record": base64.b64encode(record).decode()}, headers=person.headers
        )


async def settle(client: httpx.AsyncClient, node: SmallNode, label: str = "site") -> Owner:
    person = await Person(node).log_in(client)
    writer = node.blocks.writer()
    root = add_directory({"index.html": add_file(io.BytesIO(label.encode()), writer.put)}, writer.put).cid
    writer.flush()
    done = await client.post("/hosting/deploy/", json=person.site(root, label=label), headers=person.headers)
    assert done.status_code in (200, 201), done.text
    return Owner(client, person, label)


def prove(server: Knot, name: str, *owners: Owner) -> str:
    texts = [f"decentraspace-owner={o.person.wallet.address}" for o in owners]
    server.set(f"_decentraspace.{name}", *texts, ttl=0)
    return f"{name}.{ZONE}"


async def test_linked_looked_at_and_unlinked(node: SmallNode, server: Knot) -> None:
    async with node.serving() as client:
        owner = await settle(client, node)
        name = f"whole.{ZONE}"
        server.set("_decentraspace.whole")
        made = (await owner.send(name)).json()
        assert (made["state"], made["number"]) == ("waiting", 1)
        wanted = f"decentraspace-owner={owner.person.wallet.address.lower()}"
        assert [(r["type"], r["host"], r["value"]) for r in made["records"]] == [
            ("TXT", f"_decentraspace.{name}", wanted),
            ("CNAME", name, "gate.example"),
        ]
        [seen] = made["seen"]
        assert (seen["server"], seen["state"]) == (server.server, "no")
        assert (await client.get("/domain/certificate/", params={"domain": name})).status_code == 404

        prove(server, "whole", owner)
        [found] = (await owner.ask(name=name)).json()["names"]
        assert (found["state"], found["method"]) == ("linked", "txt")
        assert found["seen"][0]["state"] == "yes"
        assert found["host"].startswith("site--")
        [public] = (await client.get("/domain/link/", params={"name": name.upper()})).json()["names"]
        assert (public["state"], public["owner"]) == ("linked", owner.person.wallet.address)
        allowed = await client.get("/domain/certificate/", params={"domain": name})
        assert allowed.status_code == 200
        listed = (await owner.ask()).json()
        assert [(one["name"], one["state"]) for one in listed["names"]] == [(name, "linked")]
        assert listed["next"] is None

        gone = (await owner.send(name, label=None)).json()
        assert gone["state"] == "unlinked"
        assert (await client.get("/domain/certificate/", params={"domain": name})).status_code == 404


async def test_a_stranger_is_refused(node: SmallNode, server: Knot) -> None:
    async with node.serving() as client:
        owner, stranger = await settle(client, node), await settle(client, node)
        name = prove(server, "other", owner)
        refused = await stranger.send(name)
        assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (403, "name-not-yours")
        assert owner.person.wallet.address.lower() in refused.json()["detail"]
        assert node.records.claimants(name) == []
        assert (await owner.send(name)).json()["state"] == "linked"
        await owner.send(name, label=None)
        assert (await stranger.send(name)).status_code == 403, "what is left behind is nobody else's"


@pytest.mark.parametrize(
    ("name", "changes", "status", "slug"),
    [
        ("x.gate.example", {}, 403, "name-of-gateway"),
        ("gate.example", {}, 403, "name-of-gateway"),
        ("www.gate.example", {}, 403, "name-of-gateway"),
        ("fine.zone.example", {"label": "missing"}, 404, "not-found"),
        ("fine.zone.example", {"founder": b"\1" * 20}, 404, "not-found"),
        ("fine.zone.example", {"owner": b"\1" * 20}, 422, "wrong-owner"),
    ],
)
async def test_links_that_cannot_be(
    node: SmallNode, name: str, changes: dict[str, Any], status: int, slug: str
) -> None:
    async with node.serving() as client:
        owner = await settle(client, node)
        refused = await owner.send(name, **changes)
        assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (status, slug)
        assert node.records.claimants(name) == []


async def test_the_tier_has_room_for_so_many(node: SmallNode, server: Knot) -> None:
    async with node.serving() as client:
        owner = await settle(client, node)
        for name in ("a", "b", "c"):
            assert (await owner.send(f"{name}.{ZONE}")).status_code == 200
        assert (await owner.send(f"c.{ZONE}")).status_code == 200, "that one is there"
        refused = await owner.send(f"d.{ZONE}")
        assert (refused.status_code, refused.json()["limit"]) == (402, 3)
        await owner.send(f"a.{ZONE}", label=None)
        assert (await owner.send(f"d.{ZONE}")).status_code == 200


async def test_claims_without_proof_leave_room_for_who_has_one(node: SmallNode, server: Knot) -> None:
    """Other nodes take so many claims of one name from a node, and no more."""
    async with node.serving() as client:
        for number in range(8):
            stranger = await settle(client, node, f"s{number}")
            name = f"crowd.{ZONE}"
            assert (await stranger.send(name)).json()["state"] == "waiting"
        assert (await stranger.send(name)).status_code == 200, "that one is there"
        owner = await settle(client, node)
        refused = await owner.send(name)
        assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (409, "name-crowded")
        prove(server, "crowd", owner)
        assert (await owner.send(name)).json()["state"] == "linked"


async def test_names_that_are_taken_off_count_among_a_wallet_s(server: Knot, tmp_path: Path) -> None:
    made = SmallNode(tmp_path / "node", names={"nameservers": [server.server]}, records={"owner_names": 2})
    async with made.serving() as client:
        owner = await settle(client, made)
        for name in (f"one.{ZONE}", f"two.{ZONE}"):
            assert (await owner.send(name)).status_code == 200
            assert (await owner.send(name, label=None)).status_code == 200
        assert (await owner.send(f"one.{ZONE}")).status_code == 200
        await owner.send(f"one.{ZONE}", label=None)
        refused = await owner.send(f"three.{ZONE}")
        assert refused.json()["type"].rpartition(":")[2] == "name-quota"
        never = await owner.send(f"four.{ZONE}", label=None)
        assert never.status_code == 404
    made.close()


async def test_an_older_link_is_refused_with_the_number_there_is(node: SmallNode, server: Knot) -> None:
    async with node.serving() as client:
        owner = await settle(client, node)
        await owner.send(f"turn.{ZONE}", seq=5)
        refused = await owner.send(f"turn.{ZONE}", seq=4)
        assert (refused.status_code, refused.json()["number"]) == (409, 5)


async def test_names_in_other_scripts_are_shown_as_they_are_and_with_a_warning(
    node: SmallNode, server: Knot
) -> None:
    async with node.serving() as client:
        owner = await settle(client, node)
        [found] = (await owner.ask(name=ALIKE, site="site")).json()["names"]
        assert (found["name"], found["shown"]) == ("xn--pple-43d.example", ALIKE)
        assert "looks like apple.example" in found["warnings"][0]
        [found] = (await owner.ask(name="Bücher.zone.example")).json()["names"]
        assert found["name"] == "xn--bcher-kva.zone.example"
        for bad in ("a b.example", "x" * 64 + ".example", "10.0.0.1", "a..b", "\u202e.example"):
            refused = await owner.ask(name=bad)
            assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (400, "bad-name")


async def test_addresses_that_nobody_reaches_and_aliases_in_a_circle(node: SmallNode, server: Knot) -> None:
    async with node.serving() as client:
        owner = await settle(client, node)
        name = prove(server, "inside", owner)
        server.set("inside", "192.168.7.7", kind="A")
        [found] = (await owner.ask(name=name)).json()["names"]
        assert "192.168.7.7, which nobody reaches from elsewhere" in found["text"]
        for one, other in (("round", "about"), ("about", "round")):
            server.set(one, f"{other}.{ZONE}.", kind="CNAME")
        [found] = (await owner.ask(name=f"round.{ZONE}")).json()["names"]
        assert found["points"] is None


async def test_nobody_says_anything(server: Knot, tmp_path: Path) -> None:
    """Then it is neither proven nor refused; a link waits."""
    with Liar(lambda question: []).serving() as silent:
        node = SmallNode(tmp_path / "node", names={"nameservers": [silent.server], "timeout": 0.3})
        async with node.serving() as client:
            owner = await settle(client, node)
            assert (await owner.send("quiet.zone.example")).json()["state"] == "unknown"
            assert (await client.get("/domain/certificate/?domain=quiet.zone.example")).status_code == 404
        node.close()


async def test_one_wallet_s_questions_leave_room_for_others(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        names = {"nameservers": [f"127.0.0.1:{silent.getsockname()[1]}"], "timeout": 3.0}
        made = SmallNode(tmp_path / "node", names=names)
        async with made.serving() as client:
            owner = await settle(client, made)
            said: list[str] = []

            async def ask(number: int) -> None:
                answer = await owner.ask(name=f"n{number}.{ZONE}")
                said.append(answer.json()["names"][0]["text"])

            async with trio.open_nursery() as nursery:
                for number in range(6):
                    nursery.start_soon(ask, number)
            assert sum("Too many" in one for one in said) == 2
            assert not made.linking._asking
        made.close()


async def test_one_server_that_lies_decides_nothing(server: Knot, tmp_path: Path) -> None:
    import dns.message
    import dns.rrset

    wallet: list[str] = []

    def lie(question: bytes) -> list[bytes]:
        asked = dns.message.from_wire(question)
        answer = dns.message.make_response(asked)
        name = asked.question[0].name
        if str(name).startswith("_decentraspace."):
            answer.answer.append(
                dns.rrset.from_text(name, 30, "IN", "TXT", f"decentraspace-owner={wallet[0]}")
            )
        return [answer.to_wire()]

    with Liar(lie).serving() as liar, knot(tmp_path / "second") as second:
        node = SmallNode(
            tmp_path / "node",
            names={"nameservers": [server.server, liar.server, second.server], "timeout": 20.0},
        )
        async with node.serving() as client:
            owner, stranger = await settle(client, node), await settle(client, node)
            wallet.append(stranger.person.wallet.address)
            name = prove(server, "voted", owner)
            prove(second, "voted", owner)
            assert (await stranger.send(name)).status_code == 403
            linked = (await owner.send(name)).json()
            assert linked["state"] == "linked"
            assert sorted(one["state"] for one in linked["seen"]) == ["no", "yes", "yes"]
        node.close()


async def test_certificates_for_the_gateway_s_own_hosts(node: SmallNode) -> None:
    async with node.serving() as client:
        owner = await settle(client, node)
        [head] = node.records.sites(owner.person.address)
        for domain, status in [
            ("gate.example", 200),
            ("WWW.gate.example", 200),
            (f"{head.host_label}.gate.example", 200),
            ("nothing--aaaaaaaaaaaaaaaa.gate.example", 404),
            ("a.b.gate.example", 404),
            ("elsewhere.example", 404),
            ("127.0.0.1", 400),
        ]:
            answer = await client.get("/domain/certificate/", params={"domain": domain})
            assert answer.status_code == status, domain


def test_certificates_are_asked_for_so_often_and_no_more() -> None:
    now = 0.0
    questions = Questions(lambda: now)
    for _ in range(100):
        questions.take()
    with pytest.raises(TooMany):
        questions.take()
    now = 0.1
    for _ in range(3):
        questions.take()
    with pytest.raises(TooMany):
        questions.take()
