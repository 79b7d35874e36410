"""A domain bought with credits through dns_registrar: what the registrar was paid, what the owner was charged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from plugins.dns_registrar.tests.gandi import TOKEN, Answer, Gandi

from tests.api.small_node import Person, SmallNode
from tests.api.test_billing import bill
from tests.support import IN_TREE_PLUGINS

NAME = "bought.example"
PRICE = 15_500_000
CONTACT = {
    "given": "Aurelia", "family": "Quillfeather", "email": "aurelia@quillfeather.example", "city": "Arles",
    "streetaddr": "5 Rue Inconnue", "zip": "13200", "country": "FR", "phone": "+33.123456789", "type": "individual",
}  # fmt: skip


@pytest.fixture
def gandi() -> Iterator[Gandi]:
    server = Gandi()
    yield server
    server.close()


@pytest.fixture
def node(make_node: Callable[..., SmallNode], gandi: Gandi, tmp_path: Path) -> Iterator[SmallNode]:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    made = make_node(
        plugins={"disabled": [name for name in IN_TREE_PLUGINS if name != "dns_registrar"]},
        names={"dns": False},
        billing={"exposure": 100_000_000},
    )
    own = {"registrar": "gandi", "key_file": str(token), "api": gandi.url}
    made.config = replace(made.config, plugin={"dns_registrar": own})
    made.plugins.load_blocking(made)
    yield made
    made.plugins.close_blocking()


async def buy(client: httpx.AsyncClient, person: Person, key: str, **more: Any) -> dict[str, Any]:
    headers = {**person.headers, "Idempotency-Key": key}
    answer = await client.post("/domain/purchase/", json={"name": NAME, **more}, headers=headers)
    assert answer.status_code in (200, 202), answer.text
    found: dict[str, Any] = answer.json()
    return found


async def used(client: httpx.AsyncClient, person: Person) -> tuple[int, int]:
    """(what may still be charged, what was used and charged)"""
    found = (await client.get("/billing/balance/", headers=person.headers)).json()
    return found["room"], found["accrued"] + found["unsettled"]


async def test_it_is_bought_and_charged_once(
    client: httpx.AsyncClient, person: Person, node: SmallNode, gandi: Gandi
) -> None:
    bill(node, person.address, cap=100_000_000)
    before, _ = await used(client, person)
    gandi.slow = True
    assert (await buy(client, person, "k1", contact=CONTACT))["status"] == "pending"
    assert await used(client, person) == (before - PRICE, 0)  # set aside
    gandi.settle()
    for _ in range(2):
        found = await buy(client, person, "k1")
        assert (found["status"], found["credits"]) == ("done", PRICE)
    assert await used(client, person) == (before - PRICE, PRICE)
    assert [kind for kind, _ in gandi.orders] == ["create"]
    assert gandi.records[NAME, "_decentraspace", "TXT"] == [
        f'"decentraspace-owner={person.wallet.address.lower()}"'
    ]
    kept = b"".join(path.read_bytes() for path in node.config.data_dir.rglob("*") if path.is_file())
    assert b"quillfeather" not in kept


async def test_what_the_registrar_refuses_costs_nothing(
    client: httpx.AsyncClient, person: Person, node: SmallNode, gandi: Gandi
) -> None:
    bill(node, person.address, cap=100_000_000)
    before = await used(client, person)
    assert (await buy(client, person, "k1"))["status"] == "refused"  # nobody who is to own it
    assert (await buy(client, person, "k2", contact={**CONTACT, "zip": ""}))["status"] == "refused"
    gandi.mischief = lambda method, path: Answer(503) if path.startswith("/v5/domain/domains/") else None
    headers = {**person.headers, "Idempotency-Key": "k3"}
    answer = await client.post("/domain/purchase/", json={"name": NAME, "contact": CONTACT}, headers=headers)
    assert answer.status_code == 503, answer.text
    with trio.fail_after(30):
        while await used(client, person) != before:
            await trio.sleep(0.1)
    assert gandi.orders == []
