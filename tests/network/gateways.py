"""HTTP servers to fetch from: an honest one, and those that are not. All speak HTTP/1.1 on a real socket."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import trio

from decentraspace.content import car, reader
from decentraspace.content import cid as cids
from decentraspace.content.importer import add_directory, add_file
from decentraspace.network.fetch import Provider


@dataclass
class Dag:
    """A small site: its root, and all blocks by CID."""

    root: bytes
    blocks: dict[bytes, bytes]

    @property
    def size(self) -> int:
        return sum(map(len, self.blocks.values()))

    def get(self, cid: bytes) -> bytes:
        if cid not in self.blocks:
            raise reader.BlockMissing(cid)
        return self.blocks[cid]

    def car(self, root: bytes) -> bytes:
        return car.encode([root], list(reader.walk(self.get, root)))


def make_dag(files: dict[str, bytes]) -> Dag:
    """A folder of files; names with a slash go into one folder below."""
    blocks: dict[bytes, bytes] = {}
    folders: dict[str, dict[str, object]] = {"": {}}
    for name, data in files.items():
        folder, _, leaf = name.rpartition("/")
        folders.setdefault(folder, {})[leaf] = add_file(io.BytesIO(data), blocks.__setitem__)
    top = folders.pop("")
    for folder, entries in folders.items():
        top[folder] = add_directory(entries, blocks.__setitem__)
    return Dag(add_directory(top, blocks.__setitem__).cid, blocks)


def site(count: int = 40, size: int = 3000, seed: int = 0) -> Dag:
    """A folder with `count` files in folders of ten."""
    return make_dag(
        {f"part{n // 10}/file{n}.txt": bytes((seed, n)) * (size // 2) for n in range(count)}
        | {"index.html": b"<h1>%d</h1>" % seed}
    )


Answer = Callable[["Request"], Awaitable[None]]


@dataclass
class Request:
    """One request; `cid` and `form` as the trustless gateway protocol names them."""

    cid: bytes
    form: str
    host: str
    stream: trio.SocketStream
    gateway: Gateway
    headers: dict[str, str]  # names in lower case

    async def write(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def head(self, status: str = "200 OK", *headers: str, length: int | None = None) -> None:
        lines = [f"HTTP/1.1 {status}", *headers]
        lines.append(f"Content-Length: {length}" if length is not None else "Transfer-Encoding: chunked")
        await self.write("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        await self.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def whole(self, body: bytes, status: str = "200 OK", *headers: str) -> None:
        await self.head(status, *headers, length=len(body))
        await self.write(body)

    def body(self) -> bytes | None:
        dag = self.gateway.dag
        if self.cid not in dag.blocks:
            return None
        return dag.blocks[self.cid] if self.form == "raw" else dag.car(self.cid)

    async def honest(self) -> None:
        body = self.body()
        if body is None:
            await self.whole(b"not here", "404 Not Found")
        else:
            await self.whole(body)


async def honest(request: Request) -> None:
    await request.honest()


@dataclass
class Gateway:
    """`asked`: (CID, form) of each request that arrived."""

    dag: Dag
    answer: Answer
    port: int = 0
    asked: list[tuple[bytes, str]] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def provider(self) -> Provider:
        return Provider(self.url, f"peer-{self.port}")

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        buffer = b""
        try:
            while True:
                while b"\r\n\r\n" not in buffer:
                    more = await stream.receive_some(65536)
                    if not more:
                        return
                    buffer += more
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                lines = head.decode().split("\r\n")
                parts = urlsplit(lines[0].split(" ")[1])
                headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}
                cid = cids.parse(parts.path.removeprefix("/ipfs/"))
                form = parse_qs(parts.query)["format"][0]
                self.asked.append((cid, form))
                await self.answer(Request(cid, form, headers["host"], stream, self, headers))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


@asynccontextmanager
async def gateway(dag: Dag, answer: Answer = honest) -> AsyncIterator[Gateway]:
    """A running server on a port the OS chose."""
    running = Gateway(dag, answer)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            lambda *, task_status: trio.serve_tcp(running.serve, 0, host="127.0.0.1", task_status=task_status)
        )
        running.port = listeners[0].socket.getsockname()[1]
        yield running
        nursery.cancel_scope.cancel()
