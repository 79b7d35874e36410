"""Statements: anybody can recompute them, and nobody can change anything in one."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decentraspace.errors import BadInput, NotFound, Unprocessable
from decentraspace.ledger import statements, verify
from tests.ledger.world import GIB, VAULT, World, owner_of, site_of

ANN, BOB = owner_of(1), owner_of(2)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    world = World(tmp_path_factory.mktemp("ledger"), exposure=10**9, site_monthly_cap=10**9)
    real = time.time
    time.time = lambda: float(world.now.wall)  # type: ignore[assignment]
    try:
        allocation = world.vault.allocate(ANN, 40_000_000)
        world.vault.allocate(BOB, 40_000_000)
        world.follow()
        for hour in range(3):
            for site in range(1, 4):
                world.use(site_of(site), ANN, size=GIB * site + hour, requests=hour + 1)
            world.use(site_of(9), BOB, size=GIB)
            world.hour()
        batch = world.ledger.next_batch(world.now.wall)
        assert batch is not None
        transaction = world.vault.settle(batch)
        world.follow()
        found = world.ledger.statement(batch.root, bytes.fromhex(allocation[2:]))
        assert found["transaction"] == transaction
        with pytest.raises(NotFound):
            world.ledger.statement(batch.root, bytes(32))
        yield found
    finally:
        time.time = real
        world.ledger.close()


def test_it_verifies(document: dict[str, Any]) -> None:
    found = verify.check(json.loads(json.dumps(document)))
    assert found.whole
    assert found.uses == 18
    assert found.credits == document["cumulative"] == 18_000_018


def test_one_use_can_be_shown_without_the_others(document: dict[str, Any]) -> None:
    for place in range(len(document["usage"])):
        shown = statements.proved(document, place)
        assert len(shown["usage"]) == 1
        found = verify.check(shown)
        assert not found.whole
        assert found.credits == document["usage"][place]["credits"]
        lie = copy.deepcopy(shown)
        lie["usage"][0]["credits"] += 1
        with pytest.raises(Unprocessable):
            verify.check(lie)


CHANGES = [
    ("cumulative", lambda v: v + 1),
    ("previous", lambda v: v + 1),
    ("allocation", lambda v: "0x" + "00" * 32),
    ("usage_root", lambda v: "0x" + "00" * 32),
    ("root", lambda v: "0x" + "00" * 32),
    ("proof", lambda v: []),
    ("usage", lambda v: v[1:]),
    ("usage", lambda v: [*v, v[0]]),
    *(
        ("usage", lambda v, name=name: [{**v[0], name: v[0][name] + 1}, *v[1:]])
        for name in ("hour", "quantity", "credits")
    ),
    ("usage", lambda v: [{**v[0], "service": "other"}, *v[1:]]),
    ("usage", lambda v: [{**v[0], "site": site_of(77)}, *v[1:]]),
]


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_nothing_in_it_can_be_changed(document: dict[str, Any], name: str, change: Any) -> None:
    with pytest.raises(Unprocessable):
        verify.check({**document, name: change(document[name])})


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=70) | st.just("0x" + "ab" * 32),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@given(data=st.data())
def test_whatever_it_is_it_is_refused_in_words(document: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([*document, "format"]))
    value = data.draw(anything)
    changed = {**document, name: value}
    if name == "usage" and isinstance(value, list) and value:
        changed["usage"] = [{**document["usage"][0], data.draw(st.sampled_from(["site", "hour"])): value[0]}]
    with suppress(BadInput, Unprocessable):
        verify.check(changed)


# -- against a receipt


def topic(address: str) -> str:
    return "0x" + address[2:].lower().rjust(64, "0")


def receipt_of(document: dict[str, Any], amount: int, cumulative: int, root: str) -> dict[str, Any]:
    """As eth_getTransactionReceipt gives it."""

    def words(*values: int) -> str:
        return "0x" + "".join(f"{value:064x}" for value in values)

    def log(*topics: str, data: str) -> dict[str, Any]:
        return {"address": VAULT, "topics": list(topics), "data": data}

    operator, owner = topic(document["operator"]), topic(document["owner"])
    settled, batch = ("0x" + event.hex() for event in (verify.SETTLED, verify.BATCH_SETTLED))
    return {
        "status": "0x1",
        "blockNumber": "0x1",
        "logs": [
            log(settled, operator, owner, document["allocation"], data=words(amount, cumulative)),
            log(batch, operator, root, data=words(1, amount)),
        ],
    }


def test_against_a_receipt(document: dict[str, Any]) -> None:
    found, total, root = verify.check(document), document["cumulative"], document["root"]
    assert verify.check_receipt(document, found, receipt_of(document, total, total, root)) == total
    wrong = [
        receipt_of(document, total + 1, total, root),
        receipt_of(document, total, total - 1, root),
        receipt_of(document, total, total, "0x" + "00" * 32),
        {**receipt_of(document, total, total, root), "status": "0x0"},
    ]
    for receipt in wrong:
        with pytest.raises(Unprocessable):
            verify.check_receipt(document, found, receipt)
    elsewhere = receipt_of(document, total, total, root)
    for entry in elsewhere["logs"]:
        entry["address"] = "0x" + "ee" * 20
    with pytest.raises(Unprocessable):
        verify.check_receipt(document, found, elsewhere)


@given(receipt=anything)
def test_a_receipt_that_is_none_is_refused_in_words(document: dict[str, Any], receipt: Any) -> None:
    with pytest.raises(BadInput):
        verify.check_receipt(document, verify.check(document), receipt)


def test_events_are_named_as_the_contract_does() -> None:
    """The checked-in ABI of CreditVault has these events, with these fields indexed."""
    path = Path(__file__).resolve().parents[2] / "contracts/artifacts/CreditVault.json"
    if not path.exists():
        pytest.skip("contracts are not built here")
    from decentraspace.identity.ethereum import keccak256

    events = {
        entry["name"]: entry for entry in json.loads(path.read_text())["abi"] if entry["type"] == "event"
    }
    for name, known, indexed in (("Settled", verify.SETTLED, 3), ("BatchSettled", verify.BATCH_SETTLED, 2)):
        inputs = events[name]["inputs"]
        signature = f"{name}({','.join(one['type'] for one in inputs)})"
        assert keccak256(signature.encode()) == known
        assert [one["indexed"] for one in inputs] == [True] * indexed + [False] * (len(inputs) - indexed)
