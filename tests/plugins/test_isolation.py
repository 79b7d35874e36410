"""Every way known to us in which a plugin can go wrong. The node, and the plugin beside it, go on."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest
import trio

from decentraspace.plugins import HookResult

from .conftest import GRACE, TIMEOUT, Workshop, info, of

CID = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
GOOD = """
@hookimpl
async def storage_pin(cid):
    return "pinned"
"""
ANSWER = [HookResult("good", "pinned")]

# Each comes back, one way or another: counted as a failure, and the plugin may try again.
FAILING = {
    "raises": "raise ValueError('no')",
    "exits": "sys.exit(3)",
    "exits without a code": "raise SystemExit",
    "is interrupted": "raise KeyboardInterrupt",
    "ends a generator": "raise GeneratorExit",
    "stops iterating": "raise StopAsyncIteration",
    "runs out of memory": "raise MemoryError",
    "recurses for ever": "f = lambda: f(); f()",
    "raises one of its own": "class Mine(BaseException): pass\n    raise Mine",
    "raises what cannot be shown": """class Mute(Exception):
        def __str__(self): raise self
        __repr__ = __str__
    raise Mute""",
    "exits when shown": """class Quit(Exception):
        def __str__(self): sys.exit(1)
    raise Quit""",
    "raises a group": "raise BaseExceptionGroup('many', [SystemExit(1), ValueError('x')])",
    "raises in a task": """async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        raise KeyError('x')""",
    "waits for ever": "await trio.sleep_forever()",
    "catches its cancellation": """try:
        await trio.sleep_forever()
    except trio.Cancelled:
        return 'pinned'""",
    "catches it as an error of its own": """try:
        await trio.sleep_forever()
    except BaseException:
        raise ValueError('not me')""",
    "says so for ever": """while True:
        await trio.lowlevel.checkpoint()""",
    "returns a number": "return 42",
    "returns another word": "return 'PINNED'",
    "returns itself": "return storage_pin",
    "returns a coroutine": "return trio.sleep_forever",
    "returns the node": "return trio",
    "returns a str that is none": "class Text(str): pass\n    return Text('pinned')",
    "returns what fights back": """class Evil:
        def __eq__(self, other): sys.exit(1)
        __hash__ = __bool__ = __len__ = __iter__ = __str__ = __repr__ = __eq__
    return Evil()""",
    "returns what lies about its class": """class Liar:
        __class__ = str
    return Liar()""",
    "returns a huge text": "return 'x' * 50_000_000",
}

# None of these comes back: the thread is left behind, and the plugin is out at once.
LOST = {
    "blocks its thread": "threading.Event().wait()",
    "sleeps": "time.sleep(3600)",
    "shields itself": """with trio.CancelScope(shield=True):
        await trio.sleep_forever()""",
    "cancels its loop": """trio.lowlevel.current_task().parent_nursery.cancel_scope.cancel()
    await trio.sleep_forever()""",
    "breaks its loop": """trio.lowlevel.current_trio_token().run_sync_soon(lambda: 1 / 0)
    await trio.sleep_forever()""",
    "breaks its loop by exiting": """trio.lowlevel.current_trio_token().run_sync_soon(sys.exit)
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()""",
    "loops": """while time.monotonic() < deadline:
        pass
    raise ValueError""",
}


def as_hook(body: str) -> str:
    return f"\ndeadline = time.monotonic() + 8\n@hookimpl\nasync def storage_pin(cid):\n    {body}\n"


@pytest.mark.parametrize("kind", FAILING)
async def test_a_failing_hook_is_skipped_and_then_disabled(
    kind: str, workshop: Workshop, logged: list[dict[str, Any]]
) -> None:
    workshop.write("good", GOOD)
    workshop.write("bad", as_hook(FAILING[kind]))
    manager = workshop.manager(max_failures=2)
    assert await manager.call("storage_pin", cid=CID) == ANSWER
    first = info(manager, "bad")
    assert (first.health, first.failures) == ("failing", 1)
    assert first.error.startswith("storage_pin: ")
    assert len(first.error) < 700
    assert "\n" not in first.error
    assert await manager.call("storage_pin", cid=CID) == ANSWER
    assert info(manager, "bad").health == "disabled"
    assert info(manager, "good").health == "ok"
    assert await manager.call("storage_pin", cid=CID) == ANSWER
    assert len(of(logged, "hook_failed", "bad")) == 2  # the third call did not reach it
    assert len(of(logged, "plugin_disabled", "bad")) == 1
    assert of(logged, "hook_failed", "bad")[0]["hook"] == "storage_pin"


@pytest.mark.parametrize("kind", LOST)
async def test_a_hook_that_does_not_come_back_is_left_behind(
    kind: str, workshop: Workshop, logged: list[dict[str, Any]]
) -> None:
    workshop.write("good", GOOD)
    workshop.write("bad", as_hook(LOST[kind]))
    manager = workshop.manager()
    alive = trio.Event()

    async def meanwhile() -> None:
        """The node's own loop is not held up."""
        while not alive.is_set():
            await trio.sleep(0.01)

    with trio.fail_after(TIMEOUT + GRACE + 5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(meanwhile)
            assert await manager.call("storage_pin", cid=CID) == ANSWER
            alive.set()
        while info(manager, "bad").health != "disabled":
            await trio.sleep(0.01)
        assert await manager.call("storage_pin", cid=CID) == ANSWER
    assert len(of(logged, "plugin_disabled", "bad")) == 1
    assert info(manager, "good").health == "ok"


IMPORTS = {
    "raises": "raise ValueError('no')",
    "exits": "sys.exit()",
    "exits with a text": "sys.exit('bye')",
    "is interrupted": "raise KeyboardInterrupt",
    "cannot be read": "this is not Python",
    "lacks something": "import a_module_that_is_not_there",
    "raises one of its own": "class Mine(BaseException): pass\nraise Mine",
    "has null bytes": "x = '\0'",
    "hangs": "threading.Event().wait()",
    "runs a loop of its own for ever": "trio.run(trio.sleep_forever)",
    "has no hooks": "x = 1",
    "replaces itself": "sys.modules[__name__] = None\nraise ValueError",
    "exits when looked at": """
class Evil:
    @property
    def __version__(self): sys.exit(1)
    def __getattr__(self, name): sys.exit(1)
    def __dir__(self): sys.exit(1)
sys.exit(1)""",
    "exits in its version": """
class V:
    def __str__(self): sys.exit(1)
__version__ = V()
@hookimpl
async def storage_pin(cid): return 'pinned'""",
}


@pytest.mark.parametrize("kind", IMPORTS)
async def test_a_plugin_that_cannot_be_imported_is_refused(
    kind: str, workshop: Workshop, logged: list[dict[str, Any]]
) -> None:
    workshop.write("good", GOOD)
    workshop.write("bad", IMPORTS[kind])
    manager = workshop.manager()
    bad = info(manager, "bad")
    assert (bad.health, bad.hooks) == ("refused", ())
    assert bad.error
    assert of(logged, "plugin_refused", "bad")[0]["error"] == bad.error
    assert await manager.call("storage_pin", cid=CID) == ANSWER


SIGNATURES = {
    "an argument too many": ("async def storage_pin(cid, colour): ...", "colour"),
    "another name": ("async def storage_pin(key): ...", "key"),
    "not async": ("def storage_pin(cid): ...", "async def storage_pin(cid: str, node: NodeAPI)"),
    "async where it is not": ("async def payment_methods(): ...", "def payment_methods(node: NodeAPI)"),
    "a generator": ("async def storage_pin(cid): yield 'pinned'", "async def storage_pin"),
    "an event that yields": ("def site_deployed(site): yield", "site_deployed"),
    "no such hook": ("async def storage_pinn(cid): ...", "storage_pinn"),
    "positional only": ("async def storage_pin(cid, /): ...", "storage_pin"),
    "keyword only": ("async def storage_pin(*, colour): ...", "storage_pin"),
}


@pytest.mark.parametrize("kind", SIGNATURES)
def test_a_wrong_signature_is_named_and_refused(kind: str, workshop: Workshop) -> None:
    source, named = SIGNATURES[kind]
    good_hook = "\n@hookimpl\nasync def storage_unpin(cid): return True\n"
    workshop.write("bad", f"{good_hook}@hookimpl\n{source}\n")
    bad = info(workshop.manager(), "bad")
    assert bad.health == "refused"
    assert named in bad.error
    assert bad.hooks == ()


@pytest.mark.parametrize("kind", ["wrapper=True", "hookwrapper=True"])
def test_wrappers_are_refused(kind: str, workshop: Workshop) -> None:
    workshop.write("bad", f"@hookimpl({kind})\ndef payment_methods():\n    return (yield)\n")
    bad = info(workshop.manager(), "bad")
    assert bad.health == "refused"
    assert "wrapper" in bad.error


def test_a_hook_of_a_newer_node_may_be_optional(workshop: Workshop) -> None:
    workshop.write(
        "forward", f"{GOOD}\n@hookimpl(optionalhook=True)\nasync def storage_of_tomorrow(cid): ...\n"
    )
    assert info(workshop.manager(), "forward").health == "ok"


async def test_one_failing_hook_is_not_hidden_by_one_that_works(workshop: Workshop) -> None:
    workshop.write("half", GOOD + "\n@hookimpl\nasync def storage_unpin(cid): raise ValueError\n")
    manager = workshop.manager(max_failures=3)
    for _ in range(3):
        await manager.call("storage_pin", cid=CID)
        await manager.call("storage_unpin", cid=CID)
    assert info(manager, "half").health == "disabled"


async def test_success_forgives(workshop: Workshop) -> None:
    workshop.write(
        "moody",
        """
        count = 0
        @hookimpl
        async def storage_pin(cid):
            global count
            count += 1
            if count % 3: raise ValueError(count)
            return "pinned"
        """,
    )
    manager = workshop.manager(max_failures=3)
    for _ in range(9):
        await manager.call("storage_pin", cid=CID)
    assert info(manager, "moody").health == "ok"
    assert info(manager, "moody").failures == 0


async def test_others_waiting_for_a_lost_plugin_are_told_at_once(workshop: Workshop) -> None:
    """A call with a long deadline does not wait for it when the plugin is given up meanwhile."""
    workshop.write(
        "bad",
        """
        @hookimpl
        async def storage_fetch(cid): await trio.sleep_forever()
        @hookimpl
        async def storage_pin(cid): time.sleep(3600)
        """,
    )
    manager = workshop.manager()
    with trio.fail_after(TIMEOUT + GRACE + 5):  # storage_fetch alone has 600 s
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: manager.call("storage_fetch", max_bytes=1 << 24, cid=CID))
            nursery.start_soon(lambda: manager.call("storage_pin", cid=CID))


