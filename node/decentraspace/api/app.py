"""The HTTP API as one application: routes, identity, problems, request ids, metrics, plugins' endpoints."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import trio
from quart import Response, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from decentraspace.api import auth, hosting, storage, system
from decentraspace.api.idempotency import Replays
from decentraspace.api.routing import Endpoint
from decentraspace.api.services import NodeServices, require
from decentraspace.errors import BadInput, Conflict, DecentraSpaceError
from decentraspace.identity.ethereum import checksum_address
from decentraspace.routes import HttpRequest, HttpResponse

log = structlog.get_logger(__name__)

GROUPS = (auth.table, hosting.table, storage.table, system.table)
_PLUGIN_BODY = 1024 * 1024  # bytes
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_TITLES = {400: "The request is not valid", 404: "There is no such endpoint", 405: "This method is not for this endpoint"}


def create_app(services: NodeServices) -> QuartTrio:
    """An application of one node; several can live in one process."""
    app = QuartTrio("decentraspace", static_folder=None)
    app.url_map.strict_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = None  # each endpoint has its own limit
    app.config["BODY_TIMEOUT"] = None
    endpoints = [endpoint for table in GROUPS for endpoint in table.endpoints]
    metrics = system.Metrics()
    app.extensions.update(
        {
            "decentraspace": services,
            "decentraspace.endpoints": endpoints,
            "decentraspace.metrics": metrics,
            "decentraspace.allowance": storage.Allowance(),
            "decentraspace.spooling": set(),
        }
    )
    replays = Replays(services.config.data_dir / "replays.sqlite")
    paths = {endpoint.path for endpoint in endpoints}
    for endpoint in endpoints:
        name = f"{endpoint.method} {endpoint.path}"
        app.add_url_rule(
            endpoint.path,
            name,
            _view(endpoint, replays),
            methods=[endpoint.method],
            provide_automatic_options=False,
        )
    for path in sorted(paths):
        allowed = sorted({e.method for e in endpoints if e.path == path} | {"OPTIONS"})
        app.add_url_rule(path, f"OPTIONS {path}", _options(allowed), methods=["OPTIONS"])
    app.register_error_handler(DecentraSpaceError, _problem)
    app.register_error_handler(HTTPException, _http_problem)
    app.register_error_handler(Exception, _bug)

    @app.before_request
    async def begin() -> None:
        given = request.headers.get("X-Request-Id", "")
        g.request_id = given if given.isalnum() and len(given) <= 64 else secrets.token_hex(8)
        g.began = time.monotonic()
        structlog.contextvars.bind_contextvars(request=g.request_id)

    @app.after_request
    async def end(response: Response) -> Response:
        seconds = time.monotonic() - g.began
        rule = request.url_rule.rule if request.url_rule else "other"
        metrics.observe(rule, response.status_code, seconds)
        response.headers["X-Request-Id"] = g.request_id
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["X-Content-Type-Options"] = "nosniff"
        if request.method not in _SAFE or response.status_code >= 500:
            log.info("request", method=request.method, path=request.path, status=response.status_code)
        structlog.contextvars.unbind_contextvars("request")
        return response

    @app.before_serving
    async def mount() -> None:
        for mounted in await services.plugins.routes(paths):
            route = mounted.route
            view = _plugin_view(services, mounted)
            app.add_url_rule(route.path, f"plugin {mounted.plugin} {route.path}", view, methods=list(route.methods))

    @app.after_serving
    async def unmount() -> None:
        replays.close()

    return app


def _view(endpoint: Endpoint, replays: Replays) -> Callable[[], Awaitable[Any]]:
    async def view() -> Any:
        session = await require(endpoint.access)
        key = request.headers.get("Idempotency-Key")
        if key is None or endpoint.method in _SAFE or not isinstance(endpoint.body, type):
            return await _answer(endpoint)
        # Uploads need no replay: content addressed twice is stored once.
        if not 1 <= len(key) <= 200 or not key.isascii():
            raise BadInput("Idempotency-Key is 1 to 200 ASCII characters")
        body = await request.get_data(cache=True)
        what = hashlib.sha256(f"{endpoint.method} {endpoint.path}\0".encode() + body).digest()
        who = session.owner if session else b""
        known = await trio.to_thread.run_sync(replays.find, who, key)
        if known is not None:
            if known.what != what:
                raise Conflict("This Idempotency-Key was used for another request", slug="idempotency-key-reused")
            return Response(known.body, known.status, content_type="application/json")
        response = await _answer(endpoint)
        if response.status_code < 500:
            data = await response.get_data(as_text=False)
            await trio.to_thread.run_sync(replays.keep, who, key, what, response.status_code, data)
        return response

    return view


async def _answer(endpoint: Endpoint) -> Response:
    value: Any = await endpoint.handler()
    status = endpoint.status
    if isinstance(value, tuple):
        value, status = value
    if isinstance(value, Response):
        return value
    return Response(json.dumps(value), status, content_type="application/json")


def _options(allowed: list[str]) -> Callable[[], Awaitable[Response]]:
    async def view() -> Response:
        headers = {
            "Allow": ", ".join(allowed),
            "Access-Control-Allow-Methods": ", ".join(allowed),
            "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Upload-Offset, "
            "Upload-Complete, Upload-Length, X-Request-Id",
            "Access-Control-Expose-Headers": "Location, Upload-Offset, X-Request-Id",
            "Access-Control-Max-Age": "86400",
        }
        return Response("", 204, headers)

    return view


def _plugin_view(services: NodeServices, mounted: Any) -> Callable[[], Awaitable[Response]]:
    async def view() -> Response:
        session = await require("owner" if mounted.route.login else "open")
        body = bytearray()
        async for chunk in request.body:
            body += chunk
            if len(body) > _PLUGIN_BODY:
                raise BadInput(f"A plugin's endpoint takes {_PLUGIN_BODY} bytes", slug="too-large")
        asked = HttpRequest(
            request.method,
            request.path,
            {k.lower(): v for k, v in request.args.items()},
            {k.lower(): v for k, v in request.headers.items()},
            bytes(body),
            checksum_address(session.owner) if session else None,
        )
        answer: HttpResponse = await services.plugins.serve(mounted, asked)
        return Response(answer.body, answer.status, dict(answer.headers))

    return view


def _document(document: dict[str, Any]) -> Response:
    document = {**document, "instance": f"urn:request:{g.get('request_id', '')}"}
    response = Response(json.dumps(document), document["status"], content_type="application/problem+json")
    if document["status"] == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def _problem(error: DecentraSpaceError) -> Response:
    if error.status >= 500:
        log.error("request_failed", path=request.path, reason=str(error))
    return _document(error.problem())


async def _http_problem(error: HTTPException) -> Response:
    status = error.code or 500
    response = _document(
        {
            "type": "about:blank",
            "title": _TITLES.get(status, error.name),
            "status": status,
            "hint": "The endpoints are listed at /docs.",
        }
    )
    if status == 405 and getattr(error, "valid_methods", None):
        response.headers["Allow"] = ", ".join(error.valid_methods)  # type: ignore[attr-defined]
    return response


async def _bug(error: Exception) -> Response:
    """What nobody expected: the log has it, the client a number to ask for."""
    if isinstance(error, ExceptionGroup):
        # A nursery of a handler failed; the expected failure inside is the answer.
        expected = error.subgroup(DecentraSpaceError)
        while isinstance(expected, ExceptionGroup):
            expected = expected.exceptions[0]  # type: ignore[assignment]
        if isinstance(expected, DecentraSpaceError):
            return await _problem(expected)
    log.error("request_broken", path=request.path, exc_info=error)
    return _document(DecentraSpaceError("The operator's log says more, under this request's id.").problem())
