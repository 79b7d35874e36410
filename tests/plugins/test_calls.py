"""Calling hooks that behave: results, order, refusals, events, routes, commands, tracing."""

from __future__ import annotations

import time
from typing import Any

import click
import pytest
import trio

from decentraspace import errors
from decentraspace.plugins import HookResult
from decentraspace.public import HttpRequest

from .conftest import GRACE, TIMEOUT, Workshop, info, of

CID = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"


async def test_without_load_there_is_nothing() -> None:
    from decentraspace.config import PluginsConfig
    from decentraspace.plugins import PluginManager

    manager = PluginManager(PluginsConfig())
    assert await manager.call("storage_pin", cid=CID) == []
    assert await manager.first("name_resolve", name="x") is None
    assert await manager.call("site_deployed", site="s", root=CID) == []
    assert manager.describe() == []
    assert await manager.routes() == []
    assert manager.cli_commands(()) == []
    await manager.close()


async def test_order_is_by_name_unless_asked_otherwise(workshop: Workshop) -> None:
    for name, mark in [("b", ""), ("a", "(trylast=True)"), ("d", "(tryfirst=True)"), ("c", "")]:
        workshop.write(
            name,
            f"@hookimpl{mark}\nasync def name_owner(name):\n    return '0x' + '{name}' * 40\n",
        )
    results = await workshop.manager().call("name_owner", name="example")
    assert [result.plugin for result in results] == ["d", "b", "c", "a"]


async def test_plugins_are_asked_side_by_side(workshop: Workshop) -> None:
    """Two that wait for each other both come back."""
    for name, other in [("one", "two"), ("two", "one")]:
        workshop.write(
            name,
            f"""
            import builtins
            events = builtins.__dict__.setdefault("_test_side_by_side", {{}})
            mine = events.setdefault("{name}", threading.Event())
            its = events.setdefault("{other}", threading.Event())
            @hookimpl
            async def storage_unpin(cid):
                mine.set()
                return await trio.to_thread.run_sync(its.wait, abandon_on_cancel=True)
            """,
        )
    manager = workshop.manager(timeout=5.0)
    assert [result.value for result in await manager.call("storage_unpin", cid=CID)] == [True, True]


async def test_first_stops_at_the_first_answer(workshop: Workshop) -> None:
    workshop.write("a", "@hookimpl\nasync def storage_fetch(cid): return None\n")
    workshop.write("b", "@hookimpl\nasync def storage_fetch(cid): return 0\n")
    workshop.write("c", "@hookimpl\nasync def storage_fetch(cid): raise ValueError('not to be asked')\n")
    manager = workshop.manager()
    assert await manager.first("storage_fetch", max_bytes=1 << 24, cid=CID) == HookResult("b", 0)
    assert info(manager, "c").health == "ok"


async def test_one_plugin_is_asked_and_no_other(workshop: Workshop) -> None:
    for name, body in [
        ("a", "return '0x' + 'a' * 40"),
        ("b", "return None"),
        ("c", "raise errors.Unavailable('The chain is far away')"),
        ("d", "return 5"),
    ]:
        workshop.write(
            name, f"from decentraspace import errors\n@hookimpl\nasync def name_owner(name):\n    {body}\n"
        )
    workshop.write("e", "@hookimpl\nasync def storage_unpin(cid):\n    return True\n")
    manager = workshop.manager()
    assert await manager.one("a", "name_owner", name="x") == "0x" + "a" * 40
    assert await manager.one("b", "name_owner", name="x") is None
    assert await manager.one("e", "name_owner", name="x") is None
    with pytest.raises(errors.Unavailable, match="far away"):
        await manager.one("c", "name_owner", name="x")
    with pytest.raises(errors.Unavailable, match="plugin d failed"):
        await manager.one("d", "name_owner", name="x")
    with pytest.raises(errors.Unavailable, match="not in use"):
        await manager.one("f", "name_owner", name="x")


