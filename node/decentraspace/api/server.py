"""Serving the API on hypercorn, inside the node's nursery."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve

from decentraspace import ports
from decentraspace.config import Config
from decentraspace.errors import ConfigError

if TYPE_CHECKING:
    from trio_typing import TaskStatus


async def serve_api(
    app: Any, config: Config, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Until cancelled. Started when it accepts connections; ConfigError when its port is taken."""
    host, port = config.api.host, config.api.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"The API cannot listen on {host}:{port}: {error.strerror}",
            hint=ports.advice(error, "api.port"),
        ) from error
    listener.set_inheritable(True)
    settings = HypercornConfig()
    settings.bind = [f"fd://{listener.detach()}"]
    settings.accesslog = None
    settings.errorlog = None
    settings.graceful_timeout = 3
    settings.h11_max_incomplete_size = 64 * 1024
    settings.include_server_header = False
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(partial(serve, app, settings, shutdown_trigger=stop.wait))
            task_status.started()
            await trio.sleep_forever()
        finally:
            stop.set()
