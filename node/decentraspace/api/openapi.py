"""The OpenAPI 3.1 description, made from the table of endpoints, and a page to read it."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable
from html import escape
from typing import Any, Union, get_args, get_origin

from decentraspace import __version__
from decentraspace.api.routing import Endpoint
from decentraspace.api.schemas import attr, field_schema, schema
from decentraspace.errors import TYPE_PREFIX, DecentraSpaceError, Forbidden, Unauthorized

_JSON, _PROBLEM = "application/json", "application/problem+json"
_KEY = "Repeating the request with the same key within a day answers the same again, and does nothing."

_NARROW = "A login that is limited to one site may use it."


@dataclasses.dataclass(frozen=True)
class Problem:
    """A problem document (RFC 9457). Some problems have further members, named in their descriptions."""

    type: str = attr("Stable name of the problem.", example=TYPE_PREFIX + "not-found")
    title: str = attr("What kind of problem it is.")
    status: int = attr("The HTTP status.")
    detail: str | None = attr("What is wrong with this request.", None)
    hint: str | None = attr("What to do about it.", None)
    instance: str | None = attr("The request, as `urn:decentraspace:request:` and its id.", None)


def describe(endpoints: Iterable[Endpoint], url: str) -> dict[str, Any]:
    """Source: https://spec.openapis.org/oas/v3.1.0."""
    components: dict[str, Any] = {}
    problem = schema(Problem, components)
    components["Problem"]["additionalProperties"] = True
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(
            endpoint, components, problem
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "DecentraSpace node",
            "version": __version__,
            "description": "Log in with a wallet, upload content, deploy sites; the same at every node. "
            "Errors are RFC 9457 problem documents. Times are RFC 3339 in UTC.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": url}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint, components: dict[str, Any], problem: Any) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "operationId": endpoint.name,
    }
    if endpoint.doc:
        operation["description"] = endpoint.doc
    if endpoint.login and endpoint.narrow:
        operation["description"] = f"{endpoint.doc} {_NARROW}".strip()
    if endpoint.login:
        operation["security"] = [{"token": []}] + ([{}] if endpoint.login == "optional" else [])
    if parameters := _parameters(endpoint, components):
        operation["parameters"] = parameters
    content: dict[str, Any] = {}
    if endpoint.json is not None:
        content[_JSON] = {"schema": schema(endpoint.json, components)}
    for media, taken in endpoint.streams.items():
        content[media] = {"schema": {**taken.schema, "description": taken.doc}}
    if content:
        operation["requestBody"] = {"required": True, "content": content}
    responses: dict[str, Any] = {}
    headers = {
        name: {"description": text, "schema": {"type": "string"}}
        for name, text in endpoint.answer_headers.items()
    }
    for status, kind in (endpoint.answers or {200: None}).items():
        response: dict[str, Any] = {"description": "Done"}
        if kind is not None:
            response["content"] = _answer(kind, components)
        if headers:
            response["headers"] = headers
        responses[str(status)] = response
    for status, names in _problems(endpoint).items():
        responses[str(status)] = {
            "description": "; ".join(names),
            "content": {_PROBLEM: {"schema": problem}},
        }
    responses["default"] = {
        "description": "Any other problem",
        "content": {_PROBLEM: {"schema": problem}},
    }
    operation["responses"] = responses
    return operation


