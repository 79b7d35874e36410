"""Logging: on standard error, one line per event whatever it carries."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from decentraspace import log
from decentraspace.config import LogConfig
from decentraspace.errors import ConfigError

HEAD = """
import logging, structlog
from decentraspace import log
from decentraspace.config import LogConfig
own = structlog.get_logger("decentraspace.part")
"""


def logged(format_: str, level: str, code: str) -> tuple[str, str]:
    """(standard output, standard error) of a process that logs."""
    source = f"{HEAD}log.configure(LogConfig(format={format_!r}, level={level!r}))\n{code}"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def lines(code: str, level: str = "info") -> list[dict[str, Any]]:
    out, error = logged("json", level, code)
    assert out == ""
    return [json.loads(line) for line in error.splitlines()]


def test_json_is_one_object_a_line() -> None:
    (entry,) = lines(
        "own.info('deployed', site='a\\nb', n=5, raw=b'\\x00\\xff', path=__import__('pathlib').Path('/x'))"
    )
    assert entry["event"] == "deployed"
    assert entry["level"] == "info"
    assert entry["logger"] == "decentraspace.part"
    assert (entry["site"], entry["n"], entry["raw"]) == ("a\nb", 5, "00ff")
    assert entry["timestamp"].endswith("Z")


def test_levels() -> None:
    code = "for level in ('debug', 'info', 'warning', 'error'): getattr(own, level)(level)"
    assert [entry["event"] for entry in lines(code)] == ["info", "warning", "error"]
    assert len(lines(code, "debug")) == 4
    assert [entry["event"] for entry in lines(code, "error")] == ["error"]


def test_libraries_are_heard_when_something_is_wrong_only() -> None:
    code = "x = logging.getLogger('httpx'); x.info('GET …'); x.warning('slow %s', 'one')"
    assert [entry["event"] for entry in lines(code)] == ["slow one"]


def test_an_exception_is_part_of_its_line() -> None:
    (entry,) = lines("try: 1 / 0\nexcept ZeroDivisionError: own.exception('failed')")
    assert "ZeroDivisionError" in json.dumps(entry["exception"])


def test_long_values_are_cut() -> None:
    (entry,) = lines("own.info('x', text='y' * 1_000_000, raw=bytes(1_000_000))")
    assert len(json.dumps(entry)) < 50_000


def test_a_line_break_in_a_value_forges_no_line() -> None:
    """What comes from the network must not be able to pretend to be another log line."""
    out, error = logged("console", "info", "own.info('seen', name='x\\n2026-01-01 [error] forged\\x1b[2J')")
    assert out == ""
    assert len(error.splitlines()) == 1
    assert "\x1b[2J" not in error


def test_configuring_twice_logs_once() -> None:
    assert len(lines("log.configure(LogConfig(format='json'))\nown.info('x')")) == 1


@pytest.mark.parametrize("config", [LogConfig(level="loud"), LogConfig(format="xml")])
def test_wrong_settings(config: LogConfig) -> None:
    with pytest.raises(ConfigError, match="log"):
        log.configure(config)