async def test_a_refusal_is_an_answer_not_a_failure(workshop: Workshop, logged: list[Any]) -> None:
    workshop.write(
        "strict",
        """
        from decentraspace.errors import Forbidden
        class Mine(Forbidden):
            slug = "own-slug"
        @hookimpl
        async def payment_webhook(method, body):
            raise Mine("The signature is wrong", hint="Sign it.", secret=object())
        """,
    )
    manager = workshop.manager(max_failures=2)
    arguments: dict[str, Any] = {"method": "card", "headers": {}, "body": b"", "source": "192.0.2.1"}
    for _ in range(5):
        assert await manager.call("payment_webhook", **arguments) == []
    with pytest.raises(errors.Forbidden) as caught:
        await manager.first("payment_webhook", **arguments)
    assert type(caught.value) is errors.Forbidden
    assert caught.value.problem() == {
        "type": "urn:decentraspace:problem:own-slug",
        "title": errors.Forbidden.title,
        "status": 403,
        "detail": "The signature is wrong",
        "hint": "Sign it.",
    }
    assert info(manager, "strict").health == "ok"
    assert of(logged, "hook_refused", "strict")


async def test_an_answer_counts_for_more_than_a_refusal(workshop: Workshop) -> None:
    workshop.write(
        "a",
        "from decentraspace.errors import NotFound\n@hookimpl\nasync def storage_fetch(cid): raise NotFound('x')\n",
    )
    workshop.write("b", "@hookimpl\nasync def storage_fetch(cid): return 3\n")
    assert await workshop.manager().first("storage_fetch", max_bytes=1 << 24, cid=CID) == HookResult("b", 3)


async def test_an_internal_error_of_ours_is_a_failure(workshop: Workshop) -> None:
    workshop.write(
        "a",
        "from decentraspace.errors import DecentraSpaceError as E\n"
        "@hookimpl\nasync def storage_fetch(cid): raise E('x')\n",
    )
    manager = workshop.manager()
    assert await manager.first("storage_fetch", max_bytes=1 << 24, cid=CID) is None
    assert info(manager, "a").health == "failing"


async def test_a_hook_gets_what_it_asks_for_in_any_order(workshop: Workshop) -> None:
    workshop.write(
        "picky",
        """
        @hookimpl
        async def name_quote(years, name, colour="red"):
            return {"available": True, "credits": years * len(name), "years": years}
        """,
    )
    (result,) = await workshop.manager().call("name_quote", name="abc", years=2)
    assert result.value == {"available": True, "credits": 6, "years": 2}


async def test_the_node_must_call_hooks_right(workshop: Workshop) -> None:
    manager = workshop.manager()
    with pytest.raises(KeyError):
        await manager.call("storage_pinn", cid=CID)
    with pytest.raises(TypeError, match="storage_pin"):
        await manager.call("storage_pin", key=CID)
    with pytest.raises(TypeError):
        await manager.call("storage_pin")


def test_sync_hooks_without_a_loop(workshop: Workshop) -> None:
    workshop.write("a", "@hookimpl\ndef payment_methods():\n    return [{'id': 'card', 'title': 'Card'}]\n")
    workshop.write("b", "@hookimpl\ndef payment_methods():\n    time.sleep(3600)\n")
    workshop.write("c", "@hookimpl\ndef payment_methods():\n    sys.exit(1)\n")
    manager = workshop.manager()
    expected = [HookResult("a", [{"id": "card", "title": "Card"}])]
    assert manager.call_sync("payment_methods") == expected
    assert info(manager, "b").health == "disabled"
    assert manager.call_sync("payment_methods") == expected


async def test_results_are_copies(workshop: Workshop) -> None:
    workshop.write(
        "keeper",
        """
        kept = [{"id": "card", "title": "Card"}]
        @hookimpl
        def payment_methods():
            return kept
        """,
    )
    manager = workshop.manager()
    (result,) = await manager.call("payment_methods")
    result.value[0]["title"] = "changed"
    assert (await manager.call("payment_methods"))[0].value[0]["title"] == "Card"


# -- events


async def test_events_come_in_order_and_nobody_waits(workshop: Workshop, tmp_path: Any) -> None:
    out = tmp_path / "seen"
    workshop.write(
        "listener",
        f"""
        go = threading.Event()
        @hookimpl
        async def site_deployed(site):
            await trio.to_thread.run_sync(go.wait)
            with open({str(out)!r}, "a") as file:
                file.write(site + " ")
        @hookimpl
        async def storage_unpin(cid):
            go.set()
            return True
        """,
    )
    manager = workshop.manager(timeout=10.0)
    for number in range(50):
        assert await manager.call("site_deployed", site=str(number), root=CID) == []
    assert not out.exists()
    await manager.call("storage_unpin", cid=CID)
    with trio.fail_after(10):
        while not out.exists() or len(out.read_text().split()) < 50:
            await trio.sleep(0.01)
    assert out.read_text().split() == [str(number) for number in range(50)]


