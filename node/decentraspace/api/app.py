"""The HTTP API as one application: routes, identity, problems, request ids, metrics, plugins' endpoints."""

from __future__ import annotations

import errno
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog
import trio
from quart import Response, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from decentraspace.api import (
    auth,
    blocks,
    delegated,
    hosting,
    metrics,
    names,
    network,
    openapi,
    reports,
    resumable,
    storage,
    system,
    takedowns,
)
from decentraspace.api.allowance import Allowances
from decentraspace.api.body import Body, Connection, Request
from decentraspace.api.kept import KeptUploads
from decentraspace.api.leaving import table as leaving_table
from decentraspace.api.routing import Call, Endpoint, Reply, RouteTable, encode, refuse_limited
from decentraspace.api.schemas import dump, parse, parse_query
from decentraspace.api.services import NodeServices
from decentraspace.api.state import Answer, State
from decentraspace.errors import (
    BadInput,
    DecentraSpaceError,
    Forbidden,
    QuotaExceeded,
    Unauthorized,
    UnsupportedMedia,
)
from decentraspace.identity.ethereum import checksum_address
from decentraspace.plugins import MountedRoute
from decentraspace.routes import HttpRequest

log = structlog.get_logger(__name__)

GROUPS = (
    auth.table,
    hosting.table,
    storage.table,
    resumable.table,
    blocks.table,
    reports.table,
    takedowns.table,
    network.table,
    leaving_table,
    delegated.table,
    names.table,
    system.table,
)
_RETRY_AFTER = 30  # seconds, of what does not know better
_PLUGIN_BODY = 1024 * 1024  # bytes
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DRAIN_MOST, _DRAIN_SECONDS = 256 * 1024 * 1024, 10.0
_BRACKETS_MOST = 500  # in a JSON body; no endpoint takes more than a few
_THREADS, _FREE_THREADS = 16, 12  # uploads at work at once, and those of the free tier among them
_CORS = {
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Upload-Offset, "
    "Upload-Complete, Upload-Length, X-Request-Id",
    "Access-Control-Max-Age": "86400",
}
_EXPOSED = "Location, Upload-Offset, Upload-Complete, Upload-Length, X-Request-Id, Retry-After"
_TITLES = {
    400: "The request is not valid",
    404: "There is no such endpoint",
    405: "This method is not for this endpoint",
}


class Shared:
    """What the requests of one app share."""

    def __init__(self, node: NodeServices, state: State) -> None:
        self.allowances = Allowances(state, node.config.storage.gc_grace)
        self.kept = KeptUploads(state, node.blocks, node.config, node.sessions.tier)
        self.threads = trio.CapacityLimiter(_THREADS)
        self.free_threads = trio.CapacityLimiter(_FREE_THREADS)
        self.uploading: list[tuple[bytes, bool]] = []  # (wallet, whether it is of the free tier)
        self.spooling: dict[str, bytes] = {}  # uploads that a request is at, and their wallets
        self.metrics = metrics.Metrics(node)
        self.endpoints: list[Endpoint] = []


class Api(QuartTrio):
    """Takes bodies as streams with back pressure."""

    asgi_http_class = Connection
    request_class = Request


def endpoints() -> list[Endpoint]:
    """All endpoints but those of plugins, in the order of the documentation."""
    table = RouteTable()
    for group in GROUPS:
        table.include(group)
    return list(table)


