"""CARs that clients verify by themselves, and the headers that go with them and with raw blocks.

Source: https://specs.ipfs.tech/http-gateways/trustless-gateway/ (format, dag-scope, entity-bytes, car-dups).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from decentraspace.content import car, dagpb, reader
from decentraspace.content import cid as cids
from decentraspace.content.reader import GetBlock, Resolved
from decentraspace.errors import Unprocessable
from decentraspace.gateway import formats
from decentraspace.gateway.formats import Request
from decentraspace.gateway.page import CORS, NOSNIFF, Headers, Mode, about

_ENDING = {formats.RAW: "bin", formats.CAR: "car", formats.TAR: "tar"}


def headers_for(request: Request, root: bytes, path: str, mode: Mode, found: Resolved) -> Headers:
    """For the answer with what is at `path` below `root`."""
    name = cids.to_text(found.stat.cid)
    saved_as = f"{name}.{_ENDING[request.form]}"
    headers = [
        ("cache-control", mode.cache),
        # A cache must not give to browsers what was asked for by an Accept header.
        ("vary", "Accept"),
        NOSNIFF,
        *CORS,
        *about(mode, path, found.trail),
        ("content-disposition", formats.disposition("attachment", request.filename or saved_as)),
    ]
    if request.form != formats.CAR:
        kind = formats.TYPES[request.form]
        etag = f'"{name}.raw"' if request.form == formats.RAW else f'W/"{name}.x-tar"'
        return [*headers, ("content-type", kind), ("etag", etag)]
    # The blocks of the path are in it, so it is of the root as well.
    parts = [name, cids.to_text(root), request.scope, "dups" if request.dups else "once"]
    if request.range is not None:
        first, last = request.range
        parts.append(f"{first}-{'end' if last is None else last}")
    return [
        *headers,
        (
            "content-type",
            f"{formats.TYPES[formats.CAR]}; version=1; order=dfs; dups={'y' if request.dups else 'n'}",
        ),
        ("etag", f'W/"{".".join(parts)}.car"'),
        ("accept-ranges", "none"),
    ]


def from_byte(stream: Callable[[], Iterator[bytes]]) -> Callable[[int], Iterator[bytes]]:
    """A stream from a byte on: walking it again gives the same bytes again."""

    def parts(skip: int) -> Iterator[bytes]:
        for frame in stream():
            if skip >= len(frame):
                skip -= len(frame)
            else:
                yield frame[skip:] if skip else frame
                skip = 0

    return parts


_BLOCKS_MOST = 1 << 21  # blocks of one CAR; with duplicates, a few blocks make one without end

# Announces a frame that does not come: every decoder sees that the CAR was broken off, which the end of a
# chunked body alone does not tell.
BROKEN_OFF = cids.varint(cids.MAX_BLOCK)


def car_stream(
    get: GetBlock, root: bytes, resolved: Resolved, request: Request, old: bool = False
) -> Iterator[bytes]:
    """A CAR in pieces: header, the blocks of the path, then the entity as the scope says; each block once,
    unless duplicates are asked for. `old`: whoever asks knows the root as a CID of version 0, and blocks by
    the version that links to them have; some compare them byte by byte."""
    version_0 = {root} if old else set()

    def frame(cid: bytes, data: bytes) -> tuple[bytes, bytes]:
        if old and cids.codec(cid) == cids.DAG_PB:
            version_0.update(dagpb.old_links(data))
        # Apart: to join them here would copy each block once more.
        return car.frame_head(cids.multihash(cid) if cid in version_0 else cid, len(data)), data

    yield car.header([cids.multihash(root) if old else root])
    seen: set[bytes] = set()
    for cid in resolved.visited:
        if cid not in seen and cids.identity_data(cid) is None:
            seen.add(cid)
            yield from frame(cid, get(cid))
    for count, (cid, data) in enumerate(_entity(get, resolved, request), 1):
        if count > _BLOCKS_MOST:
            raise Unprocessable(f"A CAR has at most {_BLOCKS_MOST} blocks here")
        if cids.identity_data(cid) is not None or (cid in seen and not request.dups):
            continue
        if not request.dups:
            seen.add(cid)
        yield from frame(cid, data)


def _entity(get: GetBlock, resolved: Resolved, request: Request) -> Iterator[tuple[bytes, bytes]]:
    stat = resolved.stat
    if request.scope == "block":
        yield from _own(get, stat.cid)
    elif request.scope == "entity" or request.range is not None:
        if stat.kind == "file":
            start, end = _absolute(request.range, stat.size)
            for cid, _ in reader.file_blocks(get, stat.cid, start, end, once=not request.dups):
                yield from _own(get, cid)
        elif stat.kind == "directory":
            # All blocks that enumerate the directory, none of what is in it.
            read: list[bytes] = []

            def noting(cid: bytes) -> bytes:
                read.append(cid)
                return get(cid)

            for _ in reader.list_directory(noting, stat.cid):
                while read:
                    cid = read.pop(0)
                    yield cid, get(cid)
            for cid in read:
                yield cid, get(cid)
        else:
            yield from _own(get, stat.cid)
    else:
        yield from (reader.walk_all if request.dups else reader.walk)(get, stat.cid)


def _own(get: GetBlock, cid: bytes) -> Iterator[tuple[bytes, bytes]]:
    """A block, unless its CID carries it: such a one is in no store, and in no CAR."""
    if cids.identity_data(cid) is None:
        yield cid, get(cid)


def _absolute(wanted_range: tuple[int, int | None] | None, size: int) -> tuple[int, int]:
    """entity-bytes as (start, end exclusive); negative numbers count from the end."""
    if wanted_range is None:
        return 0, size
    first, last = wanted_range
    start = max(size + first, 0) if first < 0 else first
    end = size if last is None else size + last + 1 if last < 0 else last + 1
    return start, min(end, size)
