"""Dataclasses as JSON: read strictly, written plainly, described as JSON Schema (draft 2020-12, OpenAPI 3.1).

Known types: str, int, float, bool, Any, Literal, lists, dicts with text keys, `X | None`, dataclasses.
Times are `datetime` in code and RFC 3339 in UTC outside.
"""

from __future__ import annotations

import dataclasses
import re
import types
from dataclasses import MISSING, is_dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from decentraspace.errors import BadInput

T = TypeVar("T")


def attr(
    doc: str,
    default: Any = MISSING,
    *,
    most: int | None = None,
    least: int | None = None,
    pattern: str | None = None,
    example: Any = None,
) -> Any:
    """A documented field. `most`, `least`: value of a number, length of a text or list."""
    metadata = {"doc": doc, "most": most, "least": least, "pattern": pattern, "example": example}
    if default is MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@lru_cache(maxsize=256)
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


_LAST = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())


def time(unix: int) -> datetime:
    """Unix seconds as the moment they are; the last of the year 9999 for what is later: RFC 3339 has no other, and
    the chain has, where something is granted for ever."""
    return datetime.fromtimestamp(min(unix, _LAST), UTC)


# -- reading


def parse(cls: type[T], value: Any, where: str = "") -> T:
    """An instance of dataclass `cls` from decoded JSON. BadInput names the member at fault."""
    if not isinstance(value, dict):
        raise BadInput(f"{where or 'The body'} must be a JSON object")
    prefix = f"{where}." if where else ""
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in value:
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise BadInput(f"{prefix}{str(name)[:80]} is not known here; there are: {known}")
    built = {}
    for name, field in fields.items():
        if name in value:
            item = _read(_hints(cast(Any, cls))[name], value[name], prefix + name)
            _check(item, field.metadata, prefix + name)
            built[name] = item
        elif field.default is MISSING and field.default_factory is MISSING:
            raise BadInput(f"{prefix}{name} is missing")
    return cls(**built)


def parse_query(cls: type[T], values: dict[str, str]) -> T:
    """Like `parse`, from a query string, where everything is text."""
    typed: dict[str, Any] = {}
    hints = _hints(cast(Any, cls))
    for name, text in values.items():
        kind = _without_none(hints.get(name, str))
        if kind is bool:
            if text not in ("0", "1", "true", "false", ""):
                raise BadInput(f"{name} must be 1 or 0")
            typed[name] = text in ("1", "true", "")
        elif kind is int:
            if re.fullmatch(r"-?[0-9]{1,18}", text) is None:
                raise BadInput(f"{name} must be a whole number")
            typed[name] = int(text)
        else:
            typed[name] = text
    return parse(cls, typed)


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        return next(k for k in get_args(kind) if k is not type(None))
    return kind


def _read(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else _read(_without_none(kind), value, where)
    if origin is Literal:
        if value not in get_args(kind) or isinstance(value, bool):
            raise BadInput(f"{where} must be one of {', '.join(map(str, get_args(kind)))}")
        return value
    if origin is list:
        if not isinstance(value, list):
            raise BadInput(f"{where} must be a list")
        inner = get_args(kind)[0]
        return [_read(inner, item, f"{where}[{number}]") for number, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise BadInput(f"{where} must be an object")
        return {key: _read(get_args(kind)[1], item, f"{where}.{key}") for key, item in value.items()}
    if is_dataclass(kind):
        return parse(kind, value, where)  # type: ignore[arg-type]
    if kind is Any:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
        raise BadInput(f"{where} must be {words[kind]}")
    return value


def _check(value: Any, metadata: Any, where: str) -> None:
    if value is None or isinstance(value, bool) or is_dataclass(value):
        return
    most, least, pattern = metadata.get("most"), metadata.get("least"), metadata.get("pattern")
    size, unit = (value, "") if isinstance(value, int | float) else (len(value), " long")
    if most is not None and size > most:
        raise BadInput(f"{where} may be at most {most}{unit}")
    if least is not None and size < least:
        raise BadInput(f"{where} must be at least {least}{unit}")
    if pattern is not None and re.fullmatch(pattern, value) is None:
        raise BadInput(f"{where} is not of the right form", hint=f"It must match {pattern}")


# -- writing


def dump(value: Any) -> Any:
    """Plain data for `json.dumps`; members that may be left out are, when they are None."""
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {f.name: dump(item) for f, item in pairs if item is not None or f.default is MISSING}
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, dict):
        return {key: dump(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [dump(item) for item in value]
    return value


# -- describing


def schema(kind: Any, components: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of a type; those of dataclasses go to `components` by name, and are referred to."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema(_without_none(kind), components), {"type": "null"}]}
    if origin is Literal:
        return {"enum": list(get_args(kind))}
    if origin is list:
        return {"type": "array", "items": schema(get_args(kind)[0], components)}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema(get_args(kind)[1], components)}
    if is_dataclass(kind):
        _component(kind, components)
        return {"$ref": f"#/components/schemas/{kind.__name__}"}  # type: ignore[union-attr]
    if kind is datetime:
        return {"type": "string", "format": "date-time"}
    names = {str: "string", int: "integer", float: "number", bool: "boolean"}
    return {"type": names[kind]} if kind in names else {}


def _component(cls: Any, components: dict[str, Any]) -> None:
    if cls.__name__ in components:
        return
    described: dict[str, Any] = {"type": "object", "properties": {}}
    components[cls.__name__] = described
    if cls.__doc__ and not cls.__doc__.startswith(cls.__name__ + "("):
        described["description"] = " ".join(cls.__doc__.split())
    required = []
    for field in dataclasses.fields(cls):
        described["properties"][field.name] = field_schema(cls, field, components)
        if field.default is MISSING and field.default_factory is MISSING:
            required.append(field.name)
    if required:
        described["required"] = required
    described["additionalProperties"] = False


def field_schema(cls: type, field: Any, components: dict[str, Any]) -> dict[str, Any]:
    found = schema(_hints(cls)[field.name], components)
    target = found["anyOf"][0] if "anyOf" in found else found
    metadata = field.metadata
    kind = target.get("type")
    limits = {
        "string": ("maxLength", "minLength"),
        "array": ("maxItems", "minItems"),
        "integer": ("maximum", "minimum"),
        "number": ("maximum", "minimum"),
    }
    if kind in limits:
        for name, key in zip(limits[kind], ("most", "least"), strict=True):
            if metadata.get(key) is not None:
                target[name] = metadata[key]
    if metadata.get("pattern"):
        target["pattern"] = f"^(?:{metadata['pattern']})$"
    if metadata.get("doc"):
        found["description"] = metadata["doc"]
    if metadata.get("example") is not None:
        found["examples"] = [metadata["example"]]
    if field.default is not MISSING and field.default is not None:
        found["default"] = field.default
    return found
