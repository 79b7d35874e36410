"""Ending a libp2p stream."""

from __future__ import annotations

from typing import Any

import structlog
import trio

log = structlog.get_logger(__name__)


async def finish(stream: Any, *, reset: bool = False) -> None:
    """Close or reset a libp2p stream, whatever state it is in."""
    if stream is None:
        return
    with trio.CancelScope(deadline=trio.current_time() + 2, shield=True):
        try:
            await (stream.reset() if reset else stream.close())
        except Exception as error:  # noqa: BLE001 - it is gone either way
            log.debug("stream_close_failed", reason=repr(error))
