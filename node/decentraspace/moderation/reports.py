"""The inbox for reports of abuse: open to anybody, so everything about it is bounded.

Addresses are kept for a day, and only as a keyed hash that is of no use elsewhere. The same report again,
from wherever, counts up the first one instead of filling the inbox.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from typing import NamedTuple

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput, NotFound, QuotaExceeded, TooMany
from decentraspace.moderation.decisions import Decisions

CATEGORIES = (
    "copyright",
    "malware",
    "phishing",
    "child-abuse",
    "illegal",
    "privacy",
    "spam",
    "objection",
    "other",
)
TEXT_MOST, TARGET_MOST, CONTACT_MOST, DECISION_MOST = 4000, 2048, 200, 500  # characters
_HOUR, _DAY = 3600, 86400
_EACH = 5  # reports an hour from one address
_ALL = 300  # reports an hour from all addresses together
_OPEN_MOST = 10_000
_KEPT_MOST = 100_000  # closed ones included; the oldest closed ones go
_COLUMNS = "id, created, last, times, target, category, text, contact, closed, decision"
_GIVING = f"RETURNING {_COLUMNS}"
_AGAIN = f"UPDATE reports SET times = times + 1, last = ? WHERE same = ? AND closed IS NULL {_GIVING}"  # noqa: S608
_CLOSE = f"UPDATE reports SET closed = ?, decision = ? WHERE id = ? {_GIVING}"  # noqa: S608


class Report(NamedTuple):
    """`times`: how often the same was reported; `closed`: Unix seconds, None while it is open."""

    id: int
    created: int
    last: int
    times: int
    target: str
    category: str
    text: str
    contact: str
    closed: int | None
    decision: str | None


class Reports:
    """Blocking and thread-safe."""

    def __init__(self, decisions: Decisions) -> None:
        self._decisions = decisions
        self._salt = decisions.get_meta("salt")
        if not self._salt:
            self._salt = secrets.token_bytes(32)
            decisions.set_meta("salt", self._salt)

    def add(
        self, target: str, category: str, text: str, contact: str, sender: str, now: float | None = None
    ) -> Report:
        """Durable. BadInput, TooMany from this address or from all, QuotaExceeded when the inbox is full."""
        moment = int(time.time() if now is None else now)
        target, text, contact = _target(target), _plain(text, TEXT_MOST, "text"), contact.strip()
        _plain(contact, CONTACT_MOST, "contact")
        if category not in CATEGORIES:
            raise BadInput(f"A category is one of {', '.join(CATEGORIES)}")
        who = self._hashed(_network(sender))
        same = hashlib.sha256("\0".join((target, category, text)).encode()).digest()
        with self._decisions.writing() as db:
            db.execute("DELETE FROM senders WHERE at < ?", (moment - _DAY,))
            hour = (moment - _HOUR,)
            recent = "SELECT at FROM senders WHERE at > ?"
            mine = db.execute(
                recent + " AND sender = ? ORDER BY at DESC LIMIT ?", (*hour, who, _EACH)
            ).fetchall()
            if len(mine) == _EACH:
                raise _too_many(f"{_EACH} reports an hour are taken from one address", mine[-1][0], moment)
            every = db.execute(recent + " ORDER BY at DESC LIMIT ?", (*hour, _ALL)).fetchall()
            if len(every) == _ALL:
                raise _too_many("Too many reports come in just now", every[-1][0], moment)
            db.execute("INSERT INTO senders VALUES (?, ?)", (who, moment))
            again = db.execute(
                _AGAIN,
                (moment, same),
            ).fetchall()
            if again:
                return Report(*again[0])
            if db.execute("SELECT COUNT(*) FROM reports WHERE closed IS NULL").fetchone()[0] >= _OPEN_MOST:
                raise QuotaExceeded("The inbox for reports is full", slug="inbox-full")
            db.execute(
                "DELETE FROM reports WHERE closed IS NOT NULL AND id <= (SELECT MAX(id) FROM reports) - ?",
                (_KEPT_MOST,),
            )
            [row] = db.execute(
                "INSERT INTO reports (created, last, times, same, target, category, text, contact) "
                "VALUES (?, ?, 1, ?, ?, ?, ?, ?) " + _GIVING,
                (moment, moment, same, target, category, text, contact),
            ).fetchall()
        return Report(*row)

    def listed(self, *, closed: bool = False, after: int = 0, limit: int = 100) -> list[Report]:
        """Open ones, or closed ones; oldest first, from the one behind id `after` on."""
        condition = "IS NOT NULL" if closed else "IS NULL"
        with self._decisions.looking() as db:
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM reports WHERE closed {condition} AND id > ? ORDER BY id LIMIT ?",  # noqa: S608
                (after, limit),
            ).fetchall()
        return [Report(*row) for row in rows]

    def close(self, number: int, decision: str, now: float | None = None) -> Report:
        """Durable; closing again replaces the decision. NotFound."""
        decision = _plain(decision, DECISION_MOST, "decision")
        moment = int(time.time() if now is None else now)
        with self._decisions.writing() as db:
            rows = db.execute(
                _CLOSE,
                (moment, decision, number),
            ).fetchall()
        if not rows:
            raise NotFound(f"There is no report {number}")
        return Report(*rows[0])

    def _hashed(self, text: str) -> bytes:
        return hmac.new(self._salt, text.encode(), hashlib.sha256).digest()[:16]


def _too_many(what: str, oldest: int, now: int) -> TooMany:
    """There is room again when the oldest report that counts is an hour old."""
    return TooMany(what, slug="too-many-reports", retry_after=max(oldest + _HOUR - now, 1))


def _target(text: str) -> str:
    """A URL, or a CID in its one spelling."""
    text = text.strip()
    if len(text) > TARGET_MOST or not text.isprintable() or not text:
        raise BadInput(f"Name a url or a cid, of at most {TARGET_MOST} printable characters")
    lower = text.lower()
    if lower.startswith(("http://", "https://", "ipfs://", "ipns://")):
        if any(c.isspace() for c in text) or not lower.partition("://")[2]:
            raise BadInput(f"{text[:80]!r} is not a URL")
        return text
    return cids.to_text(cids.parse(text.removeprefix("/ipfs/").partition("/")[0]))


def _plain(text: str, most: int, what: str) -> str:
    """Nothing that would command a terminal, or write over other lines of a log."""
    text = text.replace("\r\n", "\n").strip()
    if len(text) > most:
        raise BadInput(f"{what} has at most {most} characters")
    if not all(c.isprintable() or c in "\n\t" for c in text):
        raise BadInput(f"{what} has characters that cannot be printed")
    return text


def _network(address: str) -> str:
    """What one sender has: an IPv4 address, or all of an IPv6 /64."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
