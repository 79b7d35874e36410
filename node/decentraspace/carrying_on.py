"""What goes wrong once, as on a full disk, must not end what a node does now and then for ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from decentraspace.errors import DecentraSpaceError


@contextmanager
def carrying_on(log: Any, event: str) -> Iterator[None]:
    """Failures inside are logged as `event`, with a traceback where nobody expected them, and end here."""
    try:
        yield
    except DecentraSpaceError as error:
        log.error(event, reason=str(error))
    except Exception:
        log.exception(event)
