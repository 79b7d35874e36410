"""Whose names are: registry, registrar, wrapper; and what their owners sign. On ENS's own contracts but the wrapper."""

from __future__ import annotations

import pytest
from plugins.dns_ens.tests.chain import DAY, Ens
from plugins.dns_ens.tests.conftest import (
    IPFS,
    IPFS_CID,
    Managed,
    Offchain,
    resolve,
    transaction,
    verify,
)

from decentraspace.errors import BadInput, Forbidden, Unprocessable
from decentraspace_dns_ens import names
from decentraspace_dns_ens.naming import keccak256, namehash

KEY = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8"


async def test_owner_and_manager_hold_a_name_and_a_stranger_does_not(ens: Ens, managed: Managed) -> None:
    owner, manager_, stranger = ens.chain.accounts[1:4]
    name = ens.register("held", owner)
    ens.chain.send(ens.registry.functions.setOwner(namehash(name), manager_), owner)
    manager = await managed(**ens.settings())
    held = await verify(manager, name, owner)
    assert (held["state"], held["method"]) == ("held", "ens-owner")
    number = int.from_bytes(keccak256(b"held"))
    assert held["expires"] == ens.registrar.functions.nameExpires(number).call()
    managing = await verify(manager, name, manager_)
    assert (managing["state"], managing["method"]) == ("held", "ens-manager")
    strange = await verify(manager, name, stranger)
    assert strange["state"] == "stranger"
    assert owner.lower() in strange["detail"]
    assert await manager.one("dns_ens", "name_owner", name=name) == owner.lower()


async def test_what_is_sold_is_the_buyers(ens: Ens, managed: Managed) -> None:
    seller, buyer = ens.chain.accounts[1:3]
    name = ens.register("sold", seller)
    manager = await managed(**ens.settings())
    number = int.from_bytes(keccak256(b"sold"))
    ens.chain.send(ens.registrar.functions.transferFrom(seller, buyer, number), seller)
    ens.chain.send(ens.registrar.functions.reclaim(number, buyer), buyer)
    assert (await verify(manager, name, seller))["state"] == "stranger"
    assert (await verify(manager, name, buyer))["state"] == "held"


async def test_a_wrapped_name_is_whose_the_wrapper_says(ens: Ens, managed: Managed) -> None:
    owner, stranger = ens.chain.accounts[1:3]
    name = ens.show("wrapped", owner, IPFS)
    ens.wrap("wrapped", owner)
    manager = await managed(**ens.settings())
    held = await verify(manager, name, owner)
    assert (held["state"], held["method"]) == ("held", "ens-wrapper")
    assert (await verify(manager, name, stranger))["state"] == "stranger"
    # The wrapper has it in the registry: that makes it nobody's.
    assert (await verify(manager, name, ens.wrapper.address))["state"] == "stranger"
    assert await manager.one("dns_ens", "name_owner", name=name) == owner.lower()


async def test_names_of_nobody(ens: Ens, managed: Managed, offchain: Offchain) -> None:
    owner = ens.chain.accounts[1]
    name = ens.register("parent", owner)
    ens.resolve_by(name, owner, offchain.resolver.address)
    manager = await managed(**ens.settings())
    free = await verify(manager, "free-to-have.eth", owner)
    assert (free["state"], free["detail"]) == ("missing", "Nobody has free-to-have.eth.")
    below = await verify(manager, f"alice.{name}", owner)
    assert below["state"] == "missing"
    assert "Have alice.parent.eth created" in below["detail"]
    assert await manager.one("dns_ens", "name_owner", name="free-to-have.eth") is None


async def test_a_subname_is_its_own_owners(ens: Ens, managed: Managed) -> None:
    owner, friend = ens.chain.accounts[1:3]
    name = ens.subname(ens.register("family", owner), "bob", owner, friend)
    manager = await managed(**ens.settings())
    assert (await verify(manager, name, friend))["state"] == "held"
    assert (await verify(manager, name, owner))["state"] == "stranger"


