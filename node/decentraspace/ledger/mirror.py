"""What the chain says, taken over from final events: each counts once, by (chain, transaction, index).

The order of events is the chain's. `take` works within one transaction with the cursor, so that a crash neither
loses nor repeats any; what is already known changes nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from decentraspace.errors import Conflict
from decentraspace.ledger import allocations, booking, facts, journal, pauses

_SITE_EVENTS = 20_000  # at once; the hook gives at most 10,000 of one block

Event = Mapping[str, Any]
"""As the hook `chain_events` gives it."""


@dataclass(frozen=True)
class News:
    """What an event means for this node beyond its books: `kind` as in the hook."""

    kind: str
    owner: bytes | None = None
    site: str = ""


def raw(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def bind(db: sqlite3.Connection, chain: int, vault: str, operator: str) -> None:
    """These books are about one vault on one chain, as one operator. Conflict when they were about another."""
    fresh = {"chain": chain, "vault": vault.lower(), "operator": operator.lower()}
    known = facts.get(db, "settles")
    if known is None:
        facts.put(db, "settles", fresh)
    elif known != fresh:
        raise Conflict(
            f"The node's ledger settles as {known['operator']} with vault {known['vault']} on chain "
            f"{known['chain']}, and the plugin now says {fresh['operator']}, {fresh['vault']}, {chain}",
            hint="Correct the plugin's settings; for another contract or key move ledger.sqlite away first.",
        )


def operator_of(db: sqlite3.Connection) -> bytes | None:
    """As whom this ledger settles; None before a plugin has said so."""
    known = facts.get(db, "settles")
    return raw(known["operator"]) if known else None


def cursor(db: sqlite3.Connection) -> int:
    """The block to go on from."""
    return int(facts.get(db, "next_block") or 0)


def source(db: sqlite3.Connection) -> str | None:
    """Which contracts on which chain these books are about; None before a plugin has said so."""
    known = facts.get(db, "settles")
    return f"{known['chain']}:{known['vault']}" if known else None


class SiteEvents(NamedTuple):
    """Events about sites, in the chain's order: all before block `next_block`. `more`: ask again from there."""

    events: list[Event]
    next_block: int
    more: bool


def site_events(db: sqlite3.Connection, from_block: int) -> SiteEvents:
    """Who owns which site, and whose delegations ended, from block `from_block` on."""
    rows = db.execute(
        "SELECT block, body FROM events WHERE kind IN ('site_transferred', 'delegations_revoked') "
        "AND block >= ? ORDER BY block, place LIMIT ?",
        (from_block, _SITE_EVENTS),
    ).fetchall()
    # Not half a block, as a block has fewer events than that.
    more = len(rows) == _SITE_EVENTS
    until = rows[-1][0] if more else cursor(db)
    return SiteEvents([json.loads(body) for block, body in rows if block < until], until, more)


def take(db: sqlite3.Connection, answer: Mapping[str, Any], at: int) -> list[News]:
    """Take over what the hook gave. Conflict for another chain than the one these books are about."""
    known = facts.get(db, "settles")
    if known is not None and known["chain"] != answer["chain"]:
        raise Conflict(f"Events of chain {answer['chain']} for a ledger that settles on {known['chain']}")
    operator = operator_of(db)
    news: list[News] = []
    for event in answer["events"]:
        key = (answer["chain"], event["transaction"], event["index"])
        body = json.dumps(dict(event), sort_keys=True)
        done = db.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (*key, event["kind"], event["block"], body),
        )
        if done.rowcount:
            news += _apply(db, operator, event, at)
    # Never back: a plugin that starts anew says the same again, which counts once.
    facts.put(db, "next_block", max(cursor(db), answer["next_block"]))
    facts.put(db, "followed", facts.clock(db).seconds)
    if "final_block" in answer:
        facts.put(db, "final", {"block": answer["final_block"], "time": answer.get("final_time", 0)})
    return news


def _apply(db: sqlite3.Connection, operator: bytes | None, event: Event, at: int) -> Iterable[News]:
    kind = event["kind"]
    try:
        return _KINDS[kind](db, operator, event, at) if kind in _KINDS else ()
    except KeyError as missing:
        raise Conflict(f"A {kind} event of the chain lacks {missing}") from missing


def _move(db: sqlite3.Connection, owner: str, credits: int) -> None:
    db.execute(
        "INSERT INTO wallets VALUES (?, ?) ON CONFLICT (owner) DO UPDATE SET balance = balance + excluded.balance",
        (raw(owner), credits),
    )


def _recharged(db: sqlite3.Connection, operator: bytes | None, event: Event, at: int) -> list[News]:
    _move(db, event["owner"], event["credits"])
    return [News("recharged", raw(event["owner"]))]


def _withdrawn(db: sqlite3.Connection, operator: bytes | None, event: Event, at: int) -> list[News]:
    _move(db, event["owner"], -event["credits"])
    if "to" in event and event["kind"] == "spent":
        _move(db, event["to"], event["credits"])
    return []


