"""`decentraspace leave`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from decentraspace.identity.keys import NodeKey
from tests.api.test_leaving import others_hold
from tests.cli.conftest import KEY, WALLET, Result, ServedNode


def test_the_command_returns_when_the_node_may_be_stopped(
    serve: Callable[..., ServedNode], run: Callable[..., Result], site: Path
) -> None:
    served = serve(node={"admins": [WALLET]})
    assert run("login", "--node", served.url, "--key-stdin", "--json", stdin=KEY).code == 0
    assert run("deploy", site, "--json").code == 0
    waits = run("leave", "--no-wait", "--json").json
    assert (waits["leaving"], waits["safe"], waits["waiting"]) == (True, False, 1)
    assert "held by this one alone" in run("leave", "--no-wait").out
    others_hold(served.node, [NodeKey.generate()])
    left = run("leave")
    assert left.code == 0, left.err
    assert left.out.startswith("Safe to stop")
    assert "stays" in run("leave", "--stay").out
    assert not served.node.hosting.shares.leaving
