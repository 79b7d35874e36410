"""The purchases of this node, each one small document, synced to disk at every change. Nothing of a person is in them.

asked    the registrar was asked to buy, or is about to be; what came of it is not known
bought   it is in the account; its records are to be entered
done     all is done
refused  nothing was bought
"""

from __future__ import annotations

import base64
import hashlib
import threading
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from decentraspace.errors import QuotaExceeded
from decentraspace.plugin_storage import open_documents

_MOST = 10_000
_KEPT = 2 * 365 * 86_400  # seconds an ended purchase is remembered
_KEPT_REFUSED = 7 * 86_400
_DAY = 86_400


@dataclass(frozen=True)
class Purchase:
    """Times in Unix seconds. `before`: when the name ended before it was renewed; 0 for one that is new. `ends`: when
    it ends now; 0: not known. `unclear`: that it cannot be found out was logged."""

    key: str
    name: str
    years: int
    owner: str
    process: str
    credits: int
    made: int
    before: int = 0
    state: str = "asked"
    ends: int = 0
    unclear: bool = False
    detail: str = ""

    def answer(self, peer_id: str) -> dict[str, Any]:
        """As `name_purchase` gives it."""
        status = self.state if self.state in ("done", "refused") else "pending"
        found: dict[str, Any] = {
            "status": status,
            "reference": self.reference(peer_id),
            "detail": self.detail,
        }
        return {**found, "expires": self.ends} if self.ends else found

    def reference(self, peer_id: str) -> str:
        digest = hashlib.sha256(f"{peer_id}\0{self.key}".encode()).digest()
        return "name-" + base64.b32encode(digest[:15]).decode().lower()


class Purchases:
    """Blocking; from any thread. Conflict when another program has the file open."""

    def __init__(self, path: Path) -> None:
        self._documents = open_documents(path)
        self._table = self._documents.table("purchases")
        self._lock = threading.Lock()
        self._known: dict[str, Purchase] = {}
        self._rows: dict[str, int] = {}
        names = {one.name for one in fields(Purchase)}
        for document in self._table.all():
            purchase = Purchase(**{name: value for name, value in document.items() if name in names})
            self._known[purchase.key], self._rows[purchase.key] = purchase, document.doc_id

    def close(self) -> None:
        with self._lock:
            self._documents.close()

    def get(self, key: str) -> Purchase | None:
        with self._lock:
            return self._known.get(key)

    def open_for(self, name: str) -> Purchase | None:
        """One of that name of which it is not known what came."""
        with self._lock:
            return next((p for p in self._known.values() if p.name == name and p.state == "asked"), None)

    def spent(self, now: int) -> int:
        """Credits of the last 24 hours."""
        with self._lock:
            return sum(
                p.credits for p in self._known.values() if p.state != "refused" and p.made > now - _DAY
            )

    def add(self, purchase: Purchase, now: int) -> None:
        """On disk when it returns. QuotaExceeded when there are too many."""
        with self._lock:
            if len(self._known) >= _MOST:
                self._forget(now)
            self._rows[purchase.key] = self._table.insert(dict(vars(purchase)))
            self._known[purchase.key] = purchase

    def change(self, purchase: Purchase, **changes: Any) -> Purchase:
        """On disk when it returns; nothing has changed when it raises."""
        with self._lock:
            changed = replace(purchase, **changes)
            self._table.update(dict(vars(changed)), doc_ids=[self._rows[purchase.key]])
            self._known[purchase.key] = changed
            return changed

    def _forget(self, now: int) -> None:
        kept = {"done": _KEPT, "refused": _KEPT_REFUSED}
        over = [p for p in self._known.values() if p.state in kept and p.made + kept[p.state] < now]
        over = sorted(over, key=lambda p: p.made)[: _MOST // 10]
        if not over:
            raise QuotaExceeded("There are too many purchases to remember")
        self._table.remove(doc_ids=[self._rows[p.key] for p in over])
        for purchase in over:
            del self._known[purchase.key], self._rows[purchase.key]
