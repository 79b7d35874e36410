"""The gateway's server: where requests end, how long they may take, and what becomes of their answers."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.gateway.plain import PART, PARTS, Plain, plain
from tests.gateway.served import Wire, until

HOST = b"Host: a\r\n"
PAGE = b"GET /page HTTP/1.1\r\n" + HOST + b"\r\n"
LATER = b"GET /later HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Plain]:
    with plain() as running:
        yield running


@pytest.fixture
def wire(server: Plain) -> Iterator[Wire]:
    with server.wire() as wire:
        yield wire


def everything(wire: Wire) -> bytes:
    """Until the server ends the connection, without what changes each second."""
    data = bytearray()
    while piece := wire.socket.recv(1 << 16):
        data += piece
    return re.sub(rb"date: [^\r]+", b"date: now", bytes(data))


# -- what a request is


def test_a_request_as_it_was_sent(wire: Wire) -> None:
    wire.send(b"GET /a%20%C3%A9/b?c=%20d HTTP/1.1\r\nhOsT: x\r\nX-One: 1\r\nX-One: 2\r\nEmpty:\r\n\r\n")
    body = wire.answer().body.decode()
    assert body == "GET None /a é/b c=%20d ['empty=', 'host=x', 'x-one=1']"
    wire.send(b"GET http://other:1/p?q HTTP/1.1\r\n" + HOST + b"\r\n")
    assert wire.answer().body.startswith(b"GET other:1 /p q")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\n" + HOST + HOST, 400),
        (b"OPTIONS / HTTP/1.1\r\n", 400),
        (b"GET /\r\n", 505),
        (b"GET / HTTP/0.9\r\n" + HOST, 505),
        (b"GET / HTTP/2.0\r\n" + HOST, 505),
        (b"GET / HTTP/1.2\r\n" + HOST, 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", 400),
        (b"GET /a#b HTTP/1.1\r\n" + HOST, 400),
        (b"GET a HTTP/1.1\r\n" + HOST, 400),
        (b"GET ftp://a/ HTTP/1.1\r\n" + HOST, 400),
        (b"GET http:///a HTTP/1.1\r\n" + HOST, 400),
        (b"GET http://user@a/ HTTP/1.1\r\n" + HOST, 400),
        (b"GET /%ff HTTP/1.1\r\n" + HOST, 400),
        (b"GET /\xff HTTP/1.1\r\n" + HOST, 400),
        (b"GET /\x01 HTTP/1.1\r\n" + HOST, 400),
        (b"GET /a b HTTP/1.1\r\n" + HOST, 400),
        (b"get / HTTP/1.1\r\n" + HOST, 400),
        (b"BREW / HTTP/1.1\r\n" + HOST, 405),
        (b"GET / HTTP/1.1\n" + HOST, 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x00\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n", 400),
        (b"GET / HTTP/1.1\r\n X: a\r\n" + HOST, 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X : a\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b": a\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 99, 200),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 100, 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 65_000 + b"\r\n", 200),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 80_000 + b"\r\n", 431),
        (b"GET /" + b"y" * 80_000 + b" HTTP/1.1\r\n" + HOST, 414),
    ],
)
def test_what_is_none(server: Plain, head: bytes, status: int) -> None:
    """It ends its connection, and what comes behind it is not looked at."""
    with server.ask(head + b"\r\n" + PAGE) as wire:
        answer = wire.answer()
        assert answer.status == status
        if status == 200:
            assert wire.answer().status == 200
        else:
            assert answer.headers["connection"] == "close"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert wire.ended()


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: \r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ],
)
def test_an_end_that_two_servers_could_see_differently(server: Plain, fields: bytes) -> None:
    with server.ask(b"POST / HTTP/1.1\r\n" + HOST + fields + b"\r\n0\r\n\r\n" + PAGE) as wire:
        assert wire.answer().status == 400
        assert wire.ended()


@pytest.mark.parametrize(
    "body", [b"3\nabc\r\n0\r\n\r\n", b"3 \r\nabc\r\n0\r\n\r\n", b"-3\r\n", b"g\r\n", b"3\r\nabcd\r\n"]
)
def test_chunks_that_are_none(server: Plain, body: bytes) -> None:
    with server.ask(
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + body + PAGE
    ) as wire:
        assert wire.answer().status == 400
        assert wire.ended()


def test_chunked_is_not_for_old_clients(server: Plain) -> None:
    with server.ask(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") as wire:
        assert wire.answer().status == 400


# -- bodies


def test_bodies_are_read_past(wire: Wire) -> None:
    wire.send(b"POST /1 HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nGET /" + PAGE)
    assert wire.answer().body.startswith(b"POST None /1")
    assert wire.answer().body.startswith(b"GET None /page")
    chunks = b'3;x="y"\r\nabc\r\n0\r\nX-Trailer: 1\r\nHost: evil\r\n\r\n'
    wire.send(b"POST /2 HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: Chunked\r\n\r\n" + chunks + PAGE)
    assert wire.answer().body == b"POST None /2  ['host=a', 'transfer-encoding=Chunked']"
    assert wire.answer().body == b"GET None /page  ['host=a']"


@pytest.mark.parametrize(
    "text",
    [
        b"Content-Length: 70000\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b"x" * 0x1000 + b"\r\n" * 1 + b"1000\r\n" * 0,
        b"Transfer-Encoding: chunked\r\n\r\n" + (b"400\r\n" + b"x" * 0x400 + b"\r\n") * 70,
        b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 200_000,
        b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 200_000,
    ],
)
def test_large_bodies_are_refused(server: Plain, text: bytes) -> None:
    with server.ask(b"POST / HTTP/1.1\r\n" + HOST + text) as wire:
        if len(text) < 10_000 and b"chunked" in text:
            wire.send(b"f000\r\n" + b"x" * 0xF000 + b"\r\n1\r\nx")  # one byte too many
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert wire.ended()


def test_a_client_that_asks_before_it_sends_is_told_in_its_turn(wire: Wire) -> None:
    head = b"POST /b HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    wire.send(LATER + head)
    assert wire.answer().body == b"later"
    assert wire._until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue"
    wire.send(b"abc")
    assert wire.answer().body.startswith(b"POST None /b")
    wire.send(head + b"abc" + PAGE)  # nobody needs to be told
    assert wire.answer().body.startswith(b"POST None /b")
    assert wire.answer().body.startswith(b"GET None /page")


# -- how long connections last


@pytest.mark.parametrize(
    ("text", "stays", "said"),
    [
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", True, None),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", False, "close"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Connection: x, Close\r\n\r\n", False, "close"),
        (b"GET / HTTP/1.0\r\n\r\n", False, "close"),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True, "keep-alive"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", False, "close"),
        (b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n", False, "close"),
    ],
)
def test_which_connections_stay(server: Plain, text: bytes, stays: bool, said: str | None) -> None:
    with server.ask(text + PAGE) as wire:
        answer = wire.answer()
        assert answer.status == 200
        assert answer.headers.get("connection") == said
        assert re.fullmatch(
            r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["date"]
        )
        assert "server" not in answer.headers
        if stays:
            assert wire.answer().body.startswith(b"GET None /page")
        else:
            assert wire.ended()


@pytest.mark.parametrize("part", [b"", b"\r\n", b"GET / HT", b"GET / HTTP/1.1\r\nHost:", PAGE])
def test_silence_ends_connections(part: bytes) -> None:
    with plain(reading=1.0) as server, server.ask(part) as wire:
        if part == PAGE:
            wire.answer()
        assert wire.ended()


def test_slowness_ends_requests() -> None:
    """However often a little comes, and be it of the body."""
    with plain(reading=1.5) as server:
        for start, more in (
            (b"GET / HTTP/1.1\r\n", b"X: y\r\n"),
            (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 999\r\n\r\n", b"x"),
        ):
            with server.ask(start) as wire:
                wire.socket.settimeout(0.2)
                ended = False
                for _ in range(100):
                    try:
                        wire.send(more)
                        ended = not wire.socket.recv(100)
                    except TimeoutError:
                        continue
                    except ConnectionError:
                        ended = True
                    if ended:
                        break
                assert ended


def test_idle_clients_make_room() -> None:
    with plain(connections=20) as server, ExitStack() as stack:
        waiting = stack.enter_context(server.ask(b"GET /waits HTTP/1.1\r\n" + HOST + b"\r\n"))
        until(lambda: "/waits" in server.told.begun)
        idle = [stack.enter_context(server.wire()) for _ in range(19)]
        for wire in idle:
            wire.send(PAGE)
            wire.answer()
        with server.ask(PAGE) as wire:
            assert wire.answer().status == 200
        assert idle[0].ended()  # who came first
        server.loop.call_soon_threadsafe(server.told.go.set)
        assert waiting.answer().body == b"waited"


def test_there_is_an_end_to_room() -> None:
    with plain(connections=5) as server, ExitStack() as stack:
        for number in range(5):
            stack.enter_context(server.ask(b"GET /waits HTTP/1.1\r\n" + HOST + b"\r\n"))
            until(lambda number=number: len(server.told.begun) > number)
        with server.wire() as wire:
            assert wire.ended()


# -- answers


def test_answers_without_a_body(wire: Wire) -> None:
    wire.send(PAGE.replace(b"GET", b"HEAD") + PAGE)
    head, full = wire.answer("HEAD"), wire.answer()
    assert int(head.headers["content-length"]) == len(full.body) + 1
    for path, status in ((b"/none", 204), (b"/same", 304)):
        wire.send(PAGE.replace(b"/page", path) + PAGE)
        answer = wire.answer()
        assert answer.status == status
        assert "content-length" not in answer.headers
        assert "transfer-encoding" not in answer.headers
        assert wire.answer().status == 200


def test_a_body_of_unknown_length(server: Plain) -> None:
    body = b"one" + b"two" * 1000
    ask = b"GET /chunks HTTP/1.1\r\n" + HOST + b"\r\n"
    with server.ask(ask + PAGE) as wire:
        answer = wire.answer()
        assert (answer.headers["transfer-encoding"], answer.body) == ("chunked", body)
        assert wire.answer().status == 200
        wire.send(ask.replace(b"GET", b"HEAD") + PAGE)
        wire.answer("HEAD")
        assert wire.answer().status == 200
    with server.ask(ask.replace(b"1.1", b"1.0")) as wire:
        data = everything(wire)
        assert b"transfer-encoding" not in data
        assert data.endswith(b"\r\n\r\n" + body)


def test_a_body_that_is_too_short_ends_its_connection(server: Plain) -> None:
    with server.ask(b"GET /short HTTP/1.1\r\n" + HOST + b"\r\n" + PAGE) as wire, pytest.raises(EOFError):
        wire.answer()


@pytest.mark.parametrize("path", [b"/broken", b"/broken-later", b"/injected"])
def test_a_bug_costs_one_answer(server: Plain, path: bytes) -> None:
    with capture_logs() as logs, server.ask(PAGE.replace(b"/page", path)) as wire:
        answer = wire.answer()
        assert (answer.status, b"njected" in answer.head) == (500, False)
        assert wire.ended()
    assert [line["event"] for line in logs] == ["gateway_answer_broken"]
    with server.ask(PAGE) as wire:
        assert wire.answer().status == 200


# -- clients that leave, or do not read


@pytest.mark.parametrize("reset", [False, True])
def test_work_ends_with_its_client(reset: bool) -> None:
    with plain() as server:
        wire = server.ask(b"GET /waits HTTP/1.1\r\n" + HOST + b"\r\n" + PAGE)
        until(lambda: server.told.begun == ["/waits"])
        if reset:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.socket.close()
        until(lambda: server.told.cancelled)
        assert server.told.left == ["/waits"]
        assert server.told.begun == ["/waits"]  # what waited behind it is not begun


def test_no_more_is_made_than_is_taken() -> None:
    large = b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n"
    with plain() as server, server.ask(large + PAGE) as wire:
        assert wire.socket.recv(1, socket.MSG_PEEK)
        with server.ask(PAGE) as other:
            assert other.answer().status == 200
        assert server.told.parts < PARTS
        assert server.told.begun == ["/large", "/page"]  # the other's
        assert wire.answer().body == PART * PARTS
        assert wire.answer().status == 200


def test_answers_that_nobody_takes_are_not_made() -> None:
    """A client that asks on and on and reads nothing."""
    with plain(stalled=1.0) as server, server.wire() as wire:
        wire.socket.settimeout(20)
        with pytest.raises(ConnectionError):
            while True:
                wire.send(PAGE * 1000)
        assert len(server.told.begun) < 300_000


def test_a_client_that_stalls_is_let_go() -> None:
    with plain(stalled=1.0) as server, server.ask(b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n") as wire:
        assert wire.socket.recv(1, socket.MSG_PEEK)
        until(lambda: not server.server._connections)
        with pytest.raises(EOFError):
            wire.answer()


# -- the end


def test_stopping_finishes_what_is_under_way() -> None:
    with plain() as server, server.wire() as idle, server.wire() as waiting:
        idle.send(PAGE)
        idle.answer()
        waiting.send(b"GET /waits HTTP/1.1\r\n" + HOST + b"\r\n")
        until(lambda: "/waits" in server.told.begun)

        async def stop() -> None:
            server.loop.call_later(0.2, server.told.go.set)
            await server.server.stop(10)

        server.call(stop())
        assert idle.ended()
        answer = waiting.answer()
        assert (answer.body, answer.headers["connection"]) == (b"waited", "close")
        assert waiting.ended()
        with pytest.raises(ConnectionError):
            server.wire()


def test_stopping_does_not_wait_for_ever() -> None:
    with plain() as server, server.wire() as waiting:
        waiting.send(b"GET /waits HTTP/1.1\r\n" + HOST + b"\r\n")
        until(lambda: "/waits" in server.told.begun)
        server.call(server.server.stop(0.1))
        assert waiting.ended()
        until(lambda: server.told.cancelled)


# -- any bytes, in any pieces


REQUESTS = st.sampled_from(
    [
        PAGE,
        LATER,
        b"\r\n" + PAGE,
        b"HEAD /?a=b HTTP/1.1\r\n" + HOST + b"Accept:\r\nX: y\r\n\r\n",
        b"GET /chunks HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /same HTTP/1.1\r\n" + HOST + b"\r\n",
        b"POST /p HTTP/1.1\r\n" + HOST + b"Content-Length: 7\r\n\r\nGET / H",
        b"POST /q HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nHost: t\r\n\r\n",
        b"GET http://b/%41 HTTP/1.1\r\n" + HOST + b"Accept: " + b"x" * 5000 + b"\r\n\r\n",
    ]
)
LAST = b"GET /last HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"


@settings(max_examples=60, deadline=None)
@given(requests=st.lists(REQUESTS, max_size=8), cuts=st.lists(st.integers(0, 4000), max_size=12))
def test_any_pieces_give_the_same_answers(server: Plain, requests: list[bytes], cuts: list[int]) -> None:
    text = b"".join([*requests, LAST])
    with server.ask(text) as wire:
        expected = everything(wire)
    assert expected.count(b"HTTP/1.1 ") == len(requests) + 1
    places = sorted({cut % len(text) for cut in cuts})
    with server.wire() as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, end in zip([0, *places], [*places, len(text)], strict=True):
            wire.send(text[start:end])
            with server.ask(LAST) as other:  # a turn of the server's loop: so the piece arrives alone
                everything(other)
        assert everything(wire) == expected


@settings(max_examples=150, deadline=None)
@given(
    start=st.sampled_from(
        [b"", b"GET ", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: "]
    ),
    rest=st.binary(min_size=1, max_size=200),
)
def test_any_bytes_end_in_a_refusal_or_in_silence(server: Plain, start: bytes, rest: bytes) -> None:
    with capture_logs() as logs, server.ask(start + rest) as wire:
        wire.socket.shutdown(socket.SHUT_WR)
        data = everything(wire)
    for status in re.findall(rb"HTTP/1\.1 (\d+) [A-Z]", data):
        assert status in (b"200", b"400", b"405", b"413", b"505")
    assert data == b"" or b"connection: close" in data or b" 200 OK" in data
    assert logs == []
