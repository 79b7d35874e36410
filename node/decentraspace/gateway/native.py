"""Blocks that are no UnixFS: documents of JSON and CBOR, as they are or as a page to look at.

Source: https://specs.ipfs.tech/http-gateways/path-gateway/#response-payload and IPIP-524: what a document is
written in is not changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from decentraspace.content import cid as cids
from decentraspace.content import ipld
from decentraspace.errors import BadInput
from decentraspace.gateway import formats, pages
from decentraspace.gateway.formats import Request
from decentraspace.gateway.page import CORS, NOSNIFF, Mode, Page, about
from decentraspace.gateway.request import refusal

_CODECS = {cids.DAG_JSON: "dag-json", cids.DAG_CBOR: "dag-cbor", cids.JSON: "json", cids.CBOR: "cbor"}
_DOCUMENTS = frozenset({"dag-json", "dag-cbor"})
_LINKS_MOST = 10_000
_PREVIEW_MOST = 256 * 1024  # bytes of a block


def fits(cid: bytes, form: str) -> bool:
    """Whether a block can be given in a form without being changed; raw blocks and UnixFS as JSON or CBOR are
    the files they are."""
    codec = _CODECS.get(cids.codec(cid), "")
    return form == codec or form == codec.removeprefix("dag-") or (not codec and form in ("json", "cbor"))


def page(cid: bytes, block: bytes, trail: tuple[bytes, ...], path: str, mode: Mode, request: Request) -> Page:
    """The answer with a document at `path`; 406 in a form that it does not have."""
    codec = _CODECS.get(cids.codec(cid), "")
    name = cids.to_text(cid)
    common = [
        NOSNIFF,
        ("vary", "Accept"),
        *CORS,
        *about(mode, path, trail),
    ]
    if not mode.origin:
        common.append(("content-security-policy", "sandbox"))
    if request.form and not fits(cid, request.form):
        raise refusal(
            406,
            "Not in this form",
            f"The content is written in {codec or 'UnixFS'}, which is not converted to {request.form}.",
        )
    if request.html and not request.form and codec in _DOCUMENTS and len(block) <= _PREVIEW_MOST:
        body = _preview(cid, block)
        etag = f'"DagIndex-1_CID-{name}"'
        kind = [("content-type", "text/html; charset=utf-8"), ("cache-control", mode.cache_made_here)]
        return Page(200, [*common, *kind, ("etag", etag)], body, etag, len(body))
    form = request.form or codec
    ending = (codec or "bin").removeprefix("dag-")
    etag = f'"{name}.{form}"' if form else f'"{name}"'
    save = "attachment" if request.download or ending != "json" else "inline"
    headers = [
        *common,
        ("content-type", formats.TYPES.get(form, "application/octet-stream")),
        ("content-disposition", formats.disposition(save, request.filename or f"{name}.{ending}")),
        ("cache-control", mode.cache),
        ("etag", etag),
        ("accept-ranges", "bytes"),
    ]
    return Page(200, headers, block, etag, len(block))


def _preview(cid: bytes, block: bytes) -> bytes:
    try:
        value = ipld.decode(cids.codec(cid), block)
    except BadInput as error:
        return pages.document(cid, str(error), [])
    text = json.dumps(ipld.to_json(value), indent=2, ensure_ascii=False)
    return pages.document(cid, text, list(_links(value))[:_LINKS_MOST])


def _links(value: Any, path: str = "") -> Iterator[tuple[str, bytes]]:
    """(path, CID) of each link."""
    if isinstance(value, ipld.Link):
        yield path, value.cid
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _links(inner, f"{path}/{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _links(inner, f"{path}/{number}")