async def test_a_caller_that_gives_up_cancels_the_hook(workshop: Workshop) -> None:
    workshop.write(
        "slow",
        """
        cancelled = threading.Event()
        @hookimpl
        async def storage_fetch(cid):
            try:
                await trio.sleep_forever()
            finally:
                cancelled.set()
        @hookimpl
        async def storage_pin(cid):
            await trio.to_thread.run_sync(cancelled.wait)
            return "pinned"
        """,
    )
    manager = workshop.manager(timeout=10.0)
    with trio.move_on_after(0.05):
        await manager.call("storage_fetch", max_bytes=1 << 24, cid=CID)
    assert await manager.call("storage_pin", cid=CID) == [HookResult("slow", "pinned")]
    assert info(manager, "slow").health == "ok"


async def test_closing_does_not_wait_for_ever(workshop: Workshop) -> None:
    workshop.write("good", GOOD)
    workshop.write("stubborn", "@hookimpl\nasync def node_stopping(node): time.sleep(3600)\n")
    workshop.write(
        "background",
        """
        @hookimpl
        async def node_started(node):
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()
        """,
    )
    manager = workshop.manager()
    before = {thread.name for thread in threading.enumerate()}
    assert "plugin good" in before
    with trio.fail_after(10):
        await manager.close()
    assert "plugin good" not in {thread.name for thread in threading.enumerate()}
    assert await manager.call("storage_pin", cid=CID) == []


async def test_the_recursion_limit_stays(workshop: Workshop) -> None:
    """Raised as some libraries do, anything nested deeply would end the process."""
    limit = sys.getrecursionlimit()
    workshop.write(
        "raiser",
        "sys.setrecursionlimit(10**6)\n@hookimpl\nasync def storage_pin(cid):\n"
        "    sys.setrecursionlimit(10**6)\n    return 'pinned'\n",
    )
    manager = workshop.manager()
    assert sys.getrecursionlimit() == limit
    assert await manager.call("storage_pin", cid=CID) == [HookResult("raiser", "pinned")]
    assert sys.getrecursionlimit() == limit
