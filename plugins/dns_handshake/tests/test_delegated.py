"""Names that the chain delegates to real name servers: followed, and their signatures checked."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

import pytest
from plugins.dns_handshake.tests.conftest import World, delegation
from plugins.dns_handshake.tests.servers import knot

from decentraspace.errors import Unavailable
from decentraspace.testing import until
from decentraspace_dns_handshake.handshake import Handshake
from decentraspace_dns_handshake.records import Records
from decentraspace_dns_handshake.recursive import Recursive
from decentraspace_dns_handshake.settings import server
from decentraspace_dns_handshake.texts import statement

CID = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
PATH = f"/ipfs/{CID}"
SITE = "abcdefgh234567ab"
ALICE, BOB = "0x" + "a1" * 20, "0x" + "b0" * 20
Make = Callable[..., Handshake]


@pytest.mark.parametrize("name", ["decentraspace", "www.decentraspace", "www.signed"])
async def test_a_link(world: World, handshake: Make, name: str) -> None:
    world.first.set(f"_dnslink.{name}", "v=spf1 -all", f"dnslink={PATH}/below", ttl=44)
    found = await handshake().resolve(name)
    assert found == {"kind": "ipfs", "value": CID, "path": "/below", "ttl": found["ttl"]}
    assert found["ttl"] <= 44


@pytest.mark.parametrize("name", ["a.b.sub.decentraspace", "a.b.sub.signed"])
async def test_a_zone_below_at_another_server(world: World, handshake: Make, name: str) -> None:
    world.second.set(f"_decentraspace.{name}", f"decentraspace-site={SITE}", f"decentraspace-owner={ALICE}")
    assert (await handshake(require_dnssec=name.endswith("signed")).resolve(name))["value"] == SITE
    verdict = await handshake().verify(name, ALICE)
    assert verdict["state"] == "held"
    signed = "is signed" if name.endswith("signed") else "is not signed"
    assert [(one["server"], one["state"]) for one in verdict["seen"]] == [
        (f"name servers of {name.rpartition('.')[2]}", "yes")
    ]
    assert signed in verdict["seen"][0]["detail"]


async def test_a_signed_zone_below_at_the_same_server(world: World, handshake: Make) -> None:
    world.first.set("_dnslink.x.own.signed", f"dnslink={PATH}")
    assert (await handshake(require_dnssec=True).resolve("x.own.signed"))["value"] == CID


async def test_aliases(world: World, handshake: Make) -> None:
    """Also into another top-level name, of the chain or of DNS."""
    world.first.set("_dnslink.one.decentraspace", "two.decentraspace.", kind="CNAME")
    world.first.set("two.decentraspace", "_dnslink.three.signed.", kind="CNAME")
    world.first.set("_dnslink.three.signed", f"dnslink={PATH}")
    assert (await handshake().resolve("one.decentraspace"))["value"] == CID
    with pytest.raises(Unavailable) as refused:  # the first two names are not signed
        await handshake(require_dnssec=True).resolve("one.decentraspace")
    assert "not signed" in refused.value.detail
    world.first.set("_dnslink.off.decentraspace", "target.zone.example.", kind="CNAME")
    with knot(
        world.key_file.parent / "elsewhere", "127.0.0.3", world.first.port, ["zone.example"], []
    ) as other:
        other.set("target.zone.example", f"dnslink={PATH}")
        asked = handshake(nameservers=[f"{other.address}:{other.port}"])
        assert (await asked.resolve("off.decentraspace"))["value"] == CID
    world.first.set("_dnslink.round.decentraspace", "_dnslink.round.decentraspace.", kind="CNAME")
    with pytest.raises(Unavailable) as refused:
        await handshake().resolve("round.decentraspace")
    assert "aliases" in refused.value.detail


@pytest.mark.parametrize(
    "name", ["x" * 64 + ".decentraspace", "a..decentraspace", "é.signed", "a." * 124 + "signed"]
)
async def test_what_dns_cannot_be_asked_for(world: World, handshake: Make, name: str) -> None:
    assert (await handshake().resolve(name))["kind"] == "none"
    assert (await handshake().verify(name, ALICE, gateway="x.example"))["state"] == "missing"


async def test_whether_it_leads_here(world: World, handshake: Make) -> None:
    name = "points.decentraspace"
    with knot(
        world.key_file.parent / "gateway", "127.0.0.4", world.first.port, ["zone.example"], []
    ) as other:
        other.set("gw.zone.example", "192.0.2.7", "192.0.2.8", kind="A")
        asked = handshake(nameservers=[f"{other.address}:{other.port}"])

        async def points(gateway: str = "gw.zone.example", of: str = name) -> bool | None:
            found: bool | None = (await asked.verify(of, ALICE, gateway=gateway)).get("points")
            return found

        assert await points() is False
        world.first.set(name, "192.0.2.9", kind="A")
        assert await points() is False
        world.first.set(name, "192.0.2.9", "192.0.2.8", kind="A")
        assert await points() is True
        world.first.set(name, kind="A")
        world.first.set(name, "gw.zone.example.", kind="CNAME")
        assert await points() is True
        assert await points("") is None
        assert await points("localhost") is None
        assert await points("unknown.zone.example") is None
        world.chain.update("sold", txt_record("v=0"))
        world.chain.settle()
        assert await points(of="sold") is False  # the chain has no addresses


async def test_silence_takes_nothing_back(world: World, handshake: Make) -> None:
    """A signature for a name below can be taken back by a record alone: who makes name servers silent gains nothing."""
    proof = world.chain.sign("signed", statement("www.signed", ALICE))
    silent = handshake(private=False)  # as good as silent: it may not be asked
    with pytest.raises(Unavailable):
        await silent.verify("www.signed", ALICE, proof)
    top = world.chain.sign("signed", statement("signed", ALICE))
    verdict = await silent.verify("signed", ALICE, top)
    assert (verdict["state"], [one["state"] for one in verdict["seen"]]) == ("held", ["silent"])


@pytest.mark.parametrize("name", ["missing.decentraspace", "missing.signed", "missing.sub.signed"])
async def test_no_link(world: World, handshake: Make, name: str) -> None:
    assert await handshake().resolve(name) == {"kind": "none", "value": "", "ttl": 20}  # the zone's SOA
    verdict = await handshake().verify(name, ALICE)
    assert (verdict["state"], verdict["method"]) == ("missing", "txt")


async def test_whose_it_is(world: World, handshake: Make) -> None:
    name = "owned.signed"
    world.first.set(f"_decentraspace.{name}", f"decentraspace-owner={BOB}")
    asked = handshake()
    assert (await asked.verify(name, ALICE))["state"] == "stranger"
    assert (await asked.verify(name, BOB))["state"] == "held"
    assert await asked.owner(name) == BOB
    # The owner of the top-level name may sign for names below, until a record there says otherwise.
    proof = world.chain.sign("signed", statement(name, ALICE))
    assert (await asked.verify(name, ALICE, proof))["state"] == "stranger"
    world.first.set(f"_decentraspace.{name}")
    assert (await asked.verify(name, ALICE, proof))["method"] == "hns-owner"


async def test_a_site_before_a_link(world: World, handshake: Make) -> None:
    world.first.set("_dnslink.both.decentraspace", f"dnslink={PATH}")
    world.first.set("_decentraspace.both.decentraspace", f"decentraspace-site={SITE}")
    assert (await handshake().resolve("both.decentraspace"))["kind"] == "site"


async def test_keys_that_the_chain_does_not_name(world: World, handshake: Make) -> None:
    """The zone is signed, and by somebody else than the chain says: as when its server was taken over."""
    world.first.set("_dnslink.www.signed", f"dnslink={PATH}")
    ds = world.first.ds("signed")
    good = {"type": "DS", "keyTag": ds.key_tag, "algorithm": int(ds.algorithm), "digestType": 2}
    records = world.chain.node("getnameresource", "signed")["records"]
    try:
        world.chain.update("signed", *delegation("signed"), {**good, "digest": "ab" * 32})
        with pytest.raises(Unavailable) as refused:
            await handshake(safe=False).resolve("www.signed")
        assert "DNSSEC" in refused.value.detail
    finally:
        world.chain.update("signed", *records)
        world.chain.settle()
    assert (await handshake().resolve("www.signed"))["value"] == CID


async def test_private_addresses_are_not_asked(world: World, handshake: Make) -> None:
    with pytest.raises(Unavailable) as refused:
        await handshake(private=False).resolve("www.decentraspace")
    assert "plugin.dns_handshake.private" in refused.value.detail


async def test_hsd_s_own_dns(world: World, handshake: Make) -> None:
    """What stands on chain, hsd signs itself: its resolver checks that, and says so."""
    world.chain.update("changing", txt_record("decentraspace-owner=" + ALICE))
    world.chain.settle()
    asked = Recursive(server(world.chain.dns), 30.0)
    state = await handshake().chain.name("changing")

    async def seen() -> Records | None:
        found = await asked.lookup("changing", "TXT", state)
        return found if found.values else None

    found = await until(seen, 60.0)
    assert (found.values, found.secure) == (("decentraspace-owner=" + ALICE,), True)


async def test_hsd_s_own_dns_follows_delegations(world: World, handshake: Make) -> None:
    """Resolvers ask name servers at port 53, which a machine may not let us have."""
    address = f"127.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 250}.7"
    if not can_have(address):
        pytest.skip("port 53 is not ours to use")
    with knot(world.key_file.parent / "at53", address, 53, [], ["recursed"]) as there:
        ds = there.ds("recursed")
        key = {
            "type": "DS",
            "keyTag": ds.key_tag,
            "algorithm": int(ds.algorithm),
            "digestType": 2,
            "digest": ds.digest.hex(),
        }
        world.chain.update("recursed", *delegation("recursed", address), key)
        world.chain.settle()
        there.set("_decentraspace.www.recursed", f"decentraspace-owner={ALICE}")
        there.set("_dnslink.www.recursed", f"dnslink={PATH}")
        asked = handshake(dns=world.chain.dns, require_dnssec=True)

        async def held() -> bool:
            with suppress(Unavailable):
                return bool((await asked.verify("www.recursed", ALICE))["state"] == "held")
            return False

        await until(held, 60.0)
        assert (await asked.resolve("www.recursed"))["value"] == CID
        assert (await asked.resolve("missing.recursed"))["kind"] == "none"


def txt_record(text: str) -> dict[str, object]:
    return {"type": "TXT", "txt": [text]}


def can_have(address: str) -> bool:
    try:
        with socket.create_server((address, 53)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind((address, 53))
            return True
    except OSError:
        return False
