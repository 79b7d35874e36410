"""/storage/upload/: content in, as missing blocks, files, zip, tar or CAR; interrupted uploads go on."""

from __future__ import annotations

import time
from collections import deque
from contextlib import asynccontextmanager
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from quart import Response, current_app, request

from decentraspace.api.ingest import CarSink, MultipartSink, add_archive, pour
from decentraspace.api.routing import Table, read_json
from decentraspace.api.services import NodeServices, node, owner
from decentraspace.content import cid as cids
from decentraspace.content.archives import Limits
from decentraspace.content.reader import BlockMissing
from decentraspace.errors import BadInput, Conflict, PaymentRequired, UnsupportedMedia

table = Table("storage")

CAR = "application/vnd.ipld.car"
_TAR = {
    "application/x-tar",
    "application/tar",
    "application/gzip",
    "application/x-gzip",
    "application/x-gtar",
}
_WANT_MOST = 20_000
_PARTIAL = "application/partial-upload"


@dataclass(frozen=True)
class WantRequest:
    """`want`: CIDs of blocks the client has; the answer says which of them the node lacks. Those it has are
    kept for an hour, so that a deploy can follow."""

    want: list[str]


class Allowance:
    """Bytes a wallet may have on their way, not yet part of a site or an upload, in an hour."""

    def __init__(self) -> None:
        self._recent: dict[bytes, deque[tuple[float, int]]] = {}

    def spend(self, owner: bytes, size: int, most: int) -> None:
        """PaymentRequired when it would be too much."""
        now = time.monotonic()
        recent = self._recent.setdefault(owner, deque())
        while recent and recent[0][0] < now - 3600:
            recent.popleft()
        if sum(amount for _, amount in recent) + size > most:
            raise PaymentRequired(
                f"This tier may upload {most} bytes in an hour", hint="Deploy what is here, or wait a while."
            )
        recent.append((now, size))
        if len(self._recent) > 10_000:
            self._recent = {k: v for k, v in self._recent.items() if v and v[-1][0] > now - 3600}


def _room(services: NodeServices, wallet: bytes) -> int:
    limits = services.config.limits
    return limits.paid_bytes if services.sessions.tier(wallet) == "paid" else limits.free_bytes


def _upload_pin(wallet: bytes) -> str:
    return f"upload:{wallet.hex()}"


@table.add(
    "POST",
    "/storage/upload/",
    "Upload content, or ask which blocks are missing",
    access="owner",
    query={"blocks": "1: the CAR holds some blocks of a DAG, to be completed by further ones"},
    body={
        "application/json": '{"want": [CID, …]}: which of these blocks are missing here?',
        CAR: "a CAR (version 1 or 2), every block verified",
        "multipart/form-data": "files; the filename of each part is its path",
        "application/zip": "a folder as zip",
        "application/x-tar": "a folder as tar, plain or gzip",
    },
)
async def upload() -> Response | dict[str, Any]:
    session = await owner()
    kind = (request.mimetype or "").lower()
    if kind == "application/json":
        return await _missing()
    if request.headers.get("Upload-Complete") == "?0":
        return await _begin(session.owner, kind)
    services = node()
    room = await trio.to_thread.run_sync(_room, services, session.owner)
    most = min(services.config.api.max_upload, room)
    async with _held(services):
        if kind == CAR:
            sink = CarSink(services.blocks)
            await _pour_car(sink, session.owner, most)
            if request.args.get("blocks") == "1":
                return {"stored": sink.blocks, "bytes": sink.bytes}
            return await _keep_roots(services, session.owner, sink.roots)
        if kind == "multipart/form-data":
            form = MultipartSink(
                services.blocks, request.headers.get("Content-Type", ""), _limits(services, most)
            )
            await pour(request.body, form, most)
            return await _keep(services, session.owner, form.entry.cid if form.entry else b"")
        if kind == "application/zip" or kind in _TAR:
            name = await trio.to_thread.run_sync(
                services.uploads.create, session.owner, kind, request.content_length
            )
            try:
                await _spool(services, name, 0)
                return await _unpack(services, session.owner, services.uploads.path(name), kind, most)
            finally:
                await trio.to_thread.run_sync(services.uploads.remove, name)
    raise UnsupportedMedia(f"{kind or 'No content type'}: send JSON, multipart, zip, tar or CAR")


