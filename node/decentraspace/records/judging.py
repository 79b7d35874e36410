"""Verdicts on many envelopes, on all cores: processes of our own that do nothing else.

A verdict takes some 200 microseconds, nearly all of it two Ed25519 signatures and the decoding, and Python
does one at a time in a process. The processes exist only while much is being judged, and a node has one set
of them at most (`Pool`).
"""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import structlog
import trio

from decentraspace.records.judgement import Judged, Judgement, from_plain, judge, plain_rules
from decentraspace.records.verdict import NetworkRules

__all__ = ["Judge", "Judged", "Judgement", "Pool", "judge"]

log = structlog.get_logger(__name__)

_WORTH_IT = 2000  # envelopes that came, after which processes are started
_IDLE = 5.0  # seconds without envelopes after which they end
_PROCESSES_MOST = 8
_THREADS = 4  # of this process, for all streams that have no processes: the others are the rest of the node's
_DEADLINE = 60.0  # seconds for a part of a batch


Judge = Callable[[Sequence[bytes], int, bool], Awaitable[list[Judgement]]]
"""Envelopes, Unix seconds, whether the node is joining -> one judgement for each, in order."""


class Pool:
    """The processes of one node, at the service of one stream of envelopes at a time; the others are judged in
    this process. They are started when that stream has brought enough, and end when it pauses or is over."""

    def __init__(self, rules: NetworkRules) -> None:
        self._rules = rules
        self._user: object | None = None
        self._workers: list[_Worker] = []
        self._starting = trio.Lock()
        self._threads = trio.CapacityLimiter(_THREADS)

    @asynccontextmanager
    async def judges(self) -> AsyncIterator[Judge]:
        """Judges for one stream: in this process until it has brought many. Who asks for the next envelopes
        before the last are judged keeps all cores busy."""
        user, seen, working = object(), 0, 0
        last = trio.current_time()

        async def ask(envelopes: Sequence[bytes], now: int, joining: bool) -> list[Judgement]:
            nonlocal seen, working, last
            seen += len(envelopes)
            if not self._taken(user, seen):
                return await self._here(envelopes, now, joining)
            working += 1
            try:
                await self._start()
                return await self._everywhere(envelopes, now, joining)
            finally:
                working, last = working - 1, trio.current_time()

        async def end_when_idle() -> None:
            while True:
                await trio.sleep(_IDLE / 4)
                if self._user is user and not working and trio.current_time() - last > _IDLE:
                    await self._release(user)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(end_when_idle)
            try:
                yield ask
            finally:
                await self._release(user)
                nursery.cancel_scope.cancel()

    def _taken(self, user: object, seen: int) -> bool:
        """Whether the processes are that user's, now if not before."""
        if self._user is None and seen >= _WORTH_IT and _processes() > 1:
            self._user = user
        return self._user is user

    async def _release(self, user: object) -> None:
        if self._user is user:
            # Given up before they are waited for: who asks meanwhile starts others, and it is known whose they are.
            workers, self._workers, self._user = self._workers, [], None
            with trio.CancelScope(shield=True):  # at once: they are killed
                for worker in workers:
                    await worker.stop()

    async def _start(self) -> None:
        async with self._starting:
            if not self._workers:
                workers = [_Worker(self._rules) for _ in range(_processes())]
                self._workers = workers
                for worker in workers:
                    await worker.start()

    async def _here(self, envelopes: Sequence[bytes], now: int, joining: bool) -> list[Judgement]:
        return await trio.to_thread.run_sync(
            lambda: [judge(e, self._rules, now, joining=joining) for e in envelopes], limiter=self._threads
        )

    async def _everywhere(self, envelopes: Sequence[bytes], now: int, joining: bool) -> list[Judgement]:
        workers = self._workers
        results: list[list[Judgement]] = [[] for _ in workers]
        share = -(-len(envelopes) // len(workers))

        async def one(number: int) -> None:
            part = envelopes[number * share : (number + 1) * share]
            if not part:
                return
            found = await workers[number].judge(part, now, joining)
            results[number] = await self._here(part, now, joining) if found is None else found

        async with trio.open_nursery() as nursery:
            for number in range(len(workers)):
                nursery.start_soon(one, number)
        return [judgement for part in results for judgement in part]


def _processes() -> int:
    return min(os.cpu_count() or 1, _PROCESSES_MOST)


class _Worker:
    """One process. After any failure it is not used any more. Two requests may be with it: while the answer to
    the one is read, the other waits in its pipe."""

    def __init__(self, rules: NetworkRules) -> None:
        self._rules = rules
        self._sending, self._receiving = trio.Lock(), trio.Lock()
        self._process: trio.Process | None = None

    async def start(self) -> None:
        try:
            self._process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "decentraspace.records.judgement"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            await self._send(marshal.dumps(plain_rules(self._rules)))
        except (OSError, trio.BrokenResourceError) as error:
            await self._fail(repr(error))

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with trio.CancelScope(shield=True):  # at once: it was killed
                await process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        await pipe.aclose()

    async def judge(self, envelopes: Sequence[bytes], now: int, joining: bool) -> list[Judgement] | None:
        """None when the process fails."""
        if self._process is None:
            return None
        try:
            with trio.fail_after(_DEADLINE):
                async with self._sending:
                    await self._send(marshal.dumps((list(envelopes), now, joining)))
                    await self._receiving.acquire()  # before the next one sends: answers come in this order
                try:
                    answer = marshal.loads(await self._receive())  # noqa: S302 - from our own process
                finally:
                    self._receiving.release()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            await self._fail(repr(error))
            return None
        return [from_plain(e, plain) for e, plain in zip(envelopes, answer, strict=True)]

    async def _fail(self, reason: str) -> None:
        log.warning("judging_process_failed", reason=reason)
        await self.stop()

    async def _send(self, data: bytes) -> None:
        if self._process is None or self._process.stdin is None:
            raise BrokenPipeError("the process has ended")
        await self._process.stdin.send_all(len(data).to_bytes(4, "big") + data)

    async def _receive(self) -> bytes:
        length = int.from_bytes(await self._exactly(4), "big")
        return await self._exactly(length)

    async def _exactly(self, length: int) -> bytes:
        if self._process is None or self._process.stdout is None:
            raise BrokenPipeError("the process has ended")
        data = bytearray()
        while len(data) < length:
            more = await self._process.stdout.receive_some(length - len(data))
            if not more:
                raise BrokenPipeError("the process has ended")
            data += more
        return bytes(data)
