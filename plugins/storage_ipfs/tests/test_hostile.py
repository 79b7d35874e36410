"""Something that is no Kubo, or a lying one, at the configured address; and settings that make no sense."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from decentraspace.content import car
from decentraspace.content import cid as cids
from decentraspace.errors import ConfigError, DecentraSpaceError, Unavailable
from decentraspace.plugins import PluginInfo, PluginManager
from decentraspace.testing import Parts
from decentraspace_storage_ipfs.kubo import Kubo as KuboClient

Managed = Callable[[Parts], Awaitable[PluginManager]]
MakeParts = Callable[..., Parts]
Answer = tuple[int, bytes]

LEAF = b"the leaf"
LEAF_CID = cids.make(cids.RAW, LEAF)


def described(manager: PluginManager) -> PluginInfo:
    """This plugin; others may be installed beside it."""
    return next(one for one in manager.describe() if one.name == "storage_ipfs")


@pytest.fixture
def liar() -> Iterator[Callable[[dict[str, Answer]], str]]:
    """liar({command: (status, body)}): the multiaddr of an HTTP server that answers so."""
    servers: list[ThreadingHTTPServer] = []

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A client that hangs up in the middle is what is tested."""

    def make(answers: dict[str, Answer]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                if self.headers.get("Transfer-Encoding") == "chunked":
                    while size := int(self.rfile.readline(), 16):
                        self.rfile.read(size + 2)
                    self.rfile.readline()
                command = self.path.split("?")[0].removeprefix("/api/v0/")
                status, body = answers.get(command, (404, b"404 page not found"))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"/ip4/127.0.0.1/tcp/{server.server_port}"

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


CARS = {
    "wrong bytes": car.header([LEAF_CID]) + car.frame(LEAF_CID, b"other bytes"),
    "cut off": car.encode([LEAF_CID], [(LEAF_CID, LEAF)])[:-3],
    "another block": car.encode([LEAF_CID], [(cids.make(cids.RAW, b"x"), b"x")]),
    "no blocks": car.header([LEAF_CID]),
    "no CAR": b"<html>welcome</html>" * 100,
    "empty": b"",
    "huge section": car.header([LEAF_CID]) + b"\xff\xff\xff\xff\x7f",
}


@pytest.mark.parametrize("kind", CARS)
async def test_a_lying_export_is_never_believed(
    kind: str, liar: Callable[[dict[str, Answer]], str], make_parts: MakeParts, managed: Managed
) -> None:
    parts = make_parts(api=liar({"dag/export": (200, CARS[kind])}))
    manager = await managed(parts)
    with pytest.raises(DecentraSpaceError) as caught:
        await manager.first("storage_fetch", max_bytes=1 << 24, cid=cids.to_text(LEAF_CID))
    assert caught.value.status in (400, 422, 503)
    assert not parts.blocks.has(LEAF_CID)
    assert described(manager).health == "ok"


@pytest.mark.parametrize(("quota", "most", "status"), [(5_000_000, 1 << 30, 507), (1 << 30, 5_000_000, 413)])
async def test_more_than_fits_is_refused(
    quota: int,
    most: int,
    status: int,
    liar: Callable[[dict[str, Answer]], str],
    make_parts: MakeParts,
    managed: Managed,
) -> None:
    blocks = [(cids.make(cids.RAW, bytes([n]) * 1_000_000), bytes([n]) * 1_000_000) for n in range(40)]
    parts = make_parts(api=liar({"dag/export": (200, car.encode([LEAF_CID], blocks))}))
    parts.blocks.quota = quota
    manager = await managed(parts)
    with pytest.raises(DecentraSpaceError) as caught:
        await manager.first("storage_fetch", cid=cids.to_text(LEAF_CID), max_bytes=most)
    assert caught.value.status == status
    assert parts.blocks.stats().bytes <= 5_000_000


IMPORTS: dict[str, dict[str, Answer]] = {
    "another root": {
        "dag/import": (200, json.dumps({"Root": {"Cid": {"/": "bafkqaaa"}, "PinErrorMsg": ""}}).encode())
    },
    "said, but not pinned": {
        "dag/import": (
            200,
            json.dumps({"Root": {"Cid": {"/": cids.to_text(LEAF_CID)}, "PinErrorMsg": ""}}).encode(),
        ),
        "pin/ls": (200, b'{"Keys": {}}'),
    },
    "could not pin": {
        "dag/import": (
            200,
            json.dumps({"Root": {"Cid": {"/": cids.to_text(LEAF_CID)}, "PinErrorMsg": "no"}}).encode(),
        )
    },
    "a web page": {"dag/import": (200, b"<html>")},
    "nothing": {"dag/import": (200, b"")},
    "a list": {"dag/import": (200, b"[1, 2]")},
    "an error": {"dag/import": (500, b'{"Message": "full", "Code": 0}')},
    "bare 502": {"dag/import": (502, b"bad gateway")},
    "404": {},
}


@pytest.mark.parametrize("kind", IMPORTS)
def test_a_lying_import_is_no_pin(kind: str, liar: Callable[[dict[str, Answer]], str]) -> None:
    kubo = KuboClient(liar(IMPORTS[kind]), 5)
    chunks = [car.encode([LEAF_CID], [(LEAF_CID, LEAF)])]
    with pytest.raises(DecentraSpaceError) as caught:
        kubo.import_dag(cids.to_text(LEAF_CID), chunks, deadline=float("inf"))
    assert caught.value.status in (422, 503)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"Keys": 5}', b'{"Keys": {"x": {}}}', b'{"Keys": {"x": 1}}', b"null", b"\xff\xfe"]
)
def test_a_lying_list_of_pins(body: bytes, liar: Callable[[dict[str, Answer]], str]) -> None:
    kubo = KuboClient(liar({"pin/ls": (200, body)}), 5)
    with suppress(Unavailable):
        assert kubo.is_pinned(cids.to_text(LEAF_CID)) is False


