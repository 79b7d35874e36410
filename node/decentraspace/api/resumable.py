"""/storage/upload/, in parts: uploads that go on after an interruption. Their bytes lie on disk until the last."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import trio

from decentraspace.api import ingest
from decentraspace.api.body import WORTH, Body, Stalled
from decentraspace.api.ingest import CAR, FILE, TARS, ZIP
from decentraspace.api.intake import AT_ONCE_EACH, PROBLEMS, UploadAnswer, counted, covered, take, turn
from decentraspace.api.routing import Call, Media, Reply, RouteTable
from decentraspace.api.schemas import attr
from decentraspace.errors import (
    BadInput,
    Conflict,
    DecentraSpaceError,
    NotFound,
    QuotaExceeded,
    TooLarge,
    TooMany,
    Unauthorized,
    UnsupportedMedia,
)

table = RouteTable()

PARTIAL = "application/partial-upload"
_OPEN_EACH, _OPEN_FREE = 8, 1000  # uploads open: of one wallet, and of all before the free tier must wait
_SPARE_DISK = 256 * 1024 * 1024  # bytes of disk that uploads leave free
_LOOK_EVERY = 32 * 1024 * 1024  # bytes between looks at the room there is
_SOON = 0.1  # seconds in which the next bytes must come for a thread to wait for them
_LAST_WORDS = 10.0  # seconds to put down what had come of an upload that broke off


@dataclass(frozen=True)
class ResumeQuery:
    upload: str = attr("Id of the upload, from `Location`.", pattern="[0-9a-f]{32}")


async def begin(call: Call) -> Reply:
    media = ingest.kind_of(call.media)
    if media not in (CAR, ZIP, FILE, *TARS):
        raise UnsupportedMedia("Resumable uploads are zip, tar, CAR or one file")
    length = _number(call, "Upload-Length") if "Upload-Length" in call.headers else None
    await covered(call, length or 0)
    name = await trio.to_thread.run_sync(_create, call, media, length)
    offset = await _append(call, name, 0, length)
    return Reply(None, 201, {"Location": f"/storage/upload/?upload={name}", "Upload-Offset": str(offset)})


def _create(call: Call, media: str, length: int | None) -> str:
    uploads = call.node.uploads
    if call.shared.kept.is_free(call.owner) and uploads.spooled()[0] >= _OPEN_FREE:
        raise TooMany("Too many uploads are open at this node", hint="Upload it in one request.", slug="busy")
    if uploads.count(call.owner) >= _OPEN_EACH:
        raise TooMany(
            f"A wallet may have {_OPEN_EACH} uploads open",
            hint="Finish one, or give it up with DELETE /storage/upload/?upload=ID.",
            slug="busy",
        )
    return uploads.create(call.owner, media, length)


def _number(call: Call, header: str) -> int:
    text = call.headers.get(header, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise BadInput(f"{header} must be a number of bytes")
    return int(text)


@table.add(
    "HEAD",
    "/storage/upload/",
    tag="storage",
    login=True,
    query=ResumeQuery,
    answers={204: None},
    answer_headers={"Upload-Offset": "Bytes on disk.", "Upload-Length": "Bytes in all, if known."},
    problems=(Unauthorized, NotFound),
)
async def offset(call: Call) -> Reply:
    """How far an upload has come"""
    uploads, name = call.node.uploads, call.query.upload
    info = await trio.to_thread.run_sync(uploads.info, name, call.owner)
    here = await trio.to_thread.run_sync(uploads.offset, name)
    headers = {"Upload-Offset": str(here), "Upload-Complete": "?0"}
    if info.length is not None:
        headers["Upload-Length"] = str(info.length)
    return Reply(None, 204, headers)


@table.add(
    "PATCH",
    "/storage/upload/",
    tag="storage",
    login=True,
    query=ResumeQuery,
    streams={PARTIAL: Media("The bytes from `Upload-Offset` on.")},
    headers={
        "Upload-Offset": "Where the bytes go: what HEAD said.",
        "Upload-Complete": "`?1` with the last part: the answer is that of the upload.",
    },
    answers={200: UploadAnswer, 204: None},
    answer_headers={"Upload-Offset": "Bytes on disk."},
    problems=(*PROBLEMS, NotFound),
)
async def resume(call: Call) -> Any:
    """Go on with an upload

    What arrived before a connection broke is kept: HEAD says how much. An upload that nobody went on with
    for a day is removed.
    """
    uploads, name = call.node.uploads, call.query.upload
    info = await trio.to_thread.run_sync(uploads.info, name, call.owner)
    here = await _append(call, name, _number(call, "Upload-Offset"), info.length)
    if call.headers.get("Upload-Complete") != "?1":
        return Reply(None, 204, {"Upload-Offset": str(here), "Upload-Complete": "?0"})
    if info.length is not None and here != info.length:
        raise Conflict(f"The upload has {here} of {info.length} bytes", slug="wrong-length", offset=here)
    await covered(call, here)
    async with writing(call, name), turn(call):
        path = uploads.path(name)
        file = await trio.to_thread.run_sync(lambda: path.open("rb"))
        try:
            done = await take(call, ingest.FileSource(file), info.content_type, info.content_type, here)
        finally:
            file.close()
        await trio.to_thread.run_sync(uploads.remove, name)
    return done


@asynccontextmanager
async def writing(call: Call, name: str) -> AsyncIterator[None]:
    if name in call.shared.spooling:
        raise Conflict("Another request is at this upload", slug="upload-busy")
    call.shared.spooling[name] = call.owner
    try:
        yield
    finally:
        del call.shared.spooling[name]


async def _append(call: Call, name: str, offset: int, length: int | None) -> int:
    """The request's body to the upload's file, from `offset` on; synced when it returns.

    The body is waited for here and not in a thread, of which there are few: slow uploads cost others nothing.
    """
    uploads, body = call.node.uploads, call.stream
    most = call.node.config.api.max_upload if length is None else length
    here = offset

    def work(add: Callable[[int], None]) -> int:
        return uploads.append(name, here, _counting(call, _at_hand(body), most - here, add))

    if sum(owner == call.owner for owner in call.shared.spooling.values()) >= AT_ONCE_EACH:
        raise TooMany("Too many uploads at once", hint="Wait for one of them to end.", slug="busy")
    async with writing(call, name):
        try:
            while True:
                await body.gather(WORTH)
                here = await counted(call, work)
                if body.ended:
                    return here
        except (trio.Cancelled, Stalled):
            deadline = trio.current_time() + _LAST_WORDS
            with trio.CancelScope(deadline=deadline, shield=True), suppress(DecentraSpaceError):
                await _keep_rest(call, name, most)
            raise


async def _keep_rest(call: Call, name: str, most: int) -> None:
    uploads, rest = call.node.uploads, call.stream.take_now()  # nobody else is at it any more
    here = await trio.to_thread.run_sync(uploads.offset, name)
    await counted(call, lambda add: uploads.append(name, here, _counting(call, rest, most - here, add)))


def _at_hand(body: Body) -> Iterator[bytes]:
    """In a thread: what has arrived, and goes on arriving without a pause."""
    while taken := trio.from_thread.run_sync(body.take_now):
        yield from taken
        if not trio.from_thread.run(body.gather, WORTH, _SOON):
            return


def _counting(call: Call, chunks: Iterable[bytes], most: int, add: Callable[[int], None]) -> Iterator[bytes]:
    """The chunks, as long as there is room for them; TooLarge beyond `most` bytes."""
    left = min(_room(call), _LOOK_EVERY)
    for chunk in chunks:
        most -= len(chunk)
        if most < 0:
            raise TooLarge("The upload has more bytes than it may")
        add(len(chunk))
        left -= len(chunk)
        if left < 0:
            left = min(_room(call) - len(chunk), _LOOK_EVERY)
            if left < 0:
                raise QuotaExceeded("The node has no room for this upload", hint="Try another node.")
        yield chunk


def _room(call: Call) -> int:
    """Bytes that may still be put down for uploads under way, which count as what the node keeps."""
    here = call.node.uploads.spooled()[1]
    stats = call.node.blocks.stats()
    room = min(
        stats.quota - stats.bytes - here, shutil.disk_usage(call.node.config.data_dir).free - _SPARE_DISK
    )
    kept = call.shared.kept
    return min(room, kept.free_most - here) if kept.is_free(call.owner) else room
