"""/storage/upload/: content in, as missing blocks, files, zip, tar or CAR; interrupted uploads go on."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import trio

from decentraspace.api import ingest
from decentraspace.api.body import Pulled, Stalled
from decentraspace.api.ingest import CAR, FILE, FORM, TARS, ZIP
from decentraspace.api.routing import Call, Media, Reply, RouteTable
from decentraspace.api.schemas import attr
from decentraspace.content import cid as cids
from decentraspace.content.archives import Limits
from decentraspace.errors import (
    BadInput,
    Conflict,
    Forbidden,
    NotFound,
    PaymentRequired,
    QuotaExceeded,
    TooLarge,
    TooMany,
    Unauthorized,
    Unprocessable,
    UnsupportedMedia,
)

table = RouteTable()
T = TypeVar("T")

PARTIAL = "application/partial-upload"
_WANT_MOST = 20_000
_AT_ONCE, _AT_ONCE_EACH = 16, 4  # uploads under way, in all and per wallet
_OPEN_EACH = 8  # resumable uploads a wallet may have open
_SPARE_DISK = 256 * 1024 * 1024  # bytes of disk that uploads leave free
_PROBLEMS = (
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
class WantRequest:
    """Which of these blocks must I send? Those that are here are kept for an hour, for a deploy to follow."""

    want: list[str] = attr("CIDs of blocks.", most=_WANT_MOST)


@dataclass(frozen=True)
class MissingAnswer:
    missing: list[str] = attr("Those of `want` that are not here.")


@dataclass(frozen=True)
class UploadAnswer:
    """Everything is verified, on disk and pinned for the wallet."""

    cid: str = attr("Root CID.")
    size: int = attr("Bytes of the files; of all blocks for a CAR of a folder.")
    blocks: int = attr("Blocks that were made or received.")
    links: dict[str, str] = attr("`path`: where this node's gateway serves it.")


@dataclass(frozen=True)
class BlocksAnswer:
    """The blocks are verified and on disk; what no deploy uses is removed after an hour."""

    stored: int = attr("Blocks received.")
    new: int = attr("Blocks that were not here before.")
    bytes: int = attr("Bytes of the blocks received.")


@dataclass(frozen=True)
class UploadQuery:
    blocks: bool = attr("1: the CAR holds some blocks of a DAG, to be completed by further ones.", False)


@dataclass(frozen=True)
class ResumeQuery:
    upload: str = attr("Id of the upload, from `Location`.", pattern="[0-9a-f]{32}")


@dataclass(frozen=True)
class ForgetQuery:
    cid: str | None = attr("Root of an upload that is complete.", None, most=200)
    upload: str | None = attr("Id of an upload that is not.", None, pattern="[0-9a-f]{32}")


@table.add(
    "POST",
    "/storage/upload/",
    tag="storage",
    login=True,
    narrow=True,
    json=WantRequest,
    json_most=2 * 1024 * 1024,
    streams={
        CAR: Media("A CAR (version 1 or 2). With `?blocks=1` any blocks; else one root and its whole DAG."),
        FORM: Media("Files; the filename of each part is its path in the folder.", {"type": "object"}),
        ZIP: Media("A folder as zip."),
        "application/x-tar": Media("A folder as tar; also packed by gzip, as application/gzip."),
        FILE: Media("One file, without a folder around it."),
    },
    query=UploadQuery,
    headers={
        "Upload-Complete": "`?0`: begin an upload that goes on with PATCH; the body may be its first part.",
        "Upload-Length": "Bytes of the whole upload, where known beforehand.",
    },
    answers={200: UploadAnswer | MissingAnswer | BlocksAnswer, 201: None},
    answer_headers={"Location": "Where a resumable upload goes on.", "Upload-Offset": "Bytes on disk."},
    problems=_PROBLEMS,
)
async def upload(call: Call) -> Any:
    """Upload content, or ask which blocks are missing

    "Stored" is said only after every block is verified and on disk. JSON asks which blocks are missing.
    Interrupted uploads of a CAR, zip or tar can go on: begin with `Upload-Complete: ?0`, ask for the offset
    with HEAD, send the rest with PATCH (the shape of draft-ietf-httpbis-resumable-upload).
    With a login for one site: the question and `?blocks=1`, which a deploy needs, and nothing that is kept
    without one.
    """
    if call.body is not None:
        return await _missing(call)
    if not call.query.blocks or call.headers.get("Upload-Complete") == "?0":
        call.need_unlimited()
    if call.headers.get("Upload-Complete") == "?0":
        return await _begin(call)
    ingest.kind_of(call.media)
    async with _turn(call):
        source = Pulled(call.stream, call.node.config.api.max_upload)
        if call.query.blocks:
            if ingest.kind_of(call.media) != CAR:
                raise UnsupportedMedia("?blocks=1 goes with a CAR")
            stored = await _counted(call, lambda add: ingest.store_blocks(call.node.blocks, source, add))
            return BlocksAnswer(stored.blocks, stored.new, stored.bytes)
        return await _take(call, source, call.content_type, call.media)


async def _missing(call: Call) -> MissingAnswer:
    def look() -> list[str]:
        wanted = [cids.parse(text) for text in call.body.want]
        blocks = call.node.blocks
        # Touching writes, and waits for other writers: only when there is something to touch.
        have = blocks.has_many(wanted)
        if any(have):
            have = blocks.has_many(wanted, touch=True)
        return [text for text, there in zip(call.body.want, have, strict=True) if not there]

    return MissingAnswer(await trio.to_thread.run_sync(look))


@asynccontextmanager
async def _turn(call: Call) -> AsyncIterator[None]:
    """One of the places for uploads, and no garbage collection of what it brings until it is pinned."""
    busy: dict[bytes, int] = call.shared.uploading
    if sum(busy.values()) >= _AT_ONCE or busy.get(call.owner, 0) >= _AT_ONCE_EACH:
        raise TooMany("Too many uploads at once", hint="Wait for one of them to end.", slug="busy")
    busy[call.owner] = busy.get(call.owner, 0) + 1
    try:
        hold = call.node.blocks.hold()
        await trio.to_thread.run_sync(hold.__enter__)
        try:
            yield
        finally:
            hold.__exit__(None, None, None)
    finally:
        busy[call.owner] -= 1
        if not busy[call.owner]:
            del busy[call.owner]


async def _counted(call: Call, work: Callable[[Callable[[int], None]], T]) -> T:
    """Run `work(add)` in a thread, within the wallet's allowance."""

    def run() -> T:
        with call.shared.allowances.counter(call.owner, _room(call)) as counter:
            return work(counter.add)

    return await trio.to_thread.run_sync(run, limiter=call.shared.threads)