def test_a_deadline_ends_a_transfer_that_goes_on(liar: Callable[[dict[str, Answer]], str]) -> None:
    kubo = KuboClient(liar({"dag/export": (200, CARS["no CAR"])}), 5)
    with pytest.raises(Unavailable, match="too long"):
        list(kubo.export_dag(cids.to_text(LEAF_CID), deadline=0.0))
    with pytest.raises(Unavailable, match="too long"):
        kubo.import_dag(cids.to_text(LEAF_CID), iter([b"x"]), deadline=0.0)


def test_what_reading_the_content_raises_comes_through(liar: Callable[[dict[str, Answer]], str]) -> None:
    def chunks() -> Iterator[bytes]:
        yield car.header([LEAF_CID])
        raise Unavailable("gone in the middle")

    kubo = KuboClient(liar({"dag/import": (200, b"{}")}), 5)
    with pytest.raises(Unavailable, match="gone in the middle"):
        kubo.import_dag(cids.to_text(LEAF_CID), chunks(), deadline=float("inf"))


def test_silence(make_parts: MakeParts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kubo = KuboClient(f"/ip4/127.0.0.1/tcp/{listener.getsockname()[1]}", 0.2)
        with pytest.raises(Unavailable, match="in time"):
            kubo.version()


@pytest.mark.parametrize("api", ["http://127.0.0.1:5001", "127.0.0.1:5001", "/ip4/127.0.0.1/udp/1", "/", "x"])
def test_an_address_that_is_none(api: str) -> None:
    with pytest.raises(ConfigError, match="api"):
        KuboClient(api, 5)


@pytest.mark.parametrize(
    "settings",
    [
        {"api": 5},
        {"api": "nonsense"},
        {"api": "/ip4/127.0.0.1/tcp/1", "timeout": 0},
        {"api": "/ip4/127.0.0.1/tcp/1", "timeout": True},
        {"api": "/ip4/127.0.0.1/tcp/1", "deadline": "long"},
        {"unknown": 1},
    ],
)
async def test_wrong_settings_are_named(
    settings: dict[str, Any], make_parts: MakeParts, managed: Managed
) -> None:
    manager = await managed(make_parts(**settings))
    info = described(manager)
    assert info.health == "failing"
    assert "plugin.storage_ipfs" in info.error
    assert await manager.call("storage_pin", cid=cids.to_text(LEAF_CID)) == []


async def test_without_an_address_it_does_nothing(make_parts: MakeParts, managed: Managed) -> None:
    manager = await managed(make_parts())
    cid = cids.to_text(LEAF_CID)
    assert await manager.call("storage_pin", cid=cid) == []
    assert await manager.call("storage_unpin", cid=cid) == []
    assert await manager.call("storage_fetch", max_bytes=1 << 24, cid=cid) == []
    assert await manager.call("storage_status") == []
    assert described(manager).health == "ok"


def test_importing_the_plugin_does_not_import_the_client() -> None:
    """A node without Kubo does not pay for one."""
    code = "import decentraspace_storage_ipfs, sys; sys.exit('ipfshttpclient' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