async def test_a_name_that_ran_out(ens: Ens, managed: Managed, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its grace period it is nobody else's; after that, anybody's."""
    owner = ens.chain.accounts[1]
    name = ens.register("brief", owner, days=28)
    manager = await managed(**ens.settings())
    ends = (await verify(manager, name, owner))["expires"]

    now = [float(ends + DAY)]
    monkeypatch.setattr(names, "now", lambda: now[0])
    ens.chain.ask("anvil_setNextBlockTimestamp", ends + DAY)
    ens.chain.ask("anvil_mine")
    grace = await verify(manager, name, owner)
    assert (grace["state"], grace["method"]) == ("held", "ens-manager")
    assert "renew it" in grace["detail"]
    now[0] = float(ends + 91 * DAY)
    over = await verify(manager, name, owner)
    assert over["state"] == "missing"
    assert "ran out" in over["detail"]


async def test_the_owner_signs_once(ens: Ens, managed: Managed) -> None:
    """A name without a resolver is given one, then the site's IPNS name."""
    owner = ens.chain.accounts[1]
    name = ens.register("signs", owner)
    manager = await managed(**ens.settings())
    first = await transaction(manager, name, owner, f"/ipns/{KEY}")
    assert first["to"] == ens.registry.address.lower()
    assert "first of two" in first["detail"]
    ens.chain.sign(first, owner)
    second = await transaction(manager, name, owner, f"/ipns/{KEY}")
    assert second["to"] == ens.resolver.address.lower()
    assert "no other transaction" in second["detail"]
    ens.chain.sign(second, owner)
    assert await resolve(manager, name) == {"kind": "ipns", "value": KEY, "ttl": 300}
    again = await transaction(manager, name, owner, f"/ipns/{KEY}")
    assert "already" in again["detail"]
    ens.chain.sign(await transaction(manager, name, owner, f"/ipfs/{IPFS_CID}"), owner)
    assert (await resolve(manager, name))["value"] == IPFS_CID


async def test_a_wrapped_name_gets_its_resolver_by_the_wrapper(ens: Ens, managed: Managed) -> None:
    owner = ens.chain.accounts[1]
    name = ens.register("inside", owner)
    ens.wrap("inside", owner)
    manager = await managed(**ens.settings())
    first = await transaction(manager, name, owner, f"/ipns/{KEY}")
    assert first["to"] == ens.wrapper.address.lower()
    ens.chain.sign(first, owner)
    # This resolver is older than the wrapper: it knows the registry's owner alone, which the wrapper is.
    with pytest.raises(Unprocessable, match="would not take it"):
        await transaction(manager, name, owner, f"/ipns/{KEY}")


async def test_what_is_not_to_be_signed(ens: Ens, managed: Managed, offchain: Offchain) -> None:
    owner, other = ens.chain.accounts[1:3]
    name = ens.show("mine", owner, IPFS)
    manager = await managed(**ens.settings())
    with pytest.raises(Forbidden, match="another's"):
        await transaction(manager, name, other, f"/ipns/{KEY}")
    with pytest.raises(Forbidden, match="Nobody has"):
        await transaction(manager, "nobodys.eth", other, f"/ipns/{KEY}")
    for target in ("/ipfs/nonsense", "/bzz/abc", "site.example", f"/ipns/{KEY}/below", f"/ipfs/{KEY}", ""):
        with pytest.raises(BadInput):
            await transaction(manager, name, owner, target)
    ens.chain.send(ens.registry.functions.setOwner(namehash(name), other), owner)
    with pytest.raises(Unprocessable) as refused:
        await transaction(manager, name, owner, f"/ipns/{KEY}")
    assert "another manager" in refused.value.hint
    ens.resolve_by(name, other, offchain.resolver.address)
    with pytest.raises(Unprocessable, match="would not take it"):
        await transaction(manager, name, other, f"/ipns/{KEY}")


async def test_verdicts_say_where_a_name_leads(ens: Ens, managed: Managed) -> None:
    owner = ens.chain.accounts[1]
    name = ens.show("leads", owner, IPFS)
    manager = await managed(**ens.settings())
    leads = await verify(manager, name, owner)
    assert f"/ipfs/{IPFS_CID}" in leads["detail"]
    assert "points" not in leads  # whether that is of this network is not known here
    ens.set(name, owner, bytes.fromhex("e40101fa011b20") + bytes(32))
    nowhere = await verify(manager, name, owner)
    assert "Swarm" in nowhere["detail"]
    assert nowhere["points"] is False


async def test_gateways_are_not_asked_whose_a_name_is(ens: Ens, managed: Managed, offchain: Offchain) -> None:
    owner = ens.chain.accounts[1]
    name = ens.register("quiet", owner)
    ens.resolve_by(name, owner, offchain.resolver.address)
    manager = await managed(**ens.settings(allow_private=True))
    held = await verify(manager, name, owner)
    assert held["state"] == "held"
    assert "points" not in held
    assert offchain.asked == []


async def test_a_name_that_is_none_is_refused_in_words(ens: Ens, managed: Managed) -> None:
    manager = await managed(**ens.settings())
    for name in ("xn--pple-43d.eth", "a" * 300 + ".eth", "xn--\x80.eth", "ni‍ck.eth"):
        with pytest.raises(BadInput, match="name"):
            await verify(manager, name, ens.chain.accounts[1])


async def test_instructions(ens: Ens, managed: Managed) -> None:
    manager = await managed(**ens.settings())
    asked = {"name": "name.eth", "site": "site--abc", "owner": ens.chain.accounts[1].lower(), "gateway": ""}
    told = await manager.one("dns_ens", "name_instructions", **asked)
    assert [one["type"] for one in told] == ["owner", "contenthash"]
    assert told[0]["value"] == asked["owner"]
