"""The OpenAPI 3.1 description, made from the table of endpoints, and a page to read it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from decentraspace import __version__
from decentraspace.api.routing import Endpoint, schema_of

_PROBLEM = {
    "description": "A problem document (RFC 9457)",
    "content": {
        "application/problem+json": {
            "schema": {
                "type": "object",
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                    "hint": {"type": "string"},
                },
                "required": ["type", "title", "status"],
            }
        }
    },
}


def describe(endpoints: Iterable[Endpoint], url: str) -> dict[str, Any]:
    """Source: https://spec.openapis.org/oas/v3.1.0."""
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        operation: dict[str, Any] = {
            "tags": [endpoint.group],
            "summary": endpoint.summary,
            "operationId": f"{endpoint.method.lower()}{endpoint.path.replace('/', '_').rstrip('_')}",
            "responses": {str(endpoint.status): _gives(endpoint), "default": _PROBLEM},
        }
        if endpoint.access != "open":
            operation["security"] = [{"token": []}]
        if endpoint.query:
            operation["parameters"] = [
                {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
                for name, text in endpoint.query.items()
            ]
        if isinstance(endpoint.body, dict):
            content = {media: {"schema": {"description": text}} for media, text in endpoint.body.items()}
            operation["requestBody"] = {"content": content}
        elif endpoint.body is not None:
            content = {"application/json": {"schema": schema_of(endpoint.body)}}
            operation["requestBody"] = {"required": True, "content": content}
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "DecentraSpace node",
            "version": __version__,
            "description": "Log in with a wallet, upload content, deploy sites. Errors are RFC 9457 problem documents.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": url}],
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _gives(endpoint: Endpoint) -> dict[str, Any]:
    if isinstance(endpoint.gives, str):
        return {"description": endpoint.gives}
    return {"description": "Done", "content": {"application/json": {"schema": schema_of(endpoint.gives)}}}


_STYLE = (
    "body{font:16px/1.55 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "h2{margin-top:2.5rem;border-bottom:1px solid #ccc}h3 code{background:#eef;padding:.15rem .4rem;border-radius:4px}"
    "pre{background:#f6f6f6;padding:.7rem;overflow:auto;font-size:.85rem}.a{color:#666;font-size:.85rem}"
    "dt{font-weight:600}dd{margin:0 0 .4rem 1rem}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}pre{background:#222}h3 code{background:#223}}"
)


def page(endpoints: Iterable[Endpoint]) -> str:
    """The description as one page of HTML that needs nothing from elsewhere."""
    parts, group = [], ""
    for endpoint in endpoints:
        if endpoint.group != group:
            group = endpoint.group
            parts.append(f"<h2>{escape(group)}</h2>")
        access = {"open": "open to all", "owner": "logged-in wallet", "admin": "admins of the node"}[
            endpoint.access
        ]
        parts.append(
            f"<h3><code>{endpoint.method} {escape(endpoint.path)}</code></h3>"
            f"<p>{escape(endpoint.summary)} <span class=a>({access})</span></p>"
        )
        if endpoint.query:
            rows = "".join(f"<dt>?{escape(k)}=</dt><dd>{escape(v)}</dd>" for k, v in endpoint.query.items())
            parts.append(f"<dl>{rows}</dl>")
        if isinstance(endpoint.body, dict):
            rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in endpoint.body.items())
            parts.append(f"<dl>{rows}</dl>")
        elif endpoint.body is not None:
            parts.append(f"<pre>{escape(_example(schema_of(endpoint.body)))}</pre>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>DecentraSpace API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        '<h1>DecentraSpace API</h1><p>The same as <a href="/openapi.json">OpenAPI 3.1</a>. '
        "Send a token as <code>Authorization: Bearer …</code>. Errors are problem documents.</p>"
        f"{''.join(parts)}</body></html>"
    )


def _example(schema: dict[str, Any]) -> str:
    import json

    return json.dumps({name: part.get("type", "…") for name, part in schema["properties"].items()}, indent=2)
