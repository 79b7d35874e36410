"""What a request asks for: encodings, ranges, validators, content types. Pure. Source: RFC 9110."""

from __future__ import annotations

import json
import mimetypes
import re
from functools import lru_cache
from urllib.parse import quote

COMPRESSIBLE = re.compile(
    r"(?:text/.*|application/(?:javascript|json|xml|wasm|manifest\+json|ld\+json|atom\+xml|rss\+xml|x-ndjson)"
    r"|image/(?:svg\+xml|bmp|x-icon|vnd\.microsoft\.icon)|font/(?:ttf|otf)|application/.*\+(?:json|xml))(?:;.*)?"
)
_ENCODINGS = ("br", "zstd", "gzip")  # in the order we like them
_RANGES_MOST = 16  # of one request; more are somebody's mischief
_IN_QUERY = "%/?:@!$&'()*+,;=-._~[]"  # what stays as it is; anything else is percent-encoded
_TYPES = {
    ".js": "text/javascript", ".mjs": "text/javascript", ".json": "application/json",
    ".map": "application/json", ".wasm": "application/wasm", ".svg": "image/svg+xml", ".webp": "image/webp",
    ".avif": "image/avif", ".woff": "font/woff", ".woff2": "font/woff2", ".ttf": "font/ttf",
    ".otf": "font/otf", ".md": "text/markdown", ".webmanifest": "application/manifest+json",
    ".ico": "image/x-icon", ".mp4": "video/mp4", ".webm": "video/webm", ".txt": "text/plain",
    ".html": "text/html", ".htm": "text/html", ".css": "text/css", ".xml": "application/xml",
    ".pdf": "application/pdf", ".csv": "text/csv", ".car": "application/vnd.ipld.car", ".gz": "application/gzip",
}  # fmt: skip
_builtin = mimetypes.MimeTypes()  # without the machine's own tables: the same answer on every node


def content_type(name: str, start: bytes) -> str:
    """By the name's ending, else by the first bytes. Text is declared UTF-8."""
    ending = re.search(r"\.[A-Za-z0-9]+$", name)
    kind = None
    if ending is not None:
        kind = _TYPES.get(ending[0].lower()) or _builtin.guess_type("x" + ending[0].lower(), strict=True)[0]
    if kind is None:
        kind = _sniff(start[:512])
    return kind + "; charset=utf-8" if kind.startswith("text/") else kind


def _is_json(start: bytes) -> bool:
    """Only what is all there can be told from text with a bracket."""
    if not start.lstrip().startswith((b"{", b"[")):
        return False
    try:
        json.loads(start)
    except (ValueError, RecursionError):
        return False
    return True


def _sniff(start: bytes) -> str:
    head = start.lstrip()[:100].lower()
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "text/html"
    for magic, kind in (
        (b"\x89PNG", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF8", "image/gif"),
        (b"%PDF", "application/pdf"),
    ):
        if start.startswith(magic):
            return kind
    try:
        text = start.decode("utf-8", "strict") if len(start) < 512 else start.decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return "application/octet-stream"
    if start and (b"\0" in start or len(text.encode()) < len(start) - 3):
        return "application/octet-stream"
    return "application/json" if _is_json(start) else "text/plain"


@lru_cache(maxsize=1024)
def encoding_for(accept: str) -> str:
    """br, zstd, gzip or identity, by an Accept-Encoding header."""
    weights: dict[str, float] = {}
    for part in accept[:1000].split(","):
        name, _, rest = part.strip().partition(";")
        weight = re.fullmatch(r"\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*", rest) if rest else None
        weights[name.strip().lower()] = float(weight[1]) if weight else (0.0 if rest else 1.0)
    best = max((weights.get(e, weights.get("*", 0.0)) for e in _ENCODINGS), default=0.0)
    if best <= weights.get("identity", 0.0) and "identity" in weights:
        return "identity"
    return next((e for e in _ENCODINGS if best and weights.get(e, weights.get("*", 0.0)) == best), "identity")


def etag_matches(header: str, etag: str) -> bool:
    """Weak comparison of If-None-Match with one entity tag."""
    if header.strip() == "*":
        return True
    plain = etag.removeprefix("W/")
    return any(part.strip().removeprefix("W/") == plain for part in header[:4096].split(","))


def with_query(location: str, query: str) -> str:
    """`location` with the request's query, unless it brings one of its own."""
    place, hash_mark, fragment = location.partition("#")
    if not query or "?" in place:
        return location
    return f"{place}?{quote(query, safe=_IN_QUERY)}{hash_mark}{fragment}"


def single_range(header: str, size: int) -> tuple[int, int] | bool | None:
    """(start, end exclusive) of a byte range, of several the first that can be had; None to ignore the header
    (malformed, too many parts); False when nothing of it can be had (416)."""
    unit, _, rest = header.partition("=")
    if "," in rest:
        parts = rest.split(",", _RANGES_MOST)
        spans = [single_range(f"{unit}={part}", size) for part in parts]
        if len(parts) > _RANGES_MOST or None in spans:
            return None
        return next((span for span in spans if span is not False), False)
    found = re.fullmatch(r"\s*bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", header, re.IGNORECASE)
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        length = min(int(found[2]), size)
        return (size - length, size) if length else False
    start = int(found[1])
    if start >= size:
        return False
    if found[2] and int(found[2]) < start:
        return None
    return start, min(int(found[2]) + 1, size) if found[2] else size