def _parameters(endpoint: Endpoint, components: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for field in dataclasses.fields(endpoint.query) if endpoint.query else ():
        described = field_schema(endpoint.query, field, components)  # type: ignore[arg-type]
        found.append(
            {
                "name": field.name,
                "in": "query",
                "description": described.pop("description", ""),
                "required": field.default is dataclasses.MISSING,
                "schema": _no_null(described),
            }
        )
    for name, text in endpoint.params.items():
        described = {"type": "string"}
        found.append({"name": name, "in": "path", "description": text, "required": True, "schema": described})
    headers = dict(endpoint.headers)
    if endpoint.replay:
        headers["Idempotency-Key"] = _KEY
    for name, text in headers.items():
        found.append({"name": name, "in": "header", "description": text, "schema": {"type": "string"}})
    return found


def _no_null(described: dict[str, Any]) -> dict[str, Any]:
    """A parameter is left out rather than null."""
    choices = described.pop("anyOf", None)
    return {**described, **choices[0]} if choices else described


def _answer(kind: Any, components: dict[str, Any]) -> dict[str, Any]:
    if isinstance(kind, str):
        return {kind: {"schema": {"type": "object" if kind == _JSON else "string"}}}
    if get_origin(kind) in (Union, types.UnionType):
        return {_JSON: {"schema": {"anyOf": [schema(one, components) for one in get_args(kind)]}}}
    return {_JSON: {"schema": schema(kind, components)}}


def _problems(endpoint: Endpoint) -> dict[int, list[str]]:
    known: list[type[DecentraSpaceError]] = list(endpoint.problems)
    if endpoint.login and Unauthorized not in known:
        known.append(Unauthorized)
    if (endpoint.admin or (endpoint.login and not endpoint.narrow)) and Forbidden not in known:
        known.append(Forbidden)
    found: dict[int, list[str]] = {}
    for problem in sorted(known, key=lambda p: p.status):
        found.setdefault(problem.status, []).append(f"`{problem.slug}`: {problem.title}")
    return found


_STYLE = (
    "body{font:16px/1.55 system-ui,sans-serif;max-width:54rem;margin:2rem auto;padding:0 1rem;color:#222;"
    "background:#fff}h2{margin-top:2.5rem;border-bottom:1px solid #bbb}h3{margin-top:2rem}"
    "h3 code{background:#e6eaf8;padding:.15rem .4rem;border-radius:4px}.a{color:#555;font-size:.85rem}"
    "table{border-collapse:collapse;width:100%;font-size:.9rem}td,th{border-bottom:1px solid #ddd;"
    "padding:.3rem .5rem;text-align:left;vertical-align:top}code{font-size:.9em;overflow-wrap:anywhere}"
    "nav a{margin-right:1rem;white-space:nowrap}@media(prefers-color-scheme:dark){body{color:#ddd;"
    "background:#161616}h3 code{background:#28304a}td,th{border-color:#333}.a{color:#999}a{color:#9bf}}"
)


def page(endpoints: Iterable[Endpoint]) -> str:
    """The description as one page of HTML that needs nothing from elsewhere, and no script."""
    listed = list(endpoints)
    components = describe(listed, "")["components"]["schemas"]
    parts, tag = [], ""
    for endpoint in listed:
        if endpoint.tag != tag:
            tag = endpoint.tag
            parts.append(f'<h2 id="{tag}">{escape(tag.capitalize())}</h2>')
        parts.append(_section(endpoint, components))
    links = "".join(f'<a href="#{tag}">{tag}</a>' for tag in dict.fromkeys(e.tag for e in listed))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>DecentraSpace API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        '<h1>DecentraSpace API</h1><p>Also as <a href="/openapi.json">OpenAPI 3.1</a>. '
        "Send a token as <code>Authorization: Bearer TOKEN</code>. Errors are problem documents "
        "(RFC 9457); times are RFC 3339 in UTC.</p>"
        f"<nav>{links}</nav>{''.join(parts)}</body></html>"
    )


def _section(endpoint: Endpoint, components: dict[str, Any]) -> str:
    who = "for administrators" if endpoint.admin else "logged-in wallet" if endpoint.login else "open to all"
    if endpoint.login == "optional":
        who = "open to all; more with a login"
    if endpoint.login and endpoint.narrow:
        who += "; also with a login for one site"
    parts = [
        f"<h3><code>{endpoint.method} {escape(endpoint.path)}</code></h3>"
        f"<p>{_words(endpoint.summary)}. <span class=a>({who})</span></p>"
    ]
    if endpoint.doc:
        parts.append(f"<p>{_words(endpoint.doc)}</p>")
    if endpoint.query:
        fields = [
            (f"?{f.name}=", field_schema(endpoint.query, f, {}).get("description", ""))
            for f in dataclasses.fields(endpoint.query)
        ]
        parts.append(_rows("Query", fields))
    headers = dict(endpoint.headers) | ({"Idempotency-Key": _KEY} if endpoint.replay else {})
    parts.append(_rows("Headers", headers.items()))
    if endpoint.json is not None:
        parts.append(_rows("JSON body", _members(endpoint.json.__name__, components)))
    parts.append(_rows("Other bodies", ((m, taken.doc) for m, taken in endpoint.streams.items())))
    for status, kind in endpoint.answers.items():
        for one in get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,):
            if dataclasses.is_dataclass(one):
                name = one.__name__  # type: ignore[union-attr]
                parts.append(_rows(f"Answer {status}", _members(name, components)))
    problems = [(str(status), "; ".join(names)) for status, names in _problems(endpoint).items()]
    parts.append(_rows("Problems", problems))
    return "".join(parts)


def _members(name: str, components: dict[str, Any], depth: int = 0) -> list[tuple[str, str]]:
    """(path of a member, description) for all members, those of inner objects too."""
    rows = []
    for member, described in components[name]["properties"].items():
        rows.append((member, described.get("description", "")))
        target = described.get("anyOf", [described])[0]
        marker = "[]" if target.get("type") == "array" else ""
        inner = target.get("items", target).get("$ref", "").rpartition("/")[2]
        if inner and depth < 3:
            rows += [
                (f"{member}{marker}.{path}", text) for path, text in _members(inner, components, depth + 1)
            ]
    return rows


def _rows(title: str, rows: Iterable[tuple[str, str]]) -> str:
    made = "".join(f"<tr><td><code>{escape(k)}</code></td><td>{_words(v)}</td></tr>" for k, v in rows)
    return f"<table><tr><th colspan=2>{escape(title)}</th></tr>{made}</table><br>" if made else ""


def _words(text: str) -> str:
    """Escaped; what stands between backticks as code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(pieces))
