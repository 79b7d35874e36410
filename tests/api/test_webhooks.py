"""/billing/webhook/: what payment services send reaches the plugin as it was, and the plugin decides."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.api.small_node import SmallNode
from tests.support import IN_TREE_PLUGINS

_PLUGIN = """
import hashlib

from decentraspace import hookimpl
from decentraspace.errors import Forbidden


@hookimpl
async def payment_webhook(method, headers, body, source):
    if method != "shells":
        return None
    lower = {name.lower(): value for name, value in headers.items()}
    if lower.get("x-digest") != hashlib.sha256(body).hexdigest() or source != "127.0.0.1":
        raise Forbidden("Not from the beach")
    return {"status": "done", "reference": "r", "owner": "0x" + 40 * "a", "credits": 5, "held_until": 9}
"""


@pytest.fixture
def node(make_node: Callable[..., SmallNode], tmp_path: Path) -> SmallNode:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "shells.py").write_text(_PLUGIN)
    return make_node(plugins={"directory": str(folder), "disabled": list(IN_TREE_PLUGINS)})


async def _call(
    client: httpx.AsyncClient, body: bytes, *, method: str = "shells", signed: bytes | None = None
) -> httpx.Response:
    digest = hashlib.sha256(body if signed is None else signed).hexdigest()
    headers = {"x-digest": digest, "content-type": "application/json"}
    return await client.post(f"/billing/webhook/{method}/", content=body, headers=headers)


async def test_the_plugin_has_it_byte_by_byte(client: httpx.AsyncClient, node: SmallNode) -> None:
    await node.plugins.load(node)
    try:
        for body in (b'{"a": 1}', b'{ "a":1 }\n', b"", b"\xff not JSON"):
            answer = await _call(client, body)
            # Whoever calls learns how it stands, not whose it is.
            assert (answer.status_code, answer.json()) == (200, {"status": "done"})
        refused = await _call(client, b"{}", signed=b"{ }")
        assert refused.status_code == 403
        assert (await _call(client, b"{}", method="coins")).status_code == 404
        assert (await _call(client, b" " * (512 * 1024 + 1))).status_code == 413
    finally:
        await node.plugins.close()


async def test_without_plugins_there_is_none(client: httpx.AsyncClient, node: SmallNode) -> None:
    assert (await _call(client, b"{}")).status_code == 404
