"""The socket between gateway workers and their node: what a worker cannot answer by reading.

Frames of four bytes of length (big endian) and DAG-CBOR. Requests {i, op, …}, answers {i, ok}; `i` pairs
them, several are under way at once. What else an answer says stands beside `ok`.

    fetch    {cid, root}                     bring this block; ok: it is there now
    resolve  {host}                          is this host a site you know? ok: look into the index again
    link     {name}                          where does this name lead? ok: {path, or null; ttl in seconds}
    usage    {worker, number, rows}          counts of one batch; ok: durably counted
    beat     {}                              this worker's event loop runs; on a connection of its own
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import libipld
import structlog

from decentraspace.errors import BadInput, DecentraSpaceError
from decentraspace.ledger.usage import UsageRow
from decentraspace.names.links import Answer, NotResolved

log = structlog.get_logger(__name__)

MAX_FRAME = 4 * 1024 * 1024
_AT_ONCE = 256  # requests of one worker
_BEAT_EVERY = 2.0  # seconds
_BEAT_WITHIN = 7.0  # three beats, and a little for a busy machine


def encode(message: dict[str, Any]) -> bytes:
    body = bytes(libipld.encode_dag_cbor(message))
    return len(body).to_bytes(4, "big") + body


def decode(body: bytes) -> dict[str, Any]:
    try:
        message = libipld.decode_dag_cbor(body)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"A frame on the gateway's socket is malformed: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("i"), int):
        raise BadInput("A frame on the gateway's socket has a wrong form")
    return message


class ControlClient:
    """The worker's end, on asyncio. Reconnects; while there is no node, every answer is no."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[asyncio.StreamWriter, asyncio.Future[dict[str, Any]]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._connecting = asyncio.Lock()
        self._reader_task: asyncio.Task[None] | None = None

    async def ask(self, operation: str, deadline: float, **arguments: Any) -> bool:
        """The node's answer, or False after `deadline` seconds or without a node."""
        return (await self.question(operation, deadline, **arguments)).get("ok") is True

    async def question(self, operation: str, deadline: float, **arguments: Any) -> dict[str, Any]:
        """All that the node answers, or nothing after `deadline` seconds or without a node."""
        try:
            async with asyncio.timeout(deadline):
                writer = await self._connected()
                number = next(self._numbers)
                answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
                self._waiting[number] = writer, answer
                try:
                    writer.write(encode({"i": number, "op": operation, **arguments}))
                    await writer.drain()
                    return await answer
                finally:
                    self._waiting.pop(number, None)
        except (OSError, TimeoutError):
            return {}

    async def _connected(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._writer is None or self._writer.is_closing():
                reader, self._writer = await asyncio.open_unix_connection(self._path)
                self._reader_task = asyncio.create_task(self._read(reader, self._writer))
            return self._writer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(4), "big")
                message = decode(await reader.readexactly(length))
                _, waiting = self._waiting.get(message["i"], (None, None))
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
        except (OSError, asyncio.IncompleteReadError, BadInput):
            writer.close()
            for asked, waiting in self._waiting.values():
                if asked is writer and not waiting.done():
                    waiting.set_result({})


async def beat(path: str) -> None:
    """Have the node know that this worker's event loop runs, until cancelled. On a connection of its own, which
    no other request holds up; when the worker ends, its end tells that too."""
    client = ControlClient(path)
    while True:
        await client.ask("beat", _BEAT_EVERY)
        await asyncio.sleep(_BEAT_EVERY)


class ControlServer:
    """The node's end, on trio. The handlers' results become `ok`."""

    def __init__(
        self,
        path: Path,
        *,
        fetch: Callable[[bytes, bytes], Awaitable[bool]],
        resolve: Callable[[str], Awaitable[bool]],
        usage: Callable[[str, int, list[UsageRow]], Awaitable[None]],
        link: Callable[[str], Awaitable[Answer]],
    ) -> None:
        self._path, self._fetch, self._resolve, self._usage, self._link = path, fetch, resolve, usage, link
        self._beats: dict[int, float] = {}  # by connection

    def beats(self) -> list[float]:
        """When each worker that is there was last heard of, by trio's clock."""
        return list(self._beats.values())

    def alive(self) -> bool:
        """Whether there are workers, and none of them hangs."""
        import trio

        now = trio.current_time()
        return bool(self._beats) and all(now - heard < _BEAT_WITHIN for heard in self._beats.values())

    async def run(self, *, task_status: Any) -> None:
        """Serve until cancelled."""
        import trio

        self._path.unlink(missing_ok=True)
        listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with listener:
            await listener.bind(str(self._path))
            self._path.chmod(0o600)
            listener.listen(64)
            task_status.started()
            try:
                await trio.serve_listeners(self._serve, [trio.SocketListener(listener)])
            finally:
                self._path.unlink(missing_ok=True)

    async def _serve(self, stream: Any) -> None:
        import trio

        sending = trio.Lock()
        limit = trio.CapacityLimiter(_AT_ONCE)

        async def serve(message: dict[str, Any], slot: object) -> None:
            try:
                answered = await self._handle(message)
                answer = answered if isinstance(answered, dict) else {"ok": answered}
                async with sending:
                    await stream.send_all(encode({"i": message["i"], **answer}))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the worker is gone; it asks again
            finally:
                limit.release_on_behalf_of(slot)

        buffer = bytearray()
        async with trio.open_nursery() as nursery:
            try:
                async for chunk in stream:
                    buffer += chunk
                    while len(buffer) >= 4:
                        length = int.from_bytes(buffer[:4], "big")
                        if length > MAX_FRAME:
                            raise BadInput("A frame on the gateway's socket is too large")
                        if len(buffer) < 4 + length:
                            break
                        message = decode(bytes(buffer[4 : 4 + length]))
                        del buffer[: 4 + length]
                        if message.get("op") == "beat":
                            self._beats[id(stream)] = trio.current_time()
                        slot = object()
                        await limit.acquire_on_behalf_of(slot)
                        nursery.start_soon(serve, message, slot)
            except (BadInput, trio.BrokenResourceError):
                nursery.cancel_scope.cancel()
            finally:
                self._beats.pop(id(stream), None)

    async def _handle(self, message: dict[str, Any]) -> bool | dict[str, Any]:
        try:
            match message:
                case {"op": "fetch", "cid": bytes(cid), "root": bytes(root)}:
                    ok = await self._fetch(cid, root)
                    return ok is True
                case {"op": "resolve", "host": str(host)}:
                    return await self._resolve(host)
                case {"op": "link", "name": str(name)}:
                    found = await self._link(name)
                    return {"ok": True, "path": found.path, "ttl": found.ttl}
                case {"op": "usage", "worker": str(worker), "number": int(number), "rows": list(rows)}:
                    await self._usage(worker, number, [UsageRow(*row) for row in rows])
                    return True
                case {"op": "beat"}:
                    return True
        except (BadInput, TypeError):
            return False
        except NotResolved as error:
            return {"ok": False, "reason": str(error)}
        except DecentraSpaceError as error:
            # Such as a full disk. The worker asks again; the node has other things to do than to end of it.
            log.warning("gateway_request_failed", op=message.get("op"), reason=str(error))
            return False
        except Exception:  # a bug in one answer is no reason to answer nobody any more
            log.exception("gateway_request_broken", op=message.get("op"))
            return False
        return False