def _room(call: Call) -> int:
    limits = call.node.config.limits
    return limits.paid_bytes if call.node.sessions.tier(call.owner) == "paid" else limits.free_bytes


async def _take(
    call: Call, source: ingest.Source, content_type: str, media: str, counted: int = 0
) -> UploadAnswer:
    """Import and pin. `counted`: bytes of it that went off the allowance already."""
    api = call.node.config.api
    limits = Limits(api.max_upload, api.max_upload_files)
    free = counted

    def work(add: Callable[[int], None]) -> tuple[ingest.Ingested, int]:
        def beyond(size: int) -> None:
            nonlocal free
            given = min(free, size)
            free -= given
            add(size - given)

        spool = call.node.config.data_dir / "uploads"
        done = ingest.ingest(call.node.blocks, source, content_type, media, limits, spool, beyond)
        return done, _keep(call, done.cid)

    done, _ = await _counted(call, work)
    text = cids.to_text(done.cid)
    links = {"path": f"{call.node.config.gateway_url}/ipfs/{text}"}
    return UploadAnswer(text, done.size, done.blocks, links)


def _pin_name(owner: bytes) -> str:
    return f"upload:{owner.hex()}"


def _keep(call: Call, root: bytes) -> int:
    """Pin for the wallet, within its tier's room; bytes of the DAG. Blocking."""
    blocks, name = call.node.blocks, _pin_name(call.owner)
    size = blocks.dag_size(root)
    used = sum(blocks.dag_size(r) for r, n in blocks.pins() if n == name and r != root)
    room = _room(call)
    if used + size > room:
        raise PaymentRequired(
            f"This tier keeps {room} bytes of uploads; with this one it would be {used + size}",
            hint="Remove uploads with DELETE /storage/upload/?cid=…, or ask the operator for the paid tier.",
            limit=room,
        )
    blocks.pin(root, name)
    return size


