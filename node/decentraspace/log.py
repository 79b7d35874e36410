"""Logging: structlog on standard error, for people (`console`) or machines (`json`, one object a line)."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from decentraspace.config import LogConfig
from decentraspace.errors import ConfigError

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_TEXT_MOST = 10_000  # characters of one value: what a log line carries may come from the network


def configure(config: LogConfig) -> None:
    """Set up structlog, and the standard library's logging to go the same way. ConfigError if impossible."""
    if config.level not in _LEVELS:
        raise ConfigError(f"log.level is {config.level!r}", hint=f"Use one of {', '.join(_LEVELS)}.")
    if config.format not in {"console", "json"}:
        raise ConfigError(f"log.format is {config.format!r}", hint="Use console or json.")
    level = _LEVELS[config.level]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if config.format == "json":
        last: list[Any] = [structlog.processors.dict_tracebacks, _bounded, _json()]
    else:
        last = [
            _bounded,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    # Libraries say a lot at "info" (every HTTP request, every peer): theirs only when something is wrong.
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("decentraspace").setLevel(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _json() -> Any:
    return structlog.processors.JSONRenderer(default=_readable)


def _readable(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)


def _bounded(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """Cut long values; one line per event even if a value has line breaks (console escapes them itself)."""
    for key, value in event.items():
        if isinstance(value, str) and len(value) > _TEXT_MOST:
            event[key] = value[:_TEXT_MOST] + "…"
        elif isinstance(value, bytes):
            event[key] = value[:_TEXT_MOST].hex()
    return event