async def test_a_plugin_that_falls_behind_loses_events_not_memory(
    workshop: Workshop, logged: list[dict[str, Any]]
) -> None:
    workshop.write("slow", "@hookimpl\nasync def site_deployed(site): await trio.sleep_forever()\n")
    manager = workshop.manager(timeout=30.0)
    for number in range(2000):
        await manager.call("site_deployed", site=str(number), root=CID)
    dropped = of(logged, "plugin_events_dropped", "slow")
    assert dropped
    assert len(dropped) <= 12  # a line for each doubling, not for each event


@pytest.mark.parametrize(
    "body", ["raise ValueError", "sys.exit(1)", "await trio.sleep_forever()", "raise KeyboardInterrupt"]
)
async def test_a_failing_listener_is_disabled(body: str, workshop: Workshop) -> None:
    workshop.write("bad", f"@hookimpl\nasync def site_deployed(site):\n    {body}\n")
    manager = workshop.manager(max_failures=3, timeout=1.5)
    with trio.fail_after(40):
        while info(manager, "bad").health != "disabled":
            await manager.call("site_deployed", site="s", root=CID)
            await trio.sleep(0.01)


@pytest.mark.parametrize(
    "body", ["time.sleep(3600)", "with trio.CancelScope(shield=True): await trio.sleep_forever()"]
)
async def test_a_listener_that_blocks_is_noticed(body: str, workshop: Workshop) -> None:
    workshop.write("bad", f"@hookimpl\nasync def site_deployed(site):\n    {body}\n")
    manager = workshop.manager(timeout=1.5)
    await manager.call("site_deployed", site="s", root=CID)
    with trio.fail_after(40):
        while info(manager, "bad").health != "disabled":  # `describe` looks, as any later event does
            await trio.sleep(0.01)


# -- routes


def request(**query: str) -> HttpRequest:
    return HttpRequest("GET", "/greet/", query, {}, b"", None)


ROUTES = """
from decentraspace.errors import BadInput
from decentraspace.public import HttpResponse, Route

async def greet(request, node):
    kind = request.query.get("kind")
    if kind == "refuse": raise BadInput("no name")
    if kind == "fail": raise ValueError("x")
    if kind == "exit": sys.exit(1)
    if kind == "hang": await trio.sleep_forever()
    if kind == "block": time.sleep(3600)
    if kind == "nonsense": return "hello"
    if kind == "split": return HttpResponse(headers={"x": "a\\r\\nset-cookie: b"})
    if kind == "status": return HttpResponse(status=99)
    if kind == "huge": return HttpResponse(body=bytes(20_000_000))
    return HttpResponse(body=f"hello {node.plugin}".encode(), headers={"Content-Type": "text/plain"})

@hookimpl
def api_routes():
    return [Route("/greet/", greet), Route("/healthz", greet), Route("greet/", greet), Route("/a/../b/", greet),
            Route("/taken/", greet), Route("/x/", None), Route("/y/", greet, methods=("BREW",))]
"""


