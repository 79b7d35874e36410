"""/storage/upload/: content in, as missing blocks, files, zip, tar or CAR; interrupted uploads go on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import trio

from decentraspace.api import ingest, resumable
from decentraspace.api.body import Pulled
from decentraspace.api.ingest import CAR, FILE, FORM, ZIP
from decentraspace.api.intake import PROBLEMS, UploadAnswer, counted, covered, take, turn
from decentraspace.api.kept import KeptUpload
from decentraspace.api.resumable import PARTIAL
from decentraspace.api.routing import Call, Media, Reply, RouteTable
from decentraspace.api.schemas import attr, time
from decentraspace.content import cid as cids
from decentraspace.errors import BadInput, NotFound, Unauthorized, UnsupportedMedia

__all__ = ["PARTIAL", "table"]

table = RouteTable()

_WANT_MOST = 20_000


@dataclass(frozen=True)
class WantRequest:
    """Which of these blocks must I send? Those that are here are kept for an hour, for a deploy to follow."""

    want: list[str] = attr("CIDs of blocks.", most=_WANT_MOST)


@dataclass(frozen=True)
class MissingAnswer:
    missing: list[str] = attr("Those of `want` that are not here.")


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
    problems=PROBLEMS,
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
        return await resumable.begin(call)
    ingest.kind_of(call.media)
    await covered(call, call.stream.expected or 0)
    async with turn(call):
        source = Pulled(call.stream, call.node.config.api.max_upload)
        if call.query.blocks:
            if ingest.kind_of(call.media) != CAR:
                raise UnsupportedMedia("?blocks=1 goes with a CAR")
            stored = await counted(call, lambda add: ingest.store_blocks(call.node.blocks, source, add))
            return BlocksAnswer(stored.blocks, stored.new, stored.bytes)
        return await take(call, source, call.content_type, call.media)


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
        await trio.to_thread.run_sync(call.shared.kept.forget, call.owner, root)
    else:
        await trio.to_thread.run_sync(call.node.uploads.info, query.upload, call.owner)
        async with resumable.writing(call, str(query.upload)):
            await trio.to_thread.run_sync(call.node.uploads.remove, query.upload)
    return Reply(None, 204)


@dataclass(frozen=True)
class ListQuery:
    limit: int = attr("Uploads to list at most.", 100, least=1, most=1000)
    cursor: str = attr("From `next` of the page before.", "", most=200)


@dataclass(frozen=True)
class KeptAnswer:
    cid: str = attr("Root CID.")
    bytes: int = attr("Bytes of all its blocks.")
    created: datetime = attr("When it was uploaded first.")
    expires: datetime | None = attr("When it ends unless it is uploaded again; null in the paid tier.")


@dataclass(frozen=True)
class UploadsAnswer:
    """Uploads that are kept for the wallet."""

    uploads: list[KeptAnswer] = attr("Sorted by the bytes of their CIDs.")
    next: str | None = attr("`cursor` of the next page; null after the last.")
    bytes: int = attr("Bytes of all the wallet's uploads, on all pages.")
    limit: int = attr("Bytes of uploads that its tier allows.")


@table.add(
    "GET",
    "/storage/upload/",
    tag="storage",
    login=True,
    query=ListQuery,
    answers={200: UploadsAnswer},
    problems=(BadInput, Unauthorized),
)
async def uploads(call: Call) -> UploadsAnswer:
    """List one's uploads

    Those that are complete and kept; what deploys use is kept besides, and not listed here.
    """
    return await trio.to_thread.run_sync(_list, call)


def _list(call: Call) -> UploadsAnswer:
    kept, query = call.shared.kept, call.query
    after = cids.parse(query.cursor) if query.cursor else b""
    found: list[KeptUpload] = kept.listed(call.owner, after, query.limit + 1)
    page = found[: query.limit]
    return UploadsAnswer(
        [
            KeptAnswer(
                cids.to_text(one.root),
                one.bytes,
                time(one.created),
                None if one.expires is None else time(one.expires),
            )
            for one in page
        ],
        cids.to_text(page[-1].root) if len(found) > len(page) else None,
        kept.used(call.owner),
        kept.room(call.owner),
    )
