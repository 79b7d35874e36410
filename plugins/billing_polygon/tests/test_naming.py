"""Labels of SiteRegistry as names, on a real chain: bought by commit and reveal, verified, shown."""

from __future__ import annotations

import base64
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from plugins.billing_polygon.tests.conftest import CHAIN, Managed, World, account, operator_settings
from plugins.billing_polygon.tests.test_on_chain import Mining, ask

from decentraspace.errors import BadInput, ConfigError, Conflict
from decentraspace.plugins import PluginManager
from decentraspace.testing import until
from decentraspace_billing_polygon.naming import commitment, read_contenthash, write_contenthash
from decentraspace_billing_polygon.settings import read

YEAR_PRICE = 5_000_000  # of a label of five characters and more, as the registry was deployed
KEY = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8"
ROOT = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"
SITE = "abcdefghijklmnop"


async def bought(manager: PluginManager, name: str, key: str, owner: str, years: int = 1) -> Any:
    """Once it is not pending."""

    async def done() -> Any:
        asked = {"name": name, "years": years, "owner": owner.lower(), "key": key, "contact": None}
        answer = await ask(manager, "name_purchase", **asked)
        return answer if answer["status"] != "pending" else None

    return await until(done, 90)


def later(world: World, seconds: int) -> None:
    world.chain.ask("evm_increaseTime", seconds)
    world.chain.finalize()


async def verify(manager: PluginManager, owner: str, name: str = "garden.dsp") -> Any:
    more = {"site": f"blog--{SITE}", "gateway": "", "proof": ""}
    return await ask(manager, "name_verify", name=name, owner=owner.lower(), **more)


async def resolve(manager: PluginManager, name: str = "garden.dsp") -> Any:
    return await ask(manager, "name_resolve", name=name)


async def test_a_name_is_bought_once_shown_and_renewed(world: World, managed: Managed) -> None:
    owner, other = world.owner, account(5)
    world.recharge(3 * YEAR_PRICE, world.operator)
    manager = await managed(labels="dsp")
    quote = await ask(manager, "name_quote", name="garden.dsp", years=2)
    assert (quote["available"], quote["credits"], quote["years"]) == (True, 2 * YEAR_PRICE, 2)
    assert (await verify(manager, owner.address))["state"] == "missing"
    assert await resolve(manager) == {"kind": "none", "value": "", "ttl": 60}
    with Mining(world.chain):
        first = await ask(
            manager, "name_purchase", name="garden.dsp", years=1, owner=owner.address, key="one", contact=None
        )
        assert first["status"] == "pending"
        manager = await managed(labels="dsp")  # the node is stopped in between
        done = await bought(manager, "garden.dsp", "one", owner.address)
        assert done["status"] == "done", done
        assert await bought(manager, "garden.dsp", "one", owner.address) == done
        assert world.income() == 2 * YEAR_PRICE
        taken = await bought(manager, "garden.dsp", "two", other.address)
        assert (taken["status"], "taken" in taken["detail"]) == ("refused", True)
        assert world.income() == 2 * YEAR_PRICE
        renewed = await bought(manager, "garden.dsp", "three", owner.address)
        assert renewed["expires"] == done["expires"] + 365 * 86400
        assert world.income() == YEAR_PRICE
        dear = await bought(manager, "meadow.dsp", "four", owner.address, years=2)
        assert (dear["status"], "has 5000000 credits" in dear["detail"]) == ("refused", True)
    assert world.sites.functions.ownerOfLabel("garden").call() == owner.address
    with pytest.raises(Conflict, match="another name"):
        await bought(manager, "meadow.dsp", "one", owner.address)
    quote = await ask(manager, "name_quote", name="garden.dsp", years=1)
    assert not quote["available"]

    assert await ask(manager, "name_owner", name="garden.dsp") == owner.address
    held = await verify(manager, owner.address)
    assert (held["state"], held["expires"]) == ("held", renewed["expires"])
    assert (await verify(manager, other.address))["state"] == "stranger"
    made = await ask(
        manager, "name_transaction", name="garden.dsp", owner=owner.address, target=f"/ipns/{KEY}"
    )
    digest = world.chain.web3.eth.send_transaction(
        {"from": owner.address, "to": made["to"], "data": made["data"], "value": made["value"]}
    )
    assert world.chain.web3.eth.wait_for_transaction_receipt(digest)["status"] == 1
    world.chain.finalize()
    assert await resolve(manager) == {"kind": "ipns", "value": KEY, "ttl": 60}
    site = base64.b32decode(SITE.upper())
    world.send(world.sites.functions.setSite("garden", site), owner)
    assert await resolve(manager) == {"kind": "site", "value": SITE, "ttl": 60}