def create_app(node: NodeServices) -> QuartTrio:
    """An application of one node; several can live in one process. ConfigError when its state is newer."""
    app = Api("decentraspace", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = None  # each endpoint has its own limit
    app.config["BODY_TIMEOUT"] = None
    app.config["RESPONSE_TIMEOUT"] = 300
    state = State(node.config.data_dir / "api.sqlite")
    shared = Shared(node, state)
    node.hosting.moderation.drop_upload = shared.kept.drop
    shared.endpoints = endpoints()
    paths: dict[str, list[Endpoint]] = {}
    for endpoint in shared.endpoints:
        paths.setdefault(endpoint.rule, []).append(endpoint)
        app.add_url_rule(
            endpoint.rule,
            f"{endpoint.method} {endpoint.rule}",
            _view(endpoint, node, state, shared),
            methods=[endpoint.method],
            provide_automatic_options=False,
        )
    for rule in app.url_map.iter_rules():
        # Of a GET it is made up; where HEAD is an endpoint of its own, that one answers.
        if (
            rule.methods
            and rule.endpoint == f"GET {rule.rule}"
            and any(e.method == "HEAD" for e in paths[rule.rule])
        ):
            rule.methods.discard("HEAD")
    for path, found in paths.items():
        _add_options(app, path, (e.method for e in found))
    app.register_error_handler(DecentraSpaceError, _problem)
    app.register_error_handler(HTTPException, _http_problem)
    app.register_error_handler(Exception, _bug)

    @app.before_request
    async def begin() -> None:
        given = request.headers.get("X-Request-Id", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        g.began = time.monotonic()
        structlog.contextvars.bind_contextvars(request=g.request_id)

    @app.after_request
    async def end(response: Response) -> Response:
        # Errors before routing (a wrong path) come here without `begin`'s values only if `begin` failed.
        seconds = time.monotonic() - g.get("began", time.monotonic())
        rule = request.url_rule.rule if request.url_rule else "other"
        shared.metrics.observe(rule, request.method, response.status_code, seconds, _body().received)
        response.headers["X-Request-Id"] = g.get("request_id", "")
        response.headers["Access-Control-Allow-Origin"] = "*"  # no cookies here: a token is sent knowingly
        response.headers["Access-Control-Expose-Headers"] = _EXPOSED
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers.setdefault("Cache-Control", "no-store")
        level = log.info if response.status_code >= 500 or request.method not in _SAFE else log.debug
        if request.path not in _QUIET:
            level(
                "request",
                method=request.method,
                path=request.path,
                status=response.status_code,
                ms=round(seconds * 1000, 1),
                bytes=_body().received,
            )
        structlog.contextvars.unbind_contextvars("request")
        # Also what an endpoint did not ask for: answered before it has arrived, the connection would end.
        if not _body().ended and not await _body().drain(_DRAIN_MOST, _DRAIN_SECONDS):
            response.headers["Connection"] = "close"
        return response

    upkeep, upkeep_ended = trio.CancelScope(), trio.Event()

    async def keep_up() -> None:
        try:
            with upkeep:
                await _expire_uploads(node, shared)
        finally:
            upkeep_ended.set()

    @app.before_serving
    async def mount() -> None:
        await trio.to_thread.run_sync(shared.kept.reconcile)
        app.nursery.start_soon(keep_up)
        for mounted in await node.plugins.routes(paths):
            route = mounted.route
            view = _plugin_view(node, mounted)
            name = f"plugin {mounted.plugin} {route.path}"
            app.add_url_rule(
                route.path, name, view, methods=list(route.methods), provide_automatic_options=False
            )
            _add_options(app, route.path, route.methods)
            shared.endpoints += _described(mounted)

    @app.after_serving
    async def unmount() -> None:
        upkeep.cancel()
        await upkeep_ended.wait()
        node.hosting.moderation.drop_upload = node.blocks.unpin
        state.close()

    return app


async def _expire_uploads(node: NodeServices, shared: Shared) -> None:
    """Before each garbage collection, for ever: uploads nobody finishes, and those whose time is over."""
    while True:
        try:
            await trio.to_thread.run_sync(node.uploads.expire, time.time())
            await trio.to_thread.run_sync(shared.kept.expire)
        except (DecentraSpaceError, OSError) as error:
            log.error("uploads_not_expired", reason=str(error))
        await trio.sleep(node.config.storage.gc_interval)


def _body() -> Body:
    body: Any = request.body
    return body  # type: ignore[no-any-return]


def _view(
    endpoint: Endpoint, node: NodeServices, state: State, shared: Shared
) -> Callable[..., Awaitable[Response]]:
    async def view(**params: str) -> Response:
        session, token = None, ""
        if endpoint.login:
            session, token = await _identify(node, optional=endpoint.login == "optional")
        if not endpoint.narrow:
            refuse_limited(session)
        if endpoint.admin and (session is None or not node.is_admin(session.owner)):
            who = f"You are {checksum_address(session.owner)}. " if session is not None else ""
            raise Forbidden(
                "Only administrators of this node may do this",
                hint=f"{who}Its operator names wallets in node.operator and node.admins, and restarts it.",
            )
        media = (request.mimetype or "").lower()
        call = Call(
            node=node,
            state=state,
            shared=shared,
            method=request.method,
            path=request.path,
            headers=dict(request.headers.items()),
            media=media,
            content_type=request.headers.get("Content-Type", ""),
            stream=_body(),
            raw_query=request.args,
            session=session,
            token=token,
            params=params,
        )
        call.query = _query(endpoint)
        raw = b""
        if endpoint.json is not None and (media == "application/json" or not endpoint.streams):
            raw = await _body().read(endpoint.json_most)
            call.body = parse(endpoint.json, _json(raw, media))
        elif endpoint.streams and media not in endpoint.streams and resumable.PARTIAL in endpoint.streams:
            raise UnsupportedMedia(f"Send {' or '.join(endpoint.streams)}")
        key = request.headers.get("Idempotency-Key")
        if key is None or not endpoint.replay:
            return _respond(await endpoint.handler(call))
        return await _once(endpoint, call, key, raw)

    return view


async def _identify(node: NodeServices, *, optional: bool) -> tuple[Any, str]:
    """(session, token). Unauthorized for a token that is not valid, and without one unless `optional`."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    if not scheme:
        if optional:
            return None, ""
        raise Unauthorized("A wallet must be logged in", hint="POST /auth/login/, or `decentraspace login`.")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("The Authorization header must be: Bearer TOKEN")
    return await trio.to_thread.run_sync(node.sessions.authenticate, token), token


def _query(endpoint: Endpoint) -> Any:
    values = request.args.to_dict(flat=False)
    for name, given in values.items():
        if len(given) > 1:
            raise BadInput(f"?{name[:80]}= is given twice")
    if endpoint.query is None:
        return None  # unknown parameters are ignored where there are none, as links carry them along
    return parse_query(endpoint.query, {name: given[0] for name, given in values.items()})


def _json(raw: bytes, media: str) -> Any:
    if media != "application/json":
        raise UnsupportedMedia("Send application/json")
    if raw.count(b"[") + raw.count(b"{") > _BRACKETS_MOST:
        # Libraries raise Python's recursion limit, and then deep nesting ends the process.
        raise BadInput("The body is nested too deeply, or has too many parts")
    try:
        return json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"The body is not JSON: {str(error)[:200]}") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


async def _once(endpoint: Endpoint, call: Call, key: str, raw: bytes) -> Response:
    """Answer as the first time when the key was seen. Only successes are kept, a failure is tried again."""
    owner = call.session.owner if call.session else b""
    what = f"{endpoint.method} {endpoint.path}\0{request.query_string.decode('latin-1')}\0".encode() + raw
    known = await trio.to_thread.run_sync(call.state.begin, owner, key, what)
    if known is not None:
        response = Response(known.body, known.status, content_type="application/json")
        if known.location:
            response.headers["Location"] = known.location
        response.headers["Idempotent-Replayed"] = "true"
        return response
    answer = None
    try:
        response = _respond(await endpoint.handler(call))
        body = bytes(await response.get_data(as_text=False))
        answer = Answer(response.status_code, response.headers.get("Location", ""), body)
        return response
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(call.state.finish, owner, key, answer)


def _respond(value: Any) -> Response:
    if isinstance(value, Response):
        return value
    reply = value if isinstance(value, Reply) else Reply(value)
    if reply.value is None:
        return Response(b"", reply.status, dict(reply.headers))
    if isinstance(reply.value, bytes):
        return Response(reply.value, reply.status, dict(reply.headers))
    body = encode(dump(reply.value))
    return Response(body, reply.status, dict(reply.headers), content_type="application/json")


def _add_options(app: QuartTrio, path: str, methods: Iterable[str]) -> None:
    allowed = set(methods) | {"OPTIONS"}
    if "GET" in allowed:
        allowed.add("HEAD")
    listed = ", ".join(sorted(allowed))

    async def view(**_: str) -> Response:
        return Response(b"", 204, {"Allow": listed, "Access-Control-Allow-Methods": listed, **_CORS})

    app.add_url_rule(path, f"OPTIONS {path}", view, methods=["OPTIONS"], provide_automatic_options=False)


def _described(mounted: MountedRoute) -> list[Endpoint]:
    """A plugin's route for the documentation; `_plugin_view` answers it."""

    async def elsewhere(_: Call) -> None:
        raise NotImplementedError

    route, by = mounted.route, f"Added by the plugin `{mounted.plugin}`."
    summary = route.summary.rstrip(".") or f"Of the plugin {mounted.plugin}"
    login: bool | str = True if route.login else "optional"
    return [
        Endpoint(method, route.path, elsewhere, summary, "plugins", doc=by, login=login)
        for method in route.methods
    ]


def _plugin_view(node: NodeServices, mounted: MountedRoute) -> Callable[[], Awaitable[Response]]:
    async def view() -> Response:
        session, _ = await _identify(node, optional=not mounted.route.login)
        refuse_limited(session)  # plugins are told of the wallet alone, not of limits
        asked = HttpRequest(
            request.method,
            request.path,
            {k.lower(): v for k, v in request.args.items()},
            {k.lower(): v for k, v in request.headers.items() if k.lower() != "authorization"},
            await _body().read(_PLUGIN_BODY),
            checksum_address(session.owner) if session else None,
        )
        answer = await node.plugins.serve(mounted, asked)
        return Response(answer.body, answer.status, dict(answer.headers))

    return view


# -- problems


def _document(document: dict[str, Any]) -> Response:
    document = {**document, "instance": f"urn:decentraspace:request:{g.get('request_id', '')}"}
    response = Response(encode(document), document["status"], content_type="application/problem+json")
    if document["status"] == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if document["status"] in (429, 503):
        response.headers["Retry-After"] = str(document.get("retry_after", _RETRY_AFTER))
    return response


async def _problem(error: DecentraSpaceError) -> Response:
    if error.status >= 500:
        log.error("request_failed", path=request.path, reason=str(error))
    return _document(error.problem())


async def _http_problem(error: HTTPException) -> Response:
    status = error.code or 500
    if 300 <= status < 400:
        return error.get_response()  # type: ignore[return-value]  # a redirect to the path with its slash
    response = _document(
        {
            "type": "about:blank",
            "title": _TITLES.get(status, error.name),
            "status": status,
            "hint": "The endpoints are listed at /docs.",
        }
    )
    if status == 405 and getattr(error, "valid_methods", None):
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))  # type: ignore[attr-defined]
    return response


async def _bug(error: Exception) -> Response:
    """What nobody expected: the log has it, the client a number to ask for."""
    expected: BaseException | None = error
    if isinstance(error, ExceptionGroup):
        # A nursery of a handler failed; the expected failure inside is the answer.
        expected = error.subgroup((DecentraSpaceError, OSError))
        while isinstance(expected, ExceptionGroup):
            expected = expected.exceptions[0]
    if isinstance(expected, OSError) and expected.errno in (errno.ENOSPC, errno.EDQUOT):
        expected = QuotaExceeded("There is no room on the node's disk", hint="Try again later.")
    if isinstance(expected, DecentraSpaceError):
        return await _problem(expected)
    log.error("request_broken", path=request.path, exc_info=error)
    return _document(DecentraSpaceError("The operator's log says more, under this request's id.").problem())


__all__ = ["create_app", "endpoints", "openapi"]
