"""Keeps the operator's Kubo holding what the node pins: a durable list of wishes, worked off in order.

    queued   to be sent to Kubo
    pinned   Kubo has it, pinned
    failed   Kubo refused it several times; tried again when the node starts or pins it again
    leaving  to be unpinned at Kubo

While Kubo is away the list waits. What Kubo had pinned before we asked is the operator's: never unpinned.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import trio
from tinydb import where

from decentraspace.content.reader import BlockMissing
from decentraspace.errors import Unavailable
from decentraspace.plugin_storage import open_documents
from decentraspace.public import NodeAPI
from decentraspace_storage_ipfs.kubo import Kubo, KuboError

T = TypeVar("T")

_TRIES = 3
_BACKOFF_FIRST, _BACKOFF_MOST = 1.0, 300.0  # seconds
_RECONCILE_EVERY = 600.0  # seconds


class Mirror:
    """Its async methods belong to the plugin's loop. `deadline`: seconds one DAG may take."""

    def __init__(self, node: NodeAPI, kubo: Kubo, deadline: float) -> None:
        self.node, self.kubo, self.deadline = node, kubo, deadline
        self._documents = open_documents(node.data_dir / "pins.json")
        self._pins = self._documents.table("pins")
        self._one_at_a_time = trio.CapacityLimiter(1)  # for the documents
        self._stopping = threading.Event()
        self._wake = trio.Event()
        self.trouble = ""  # why Kubo could not be used the last time, "" if it could

    # -- what the hooks do

    async def want(self, cid: str) -> str:
        """Write down that `cid` is to be pinned; its state afterwards."""

        def change() -> str:
            known = self._find(cid)
            state = "pinned" if known is not None and known["state"] == "pinned" else "queued"
            self._set(cid, state=state, tries=0, error="")
            return state

        state = await self._document(change)
        self._wake.set()
        return state

    async def drop(self, cid: str) -> bool:
        """Write down that `cid` is no longer needed; whether it was known."""

        def change() -> bool:
            if self._find(cid) is None:
                return False
            self._set(cid, state="leaving", tries=0)
            return True

        known = await self._document(change)
        self._wake.set()
        return known

    async def counts(self) -> dict[str, int]:
        def read() -> dict[str, int]:
            states = [pin["state"] for pin in self._pins.all()]
            return {state: states.count(state) for state in ("pinned", "queued", "failed")}

        return await self._document(read)

    # -- working the list off

    async def run(self) -> None:
        """For ever."""
        pause = _BACKOFF_FIRST
        try:
            await self._document(self._reconcile, True)
            while True:
                self._wake = trio.Event()
                job = await self._document(self._next)
                if job is None:
                    with trio.move_on_after(_RECONCILE_EVERY) as waiting:
                        await self._wake.wait()
                    if waiting.cancelled_caught:
                        await self._document(self._reconcile, False)
                    continue
                try:
                    await self._work(job)
                except Unavailable as error:
                    if self.trouble != error.detail:
                        self.node.log.warning("kubo_unavailable", error=error.detail)
                    self.trouble = error.detail
                    await trio.sleep(pause)
                    pause = min(2 * pause, _BACKOFF_MOST)
                else:
                    self.trouble, pause = "", _BACKOFF_FIRST
        finally:
            self._stopping.set()
            self._documents.close()

    async def _work(self, job: dict[str, Any]) -> None:
        """One step for one DAG. Unavailable when Kubo is away; anything else is written down."""
        cid, change = job["cid"], dict[str, Any]()
        try:
            if job["state"] == "leaving":
                if job["ours"]:
                    await self._thread(self.kubo.unpin, cid)
            elif await self._thread(self.kubo.is_pinned, cid):
                # By the operator; or by us, just before a crash.
                change = {"state": "pinned", "error": "", "ours": bool(job["ours"])}
            else:
                await self._document(lambda: self._set(cid, ours=True))
                await self._thread(self._import, cid)
                change = {"state": "pinned", "error": ""}
        except BlockMissing as error:
            change = {"state": "failed", "error": error.detail}
        except KuboError as error:
            tries = job["tries"] + 1
            change = {"tries": tries, "error": error.detail}
            if tries >= _TRIES:
                change["state"] = "failed"
            self.node.log.warning("kubo_refused", cid=cid, error=error.detail, tries=tries)
        await self._document(self._conclude, job, change)

    def _import(self, cid: str) -> None:
        self.kubo.import_dag(cid, self._chunks(cid), time.monotonic() + self.deadline)

    def _chunks(self, cid: str) -> Iterator[bytes]:
        for chunk in self.node.export_car(cid):
            if self._stopping.is_set():
                raise Unavailable("The node stops")
            yield chunk

    async def _thread(self, function: Callable[..., T], *args: Any) -> T:
        # Abandoned when the node stops: Kubo may be silent for longer than the node would wait.
        return await trio.to_thread.run_sync(function, *args, abandon_on_cancel=True)

    # -- the list; one thread at a time

    async def _document(self, function: Callable[..., T], *args: Any) -> T:
        return await trio.to_thread.run_sync(function, *args, limiter=self._one_at_a_time)

    def _find(self, cid: str) -> dict[str, Any] | None:
        found = self._pins.get(where("cid") == cid)
        return dict(found) if isinstance(found, dict) else None

    def _set(self, cid: str, **change: Any) -> None:
        if self._pins.update(change, where("cid") == cid) == []:
            self._pins.insert(
                {"cid": cid, "state": "queued", "ours": None, "tries": 0, "error": "", **change}
            )

    def _next(self) -> dict[str, Any] | None:
        for pin in self._pins:
            if pin["state"] in ("queued", "leaving"):
                return dict(pin)
        return None

    def _conclude(self, job: dict[str, Any], change: dict[str, Any]) -> None:
        """Write down how a step ended, unless the wish has changed meanwhile. {}: forget the DAG."""
        known = self._find(job["cid"])
        if known is None or known["state"] != job["state"]:
            return
        if change:
            self._set(job["cid"], **change)
        else:
            self._pins.remove(where("cid") == job["cid"])

    def _reconcile(self, retry: bool) -> None:
        """Make the list say what the node pins now; with `retry`, what failed is to be tried again."""
        # First the list, then the pins: a DAG pinned in between is in neither or in the pins, never taken
        # for one that is no longer pinned.
        listed = {pin["cid"]: pin["state"] for pin in self._pins}
        pinned = self.node.pinned()
        for cid in sorted(pinned - listed.keys()):
            self._set(cid)
        for cid, state in listed.items():
            if cid not in pinned and state != "leaving":
                self._set(cid, state="leaving", tries=0)
            elif cid in pinned and (state == "leaving" or (retry and state == "failed")):
                self._set(cid, state="queued", tries=0)
