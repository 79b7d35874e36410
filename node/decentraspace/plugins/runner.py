"""A plugin's own thread: it is imported there, and all its hooks run there, in a trio loop of their own.

So a hook that blocks, loops, exits or breaks the event loop blocks, ends or breaks only that thread. What
does not come back is abandoned: Python cannot kill a thread, but the node need not wait for it.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import trio

from decentraspace import errors
from decentraspace.errors import DecentraSpaceError
from decentraspace.shapes import Nonsense

Work = Callable[[], Awaitable[Any]]

_WORDS_MOST = 500  # characters of an exception that are kept
_TRACEBACK_MOST = 4000
_EVENTS_MOST = 1000  # events that may wait for one plugin


@dataclass(frozen=True)
class Outcome:
    """How a call ended.

    value    it gave `value`
    refused  it raised an expected error: `refusal`
    failed   it raised something else, or gave nonsense: `error` says what
    late     it was cancelled at its deadline
    lost     it did not come back, or its loop is gone
    """

    kind: Literal["value", "refused", "failed", "late", "lost"]
    value: Any = None
    error: str = ""
    refusal: DecentraSpaceError | None = None
    traceback: str = ""


class Call:
    """One call under way; `future` always gets an Outcome, unless the thread never comes back."""

    def __init__(self, work: Work, seconds: float) -> None:
        self.work, self.seconds = work, seconds
        self.scope = trio.CancelScope()
        self.future: Future[Outcome] = Future()
        self._lock = threading.Lock()

    def finish(self, outcome: Outcome) -> None:
        """The first outcome counts."""
        with self._lock:
            if not self.future.done():
                self.future.set_result(outcome)


class Runner:
    """`load` runs first, in the thread; `ready` gets what it returned, or the words of what it raised."""

    def __init__(self, name: str, load: Callable[[], Any], on_death: Callable[[str], None]) -> None:
        self.name = name
        self.ready: Future[tuple[Any, str]] = Future()
        self._load, self._on_death = load, on_death
        self._lock = threading.Lock()
        self._open: set[Call] = set()
        self._over = ""  # why it takes no more calls
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._waiting = 0
        self._ping: float | None = None
        self._recursion = sys.getrecursionlimit()
        self._thread = threading.Thread(target=self._main, name=f"plugin {name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # -- from the node's side; none of these waits

    def submit(self, work: Work, seconds: float) -> Call:
        call = Call(work, seconds)
        with self._lock:
            if self._over:
                call.finish(Outcome("lost", error=self._over))
                return call
            self._open.add(call)
        self._soon(self._begin, call)
        return call

    def post(self, work: Work, seconds: float, done: Callable[[Outcome], None], grace: float) -> bool:
        """Run `work` after all that was posted before. False when too much waits, and it was dropped."""
        with self._lock:
            if self._over or self._waiting >= _EVENTS_MOST:
                return False
            self._waiting += 1
        self._soon(self._enqueue, (work, seconds, done, grace))
        return True

    def responsive(self, patience: float) -> bool:
        """False when the loop has not come round for `patience` seconds since it was first asked to."""
        now = time.monotonic()
        with self._lock:
            asked = self._ping
            if asked is None:
                self._ping = now
        if asked is None:
            self._soon(self._pong)
            return True
        return now - asked <= patience

    def cancel(self, call: Call) -> None:
        self._soon(call.scope.cancel)

    def abandon(self, why: str) -> None:
        """Take no more calls, give up those under way, and ask the loop to end, without waiting for it."""
        with self._lock:
            self._over = self._over or why
            given_up, self._open = self._open, set()
        for call in given_up:
            call.finish(Outcome("lost", error=why))
        self._soon(self._cancel_all)

    def join(self, seconds: float) -> bool:
        """Wait for the thread to end; False when it has not."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _soon(self, function: Callable[..., Any], *args: Any) -> None:
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(function, *args)

    # -- in the plugin's thread

    def _main(self) -> None:
        try:
            loaded = self._load()
        except BaseException as error:  # noqa: BLE001 an import may raise anything, SystemExit too
            self.ready.set_result((None, words(error)))
            return
        finally:
            self._keep_recursion_limit()
        why = "its event loop ended"
        try:
            if not self._over:
                trio.run(self._loop, loaded)
        except BaseException as error:  # noqa: BLE001 whatever a plugin did to its loop ends here
            why = f"its event loop broke: {words(error)}"
        with self._lock:
            expected, self._over = bool(self._over), self._over or why
            given_up, self._open = self._open, set()
        for call in given_up:
            call.finish(Outcome("lost", error=self._over))
        if not self.ready.done():
            self.ready.set_result((None, self._over))
        if not expected:
            self._on_death(why)

    def _keep_recursion_limit(self) -> None:
        """Libraries raise it (py_ecc, and with it web3) for the whole process, where then something nested
        deeply enough overflows the stack, which no `except` sees."""
        if sys.getrecursionlimit() > self._recursion:
            sys.setrecursionlimit(self._recursion)

    async def _loop(self, loaded: Any) -> None:
        send, receive = trio.open_memory_channel[Any](_EVENTS_MOST)
        async with trio.open_nursery() as nursery:
            self._events, self._nursery = send, nursery
            self._token = trio.lowlevel.current_trio_token()
            nursery.start_soon(self._consume, receive)
            self.ready.set_result((loaded, ""))
            await trio.sleep_forever()

    # These run between two steps of the loop and must not raise: that would break it.

    def _begin(self, call: Call) -> None:
        try:
            assert self._nursery is not None
            self._nursery.start_soon(self._run, call)
        except RuntimeError:  # the loop is ending
            call.finish(Outcome("lost", error="its event loop is ending"))

    def _enqueue(self, item: Any) -> None:
        with suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self._events.send_nowait(item)

    def _pong(self) -> None:
        with self._lock:
            self._ping = None

    def _cancel_all(self) -> None:
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def _run(self, call: Call) -> None:
        call.scope.deadline = trio.current_time() + call.seconds
        value: Any = None
        try:
            with call.scope:
                value = await call.work()
            # `cancel_called`, not `cancelled_caught`: one that swallows its cancellation is late all the same.
            if call.scope.cancel_called:
                outcome = Outcome("late", error=f"took longer than {call.seconds:g} s and was cancelled")
            else:
                outcome = Outcome("value", value)
        except BaseException as error:  # noqa: BLE001 SystemExit and KeyboardInterrupt of a plugin are its own
            outcome = outcome_of(error)
        self._keep_recursion_limit()
        with self._lock:
            self._open.discard(call)
        call.finish(outcome)

    async def _consume(self, receive: trio.MemoryReceiveChannel[Any]) -> None:
        async for work, seconds, done, grace in receive:
            with self._lock:
                self._waiting -= 1
            call, finished = Call(work, seconds), trio.Event()
            call.future.add_done_callback(lambda _, finished=finished: finished.set())  # type: ignore[misc]
            assert self._nursery is not None
            self._nursery.start_soon(self._run, call)
            with trio.move_on_after(seconds + grace):
                await finished.wait()
            if not finished.is_set():
                call.finish(Outcome("lost", error=f"did not come back within {seconds + grace:g} s"))
            done(call.future.result())


