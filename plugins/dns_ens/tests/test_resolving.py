"""What names show: by the registry, by wildcards, by gateways; on ENS's own contracts."""

from __future__ import annotations

import pytest
from plugins.dns_ens.tests.chain import Ens, own
from plugins.dns_ens.tests.conftest import IPFS, IPFS_CID, Managed, Offchain, resolve, verify

from decentraspace.errors import Unavailable
from decentraspace_dns_ens import contenthash
from decentraspace_dns_ens.naming import namehash, wire

KEY = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8"


async def test_a_name_shows_what_its_owner_set(ens: Ens, managed: Managed) -> None:
    owner = ens.chain.accounts[1]
    name = ens.show("shown", owner, IPFS)
    manager = await managed(**ens.settings())
    assert await resolve(manager, name) == {"kind": "ipfs", "value": IPFS_CID, "ttl": 300}
    ens.set(name, owner, contenthash.write(f"/ipns/{KEY}"))
    assert await resolve(manager, name) == {"kind": "ipns", "value": KEY, "ttl": 300}
    ens.set(name, owner, b"")
    assert await resolve(manager, name) == {"kind": "none", "value": "", "ttl": 300}


async def test_a_name_holds_for_as_long_as_the_registry_says(ens: Ens, managed: Managed) -> None:
    owner = ens.chain.accounts[1]
    name = ens.show("brief", owner, IPFS)
    ens.chain.send(ens.registry.functions.setTTL(namehash(name), 42), owner)
    manager = await managed(**ens.settings())
    assert (await resolve(manager, name))["ttl"] == 42


async def test_names_that_lead_nowhere(ens: Ens, managed: Managed) -> None:
    owner = ens.chain.accounts[1]
    bare = ens.register("bare", owner)
    nobodys = ens.register("wallet", owner)
    ens.resolve_by(nobodys, owner, ens.chain.accounts[5])  # an account, not a contract
    swarm = ens.show("swarm", owner, bytes.fromhex("e40101fa011b20") + bytes(32))
    manager = await managed(**ens.settings())
    names = [
        "nobody-has-it.eth",
        bare,
        nobodys,
        swarm,
        "below."
        + ens.show("plain", owner, IPFS),  # no wildcard: a name's resolver is not that of names below
        "xn--pple-43d.eth",  # a Cyrillic letter among Latin ones: no name of ENS (ENSIP-15)
        "a..eth",
    ]
    for name in names:
        assert (await resolve(manager, name))["kind"] == "none", name


async def test_wildcards_by_gateways(ens: Ens, managed: Managed, offchain: Offchain) -> None:
    """ENSIP-10 with EIP-3668: neither name is known to the registry."""
    owner = ens.chain.accounts[1]
    name = ens.register("offchain", owner)
    ens.resolve_by(name, owner, offchain.resolver.address)
    offchain.gateway.records |= {
        name: IPFS,
        f"alice.{name}": contenthash.write(f"/ipns/{KEY}"),
        f"deep.down.{name}": IPFS,
    }
    manager = await managed(**ens.settings(allow_private=True))
    assert (await resolve(manager, name))["value"] == IPFS_CID
    assert (await resolve(manager, f"alice.{name}"))["value"] == KEY
    assert (await resolve(manager, f"deep.down.{name}"))["value"] == IPFS_CID
    with pytest.raises(Unavailable, match="HTTP 404"):
        await resolve(manager, f"bob.{name}")


async def test_a_gateway_is_believed_only_with_the_signature(
    ens: Ens, managed: Managed, offchain: Offchain
) -> None:
    owner = ens.chain.accounts[1]
    name = ens.register("signed", owner)
    ens.resolve_by(name, owner, offchain.resolver.address)
    offchain.gateway.records[name] = IPFS
    manager = await managed(**ens.settings(allow_private=True))
    assert (await resolve(manager, name))["kind"] == "ipfs"
    key = offchain.gateway.key
    offchain.gateway.key = type(key)(b"\x43" * 32)
    assert (await resolve(manager, name))["kind"] == "none"  # the resolver refuses it
    offchain.gateway.key = key
    offchain.gateway.valid = -3600
    assert (await resolve(manager, name))["kind"] == "none"  # signed, and over
    offchain.gateway.valid = 3600
    assert (await resolve(manager, name))["kind"] == "ipfs"


async def test_the_universal_resolver_finds_what_the_registry_does_not(
    ens: Ens, managed: Managed, offchain: Offchain
) -> None:
    """As where names have moved to a newer registry: what is there counts, and owners of before do not."""
    owner = ens.chain.accounts[1]
    universal = ens.chain.deploy(own()["Universal"])
    settings = ens.settings(universal=universal.address, allow_private=True)
    manager = await managed(**settings)
    moved, stayed = ens.show("moved", owner, b""), ens.show("stayed", owner, IPFS)
    put = universal.functions.put
    offchain.gateway.records |= {moved: IPFS, f"below.{moved}": IPFS}
    ens.chain.send(put(wire(moved), offchain.resolver.address, 0))
    ens.chain.send(put(wire(f"below.{moved}"), offchain.resolver.address, len("below") + 1))
    ens.chain.send(put(wire(stayed), ens.resolver.address, 0))
    for name in (moved, f"below.{moved}", stayed):
        assert (await resolve(manager, name))["value"] == IPFS_CID, name
    assert (await resolve(manager, "nobodys.eth"))["kind"] == "none"
    assert (await verify(manager, stayed, owner))["state"] == "held"
    gone = await verify(manager, moved, owner)
    assert gone["state"] == "missing"
    assert "has moved" in gone["detail"]
    # Found at the top-level domain is the way back to the registry of before.
    ens.chain.send(put(wire(stayed), offchain.resolver.address, len("stayed") + 1))
    assert (await verify(manager, stayed, owner))["state"] == "held"
    # An offset that is no label's is no answer, and neither is none at all.
    ens.chain.send(put(wire(stayed), ens.resolver.address, 3))
    with pytest.raises(Unavailable, match="Universal"):
        await resolve(manager, stayed)
    ens.chain.send(universal.functions.breakDown())
    with pytest.raises(Unavailable, match="Universal"):
        await resolve(manager, moved)
    with pytest.raises(Unavailable, match="Universal"):
        await verify(manager, stayed, owner)  # whether its owners of before still are cannot be known


async def test_letters_beyond_ascii(ens: Ens, managed: Managed) -> None:
    """As a browser sends them, and as people write them; the registry knows one spelling."""
    owner = ens.chain.accounts[1]
    name = ens.show("bücher🚀", owner, IPFS)
    manager = await managed(**ens.settings())
    ace = "xn--" + "bücher🚀".encode("punycode").decode() + ".eth"
    for spelt in (name, ace, "BÜCHER🚀.eth"):
        assert (await resolve(manager, spelt))["value"] == IPFS_CID, spelt


async def test_without_endpoints_it_says_nothing(managed: Managed) -> None:
    manager = await managed()
    assert await manager.one("dns_ens", "name_resolve", name="name.eth") is None
    assert await manager.first("name_owner", name="name.eth") is None