def _allocated(db: sqlite3.Connection, operator: bytes | None, event: Event, at: int) -> list[News]:
    terms = [event[name] for name in ("cap", "rate", "start", "expires")]
    owner, granted = raw(event["owner"]), raw(event["operator"])
    known = allocations.by_id(db, raw(event["allocation"]))
    if known is None:
        db.execute(
            "INSERT INTO allocations (id, owner, operator, chosen, cap, rate, start, expires) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (raw(event["allocation"]), owner, granted, str(event["id"]), *terms),
        )
    else:
        base, since = known.stream_base, known.stream_from
        if (known.rate, known.start) != (terms[1], terms[2]):
            base, since = known.streamed(event["time"]), event["time"]
        db.execute(
            "UPDATE allocations SET cap = ?, rate = ?, start = ?, expires = ?, stream_base = ?, stream_from = ? "
            "WHERE number = ?",
            (*terms, base, since, known.number),
        )
    return [News("allocated", owner)] if granted == operator else []


def _settled(db: sqlite3.Connection, operator: bytes | None, event: Event, at: int) -> list[News]:
    _move(db, event["owner"], -event["credits"])
    _move(db, event["operator"], event["credits"])
    known = allocations.by_id(db, raw(event["allocation"]))
    if known is None:
        return []
    if raw(event["operator"]) == operator:
        booking.paid(db, known, event["cumulative"], at, event["transaction"])
        return [News("settled", known.owner)]
    db.execute(
        "UPDATE allocations SET settled = MAX(settled, ?) WHERE number = ?",
        (event["cumulative"], known.number),
    )
    return []


def _stream_settled(db: sqlite3.Connection, operator: bytes | None, event: Event, at: int) -> list[News]:
    _move(db, event["owner"], -event["credits"])
    _move(db, event["operator"], event["credits"])
    name = event["allocation"]
    db.execute(
        "UPDATE allocations SET stream_settled = stream_settled + ? WHERE id = ?",
        (event["credits"], raw(name)),
    )
    if raw(event["operator"]) == operator:
        key = f"stream:{event['transaction']}:{event['index']}"
        credits = event["credits"]
        journal.post(db, key, "stream", at, {f"settled:{name}": credits, f"stream:{name}": -credits})
    return []


def _skipped(db: sqlite3.Connection, operator: bytes | None, event: Event, at: int) -> list[News]:
    """The contract has passed over a charge; it stays due, and may be offered in a later batch."""
    known = allocations.by_id(db, raw(event["allocation"]))
    if known is not None:
        rows = db.execute(
            "SELECT root, cumulative FROM charges WHERE allocation = ? AND reference IN ('', ?) "
            "AND status IN ('offered', 'pending')",
            (known.number, event["transaction"]),
        ).fetchall()
        for root, cumulative in rows:
            booking.refuse(db, root, known, cumulative, at, event["transaction"], event.get("reason", ""))
    return []


def _released(db: sqlite3.Connection, operator: bytes | None, event: Event, at: int) -> list[News]:
    """It has ended, and what was left went back to its owner: what it still owed is lost."""
    known = allocations.by_id(db, raw(event["allocation"]))
    if known is None:
        return []
    booking.lose(db, known, at, ours=known.operator == operator)
    return [News("released", known.owner)] if known.operator == operator else []


def _depleted(db: sqlite3.Connection, operator: bytes | None, event: Event, at: int) -> list[News]:
    ours = raw(event["operator"]) == operator
    return [News("depleted", raw(event["owner"]))] if ours else []


def _transferred(db: sqlite3.Connection, operator: bytes | None, event: Event, at: int) -> list[News]:
    db.execute(
        "INSERT INTO site_owners VALUES (?, ?, ?) ON CONFLICT (site) DO UPDATE SET owner = excluded.owner, "
        "label = CASE WHEN excluded.label <> '' THEN excluded.label ELSE label END",
        (event["site"], raw(event["owner"]), event.get("label", "")),
    )
    pauses.hand_over(db, event["site"], raw(event["owner"]))
    return [News("site_transferred", raw(event["owner"]), event["site"])]


def _revoked(db: sqlite3.Connection, operator: bytes | None, event: Event, at: int) -> list[News]:
    db.execute(
        "INSERT INTO revoked VALUES (?, ?) ON CONFLICT (site) DO UPDATE SET before = MAX(before, excluded.before)",
        (event["site"], event["before"]),
    )
    return [News("delegations_revoked", None, event["site"])]


def _operator(db: sqlite3.Connection, operator: bytes | None, event: Event, at: int) -> list[News]:
    db.execute(
        "INSERT INTO operators VALUES (?, ?) ON CONFLICT (operator) DO UPDATE SET registered = excluded.registered",
        (raw(event["operator"]), event["kind"] == "operator_registered"),
    )
    return [News(event["kind"], raw(event["operator"]))]


_KINDS = {
    "recharged": _recharged,
    "allocated": _allocated,
    "settled": _settled,
    "stream_settled": _stream_settled,
    "skipped": _skipped,
    "depleted": _depleted,
    "released": _released,
    "withdrawn": _withdrawn,
    "spent": _withdrawn,
    "site_transferred": _transferred,
    "delegations_revoked": _revoked,
    "operator_registered": _operator,
    "operator_removed": _operator,
}
