"""/domain/purchase/: credits set aside before, charged after, given back on failure; with a plugin that sells names."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from decentraspace.names import buying
from tests.api.small_node import Person, SmallNode
from tests.api.test_billing import bill
from tests.gateway.served import until
from tests.support import IN_TREE_PLUGINS

PRICE = 1_500_000

SELLER = textwrap.dedent('''
    """Sells names of .shop. What it is told to answer, and what it was asked, are files."""
    import json, os
    from decentraspace import errors, hookimpl

    def said(node):
        return json.loads((node.data_dir / "say.json").read_text())

    @hookimpl
    async def name_quote(name, years, node):
        return {"available": said(node).get("available", True), "credits": said(node)["price"], "years": years}

    @hookimpl
    async def name_purchase(name, years, owner, key, contact, node):
        with open(node.data_dir / "asked.jsonl", "a") as file:
            file.write(json.dumps({"name": name, "years": years, "owner": owner, "key": key,
                                   "contact": sorted(contact or {})}) + "\\\\n")
        status = said(node)["status"]
        if status == "off":
            return None
        if status == "down":
            raise errors.Unavailable("The registrar does not answer")
        if status == "bad":
            raise errors.BadInput("The registrar wants an email address")
        return {"status": status, "reference": "r1", "expires": 1_900_000_000, "detail": "as told"}
''')


class Shop:
    def __init__(self, node: SmallNode) -> None:
        self.node = node
        self._folder = node.config.data_dir / "plugins" / "seller"

    def say(self, status: str, price: int = PRICE, **more: Any) -> None:
        fresh = self._folder / "say.new"
        fresh.write_text(json.dumps({"status": status, "price": price, **more}))
        fresh.rename(self._folder / "say.json")

    def asked(self) -> list[dict[str, Any]]:
        path = self._folder / "asked.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def node(make_node: Callable[..., SmallNode], tmp_path: Path) -> Iterator[SmallNode]:
    folder = tmp_path / "seller"
    folder.mkdir()
    (folder / "seller.py").write_text(SELLER.replace("\\\\n", "\\n"))
    made = make_node(
        plugins={"directory": str(folder), "disabled": list(IN_TREE_PLUGINS)},
        names={"resolvers": ["shop=seller"], "dns": False},
        billing={"exposure": 100_000_000},
    )
    made.plugins.load_blocking(made)
    yield made
    made.plugins.close_blocking()


@pytest.fixture
def shop(node: SmallNode) -> Shop:
    made = Shop(node)
    made.say("done")
    return made


async def buy(
    client: httpx.AsyncClient, person: Person, name: str = "my.shop", key: str = "k1", **more: Any
) -> httpx.Response:
    headers = {**person.headers, "Idempotency-Key": key}
    return await client.post("/domain/purchase/", json={"name": name, **more}, headers=headers)


async def room(client: httpx.AsyncClient, person: Person) -> tuple[int, int]:
    """(what may still be charged, what was used and charged)"""
    found = (await client.get("/billing/balance/", headers=person.headers)).json()
    return found["room"], found["accrued"] + found["unsettled"]


def slug(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition(":")[2]


async def test_a_name_is_bought_once_for_its_key(
    client: httpx.AsyncClient, person: Person, node: SmallNode, shop: Shop
) -> None:
    bill(node, person.address)
    before, _ = await room(client, person)
    quote = (await client.get("/domain/purchase/", params={"name": "MY.shop", "years": 2})).json()["quote"]
    assert (quote["name"], quote["years"], quote["credits"], quote["available"]) == (
        "my.shop",
        2,
        PRICE,
        True,
    )
    for _ in range(2):
        made = await buy(client, person, contact={"email": "a@b.example"}, years=2)
        assert made.status_code == 200, made.text
        assert (made.json()["status"], made.json()["credits"]) == ("done", PRICE)
        assert made.json()["expires"].startswith("2030")
    assert await room(client, person) == (before - PRICE, PRICE)
    [asked] = shop.asked()
    assert (asked["name"], asked["owner"], asked["contact"]) == ("my.shop", person.wallet.address, ["email"])
    stored = (node.config.data_dir / "names.sqlite").read_bytes()
    stored += (node.config.data_dir / "names.sqlite-wal").read_bytes()
    assert b"a@b.example" not in stored
    other = await buy(client, person, "other.shop")
    assert (other.status_code, slug(other)) == (409, "purchase-key-reused")
    [listed] = (await client.get("/domain/purchase/", headers=person.headers)).json()["purchases"]
    assert (listed["name"], listed["status"]) == ("my.shop", "done")


async def test_refused_purchases_are_remembered_within_bounds(
    client: httpx.AsyncClient, person: Person, node: SmallNode, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buying, "_REFUSED_KEPT", 3)
    bill(node, person.address)
    assert (await buy(client, person, key="bought")).json()["status"] == "done"
    shop.say("refused")
    for number in range(6):
        assert (await buy(client, person, key=f"k{number}")).json()["status"] == "refused"
    found = (await client.get("/domain/purchase/", headers=person.headers)).json()["purchases"]
    assert sorted(one["status"] for one in found) == ["done", "refused", "refused", "refused"]
    assert (await buy(client, person, key="bought")).json()["status"] == "done"


async def test_credits_are_set_aside_while_it_is_pending_and_given_back_when_it_is_refused(
    client: httpx.AsyncClient, person: Person, node: SmallNode, shop: Shop
) -> None:
    bill(node, person.address, cap=2 * PRICE)
    shop.say("pending")
    assert (await buy(client, person)).json()["status"] == "pending"
    assert await room(client, person) == (PRICE, 0)
    second = await buy(client, person, "second.shop", "k2")
    assert second.json()["status"] == "pending"
    refused = await buy(client, person, "third.shop", "k3")
    assert (refused.status_code, refused.json()["missing"]) == (402, PRICE)
    assert len({one["key"] for one in shop.asked()}) == 2
    shop.say("refused")
    given_back = await buy(client, person)
    assert given_back.json()["status"] == "refused"
    assert await room(client, person) == (PRICE, 0)
    shop.say("done")
    assert (await buy(client, person, "second.shop", "k2")).json()["status"] == "done"
    assert await room(client, person) == (0 + PRICE, PRICE)
    assert (await buy(client, person)).json()["status"] == "refused", "that was its end"


async def test_a_grant_that_ends_before_the_name_is_bought_does_not_pay_for_it(
    client: httpx.AsyncClient, person: Person, node: SmallNode, shop: Shop
) -> None:
    bill(node, person.address, seconds=600)
    shop.say("pending")
    refused = await buy(client, person)
    assert (refused.status_code, refused.json()["missing"]) == (402, PRICE)
    assert shop.asked() == []


async def test_what_the_registrar_refuses_or_does_not_answer(
    client: httpx.AsyncClient, person: Person, node: SmallNode, shop: Shop
) -> None:
    bill(node, person.address)
    before, _ = await room(client, person)
    shop.say("bad")
    made = (await buy(client, person)).json()
    assert (made["status"], "email address" in made["detail"]) == ("refused", True)
    assert await room(client, person) == (before, 0)
    shop.say("down")
    made = (await buy(client, person, key="k2")).json()
    assert made["status"] == "reserved"
    assert await room(client, person) == (before - PRICE, 0)
    shop.say("done")
    assert (await buy(client, person, key="k2")).json()["status"] == "done"
    assert await room(client, person) == (before - PRICE, PRICE)


async def test_what_cannot_be_bought(
    client: httpx.AsyncClient, person: Person, node: SmallNode, shop: Shop
) -> None:
    bill(node, person.address)
    shop.say("done", available=False)
    taken = await buy(client, person)
    assert (taken.status_code, slug(taken)) == (409, "name-taken")
    assert (await buy(client, person, renew=True)).json()["status"] == "done"
    shop.say("done", price=PRICE + 1)
    dearer = await buy(client, person, key="k2", credits=PRICE)
    assert (dearer.status_code, slug(dearer), dearer.json()["credits"]) == (409, "price-changed", PRICE + 1)
    unsold = await buy(client, person, "my.example", "k3")
    assert (unsold.status_code, slug(unsold)) == (404, "name-not-sold")
    assert (await client.post("/domain/purchase/", json={"name": "a.shop"})).status_code == 401
    assert (await client.get("/domain/purchase/")).status_code == 401


async def test_who_cannot_pay_buys_nothing(
    client: httpx.AsyncClient, person: Person, node: SmallNode, shop: Shop
) -> None:
    bill(node, person.address, cap=PRICE - 1)
    refused = await buy(client, person)
    assert (refused.status_code, refused.json()["missing"]) == (402, 1)
    assert shop.asked() == []


async def test_what_a_plugin_began_is_not_given_back_because_it_sells_no_longer(
    client: httpx.AsyncClient, person: Person, node: SmallNode, shop: Shop
) -> None:
    bill(node, person.address)
    before, _ = await room(client, person)
    shop.say("pending")
    assert (await buy(client, person)).json()["status"] == "pending"
    shop.say("off")
    assert (await buy(client, person)).json()["status"] == "pending"
    assert await room(client, person) == (before - PRICE, 0)
    shop.say("done")
    assert (await buy(client, person)).json()["status"] == "done"
    assert node.buying._locks == {}, "nothing is kept of keys that nobody waits for"


async def test_purchases_at_a_plugin_that_is_gone_keep_no_others_waiting(node: SmallNode, shop: Shop) -> None:
    from decentraspace.names.buying import Purchase

    person = Person(node)
    bill(node, person.address)
    for number in range(120):
        gone = Purchase(f"{number:064}", person.address, "a.gone", 1, "gone", 1, "pending", at=number)
        node.buying._set_aside(gone)
    made = Purchase("a" * 64, person.address, "my.shop", 1, "seller", PRICE, "pending", at=int(time.time()))
    node.buying._set_aside(made)
    async with node.serving():

        def bought() -> bool:
            found = node.buying.get(made.key)
            return found is not None and found.status == "done"

        import trio

        await trio.to_thread.run_sync(until, bought)


async def test_a_node_that_charges_nobody_buys_nothing(
    client: httpx.AsyncClient, person: Person, shop: Shop
) -> None:
    """Its operator would pay the registrar for whoever asks."""
    refused = await buy(client, person)
    assert (refused.status_code, slug(refused)) == (404, "name-not-sold"), refused.text
    assert shop.asked() == []


async def test_a_purchase_goes_on_after_a_crash(node: SmallNode, shop: Shop) -> None:
    """Written down as reserved, and nobody knows whether the plugin was asked."""
    from decentraspace.names.buying import Purchase

    person = Person(node)
    bill(node, person.address)
    made = Purchase("a" * 64, person.address, "my.shop", 1, "seller", PRICE, "reserved", at=int(time.time()))
    node.buying._set_aside(made)
    async with node.serving() as client:
        await person.log_in(client)

        def bought() -> bool:
            found = node.buying.get(made.key)
            return found is not None and found.status == "done"

        import trio

        await trio.to_thread.run_sync(until, bought)
        assert (await room(client, person))[1] == PRICE
    assert [one["key"] for one in shop.asked()] == [made.key]
