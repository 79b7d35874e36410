"""Taking uploads in: turns, allowances, and the import itself, for whole and for resumed uploads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import trio

from decentraspace.api import ingest
from decentraspace.api.allowance import FREE
from decentraspace.api.body import WORTH, Stalled
from decentraspace.api.kept import KeptUpload
from decentraspace.api.routing import Call
from decentraspace.api.schemas import attr, time
from decentraspace.content import cid as cids
from decentraspace.content.archives import Limits
from decentraspace.errors import (
    BadInput,
    Conflict,
    Forbidden,
    PaymentRequired,
    QuotaExceeded,
    TooLarge,
    TooMany,
    Unauthorized,
    Unprocessable,
    UnsupportedMedia,
)

T = TypeVar("T")

_AT_ONCE, _AT_ONCE_FREE, AT_ONCE_EACH = 16, 12, 4  # uploads under way: in all, of the free tier, per wallet
# A whole upload keeps its place until it ends, and the free tier has few: bytes a second that each must bring,
# beyond the first seconds. Who is slower sends one that can go on, which takes its place when it is all here.
_FREE_RATE, _FREE_FIRST = 32_000, 60.0
PROBLEMS = (
    BadInput,
    Unauthorized,
    Forbidden,
    PaymentRequired,
    Stalled,
    Conflict,
    TooLarge,
    UnsupportedMedia,
    Unprocessable,
    TooMany,
    QuotaExceeded,
)


@dataclass(frozen=True)
class UploadAnswer:
    """Everything is verified, on disk and pinned for the wallet."""

    cid: str = attr("Root CID.")
    size: int = attr("Bytes of the files; of all blocks for a CAR of a folder.")
    blocks: int = attr("Blocks that were made or received.")
    expires: datetime | None = attr(
        "When it ends unless it is uploaded again, in the free tier. What a deploy uses stays."
    )
    links: dict[str, str] = attr("`path`: where this node's gateway serves it.")


async def covered(call: Call, size: int) -> None:
    """PaymentRequired unless what the wallet stores here can be paid for a while with so many bytes more."""
    await trio.to_thread.run_sync(call.node.ledger.require_storage, call.owner, "", size)


@asynccontextmanager
async def turn(call: Call) -> AsyncIterator[None]:
    """One of the places for uploads, and no garbage collection of what it brings until it is pinned."""
    # A place and its thread are taken when there is something to do in it: a small upload is there by then.
    await call.stream.gather(WORTH)
    free = await trio.to_thread.run_sync(call.shared.kept.is_free, call.owner)
    busy: list[tuple[bytes, bool]] = call.shared.uploading
    if (
        len(busy) >= _AT_ONCE
        or (free and sum(of_free for _, of_free in busy) >= _AT_ONCE_FREE)
        or sum(owner == call.owner for owner, _ in busy) >= AT_ONCE_EACH
    ):
        raise TooMany("Too many uploads at once", hint="Wait for one of them to end.", slug="busy")
    if free:
        call.stream.demand(_FREE_RATE, _FREE_FIRST)
    place = (call.owner, free)
    busy.append(place)
    try:
        hold = call.node.blocks.hold()
        await trio.to_thread.run_sync(hold.__enter__)
        try:
            yield
        finally:
            hold.__exit__(None, None, None)
    finally:
        busy.remove(place)


async def counted(call: Call, work: Callable[[Callable[[int], None]], T]) -> T:
    """Run `work(add)` in a thread, within the wallet's allowance, and that of the free tier in all."""
    kept, allowances = call.shared.kept, call.shared.allowances
    free = await trio.to_thread.run_sync(kept.is_free, call.owner)

    def run() -> T:
        with allowances.counter(call.owner, kept.room(call.owner)) as counter:
            if not free:
                return work(counter.add)
            with allowances.counter(FREE, kept.free_most) as everybody:

                def add(size: int) -> None:
                    counter.add(size)
                    everybody.add(size)

                return work(add)

    async with call.shared.free_threads if free else nullcontext():  # the rest is for the paid tier
        return await trio.to_thread.run_sync(run, limiter=call.shared.threads)


async def take(
    call: Call, source: ingest.Source, content_type: str, media: str, spooled: int = 0
) -> UploadAnswer:
    """Import and pin. `spooled`: bytes of it that went off the allowance already."""
    api = call.node.config.api
    limits = Limits(api.max_upload, api.max_upload_files)
    free = spooled

    def work(add: Callable[[int], None]) -> tuple[ingest.Ingested, KeptUpload]:
        def beyond(size: int) -> None:
            nonlocal free
            given = min(free, size)
            free -= given
            add(size - given)

        spool = call.node.config.data_dir / "uploads"
        done = ingest.ingest(call.node.blocks, source, content_type, media, limits, spool, beyond)
        return done, call.shared.kept.keep(call.owner, done.cid)

    done, kept = await counted(call, work)
    text = cids.to_text(done.cid)
    links = {"path": f"{call.node.config.gateway_url}/ipfs/{text}"}
    expires = None if kept.expires is None else time(kept.expires)
    return UploadAnswer(text, done.size, done.blocks, expires, links)
