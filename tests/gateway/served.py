"""A node's hosting with the gateway it really starts: its workers beside it, on a loopback port.

`Served` runs its trio loop in a thread, so that one gateway answers many tests; `Wire` speaks HTTP byte by
byte, for what no client library would send.
"""

from __future__ import annotations

import io
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from decentraspace.content import cid as cids
from decentraspace.content.importer import add_directory, add_file
from decentraspace.gateway.control import ControlServer
from decentraspace.gateway.process import serve_gateway_and_control
from decentraspace.hosting import Deployed
from decentraspace.ledger.usage import UsageRow
from decentraspace.network.fetch import Fetcher, Provider
from decentraspace.records.schema import Revocation
from decentraspace.records.signing import sign_revocation
from tests.api.small_node import SmallNode
from tests.records.factory import address_of, make_session, make_site, make_wallet
from tests.support import free_port

Files = dict[str, bytes]
_TIMEOUT = 20.0  # seconds


@dataclass
class Answer:
    """`headers`: names in lower case; of several alike, the last."""

    status: int
    headers: dict[str, str]
    body: bytes
    head: bytes


class Wire:
    """One connection to a gateway. Answers are framed by Content-Length or chunks, as RFC 9112 says."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), _TIMEOUT)
        self._buffer = bytearray()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def give_back(self, data: bytes) -> None:
        """What was taken off the socket past this class."""
        self._buffer[:0] = data

    def ended(self) -> bool:
        """Waits for what comes next: whether it is the end, with nothing before it."""
        return not self._buffer and not self._more()

    def _more(self) -> bytes:
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionError:
            data = b""
        self._buffer += data
        return data

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            if not self._more():
                raise EOFError(bytes(self._buffer[:200]))
        found, _, self._buffer = self._buffer.partition(mark)
        return bytes(found)

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            if not self._more():
                raise EOFError(f"{len(self._buffer)} of {count} bytes")
        found = bytes(self._buffer[:count])
        del self._buffer[:count]
        return found

    def answer(self, method: str = "GET") -> Answer:
        """EOFError where the connection ends before the answer does."""
        head = self._until(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:])}
        body = b""
        if method == "HEAD" or status in (204, 304):
            pass
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(self._until(b"\r\n"), 16):
                body += self._exactly(size)
                self._exactly(2)
            self._exactly(2)
        else:
            body = self._exactly(int(headers["content-length"]))
        return Answer(status, headers, body, head)

    def get(self, host: str, path: str = "/", method: str = "GET", **headers: str) -> Answer:
        """`headers`: with _ for -."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n")
        return self.answer(method)


class Owner:
    """A wallet, its session key and the versions of its one site."""

    def __init__(self, served: Served, label: str) -> None:
        self.served, self.label = served, label
        self.wallet = make_wallet()
        self.address = address_of(self.wallet)
        self.session = make_session(self.wallet, served.node.rules)
        self._next: dict[str, Any] = {"seq": 1, "prev": None}
        self.site_id = ""
        self.host = ""

    def deploy(self, files: Files | bytes, **changes: Any) -> Deployed:
        """Take it for served when this returns: that is what an acknowledged deploy promises."""
        node = self.served.node
        root = self.served.store(files) if isinstance(files, dict) else files
        size = node.blocks.dag_size(root)
        record = make_site(
            self.wallet,
            self.session,
            node.rules,
            label=self.label,
            root=root,
            size=size,
            **self._next,
            **changes,
        )
        deployed = self.served.call(node.hosting.deploy, self.address, record)
        head = deployed.head
        self._next = {"seq": head.seq + 1, "prev": head.cid}
        self.site_id = head.site_id
        self.host = f"{self.label}--{head.site_id}.localhost:{self.served.port}"
        return deployed

    def revoke(self) -> None:
        """Void all that the session key has signed; signed with a newer one."""
        node = self.served.node
        newer = make_session(self.wallet, node.rules, issued_at=int(time.time()))
        revocation = Revocation(
            owner=self.address,
            key=self.session[0].public_key().public_bytes_raw(),
            site=None,
            after=0,
            created=int(time.time()),
        )
        record = sign_revocation(revocation, *newer, node.rules)
        self.served.call(node.hosting.revoke, self.address, record)

    def get(self, path: str = "/", method: str = "GET", **headers: str) -> Answer:
        return self.served.get(self.host, path, method, **headers)