@table.add(
    "DELETE",
    "/storage/upload/",
    tag="storage",
    login=True,
    query=ForgetQuery,
    answers={204: None},
    problems=(BadInput, Unauthorized, NotFound),
)
async def forget(call: Call) -> Reply:
    """Give up an upload

    A complete one by `cid`: what no site uses of it is removed after an hour. One under way by `upload`.
    """
    query: ForgetQuery = call.query
    if (query.cid is None) == (query.upload is None):
        raise BadInput("Name either cid or upload")
    if query.cid is not None:
        root = cids.parse(query.cid)
        await trio.to_thread.run_sync(call.node.blocks.unpin, root, _pin_name(call.owner))
    else:
        await trio.to_thread.run_sync(call.node.uploads.info, query.upload, call.owner)
        async with _writing(call, str(query.upload)):
            await trio.to_thread.run_sync(call.node.uploads.remove, query.upload)
    return Reply(None, 204)


# -- resumable uploads


async def _begin(call: Call) -> Reply:
    media = ingest.kind_of(call.media)
    if media not in (CAR, ZIP, FILE, *TARS):
        raise UnsupportedMedia("Resumable uploads are zip, tar, CAR or one file")
    length = _number(call, "Upload-Length") if "Upload-Length" in call.headers else None
    name = await trio.to_thread.run_sync(_create, call, media, length)
    offset = await _append(call, name, 0, length)
    return Reply(None, 201, {"Location": f"/storage/upload/?upload={name}", "Upload-Offset": str(offset)})


def _create(call: Call, media: str, length: int | None) -> str:
    uploads = call.node.uploads
    uploads.expire(time.time())
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
    problems=(*_PROBLEMS, NotFound),
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
    async with _writing(call, name), _turn(call):
        path = uploads.path(name)
        file = await trio.to_thread.run_sync(lambda: path.open("rb"))
        try:
            done = await _take(call, ingest.FileSource(file), info.content_type, info.content_type, here)
        finally:
            file.close()
        await trio.to_thread.run_sync(uploads.remove, name)
    return done


@asynccontextmanager
async def _writing(call: Call, name: str) -> AsyncIterator[None]:
    if name in call.shared.spooling:
        raise Conflict("Another request is at this upload", slug="upload-busy")
    call.shared.spooling.add(name)
    try:
        yield
    finally:
        call.shared.spooling.discard(name)


async def _append(call: Call, name: str, offset: int, length: int | None) -> int:
    """The request's body to the upload's file, from `offset` on; synced when it returns."""
    uploads = call.node.uploads
    most = call.node.config.api.max_upload if length is None else length

    def work(add: Callable[[int], None]) -> int:
        source = Pulled(call.stream, max(most - offset, 0))

        def chunks() -> Any:
            since = 0
            for chunk in source.chunks():
                add(len(chunk))
                since += len(chunk)
                if since > _SPARE_DISK // 8:
                    since = 0
                    if shutil.disk_usage(call.node.config.data_dir).free < _SPARE_DISK:
                        raise QuotaExceeded("The node has no room on disk for this upload")
                yield chunk

        return uploads.append(name, offset, chunks())

    async with _writing(call, name):
        return await _counted(call, partial(work))