async def _missing() -> dict[str, Any]:
    asked: WantRequest = await read_json(WantRequest)
    if len(asked.want) > _WANT_MOST:
        raise BadInput(f"Ask for at most {_WANT_MOST} blocks at once")
    wanted = [cids.parse(text) for text in asked.want]
    have = await trio.to_thread.run_sync(lambda: node().blocks.has_many(wanted, touch=True))
    return {"missing": [text for text, there in zip(asked.want, have, strict=True) if not there]}


async def _pour_car(sink: CarSink, wallet: bytes, most: int) -> None:
    allowance: Allowance = current_app.extensions["decentraspace.allowance"]
    size = request.content_length
    if size is not None:
        allowance.spend(wallet, size, 2 * most)
    total = await pour(request.body, sink, most + 2**20)
    if size is None:
        allowance.spend(wallet, total, 2 * most)


async def _keep_roots(services: NodeServices, wallet: bytes, roots: list[bytes]) -> dict[str, Any]:
    if len(roots) != 1:
        raise BadInput(f"The CAR names {len(roots)} roots; an upload has one")
    return await _keep(services, wallet, roots[0])


async def _keep(services: NodeServices, wallet: bytes, root: bytes) -> dict[str, Any]:
    """Pin a whole upload for its owner, within the tier's room; then, and only then, say it is stored."""

    def work() -> int:
        size = services.blocks.dag_size(root)
        name = _upload_pin(wallet)
        kept = [r for r, n in services.blocks.pins() if n == name and r != root]
        used = sum(services.blocks.dag_size(r) for r in kept)
        room = _room(services, wallet)
        if used + size > room:
            raise PaymentRequired(
                f"This tier stores {room} bytes; with this upload it would be {used + size}"
            )
        services.blocks.pin(root, name)
        return size

    try:
        size = await trio.to_thread.run_sync(work)
    except BlockMissing as error:
        raise Conflict(
            f"The upload lacks block {cids.to_text(error.cid)}",
            hint="Send a CAR with the whole DAG, or the missing blocks with ?blocks=1 first.",
            slug="missing-blocks",
            missing=[cids.to_text(c) for c in await trio.to_thread.run_sync(services.blocks.missing, root)],
        ) from error
    text = cids.to_text(root)
    return {"cid": text, "bytes": size, "links": {"path": f"{services.config.gateway_url}/ipfs/{text}"}}


@table.add(
    "DELETE",
    "/storage/upload/",
    "Give up an upload: what no site uses of it may be removed",
    access="owner",
    query={"cid": "root of the upload"},
)
async def forget() -> dict[str, Any]:
    session = await owner()
    root = cids.parse(request.args.get("cid", ""))
    await trio.to_thread.run_sync(node().blocks.unpin, root, _upload_pin(session.owner))
    return {"cid": cids.to_text(root), "kept": False}


# -- resumable uploads (shape of draft-ietf-httpbis-resumable-upload)


async def _begin(wallet: bytes, kind: str) -> Response:
    services = node()
    if kind not in {CAR, "application/zip", *_TAR}:
        raise UnsupportedMedia("Resumable uploads are zip, tar or CAR")
    text = request.headers.get("Upload-Length", "")
    if text and not text.isdigit():
        raise BadInput("Upload-Length must be a number of bytes")
    name = await trio.to_thread.run_sync(services.uploads.create, wallet, kind, int(text) if text else None)
    offset = await _spool(services, name, 0)
    headers = {"Location": f"/storage/upload/?upload={name}", "Upload-Offset": str(offset)}
    return Response("", 201, headers)


