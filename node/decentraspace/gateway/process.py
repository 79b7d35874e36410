"""The gateway as a child of the node: started, watched, restarted, and gone when the node is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
import trio

from decentraspace import heap, ports
from decentraspace.config import Config
from decentraspace.errors import ConfigError
from decentraspace.gateway.control import ControlServer
from decentraspace.gateway.workers import LISTEN_VARIABLE
from decentraspace.names.service import patience

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

_START_DEADLINE = 60.0  # seconds
_STOP_DEADLINE = 5.0
_RESTART_FIRST, _RESTART_MOST = 0.5, 30.0
_LOOK, _HANGS_AFTER = 1.0, 10.0  # seconds between looks at the workers' beats; without one, a worker hangs


async def serve_gateway_and_control(
    config: Config,
    control: ControlServer,
    *,
    task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the gateway and the socket its workers report to, until cancelled.

    The socket outlives the workers: when they are told to end, they hand over what they have counted.
    """
    async with trio.open_nursery() as nursery:
        shielded = trio.CancelScope(shield=True)

        async def answer_workers(*, task_status: TaskStatus[None]) -> None:
            with shielded:
                await control.run(task_status=task_status)

        await nursery.start(answer_workers)
        try:
            await serve_gateway(config, control, task_status=task_status)
        finally:
            shielded.cancel()


async def serve_gateway(
    config: Config,
    control: ControlServer,
    *,
    task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the gateway until cancelled; one that ends or hangs is started again.

    Started when it answers; ConfigError when its port is taken. `control`: where its workers' beats arrive.
    """
    gateway = config.gateway
    where = f"The gateway cannot listen on {gateway.host}:{gateway.port}"
    ports.check_free(gateway.host, gateway.port, where, "gateway.port")
    settings = {
        "blocks": str(config.data_dir / "blocks"),
        "socket": str(config.data_dir / "gateway.sock"),
        "domain": gateway.domain,
        "open_relay": gateway.open_relay,
        "autoindex": gateway.autoindex,
        "cache_bytes": gateway.cache_mb * 2**20,
        "fetch_timeout": gateway.fetch_timeout,
        "public_url": gateway.public_url,
        "name_timeout": patience(config),
        "resolvers": [text.partition("=")[0] for text in config.names.resolvers if not text.startswith("*")],
        "plain_hosts": gateway.plain_hosts,
        "contact": config.node.contact,
        # Without a public one it is of use on this machine alone, as this gateway then is.
        "api": config.api.public_url or ("" if gateway.public_url else config.api_url),
    }
    environment = {
        **os.environ,
        **heap.ENVIRONMENT,
        "DECENTRASPACE_GATEWAY_SETTINGS": json.dumps(settings),
        LISTEN_VARIABLE: json.dumps([gateway.host, gateway.port, gateway.workers or os.cpu_count()]),
    }
    delay, started = _RESTART_FIRST, False
    while True:
        code: int | None = None
        async with trio.open_nursery() as nursery:
            try:
                process: trio.Process = await nursery.start(_process, environment)
            except OSError as error:  # no file, process or memory to be had just now
                if not started:
                    raise
                log.error("gateway_not_started", reason=str(error))
            else:
                if await _answers(process, gateway.host, gateway.port):
                    if not started:
                        started = True
                        task_status.started()
                    delay = _RESTART_FIRST
                    async with trio.open_nursery() as watching:
                        watching.start_soon(_watch, control, process)
                        await process.wait()
                        watching.cancel_scope.cancel()
                elif started:
                    _kill(process)
                else:
                    raise ConfigError(
                        "The gateway did not start; the lines above say why",
                        hint=f"Is port {gateway.port} free? `decentraspace doctor` checks.",
                    )
                code = await process.wait()
        log.error("gateway_ended", code=code, restart_in=delay)
        await trio.sleep(delay)
        delay = min(delay * 2, _RESTART_MOST)


async def _watch(control: ControlServer, process: trio.Process) -> None:
    """Kill the gateway when one of its workers hangs, or it has had none for as long."""
    began = looked = there = trio.current_time()
    while True:
        await trio.sleep(_LOOK)
        now = trio.current_time()
        if now - looked > 3 * _LOOK:
            began = there = now  # this process stood still itself: what the workers said meanwhile comes now
        looked, beats = now, control.beats()
        if beats:
            there = now
        silent = now - min(max(began, heard) for heard in beats) if beats else now - there
        if silent > _HANGS_AFTER:
            log.error("gateway_hangs", workers=len(beats), silent=round(silent), hint="It is started again.")
            _kill(process)
            return


def _kill(process: trio.Process) -> None:
    """With its workers: they are in its process group. SIGKILL ends also what is stopped."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def _process(environment: dict[str, str], *, task_status: TaskStatus[trio.Process]) -> None:
    async def stop(process: trio.Process) -> None:
        process.terminate()
        with trio.CancelScope(deadline=trio.current_time() + _STOP_DEADLINE, shield=True):
            await process.wait()
        process.kill()

    await trio.run_process(
        [sys.executable, "-m", "decentraspace.gateway"],
        env=environment,
        stdin=subprocess.PIPE,  # never written to: its end tells the gateway that the node is gone
        check=False,
        deliver_cancel=stop,
        start_new_session=True,  # Ctrl-C in a terminal is for the node, which then stops its gateway
        task_status=task_status,
    )


async def _answers(process: trio.Process, host: str, port: int) -> bool:
    """Wait for a worker's first answer. A connection alone says nothing: it waits in the backlog."""
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    with trio.move_on_after(_START_DEADLINE):
        while process.returncode is None:
            try:
                async with await trio.open_tcp_stream(target, port) as stream:
                    # What is neither counted nor looked up.
                    await stream.send_all(
                        b"OPTIONS / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                    )
                    with trio.move_on_after(1.0):
                        if (await stream.receive_some(4096)).startswith(b"HTTP/1.1 204"):
                            return True
            except (OSError, trio.BrokenResourceError):
                await trio.sleep(0.02)
    return False
