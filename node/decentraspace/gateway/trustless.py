"""Answers that clients verify by themselves: raw blocks and CARs.

Source: https://specs.ipfs.tech/http-gateways/trustless-gateway/ (format, dag-scope, entity-bytes).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, quote

from decentraspace.content import car, reader
from decentraspace.content import cid as cids
from decentraspace.content.reader import GetBlock, Resolved
from decentraspace.errors import BadInput
from decentraspace.gateway.render import IMMUTABLE, MUTABLE

RAW_TYPE = "application/vnd.ipld.raw"
CAR_TYPE = "application/vnd.ipld.car"
CAR_FULL_TYPE = "application/vnd.ipld.car; version=1; order=dfs; dups=n"
_FIELDS_MOST = 200


class Request(NamedTuple):
    """`form`: raw or car; `scope`: all, entity or block; `range`: first and last byte of the entity, as asked."""

    form: str
    scope: str
    range: tuple[int, int | None] | None


def wanted(query: str, accept: str) -> Request | None:
    """What the query or the Accept header asks for, or None for an ordinary answer. BadInput."""
    # Most queries are a site's own: whatever form they have is none of our business.
    try:
        asked = "format=" in query or "vnd.ipld" in accept
        values = dict(parse_qsl(query, max_num_fields=_FIELDS_MOST)) if asked else {}
    except ValueError as error:
        raise BadInput(f"A query of more than {_FIELDS_MOST} fields") from error
    form = values.get("format", "")
    if not form:
        form = "car" if CAR_TYPE in accept else "raw" if RAW_TYPE in accept else ""
    if form not in ("raw", "car"):
        return None
    if CAR_TYPE in accept and re.search(r"version\s*=\s*(?!1\b)", accept):
        raise BadInput("Only CAR version 1 is given")
    return Request(form, _scope(values), _range(values))


def headers_for(
    request: Request, root: bytes, path: str, cid: bytes, immutable: bool
) -> list[tuple[str, str]]:
    """For the answer with `cid`, which is at `path` below `root`."""
    name = cids.to_text(cid)
    headers = [
        ("cache-control", IMMUTABLE if immutable else MUTABLE),
        # A cache must not give to browsers what was asked for by an Accept header.
        ("vary", "Accept"),
        ("x-content-type-options", "nosniff"),
        ("access-control-allow-origin", "*"),
        ("x-ipfs-path", quote(f"/ipfs/{cids.to_text(root)}{path}".rstrip("/"))),
        ("x-ipfs-roots", name),
    ]
    if request.form == "raw":
        return [
            *headers,
            ("content-type", RAW_TYPE),
            ("etag", f'"{name}.raw"'),
            ("content-disposition", f'attachment; filename="{name}.bin"'),
        ]
    # The blocks of the path are in it, so it is of the root as well.
    parts = [name, cids.to_text(root), request.scope]
    if request.range is not None:
        first, last = request.range
        parts.append(f"{first}-{'end' if last is None else last}")
    return [
        *headers,
        ("content-type", CAR_FULL_TYPE),
        ("etag", f'W/"{".".join(parts)}.car"'),
        ("content-disposition", f'attachment; filename="{name}.car"'),
        ("accept-ranges", "none"),
    ]


def car_from(
    get: GetBlock, root: bytes, resolved: Resolved, request: Request
) -> Callable[[int], Iterator[bytes]]:
    """The CAR from a byte on: walking it again gives the same bytes again."""

    def parts(skip: int) -> Iterator[bytes]:
        for frame in car_stream(get, root, resolved, request):
            if skip >= len(frame):
                skip -= len(frame)
            else:
                yield frame[skip:] if skip else frame
                skip = 0

    return parts


# Announces a frame that does not come: every decoder sees that the CAR was broken off, which the end of a
# chunked body alone does not tell.
BROKEN_OFF = cids.varint(cids.MAX_BLOCK)


def _scope(values: Mapping[str, str]) -> str:
    scope = values.get("dag-scope", "all")
    if scope not in ("all", "entity", "block"):
        raise BadInput(f"dag-scope is all, entity or block, not {scope[:20]!r}")
    return scope


def _range(values: Mapping[str, str]) -> tuple[int, int | None] | None:
    text = values.get("entity-bytes")
    if text is None:
        return None
    found = re.fullmatch(r"(-?\d{1,18}):(\*|-?\d{1,18})", text)
    if found is None:
        raise BadInput("entity-bytes is FROM:TO with whole numbers, TO may be *")
    return int(found[1]), None if found[2] == "*" else int(found[2])


def car_stream(get: GetBlock, root: bytes, resolved: Resolved, request: Request) -> Iterator[bytes]:
    """A CAR in pieces: header, the blocks of the path, then the entity as the scope says; each block once."""
    yield car.header([root])
    seen: set[bytes] = set()
    for cid in resolved.visited:
        if cid not in seen and cids.identity_data(cid) is None:
            seen.add(cid)
            yield car.frame(cid, get(cid))
    for cid, data in _entity(get, resolved, request):
        if cid not in seen and cids.identity_data(cid) is None:
            seen.add(cid)
            yield car.frame(cid, data)


def _entity(get: GetBlock, resolved: Resolved, request: Request) -> Iterator[tuple[bytes, bytes]]:
    stat = resolved.stat
    if request.scope == "block":
        yield stat.cid, get(stat.cid)
    elif request.scope == "entity" or request.range is not None:
        if stat.kind == "file":
            start, end = _absolute(request.range, stat.size)
            for cid, _ in reader.file_blocks(get, stat.cid, start, end):
                yield cid, get(cid)
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
            yield stat.cid, get(stat.cid)
    else:
        yield from reader.walk(get, stat.cid)


def _absolute(wanted_range: tuple[int, int | None] | None, size: int) -> tuple[int, int]:
    """entity-bytes as (start, end exclusive); negative numbers count from the end."""
    if wanted_range is None:
        return 0, size
    first, last = wanted_range
    start = max(size + first, 0) if first < 0 else first
    end = size if last is None else size + last + 1 if last < 0 else last + 1
    return start, min(end, size)
