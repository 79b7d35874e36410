"""Checks of values that come from plugins: copied into plain, bounded data, or refused.

A shape takes a value and returns a clean copy of it, or raises `Nonsense` with a reason. Types are compared
exactly: a subclass of `dict` may run code of the plugin whenever it is looked at, a plain one cannot.
`shape.text` says in words what is accepted; the reference of hooks quotes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput

MAX_CREDITS = 2**63 - 1
MAX_TIME = 2**40  # Unix seconds


class Nonsense(ValueError):
    """A value has not the shape its hook promises."""


@dataclass(frozen=True)
class Shape:
    """A check and what it accepts, in words."""

    text: str
    check: Callable[[Any], Any]

    def __call__(self, value: Any) -> Any:
        return self.check(value)


def _kind(value: Any) -> str:
    return type(value).__name__[:60]


def text(most: int, pattern: str | None = None, words: str = "") -> Shape:
    """A str of at most `most` characters, without control characters but newline and tab."""
    compiled = re.compile(pattern) if pattern else None

    def check(value: Any) -> str:
        if type(value) is not str:
            raise Nonsense(f"a text was expected, not {_kind(value)}")
        if len(value) > most:
            raise Nonsense(f"a text has {len(value)} characters; {most} are allowed")
        if any(c < " " and c not in "\n\t" for c in value) or "\x7f" in value:
            raise Nonsense("a text has control characters")
        if compiled is not None and not compiled.fullmatch(value):
            raise Nonsense(f"{value[:60]!r} is not {words or 'of the right form'}")
        return value

    return Shape(words or f"text of at most {most} characters", check)


def integer(least: int, most: int, unit: str = "") -> Shape:
    def check(value: Any) -> int:
        if type(value) is not int:
            raise Nonsense(f"a whole number was expected, not {_kind(value)}")
        if not least <= value <= most:
            raise Nonsense(f"{str(value)[:40]} is not between {least} and {most}")
        return value

    return Shape(f"integer {least} to {most}" + (f" ({unit})" if unit else ""), check)


def one_of(*allowed: str) -> Shape:
    def check(value: Any) -> str:
        if type(value) is not str or value not in allowed:
            raise Nonsense(
                f"{str(value)[:60] if type(value) is str else _kind(value)!r} is none of {allowed}"
            )
        return value

    return Shape(" or ".join(f'"{word}"' for word in allowed), check)


def optional(inner: Shape) -> Shape:
    return Shape(f"{inner.text}, or None", lambda value: None if value is None else inner(value))


def list_of(inner: Shape, most: int) -> Shape:
    def check(value: Any) -> list[Any]:
        if type(value) not in (list, tuple):
            raise Nonsense(f"a list was expected, not {_kind(value)}")
        if len(value) > most:
            raise Nonsense(f"a list has {len(value)} items; {most} are allowed")
        return [inner(item) for item in value]

    return Shape(f"list of at most {most}: {inner.text}", check)


def record(required: Mapping[str, Shape], extra: Mapping[str, Shape] | None = None) -> Shape:
    """A dict with exactly these keys; those of `extra` may be left out."""
    known = {**required, **(extra or {})}

    def check(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise Nonsense(f"a dict was expected, not {_kind(value)}")
        if len(value) > len(known) or any(type(key) is not str or key not in known for key in value):
            raise Nonsense(f"the dict may have the keys {', '.join(known)}, and no others")
        for key in required:
            if key not in value:
                raise Nonsense(f"the dict lacks {key!r}")
        clean = {}
        for key, item in value.items():
            try:
                clean[key] = known[key](item)
            except Nonsense as error:
                raise Nonsense(f"{key}: {error}") from error
        return clean

    words = [f'"{key}": {shape.text}' for key, shape in required.items()]
    words += [f'"{key}" (may be left out): {shape.text}' for key, shape in (extra or {}).items()]
    return Shape("dict {" + "; ".join(words) + "}", check)


def instances_of(cls: type, most: int) -> Shape:
    def check(value: Any) -> list[Any]:
        if type(value) not in (list, tuple) or len(value) > most:
            raise Nonsense(f"a list of at most {most} {cls.__name__} was expected, not {_kind(value)}")
        for item in value:
            if not isinstance(item, cls):
                raise Nonsense(f"a {cls.__name__} was expected, not {_kind(item)}")
        return list(value)

    return Shape(f"list of at most {most} {cls.__name__}", check)


def _cid(value: Any) -> str:
    if type(value) is not str:
        raise Nonsense(f"a CID was expected, not {_kind(value)}")
    try:
        return cids.to_text(cids.parse(value))
    except BadInput as error:
        raise Nonsense(error.detail) from error


def _blob(most: int) -> Callable[[Any], bytes]:
    def check(value: Any) -> bytes:
        if type(value) is not bytes or len(value) > most:
            raise Nonsense(f"at most {most} bytes were expected, not {_kind(value)}")
        return value

    return check


def blob(most: int) -> Shape:
    return Shape(f"at most {most} bytes", _blob(most))


def _boolean(value: Any) -> bool:
    if value is not True and value is not False:
        raise Nonsense(f"True or False was expected, not {_kind(value)}")
    return value


NOTHING = Shape("nothing; what is returned is ignored", lambda _: None)
BOOLEAN = Shape("True or False", _boolean)
CID = Shape("a CID as text", _cid)
ADDRESS = text(42, r"0x[0-9a-fA-F]{40}", "a wallet address (0x and 40 hex digits)")
HASH = text(66, r"0x[0-9a-f]{64}", "a hash (0x and 64 hex digits)")
CHAIN = integer(1, 2**63 - 1, "chain id")
URL = text(2000, r"https?://[^\s]+", "an http or https URL")
CREDITS = integer(0, MAX_CREDITS, "credits of 10^-6 USD")
TIME = integer(0, MAX_TIME, "Unix seconds")
COUNT = integer(0, 2**53)
NAME = text(253, r"[^\s/]+", "a name")
REFERENCE = text(200)
