"""The ledger's doors for card money (cards.py, deposits.py). Blocking and thread-safe."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from decentraspace.database import reading
from decentraspace.ledger import cards, deposits


class Purse:
    """Part of the ledger."""

    _db: sqlite3.Connection
    _lock: AbstractContextManager[Any]

    def _write(self) -> AbstractContextManager[Any]:
        raise NotImplementedError

    def card_received(self, reference: str, owner: bytes, credits: int, until: int) -> bool:
        """See cards.py. `until`: when the payment can no longer be called back."""
        with self._write():
            return cards.received(self._db, reference, owner, credits, until, int(time.time()))

    def card_reversed(self, reference: str) -> bool:
        with self._write():
            return cards.reverse(self._db, reference, int(time.time()))

    def card_payments(self, owner: bytes) -> list[tuple[cards.Card, deposits.Deposit | None]]:
        """The newest first; each with its deposit, where this ledger makes that."""
        with self._lock, reading():
            return [(one, deposits.of(self._db, one.reference)) for one in cards.of_owner(self._db, owner)]

    def payments_cursor(self, plugin: str) -> int:
        with self._lock, reading():
            return deposits.cursor(self._db, plugin)

    def take_payments(self, plugin: str, answer: Mapping[str, Any]) -> list[deposits.Told]:
        """What the hook `payment_events` gave, once; what it was news of. On disk when it returns."""
        with self._write() as db:
            return deposits.take(db, plugin, answer, int(time.time()))

    def take_payment(self, plugin: str, event: Mapping[str, Any]) -> list[deposits.Told]:
        """What a plugin without `payment_events` made of a webhook. Conflict, BadInput."""
        with self._write() as db:
            return deposits.report(db, plugin, event, int(time.time()))

    def deposits_due(self, after: str = "") -> list[deposits.Deposit]:
        """The next ones, whose amounts are on disk when this returns."""
        with self._write() as db:
            return deposits.due(db, after=after)

    def deposit_answered(self, reference: str, answer: Mapping[str, Any]) -> None:
        with self._write() as db:
            deposits.answered(db, reference, answer)


__all__ = ["Purse"]