def outcome_of(error: BaseException) -> Outcome:
    if isinstance(error, DecentraSpaceError) and error.status != 500:
        return Outcome("refused", refusal=_refusal(error))
    if isinstance(error, Nonsense):
        return Outcome("failed", error=f"returned nonsense: {words(error)}")
    return Outcome("failed", error=words(error), traceback=_trace(error))


def words(error: BaseException) -> str:
    """Class and message on one line; an exception's own methods may raise, too."""
    try:
        said = str(error)
    except BaseException:  # noqa: BLE001 `__str__` is the plugin's code
        said = "(it cannot be shown)"
    if isinstance(error, BaseExceptionGroup):
        said += ": " + "; ".join(words(inner) for inner in error.exceptions[:3])
    line = " ".join(f"{type(error).__name__}: {said[:_WORDS_MOST]}".split())
    return line[:_WORDS_MOST].rstrip(": ")


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))[-_TRACEBACK_MOST:]
    except BaseException:  # noqa: BLE001 as above
        return ""


def _refusal(error: DecentraSpaceError) -> DecentraSpaceError:
    """The same error as one of the node's own classes, with nothing but text in it."""
    own = next(cls for cls in type(error).__mro__ if cls.__module__ == errors.__name__)
    detail, hint, slug = (
        str(getattr(error, name, ""))[:_WORDS_MOST] for name in ("detail", "hint", "problem_slug")
    )
    made = own(detail, hint=hint, slug=slug)
    assert isinstance(made, DecentraSpaceError)
    return made
