"""Names won in real auctions: where their records on chain lead, whose they are, and how they are got."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from plugins.dns_handshake.tests.conftest import World
from plugins.dns_handshake.tests.hsd import txt

from decentraspace.errors import Unavailable
from decentraspace.testing import Workbench
from decentraspace_dns_handshake.handshake import Handshake, instructions
from decentraspace_dns_handshake.texts import statement

CID = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
SITE = "abcdefgh234567ab"
ALICE, BOB = "0x" + "a1" * 20, "0x" + "b0" * 20
Make = Callable[..., Handshake]


async def test_a_name_through_its_life(world: World, handshake: Make) -> None:
    """One auction, looked at in each of its states; then records, a sale, and what remains of the first owner."""
    chain, asked, name = world.chain, handshake(safe=False), "auctioned"

    async def words() -> str:
        quote = await asked.quote(name, 1)
        assert (quote["available"], quote["credits"]) == (False, 0)
        assert (await asked.verify(name, ALICE))["state"] == "missing"
        assert await asked.resolve(name) == {"kind": "none", "value": "", "ttl": 600}
        return str(quote["detail"])

    start = chain.info(name)["start"]["start"]
    if (height := chain.node("getblockcount")) < start:
        assert f"can be opened from block {start} on, in {start - height} blocks" in await words()
        chain.mine(start - height)
    assert f"sendopen {name}" in await words()
    chain.wallet("sendopen", name)
    chain.mine(1)
    assert "bids are taken" in await words()
    chain.until_state(name, "BIDDING")
    left = chain.info(name)["info"]["stats"]["blocksUntilReveal"]
    assert f"taken for another {left} block" in await words()
    chain.wallet("sendbid", name, 5, 10)
    chain.until_state(name, "REVEAL")
    left = chain.info(name)["info"]["stats"]["blocksUntilClose"]
    assert f"must reveal within {left} block" in await words()
    chain.wallet("sendreveal", name)
    chain.until_state(name, "CLOSED")
    assert "winner (highest bid 5 HNS) has yet to register" in await words()

    chain.update(name, txt(f"dnslink=/ipfs/{CID}/below"), txt(f"decentraspace-owner={ALICE}"))
    assert await asked.resolve(name) == {"kind": "ipfs", "value": CID, "path": "/below", "ttl": 600}
    held = await asked.verify(name, ALICE)
    assert (held["state"], held["method"]) == ("held", "txt")
    days = chain.info(name)["info"]["stats"]["daysUntilExpire"]
    assert f"renewed, in {days:.0f} days" in (await asked.quote(name, 1))["detail"]
    assert (await asked.verify(name, BOB))["state"] == "stranger"

    chain.wallet("sendtransfer", name, chain.wallet("getnewaddress", "default"))
    chain.mine(1)
    assert "is being transferred" in (await asked.quote(name, 1))["detail"]
    chain.wallet("sendcancel", name)
    chain.mine(1)
    chain.wallet("sendrevoke", name)
    chain.mine(1)
    assert "was revoked by its owner" in await words()


async def test_safe_is_what_lies_some_blocks_deep(world: World, handshake: Make) -> None:
    chain, name = world.chain, "changing"
    chain.update(name, txt(f"dnslink=/ipfs/{CID}"))
    chain.settle()
    assert (await handshake().resolve(name))["value"] == CID
    chain.update(name, txt("dnslink=/ipns/newer.example"))
    assert (await handshake().resolve(name))["value"] == CID
    assert await handshake(safe=False).resolve(name) == {"kind": "ipns", "value": "newer.example", "ttl": 600}
    chain.settle()
    assert (await handshake().resolve(name))["value"] == "newer.example"


async def test_a_site(world: World, handshake: Make) -> None:
    world.chain.update("welcome", txt(f"dnslink=/ipfs/{CID}"), txt("decentraspace-", f"site={SITE}"))
    world.chain.settle()
    assert await handshake().resolve("welcome") == {"kind": "site", "value": SITE, "ttl": 600}
    # Without name servers there is nothing below.
    assert (await handshake().resolve("www.welcome"))["kind"] == "none"


@pytest.mark.parametrize(
    "name", ["nothing", "unopened-by-anybody", "com", "localhost", "-x", "a b", "é", "x" * 64]
)
async def test_nothing(world: World, handshake: Make, name: str) -> None:
    assert (await handshake().resolve(name))["kind"] == "none"
    verdict = await handshake().verify(name, ALICE)
    assert verdict["state"] == "missing"
    assert await handshake().owner(name) is None
    assert verdict["detail"]
    assert name in (await handshake().quote(name, 1))["detail"]


async def test_the_owner_signs_for_a_wallet(world: World, handshake: Make) -> None:
    chain, asked, name = world.chain, handshake(), "sold"
    chain.update(name, txt("v=1"))
    chain.settle()
    text = next(r["value"] for r in instructions(name, "label--id", ALICE, "") if r["type"] == "SIGN")
    proof = chain.sign(name, text)
    held = await asked.verify(name, ALICE, proof)
    assert (held["state"], held["method"]) == ("held", "hns-owner")
    assert held["expires"] > 1_700_000_000

    # It is for that wallet and that name alone, and only the name's owner can sign it.
    other = chain.wallet("signmessage", chain.wallet("getnewaddress", "default"), text)
    for owner, given in ((BOB, proof), (ALICE, other), (ALICE, chain.sign(name, "x"))):
        assert (await asked.verify(name, owner, given))["state"] == "missing"
    for nonsense in ("", "x", "=" * 400, "AAAA", "é", proof[:-4], proof + proof):
        assert (await asked.verify(name, ALICE, nonsense))["state"] == "missing"
    assert (await asked.verify("nothing", ALICE, proof))["state"] == "missing"

    # A record that names another wallet takes it back.
    chain.update(name, txt(f"decentraspace-owner={BOB.upper().replace('0X', '0x')}"))
    chain.settle()
    assert (await asked.verify(name, ALICE, proof))["state"] == "stranger"
    assert (await asked.verify(name, BOB))["state"] == "held"
    assert await asked.owner(name) == BOB

    # Sold: the signature of who had it before is worth nothing.
    chain.update(name, txt("v=2"))
    chain.settle()
    assert (await asked.verify(name, ALICE, proof))["state"] == "held"
    address = chain.wallet("getnewaddress", "default")
    chain.wallet("sendtransfer", name, address)
    chain.mine(11)
    chain.wallet("sendfinalize", name)
    chain.mine(1)
    chain.settle()
    gone = await asked.verify(name, ALICE, proof)
    assert (gone["state"], "no signature by the present owner" in gone["detail"]) == ("missing", True)


def test_instructions() -> None:
    records = instructions("welcome", "home--abc", ALICE, "gateway.example")
    assert {(r["type"], r["host"], r["value"]) for r in records} >= {
        ("TXT", "welcome", f"decentraspace-owner={ALICE}"),
        ("TXT", "welcome", "decentraspace-site=home--abc"),
        ("SIGN", "welcome", statement("welcome", ALICE)),
    }
    below = instructions("www.welcome", "home--abc", ALICE, "gateway.example")
    assert ("TXT", "_decentraspace.www.welcome") in {(r["type"], r["host"]) for r in below}
    assert ("CNAME", "www.welcome", "gateway.example") in {(r["type"], r["host"], r["value"]) for r in below}
    assert not any(r["type"] == "CNAME" for r in instructions("www.welcome", "home--abc", ALICE, "localhost"))


async def test_as_the_node_asks(world: World, workbench: Workbench) -> None:
    """Through the plugin manager, which checks what hooks give."""
    manager = await workbench.start(**world.settings)

    async def ask(hook: str, **arguments: object) -> object:
        return await manager.one("dns_handshake", hook, **arguments)

    linked = {"name": "welcome", "owner": ALICE, "site": "home--abc", "gateway": ""}
    assert (await ask("name_resolve", name="unopened-by-anybody"))["kind"] == "none"
    assert (await ask("name_verify", **linked, proof=""))["state"] == "missing"
    assert len(await ask("name_instructions", **linked)) == 3
    assert await ask("name_owner", name="welcome") is None
    quote = await ask("name_quote", name="com", years=2)
    assert "DNSSEC proof" in quote["detail"]
    bought = {"name": "free", "years": 1, "owner": ALICE, "key": "k", "contact": None}
    assert (await ask("name_purchase", **bought))["status"] == "refused"
    await workbench.stop()

    manager = await workbench.start(rpc=[])
    assert await ask("name_resolve", name="welcome") is None
    assert await ask("name_instructions", **linked) is None


async def test_an_hsd_that_is_not_to_be_believed(world: World, handshake: Make) -> None:
    for changed in ({"network": "main"}, {"api_key_file": ""}):
        with pytest.raises(Unavailable) as refused:
            await handshake(**changed).resolve("welcome")
        assert refused.value.hint