async def test_who_copies_the_commitment_stops_nobody(world: World, managed: Managed, tmp_path: Path) -> None:
    owner = world.owner.address
    world.recharge(YEAR_PRICE, world.operator)
    manager = await managed(labels="dsp")
    asked = {"name": "garden.dsp", "years": 1, "owner": owner.lower(), "key": "one", "contact": None}
    assert (await ask(manager, "name_purchase", **asked))["status"] == "pending"
    # As somebody does who sees it on its way, and pays for being faster. Nothing of it is the other's to use.
    [file] = tmp_path.rglob("polygon.sqlite")
    with closing(sqlite3.connect(file)) as db:
        [plan] = db.execute("SELECT value FROM facts WHERE name = 'name:one'").fetchone()
    hidden = commitment(
        CHAIN, world.sites.address, "garden", owner, bytes.fromhex(json.loads(plan)["secret"])
    )
    world.send(world.sites.functions.commit(hidden), account(5))
    with Mining(world.chain):
        done = await bought(manager, "garden.dsp", "one", owner)
    assert done["status"] == "done", done
    assert world.sites.functions.ownerOfLabel("garden").call() == owner
    assert world.income() == 0


async def test_what_has_ended_is_nobody_s_and_can_be_renewed(world: World, managed: Managed) -> None:
    owner, label = world.owner, "meadow.dsp"
    world.recharge(3 * YEAR_PRICE, world.operator)
    world.send(world.vault.functions.approve(world.sites.address, YEAR_PRICE), world.operator)
    secret, year = bytes(31) + b"1", 365 * 86400
    hidden = commitment(CHAIN, world.sites.address, "meadow", owner.address, secret)
    assert hidden == world.sites.functions.commitmentOf("meadow", owner.address, secret).call()
    world.send(world.sites.functions.commit(hidden), world.operator)
    world.chain.mine(2, 60)
    world.send(world.sites.functions.register("meadow", owner.address, year, secret), world.operator)
    world.send(world.sites.functions.setSite("meadow", base64.b32decode(SITE.upper())), owner)
    manager = await managed(labels="dsp")
    assert (await verify(manager, owner.address, label))["state"] == "held"
    assert (await resolve(manager, label))["value"] == SITE
    later(world, year)
    assert await resolve(manager, label) == {"kind": "none", "value": "", "ttl": 60}
    assert await ask(manager, "name_owner", name=label) is None
    ended = await verify(manager, owner.address, label)
    assert (ended["state"], "only be renewed" in ended["detail"]) == ("missing", True)
    quote = await ask(manager, "name_quote", name=label, years=1)
    assert (quote["available"], "only be renewed" in quote["detail"]) == (False, True)
    with Mining(world.chain):
        renewed = await bought(manager, label, "back", owner.address)
    assert renewed["status"] == "done", renewed
    assert (await verify(manager, owner.address, label))["state"] == "held"
    assert (await resolve(manager, label))["value"] == SITE
    later(world, year + 91 * 86400)
    assert (await verify(manager, owner.address, label))["state"] == "missing"
    assert (await ask(manager, "name_quote", name=label, years=1))["available"]


async def test_what_the_operator_cannot_pay_is_not_on_offer(
    world: World, managed: Managed, tmp_path: Path
) -> None:
    world.recharge(YEAR_PRICE - 1, world.operator)
    manager = await managed(labels="dsp")
    quote = await ask(manager, "name_quote", name="garden.dsp", years=1)
    assert (quote["available"], "4999999 credits" in quote["detail"]) == (False, True)
    assert (await bought(manager, "garden.dsp", "one", world.owner.address))["status"] == "refused"
    assert "10 years" in (await ask(manager, "name_quote", name="garden.dsp", years=11))["detail"]
    settings = {**operator_settings(tmp_path, world), "labels": "dsp", "sites": ""}
    with pytest.raises(ConfigError, match="sites is missing"):
        read(settings)


async def test_other_names_are_others(world: World, managed: Managed) -> None:
    manager = await managed(labels="dsp")
    assert await resolve(manager, "garden.example") is None
    assert await resolve(manager, "dsp") is None
    for name in ("www.garden.dsp", "-x.dsp", "a--b.dsp", "x" * 46 + ".dsp"):
        assert (await resolve(manager, name))["kind"] == "none"
    assert await verify(manager, world.owner.address, "www.garden.dsp") is None
    manager = await managed()
    assert await resolve(manager) is None


def test_contenthashes_come_back() -> None:
    for kind, value in (("ipfs", ROOT), ("ipns", KEY)):
        assert read_contenthash(write_contenthash(f"/{kind}/{value}")) == (kind, value)
    # As EIP-1577 has it.
    known = "e3010170122029f2d17be6139079dc48696d1f582a8530eb9805b561eda517e22a892c7e3f1f"
    assert read_contenthash(bytes.fromhex(known))[0] == "ipfs"
    assert write_contenthash("/ipfs/" + read_contenthash(bytes.fromhex(known))[1]).hex() == known
    for raw in (
        b"",
        b"\xe3\x01",
        b"\xe4\x01\x01\x70\x12\x20" + bytes(32),
        b"\xe5\x01\x01\x70\x12\x20" + bytes(32),
    ):
        assert read_contenthash(raw) == ("none", "")
    for path in ("", "/ipfs/", "/ipfs/Qm", "/http/x", f"/ipfs/{KEY}", f"/ipns/{ROOT}", f"/ipfs/{ROOT}/a"):
        with pytest.raises(BadInput):
            write_contenthash(path)
