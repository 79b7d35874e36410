"""Which form of content a request asks for, and the names that go with it. Pure.

Sources: https://specs.ipfs.tech/http-gateways/path-gateway/, …/trustless-gateway/, …/subdomain-gateway/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote

from decentraspace.errors import BadInput

RAW, CAR, TAR, NAME_RECORD = "raw", "car", "tar", "ipns-record"
TYPES = {
    RAW: "application/vnd.ipld.raw",
    CAR: "application/vnd.ipld.car",
    TAR: "application/x-tar",
    NAME_RECORD: "application/vnd.ipfs.ipns-record",
    "dag-json": "application/vnd.ipld.dag-json",
    "dag-cbor": "application/vnd.ipld.dag-cbor",
    "json": "application/json",
    "cbor": "application/cbor",
}
FIELDS_MOST = 200  # of a query
_ON_SITES = frozenset({RAW, CAR, TAR})
_FILENAME_MOST = 250  # characters


class Request(NamedTuple):
    """`form`: one of TYPES, or empty for an ordinary answer; `scope`: all, entity or block; `range`: first and
    last byte of the entity, as asked; `dups`: each block as often as it is met; `filename`, `download`: as the
    client would have it saved; `html`: whether it is a browser."""

    form: str = ""
    scope: str = "all"
    range: tuple[int, int | None] | None = None
    dups: bool = False
    filename: str = ""
    download: bool = False
    html: bool = False


def wanted(query: str, accept: str, *, site: bool) -> Request:
    """What the query asks for, or else the Accept header. BadInput.

    A site's queries and requests are its own: of one, less is understood.
    """
    # Most queries mean nothing here: whatever form they have is none of our business.
    values: dict[str, str] = {}
    if any(name in query for name in ("format=", "filename=", "download=")) or "vnd.ip" in accept:
        try:
            values = dict(parse_qsl(query, max_num_fields=FIELDS_MOST))
        except ValueError as error:
            raise BadInput(f"A query of more than {FIELDS_MOST} fields") from error
    form = values.get("format", "")
    if form not in TYPES:
        form = _accepted(accept)
    if site:
        if form not in _ON_SITES:
            return Request()
    elif not form:
        filename = values.get("filename", "")[:_FILENAME_MOST]
        return Request("", filename=filename, download=_yes(values), html="text/html" in accept)
    if form != CAR:
        filename = values.get("filename", "")[:_FILENAME_MOST]
        return Request(form, filename=filename, download=_yes(values))
    version, order, dups = _car_parameters(values, accept)
    if version != "1":
        raise BadInput("Only CAR version 1 is given")
    if order not in ("dfs", "unk"):
        raise BadInput("car-order is dfs or unk")
    if dups not in ("y", "n"):
        raise BadInput("car-dups is y or n")
    return Request(
        CAR, _scope(values), _range(values), dups == "y", values.get("filename", "")[:_FILENAME_MOST]
    )


def for_machines(scope: Any) -> bool:
    """Whether the answer will be verified, or unpacked, rather than shown: such clients need no origin."""
    accept = scope.headers.get("accept") or ""
    return "format=" in scope.query_string or "vnd.ip" in accept or TYPES[TAR] in accept


def verifies(scope: Any) -> bool:
    """Whether blocks are asked for, as other nodes and IPFS peers do; or what will be refused as nonsense."""
    try:
        asked = wanted(scope.query_string, scope.headers.get("accept") or "", site=False)
    except BadInput:
        return True
    return asked.form in (RAW, CAR)


def disposition(kind: str, filename: str) -> str:
    """`kind`: inline or attachment. RFC 6266: what is not ASCII stands in a second form."""
    plain = re.sub(r'[^ -~]|["\\%]', "_", filename)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def inlined(name: str) -> str:
    """A DNS name as one label: `a-b.example` is `a--b-example`."""
    return name.replace("-", "--").replace(".", "-")


def _accepted(accept: str) -> str:
    """The first form that the header names."""
    places = [(accept.find(kind), form) for form, kind in TYPES.items() if kind in accept]
    if not places:
        return ""
    at, form = min(places)
    return "" if form in ("json", "cbor") and 0 <= accept.find("text/html") < at else form


def _yes(values: Mapping[str, str]) -> bool:
    return values.get("download") == "true"


def _car_parameters(values: Mapping[str, str], accept: str) -> tuple[str, str, str]:
    """(version, order, dups): of the query, else of the media type."""
    found: dict[str, str] = {}
    if TYPES[CAR] in accept:
        parameters = accept.partition(TYPES[CAR])[2].partition(",")[0]
        found = dict(re.findall(r";\s*([a-z]+)\s*=\s*\"?([^\s;\"]+)", parameters))
    return (
        values.get("car-version", found.get("version", "1")),
        values.get("car-order", found.get("order", "dfs")),
        values.get("car-dups", found.get("dups", "n")),
    )


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