async def test_routes(workshop: Workshop, parts: Any, logged: list[dict[str, Any]]) -> None:
    workshop.write("greeter", ROUTES)
    workshop.write("greeter2", ROUTES)
    workshop.write("liar", "@hookimpl\ndef api_routes(): return ['/x/']\n")
    manager = workshop.manager(parts, max_failures=100)
    mounted = await manager.routes(taken={"/taken/"})
    assert [(m.plugin, m.route.path) for m in mounted] == [("greeter", "/greet/")]
    reasons = {entry["path"]: entry["reason"] for entry in of(logged, "plugin_route_skipped", "greeter")}
    assert len(reasons) == 6
    for path, said in {
        "/healthz": "ends with /", "greet/": "begins and ends", "/a/../b/": "no ..", "/taken/": "taken already",
        "/x/": "cannot be called", "/y/": "methods is a tuple of DELETE, GET",
    }.items():  # fmt: skip
        assert said in reasons[path]
    assert info(manager, "liar").health == "failing"

    answer = await manager.serve(mounted[0], request())
    assert (answer.status, answer.body, answer.headers) == (
        200,
        b"hello greeter",
        {"content-type": "text/plain"},
    )
    with pytest.raises(errors.BadInput, match="no name"):
        await manager.serve(mounted[0], request(kind="refuse"))
    for kind in ("fail", "exit", "hang", "nonsense", "split", "status", "huge"):
        with pytest.raises(errors.Unavailable):
            await manager.serve(mounted[0], request(kind=kind))
    assert (await manager.serve(mounted[0], request())).status == 200
    with trio.fail_after(TIMEOUT + GRACE + 5), pytest.raises(errors.Unavailable):
        await manager.serve(mounted[0], request(kind="block"))
    with pytest.raises(errors.NotFound):
        await manager.serve(mounted[0], request())


# -- commands


def test_commands(workshop: Workshop, logged: list[dict[str, Any]]) -> None:
    source = """
    import click
    @hookimpl
    def cli_commands(group):
        @group.command()
        @click.argument("who")
        def greet(who):
            click.echo(f"hello {who}")
        @group.command()
        def run():
            raise SystemExit("a plugin must not replace `run`")
        group.commands["alias"] = group.commands["greet"]
        group.commands["none"] = None
    """
    workshop.write("greeter", source)
    workshop.write("greeter2", source)
    workshop.write("bad", "@hookimpl\ndef cli_commands(group): sys.exit(1)\n")
    workshop.write("hangs", "@hookimpl\ndef cli_commands(group): time.sleep(3600)\n")
    commands = workshop.manager().cli_commands({"run"})
    assert [command.name for command in commands] == ["greet"]
    assert len(of(logged, "plugin_command_skipped", "greeter")) == 3
    from click.testing import CliRunner

    assert CliRunner().invoke(click.Group(commands=commands), ["greet", "you"]).output == "hello you\n"


# -- seeing it


async def test_tracing(workshop: Workshop, logged: list[dict[str, Any]]) -> None:
    workshop.write("good", "@hookimpl\nasync def storage_pin(cid): return 'queued'\n")
    workshop.write("late", "@hookimpl\nasync def storage_pin(cid): await trio.sleep_forever()\n")
    await workshop.manager(trace=True).call("storage_pin", cid=CID)
    (good,), (late,) = of(logged, "hook", "good"), of(logged, "hook", "late")
    assert (good["hook"], good["outcome"]) == ("storage_pin", "value")
    assert late["outcome"] == "late"
    assert 0 <= good["seconds"] <= late["seconds"]


async def test_no_tracing_unless_asked(workshop: Workshop, logged: list[dict[str, Any]]) -> None:
    workshop.write("good", "@hookimpl\nasync def storage_pin(cid): return 'queued'\n")
    await workshop.manager().call("storage_pin", cid=CID)
    assert not of(logged, "hook", "good")


async def test_a_failure_is_logged_with_its_traceback(
    workshop: Workshop, logged: list[dict[str, Any]]
) -> None:
    workshop.write("bad", "@hookimpl\nasync def storage_pin(cid):\n    raise ValueError('in the plugin')\n")
    await workshop.manager().call("storage_pin", cid=CID)
    (entry,) = of(logged, "hook_failed", "bad")
    assert entry["error"] == "ValueError: in the plugin"
    assert "bad.py" in entry["traceback"]


async def test_many_calls_leave_nothing_behind(workshop: Workshop) -> None:
    import threading

    workshop.write("good", "@hookimpl\nasync def storage_unpin(cid): return True\n")
    manager = workshop.manager()
    threads = threading.active_count()
    started = time.monotonic()
    async with trio.open_nursery() as nursery:
        for _ in range(500):
            nursery.start_soon(lambda: manager.call("storage_unpin", cid=CID))
    assert threading.active_count() <= threads
    assert time.monotonic() - started < 30  # a deadline for the test, not a figure
    assert manager._members[0].runner is None or not manager._members[0].runner._open