class Served:
    """`providers`: gateways of other nodes, to fetch from. Start with `serving`."""

    def __init__(self, folder: Path, *, providers: list[Provider] | None = None, **sections: Any) -> None:
        self.port = free_port()
        gateway = {"port": self.port, **sections.pop("gateway", {})}
        limits = {"free_sites": 1000, **sections.pop("limits", {})}
        self.node = SmallNode(folder, gateway=gateway, limits=limits, **sections)
        self.fetches: list[tuple[bytes, bytes]] = []

        async def find(root: bytes) -> list[Provider]:
            return providers or []

        self._fetcher = Fetcher(self.node.blocks, find, True)
        self.node.hosting.fetcher = self._fetcher
        self.lose_answers = False  # of usage batches: each is counted, and none acknowledged
        self.batches: list[tuple[str, int]] = []
        self._token: Any = None
        self._owners = 0

    # -- what the node does for its workers

    async def _fetch(self, cid: bytes, root: bytes) -> bool:
        self.fetches.append((cid, root))
        return await self._fetcher.fetch_block(cid, root)

    async def _usage(self, worker: str, number: int, rows: list[UsageRow]) -> None:
        self.batches.append((worker, number))
        await trio.to_thread.run_sync(self.node.usage.add_batch, worker, number, rows)
        if self.lose_answers:
            raise OSError("counted, but the worker is told that it was not")

    # -- life

    async def _run(self, ready: threading.Event, stop: trio.Event) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.node.hosting.run)
            control = ControlServer(
                self.node.config.data_dir / "gateway.sock",
                fetch=self._fetch,
                resolve=self.node.hosting.resolve_host,
                usage=self._usage,
                link=self.node.names.link,
            )
            await nursery.start(self.node.names.run)
            await nursery.start(serve_gateway_and_control, self.node.config, control)
            ready.set()
            await stop.wait()
            nursery.cancel_scope.cancel()

    @contextmanager
    def serving(self) -> Iterator[Served]:
        ready, stop, failure = threading.Event(), trio.Event(), []

        def run() -> None:
            try:
                trio.run(self._run, ready, stop)
            except BaseException as error:  # noqa: BLE001 - told to the test below
                failure.append(error)
            finally:
                ready.set()

        thread = threading.Thread(target=run)
        thread.start()
        ready.wait()
        try:
            if not failure:
                yield self
        finally:
            if thread.is_alive():
                trio.from_thread.run_sync(stop.set, trio_token=self._token)
            thread.join()
            self.node.close()
        if failure:
            raise failure[0]

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run an async function in the node's loop."""
        return trio.from_thread.run(function, *arguments, trio_token=self._token)

    # -- content

    def store(self, files: Files) -> bytes:
        """Root CID of a folder, stored and referenced by nothing. Names with slashes make folders."""
        writer = self.node.blocks.writer()

        def build(level: Files) -> Any:
            entries: dict[str, Any] = {}
            below: dict[str, Files] = {}
            for name, data in level.items():
                head, slash, rest = name.partition("/")
                if slash:
                    below.setdefault(head, {})[rest] = data
                else:
                    entries[name] = add_file(io.BytesIO(data), writer.put)
            return add_directory(entries | {n: build(f) for n, f in below.items()}, writer.put)

        root = build(files).cid
        writer.flush()
        return bytes(root)

    def site(self, files: Files | bytes) -> Owner:
        """A new owner's site."""
        self._owners += 1
        owner = Owner(self, f"site{self._owners}")
        owner.deploy(files)
        return owner

    # -- requests

    def wire(self) -> Wire:
        return Wire(self.port)

    def get(self, host: str, path: str = "/", method: str = "GET", **headers: str) -> Answer:
        with self.wire() as wire:
            return wire.get(host, path, method, **headers)

    def by_cid(self, root: bytes, path: str = "/", method: str = "GET", **headers: str) -> Answer:
        return self.get(f"{cids.to_text(root)}.ipfs.localhost:{self.port}", path, method, **headers)

    def by_path(self, root: bytes, path: str = "/", method: str = "GET", **headers: str) -> Answer:
        """On a host that is nobody's, where no redirect to an origin of its own is due."""
        return self.get(f"127.0.0.1:{self.port}", f"/ipfs/{cids.to_text(root)}{path}", method, **headers)

    def workers(self) -> set[int]:
        """Process ids of the workers: children of the gateway, which is a child of this process."""
        return {pid for main in self.mains() for pid in children(main)}

    def mains(self) -> set[int]:
        return {pid for pid in children(os.getpid()) if self._is_gateway(pid)}

    def _is_gateway(self, pid: int) -> bool:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False
        return f", {self.port}, ".encode() in environment

    def totals(self, owner: Owner) -> tuple[int, int]:
        return self.node.usage.totals(owner.site_id)


def children(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found |= {int(child) for child in task.read_text().split()}
        except OSError:
            continue
    return found


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What `condition` gives, once it is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.02)
    return value
