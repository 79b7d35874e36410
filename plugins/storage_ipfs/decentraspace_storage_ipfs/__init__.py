"""Storage plugin: what the node pins, the operator's own Kubo pins as well, and can give back.

[plugin.storage_ipfs]
api = "/ip4/127.0.0.1/tcp/5001"   # Kubo's RPC; without it the plugin does nothing
timeout = 60                      # seconds Kubo may be silent
deadline = 3600                   # seconds one site may take
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import trio

from decentraspace import hookimpl
from decentraspace.errors import ConfigError, DecentraSpaceError, Unavailable
from decentraspace.public import NodeAPI

if TYPE_CHECKING:
    from decentraspace_storage_ipfs.mirror import Mirror

_DEFAULTS: dict[str, Any] = {"api": "", "timeout": 60.0, "deadline": 3600.0}
_FETCH_SECONDS = 590.0  # within the hook's 600
_STATUS_SECONDS = 5.0
_FETCHES_AT_ONCE = 4


@hookimpl
async def node_started(node: NodeAPI) -> None:
    mirror = _mirror(node)
    if mirror is not None:
        node.start_soon(mirror.run)


@hookimpl
async def storage_pin(cid: str, node: NodeAPI) -> str | None:
    mirror = _mirror(node)
    return None if mirror is None else await mirror.want(cid)


@hookimpl
async def storage_unpin(cid: str, node: NodeAPI) -> bool | None:
    mirror = _mirror(node)
    return None if mirror is None else await mirror.drop(cid)


@hookimpl
async def storage_fetch(cid: str, max_bytes: int, node: NodeAPI) -> int | None:
    from decentraspace_storage_ipfs.kubo import KuboError

    mirror = _mirror(node)
    if mirror is None:
        return None
    kubo = mirror.kubo

    def fetch() -> int | None:
        chunks = kubo.export_dag(cid, time.monotonic() + _FETCH_SECONDS)
        try:
            count = node.import_car(chunks, max_bytes=max_bytes)
        except KuboError:
            return None  # Kubo does not have it, and did not find it
        if not node.has_dag(cid):
            raise Unavailable(f"Kubo sent only a part of {cid}")
        return count

    # A thread that Kubo keeps waiting holds its place until Kubo's silence has lasted `timeout` seconds.
    limiter = node.state.setdefault("fetches", trio.CapacityLimiter(_FETCHES_AT_ONCE))
    return await trio.to_thread.run_sync(fetch, abandon_on_cancel=True, limiter=limiter)


@hookimpl
async def storage_status(node: NodeAPI) -> dict[str, Any] | None:
    mirror = _mirror(node)
    if mirror is None:
        return None
    status: dict[str, Any] = {"service": f"Kubo at {mirror.kubo.api}", **await mirror.counts()}
    try:
        with trio.fail_after(_STATUS_SECONDS):
            version = await trio.to_thread.run_sync(mirror.kubo.version, abandon_on_cancel=True)
    except DecentraSpaceError as error:
        return {**status, "reachable": False, "detail": error.detail}
    except trio.TooSlowError:
        return {**status, "reachable": False, "detail": f"no answer within {_STATUS_SECONDS:g} s"}
    return {**status, "reachable": True, "detail": mirror.trouble or f"Kubo {version}"}


def _mirror(node: NodeAPI) -> Mirror | None:
    """This node's mirror, or None when there is no address. ConfigError for wrong settings."""
    if "mirror" not in node.state:
        settings = _settings(node)
        if not settings["api"]:
            node.state["mirror"] = None
        else:
            # Only now: ipfshttpclient and what it needs take 0.3 s and some megabytes to import.
            from decentraspace_storage_ipfs.kubo import Kubo
            from decentraspace_storage_ipfs.mirror import Mirror

            kubo = Kubo(settings["api"], float(settings["timeout"]))
            node.state["mirror"] = Mirror(node, kubo, float(settings["deadline"]))
    mirror: Mirror | None = node.state["mirror"]
    return mirror


def _settings(node: NodeAPI) -> dict[str, Any]:
    for name, value in node.config.items():
        if name not in _DEFAULTS:
            raise ConfigError(
                f"plugin.storage_ipfs has no setting {name!r}; there are {', '.join(_DEFAULTS)}"
            )
        number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        if not (isinstance(value, str) if name == "api" else number):
            kind = "a text" if name == "api" else "a number above 0"
            raise ConfigError(f"plugin.storage_ipfs.{name} must be {kind}, not {value!r}")
    return {**_DEFAULTS, **node.config}