@table.add(
    "HEAD",
    "/storage/upload/",
    "How far a resumable upload has come (Upload-Offset)",
    access="owner",
    query={"upload": "id of the upload"},
    gives="Headers Upload-Offset and Upload-Complete",
    status=204,
)
async def offset() -> Response:
    session = await owner()
    name = request.args.get("upload", "")
    await trio.to_thread.run_sync(node().uploads.info, name, session.owner)
    here = await trio.to_thread.run_sync(node().uploads.offset, name)
    headers = {"Upload-Offset": str(here), "Upload-Complete": "?0", "Cache-Control": "no-store"}
    return Response("", 204, headers)


@table.add(
    "PATCH",
    "/storage/upload/",
    "Go on with a resumable upload; the last part says Upload-Complete: ?1",
    access="owner",
    query={"upload": "id of the upload"},
    body={_PARTIAL: "the bytes from Upload-Offset on"},
)
async def resume() -> Response | dict[str, Any]:
    session = await owner()
    services = node()
    name = request.args.get("upload", "")
    info = await trio.to_thread.run_sync(services.uploads.info, name, session.owner)
    text = request.headers.get("Upload-Offset", "")
    if not text.isdigit():
        raise BadInput("Upload-Offset must be a number of bytes")
    here = await _spool(services, name, int(text))
    if request.headers.get("Upload-Complete") != "?1":
        return Response("", 204, {"Upload-Offset": str(here), "Upload-Complete": "?0"})
    if info.length is not None and here != info.length:
        raise Conflict(f"The upload has {here} of {info.length} bytes", slug="wrong-length", offset=here)
    room = await trio.to_thread.run_sync(_room, services, session.owner)
    path = services.uploads.path(name)
    async with _held(services):
        done = await _unpack(
            services, session.owner, path, info.content_type, min(room, services.config.api.max_upload)
        )
    await trio.to_thread.run_sync(services.uploads.remove, name)
    return done


async def _spool(services: NodeServices, name: str, offset: int) -> int:
    """The request's body to the upload's file, from `offset` on; synced when it returns."""
    busy: set[str] = current_app.extensions["decentraspace.spooling"]
    if name in busy:
        raise Conflict("This upload is being written by another request", slug="upload-busy")
    busy.add(name)
    try:
        sink = _Spool(services, name, offset)
        try:
            await pour(request.body, sink, services.config.api.max_upload)
        finally:
            with trio.CancelScope(shield=True):  # what arrived before the connection broke stays
                await trio.to_thread.run_sync(sink.flush)
        return sink.offset
    finally:
        busy.discard(name)


class _Spool:
    def __init__(self, services: NodeServices, name: str, offset: int) -> None:
        self._services, self._name, self.offset = services, name, offset
        self._pending: list[bytes] = []
        self._append(())

    def _append(self, chunks: Iterable[bytes]) -> None:
        self.offset = self._services.uploads.append(self._name, self.offset, chunks)

    def feed(self, piece: bytes) -> None:
        self._pending.append(piece)
        if len(self._pending) >= 16:
            self.flush()

    def flush(self) -> None:
        pending, self._pending = self._pending, []
        if pending:
            self._append(pending)

    def finish(self) -> None:
        self.flush()


async def _unpack(services: NodeServices, wallet: bytes, path: Path, kind: str, most: int) -> dict[str, Any]:
    if kind == CAR:
        sink = CarSink(services.blocks)
        await trio.to_thread.run_sync(_feed_file, sink, path)
        return await _keep_roots(services, wallet, sink.roots)
    limits = _limits(services, most)
    entry = await trio.to_thread.run_sync(add_archive, services.blocks, path, kind, limits)
    return await _keep(services, wallet, entry.cid)


def _feed_file(sink: CarSink, path: Path) -> None:
    with path.open("rb") as file:
        while piece := file.read(2**20):
            sink.feed(piece)
    sink.finish()


def _limits(services: NodeServices, most: int) -> Limits:
    return Limits(most, services.config.api.max_upload_files)


@asynccontextmanager
async def _held(services: NodeServices) -> AsyncIterator[None]:
    """No garbage collection of what this request brings, until it is pinned."""
    hold = services.blocks.hold()
    await trio.to_thread.run_sync(hold.__enter__)
    try:
        yield
    finally:
        hold.__exit__(None, None, None)
