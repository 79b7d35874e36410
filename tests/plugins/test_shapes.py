"""Checks of returned values: what is right passes unchanged, anything else is refused and nothing else."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decentraspace import shapes
from decentraspace.content import cid as cids
from decentraspace.hookspecs import HOOKS
from decentraspace.shapes import Nonsense

ADDRESS = "0x" + "aB" * 20
HASH = "0x" + "0a" * 32
CID = cids.to_text(cids.make(cids.RAW, b"x"))

RIGHT: dict[str, list[Any]] = {
    "storage_pin": ["pinned", "queued", "failed", None],
    "storage_unpin": [True, False, None],
    "storage_fetch": [0, 7, None],
    "storage_status": [
        {"service": "x", "reachable": True},
        {"service": "x", "reachable": False, "pinned": 1, "queued": 0, "failed": 2, "detail": "two\nlines"},
        None,
    ],
    "name_resolve": [
        {"kind": "ipfs", "value": CID, "path": "/docs"},
        {"kind": "site", "value": "a--b", "ttl": 60},
        {"kind": "ipns", "value": "k51", "path": ""},
        {"kind": "none", "value": "", "ttl": 0},
        None,
    ],
    "name_verify": [
        {"state": "held", "method": "ens-owner", "detail": "x", "ttl": 60, "expires": 1, "points": True},
        {
            "state": "missing",
            "method": "txt",
            "detail": "x",
            "seen": [
                {"server": "192.0.2.1", "state": "silent"},
                {"server": "b", "state": "no", "detail": "x"},
            ],
        },
        {"state": "stranger", "method": "txt", "detail": ""},
    ],
    "name_transaction": [
        {"chain_id": 1, "to": ADDRESS, "data": "0x00", "value": 0, "detail": "Sign it."},
        None,
    ],
    "name_update": [{"status": "done", "detail": ""}, {"status": "refused", "detail": "x"}, None],
    "name_owner": [ADDRESS],
    "name_quote": [{"available": True, "credits": 5, "years": 1, "valid_until": 1_800_000_000}],
    "name_purchase": [
        {"status": "done", "reference": "r"},
        {"status": "pending", "reference": "r", "expires": 1},
    ],
    "name_instructions": [[{"type": "TXT", "host": "_dnslink.example", "value": "dnslink=/x"}], []],
    "payment_methods": [[{"id": "card", "title": "Card", "fee_credits": 0, "address": ADDRESS}]],
    "payment_recharge": [{"status": "pending", "reference": "r", "url": "https://pay.example/1"}],
    "payment_webhook": [{"status": "done", "reference": "r", "owner": ADDRESS, "credits": 2**63 - 1}],
    "ledger_settle": [
        [
            {"allocation": HASH, "owner": ADDRESS, "credits": 1, "reference": HASH, "status": status}
            for status in ("pending", "final", "later")
        ],
        [
            {
                "allocation": HASH,
                "owner": ADDRESS,
                "credits": 2**63 - 1,
                "reference": "",
                "status": "refused",
                "detail": "expired",
            }
        ],
    ],
    "chain_events": [
        {
            "chain": 137,
            "next_block": 8,
            "final_block": 7,
            "final_time": 1_800_000_000,
            "events": [
                {
                    "block": 7,
                    "block_hash": HASH,
                    "time": 1_800_000_000,
                    "transaction": "0x" + "b" * 64,
                    "index": 0,
                    "kind": "recharged",
                    "owner": ADDRESS,
                    "credits": 1,
                }
            ],
        }
    ],
    "chain_status": [
        {"chain": 137, "operator": ADDRESS, "vault": ADDRESS},
        {"chain": 137, "operator": ADDRESS, "vault": ADDRESS, "reachable": False, "detail": "No answer"},
    ],
    "chain_account": [
        {
            "balance": 5,
            "reserved": 3,
            "available": 2,
            "withdrawing": 0,
            "withdraw_after": 0,
            "block": 7,
            "allocations": [
                {
                    "allocation": HASH,
                    "operator": ADDRESS,
                    "id": 2**256 - 1,
                    "cap": 3,
                    "rate": 0,
                    "start": 0,
                    "expires": 2**40,
                    "stream_settled": 0,
                    "metered_settled": 1,
                }
            ],
        }
    ],
    "chain_transaction": [
        {"chain_id": 137, "to": ADDRESS, "data": "0x", "value": 0},
        {"chain_id": 1, "to": ADDRESS, "data": "0xabcd", "value": 2**256 - 1, "typed_data": "{}"},
    ],
    "payment_events": [
        {"next": 0, "events": []},
        {
            "next": 7,
            "events": [{"status": "disputed", "reference": "r", "number": 7, "time": 1, "credits": 5}],
        },
    ],
    "chain_send": [
        {"status": "pending", "reference": ""},
        {"status": "refused", "reference": HASH, "detail": "no"},
    ],
    "deploy_source": [{"directory": "/x", "revision": "abc"}],
}

WRONG: dict[str, list[Any]] = {
    "storage_unpin": [0, 1, "yes", []],
    "storage_fetch": [-1, True, 1.0, "7", 2**60],
    "storage_status": [
        {},
        {"service": "x"},
        {"service": "x", "reachable": 1},
        {"service": "x", "reachable": True, "more": 1},
        {"service": "x" * 201, "reachable": True},
        {"service": "\x1b[2J", "reachable": True},
        {"service": "x", "reachable": True, 5: 5},
        [("service", "x")],
    ],
    "name_resolve": [
        {"kind": "ftp", "value": "x"},
        {"kind": "site", "value": "x", "ttl": -1},
        {"kind": "ipfs", "value": CID, "path": "docs"},
        {"kind": "ipfs", "value": CID, "path": "/a b"},
    ],
    "name_verify": [
        {"state": "yes", "method": "txt", "detail": ""},
        {"state": "held", "method": "TXT record", "detail": ""},
        {"state": "held", "method": "txt"},
        {"state": "held", "method": "txt", "detail": "", "points": 1},
        {"state": "held", "method": "txt", "detail": "", "seen": [{"server": "x", "state": "maybe"}]},
    ],
    "name_transaction": [{"chain_id": 1, "to": ADDRESS, "data": "0x0", "value": 0, "detail": ""}],
    "name_update": [{"status": "pending", "detail": ""}],
    "name_owner": ["0x", "0x" + "g" * 40, ADDRESS + "00", ADDRESS.encode(), ADDRESS + "\n"],
    "name_quote": [
        {"available": True, "credits": -1, "years": 1},
        {"available": True, "credits": 0.5, "years": 1},
    ],
    "payment_methods": [
        {"id": "x"},
        [{"id": "UPPER", "title": "x"}],
        [{"id": "a", "title": "x"}] * 51,
    ],
    "payment_recharge": [
        {"status": "pending", "reference": "r", "url": "javascript:alert(1)"},
        {"status": "pending", "reference": "r", "url": "https://a b"},
    ],
    "payment_webhook": [{"status": "done", "reference": "r", "credits": 2**63}],
    "ledger_settle": [
        [{"owner": ADDRESS, "credits": 1, "reference": "0x1"}],
        [{"allocation": HASH, "owner": ADDRESS, "credits": 1, "reference": "", "status": "paid"}],
        [{"allocation": HASH.upper(), "owner": ADDRESS, "credits": 1, "reference": "", "status": "final"}],
    ],
    "chain_events": [
        {"chain": 1, "next_block": 1, "events": "none"},
        {"chain": 1, "next_block": "1", "events": []},
        {"next_block": 1, "events": []},
    ],
    "chain_transaction": [{"chain_id": 1, "to": ADDRESS, "data": "0xa", "value": 0}],
    "chain_send": [{"status": "later", "reference": ""}, {"status": "final"}],
}


@pytest.mark.parametrize(("hook", "value"), [(h, v) for h, values in RIGHT.items() for v in values])
def test_right(hook: str, value: Any) -> None:
    assert HOOKS[hook].returns(value) == value


@pytest.mark.parametrize(
    ("hook", "value"), [(h, v) for h, values in WRONG.items() for v in values if v is not None]
)
def test_wrong(hook: str, value: Any) -> None:
    with pytest.raises(Nonsense):
        HOOKS[hook].returns(value)


def test_every_hook_that_returns_something_is_tried() -> None:
    returning = {name for name, hook in HOOKS.items() if hook.returns is not shapes.NOTHING}
    assert returning == {*RIGHT, "api_routes"}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(value=anything)
def test_nothing_but_nonsense_is_raised(value: Any) -> None:
    for hook in HOOKS.values():
        with suppress(Nonsense):
            clean = hook.returns(value)
            assert hook.returns(clean) == clean  # what passed passes again, as it is


def test_cids_are_made_uniform() -> None:
    v0 = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
    assert shapes.CID(v0) == cids.to_text(cids.parse(v0))
    for wrong in ("", "bafy", 5, None, b"x", "Qm" + "1" * 44):
        with pytest.raises(Nonsense):
            shapes.CID(wrong)


def test_a_changed_original_changes_nothing() -> None:
    inner = {"id": "card", "title": "Card"}
    given_ = [inner]
    clean = HOOKS["payment_methods"].returns(given_)
    inner["title"] = "evil"
    given_.append("evil")  # type: ignore[arg-type]
    assert clean == [{"id": "card", "title": "Card"}]
