"""Conditions, parts and encodings. Source: RFC 9110."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from decentraspace.gateway import negotiate
from tests.gateway.served import Owner, Served

PAGE = b"<!doctype html><title>t</title>" + b"<p>some text that repeats</p>" * 200
LARGE = random.Random(1).randbytes(3_500_000)
OPEN: dict[str, Callable[[bytes], bytes]] = {
    "br": brotli.decompress,
    "gzip": gzip.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompress(data),
}


@pytest.fixture(scope="module")
def site(served: Served) -> Owner:
    noise = random.Random(2).randbytes(500).hex().encode()[:300]
    return served.site(
        {
            "index.html": PAGE,
            "large.bin": LARGE,
            "small.bin": b"0123456789",
            "empty.bin": b"",
            "short.txt": b"too short to be worth it",
            "noise.txt": bytes(random.Random(3).choices(range(33, 127), k=400)) + noise,
            "image.png": b"\x89PNG" + b"a" * 5000,
            "large.txt": b"compressible " * 200_000,
        }
    )


# -- conditions


def test_a_visitor_who_has_it_is_told_so(site: Owner) -> None:
    full = site.get("/")
    tag = full.headers["etag"]
    for value in (tag, f"W/{tag}", f'"other", {tag}', "*", f'"a",W/{tag} ,"b"'):
        answer = site.get("/", if_none_match=value)
        assert (answer.status, answer.body) == (304, b""), value
        assert answer.headers["etag"] == tag
        assert answer.headers["cache-control"] == full.headers["cache-control"]
        assert answer.headers["vary"] == "Accept-Encoding"
        assert "content-type" not in answer.headers
    for value in ('"other"', tag.strip('"'), "", '"' + "x" * 10_000 + '"'):
        assert site.get("/", if_none_match=value).status == 200, value
    assert site.get("/", "HEAD", if_none_match=tag).status == 304
    assert site.get("/large.bin", if_none_match=site.get("/large.bin", "HEAD").headers["etag"]).status == 304
    # It comes before the range: RFC 9110 section 13.2.2.
    assert site.get("/", if_none_match=tag, range="bytes=0-1").status == 304


def test_one_connection_serves_many_answers(served: Served, site: Owner) -> None:
    with served.wire() as wire:
        for _ in range(3):
            assert wire.get(site.host, "/").body == PAGE
            assert wire.get(site.host, "/", "HEAD").body == b""
            assert wire.get(site.host, "/", if_none_match="*").status == 304
            assert wire.get(site.host, "/large.bin").body == LARGE
            assert wire.get(site.host, "/nothing").status == 404
            assert wire.get(site.host, "/small.bin", range="bytes=20-").status == 416


# -- parts


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-9", 0, 10),
        ("bytes=3-", 3, 10),
        ("bytes=-3", 7, 10),
        ("bytes=-999", 0, 10),
        ("bytes=5-999999999999", 5, 10),
        ("Bytes = 2-4", 2, 5),
        # Of several, the first that is there.
        ("bytes=4-5,0-1", 4, 6),
        ("bytes=20-30, -2", 8, 10),
    ],
)
def test_a_part(site: Owner, asked: str, start: int, end: int) -> None:
    answer = site.get("/small.bin", range=asked)
    assert (answer.status, answer.body) == (206, b"0123456789"[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/10"
    assert answer.headers["etag"] == site.get("/small.bin").headers["etag"]


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=999999999999999999-"])
def test_a_part_that_is_not_there(site: Owner, asked: str) -> None:
    answer = site.get("/small.bin", range=asked)
    assert (answer.status, answer.headers["content-range"], answer.body) == (416, "bytes */10", b"")
    assert site.get("/empty.bin", range="bytes=0-").status == 416


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=",
        "bytes=-",
        "bytes=5-2",
        "bytes=a-b",
        "lines=1-2",
        "bytes=0-1,x",
        "bytes=0-1,,3-4",
        "bytes=--1",
        "bytes=1",
        "x" * 5000,
        "bytes=" + "0-0," * 1000,
        "bytes=9999999999999999999-",
        "bytes=+1-2",
        "bytes=0x1-2",
    ],
)
def test_what_is_no_part_is_ignored(site: Owner, asked: str) -> None:
    answer = site.get("/small.bin", range=asked)
    assert (answer.status, answer.body) == (200, b"0123456789")


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0, 1),
        (262_143, 262_145),
        (1_000_000, 2_500_000),
        (0, 3_500_000),
        (3_499_999, 3_500_000),
        (1, 3_499_999),
    ],
)
def test_parts_of_a_large_file(site: Owner, start: int, end: int) -> None:
    answer = site.get("/large.bin", range=f"bytes={start}-{end - 1}")
    assert answer.status == 206
    assert answer.body == LARGE[start:end]
    assert answer.headers["content-length"] == str(end - start)
    assert site.get("/large.bin", range=f"bytes=-{len(LARGE) - start}").body == LARGE[start:]


def test_a_part_only_of_the_same(site: Owner) -> None:
    tag = site.get("/small.bin").headers["etag"]
    for name, body in (("/small.bin", b"0123456789"), ("/large.bin", LARGE)):
        tag = site.get(name, "HEAD").headers["etag"]
        assert site.get(name, range="bytes=2-4", if_range=tag).body == body[2:5]
        for other in ('"other"', "W/" + tag, "Wed, 21 Oct 2015 07:28:00 GMT"):
            assert site.get(name, range="bytes=2-4", if_range=other).body == body


def test_parts_are_for_get_and_for_what_is_there(site: Owner) -> None:
    head = site.get("/small.bin", "HEAD", range="bytes=2-4")
    assert (head.status, head.headers["content-length"]) == (200, "10")
    assert site.get("/nothing", range="bytes=0-1").status == 404


def test_parts_are_of_what_is_stored(site: Owner) -> None:
    """Never of a variant that was compressed: clients put parts together."""
    answer = site.get("/", range="bytes=5-14", accept_encoding="br, gzip")
    assert (answer.status, answer.body) == (206, PAGE[5:15])
    assert "content-encoding" not in answer.headers
    compressed = site.get("/", accept_encoding="br").headers["etag"]
    assert site.get("/", range="bytes=5-14", accept_encoding="br", if_range=compressed).body == PAGE


@given(st.integers(0, 30), st.integers(0, 1 << 60), st.integers(0, 1 << 60))
def test_any_span_lies_within(size: int, first: int, last: int) -> None:
    for header in (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}"):
        span = negotiate.single_range(header, size)
        if isinstance(span, tuple):
            assert 0 <= span[0] < span[1] <= size


@given(st.text(max_size=40), st.integers(0, 10))
def test_any_text_may_be_asked_for(text: str, size: int) -> None:
    negotiate.single_range(text, size)
    negotiate.single_range("bytes=" + text, size)
    assert negotiate.encoding_for(text) in ("br", "zstd", "gzip", "identity")
    assert negotiate.etag_matches(text, '"x"') in (True, False)
    negotiate.content_type(text, text.encode())


# -- encodings


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        ("br", "br"),
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "br"),
        ("gzip;q=1.0, br;q=0.5", "gzip"),
        ("br;q=0, gzip;q=0.1", "gzip"),
        ("*", "br"),
        ("*;q=0.5, zstd", "zstd"),
        ("GZIP", "gzip"),
        ("identity", ""),
        ("", ""),
        ("deflate, compress", ""),
        ("br;q=0", ""),
        ("br;q=x, gzip;q=2", ""),
        ("identity;q=1, br;q=0.5", ""),
        (",,,;;;=", ""),
    ],
)
def test_the_encoding_is_the_clients_choice(site: Owner, accept: str, encoding: str) -> None:
    plain = site.get("/")
    answer = site.get("/", accept_encoding=accept)
    assert answer.headers.get("content-encoding", "") == encoding
    assert answer.headers["vary"] == "Accept-Encoding"
    if encoding:
        assert OPEN[encoding](answer.body) == PAGE
        assert answer.headers["etag"] == plain.headers["etag"][:-1] + f'.{encoding}"'
        assert len(answer.body) < len(PAGE) / 4
        assert "accept-ranges" not in answer.headers
    else:
        assert answer.body == PAGE
        assert answer.headers["etag"] == plain.headers["etag"]
    head = site.get("/", "HEAD", accept_encoding=accept)
    assert head.headers["content-length"] == str(len(answer.body))
    again = site.get("/", accept_encoding=accept, if_none_match=answer.headers["etag"])
    assert again.status == 304
    # A variant of another encoding is another thing.
    if encoding:
        assert site.get("/", accept_encoding=accept, if_none_match=plain.headers["etag"]).status == 200


@pytest.mark.parametrize("path", ["/short.txt", "/image.png", "/small.bin", "/large.txt"])
def test_what_is_not_compressed(site: Owner, path: str) -> None:
    answer = site.get(path, accept_encoding="br, gzip, zstd")
    assert "content-encoding" not in answer.headers
    assert "vary" not in answer.headers
    assert answer.headers["accept-ranges"] == "bytes"


def test_what_would_not_get_smaller_is_sent_as_it_is(served: Served) -> None:
    """But depends on what was accepted all the same."""
    text = "".join(random.Random(5).choices([chr(n) for n in range(0x20, 0x2FFF)], k=120)).encode()
    answer = served.site({"x.txt": text}).get("/x.txt", accept_encoding="zstd")
    assert answer.headers["vary"] == "Accept-Encoding"
    if "content-encoding" not in answer.headers:
        assert answer.body == text


def test_a_variant_is_the_same_under_every_path(served: Served) -> None:
    """Made once: brotli of the same text may differ between settings, but not between requests."""
    site = served.site({"a.html": PAGE, "b/index.html": PAGE, "_redirects": b"/* /a.html 200\n"})
    answers = [site.get(path, accept_encoding="br") for path in ("/a.html", "/b/", "/spa/1", "/spa/2")]
    assert len({answer.body for answer in answers}) == 1
    assert len({answer.headers["etag"] for answer in answers}) == 1
