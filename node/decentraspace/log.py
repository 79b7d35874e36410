"""Logging: structlog to standard error, for people or as JSON; other libraries only when they warn."""

from __future__ import annotations

import logging
import sys

import structlog

from decentraspace.config import LogConfig
from decentraspace.errors import ConfigError

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(config: LogConfig) -> None:
    """ConfigError for a level or format that is not known."""
    if config.level not in _LEVELS or config.format not in ("console", "json"):
        raise ConfigError(f"log.level is one of {', '.join(_LEVELS)}; log.format is console or json")
    level = _LEVELS[config.level]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if config.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
    # A peer that goes away is no news, but these say so at warning or error.
    for name in ("libp2p", "multiaddr", "httpx", "httpcore", "hypercorn", "zeroconf", "quart"):
        logging.getLogger(name).setLevel(logging.CRITICAL if level > 10 else logging.INFO)
