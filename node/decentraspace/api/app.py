"""The HTTP API as one application: its endpoints and those of plugins, request ids, metrics, upkeep."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable

import structlog
import trio
from quart import Response, g, request
from quart_trio import QuartTrio

from decentraspace.api import (
    auth,
    billing,
    blockchain,
    blocks,
    delegated,
    domains,
    granting,
    history,
    hosting,
    manage,
    metrics,
    names,
    network,
    ownership,
    payments,
    problems,
    purchases,
    reports,
    resumable,
    settling,
    storage,
    system,
    takedowns,
    views,
)
from decentraspace.api.allowance import Allowances
from decentraspace.api.body import Connection, Request
from decentraspace.api.kept import KeptUploads
from decentraspace.api.leaving import table as leaving_table
from decentraspace.api.routing import Endpoint, RouteTable
from decentraspace.api.services import NodeServices
from decentraspace.api.state import State
from decentraspace.errors import DecentraSpaceError

log = structlog.get_logger(__name__)

GROUPS = (
    auth.table,
    hosting.table,
    manage.table,
    billing.table,
    history.table,
    payments.table,
    settling.table,
    blockchain.table,
    granting.table,
    ownership.table,
    storage.table,
    resumable.table,
    blocks.table,
    reports.table,
    takedowns.table,
    network.table,
    leaving_table,
    delegated.table,
    names.table,
    domains.table,
    purchases.table,
    system.table,
)
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DRAIN_MOST, _DRAIN_SECONDS = 256 * 1024 * 1024, 10.0
_THREADS, _FREE_THREADS = 16, 12  # uploads at work at once, and those of the free tier among them
_CORS = {
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Upload-Offset, "
    "Upload-Complete, Upload-Length, X-Request-Id",
    "Access-Control-Max-Age": "86400",
}
_EXPOSED = "Location, Upload-Offset, Upload-Complete, Upload-Length, X-Request-Id, Retry-After"


class Shared:
    """What the requests of one app share."""

    def __init__(self, node: NodeServices, state: State) -> None:
        self.allowances = Allowances(state, node.config.storage.gc_grace)
        self.kept = KeptUploads(state, node.blocks, node.config, node.ledger.tier)
        self.threads = trio.CapacityLimiter(_THREADS)
        self.free_threads = trio.CapacityLimiter(_FREE_THREADS)
        self.uploading: list[tuple[bytes, bool]] = []  # (wallet, whether it is of the free tier)
        self.spooling: dict[str, bytes] = {}  # uploads that a request is at, and their wallets
        self.metrics = metrics.Metrics(node)
        self.certificates = domains.Questions()
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
            views.of_endpoint(endpoint, node, state, shared),
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
    problems.register(app)

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
        shared.metrics.observe(rule, request.method, response.status_code, seconds, views.body().received)
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
                bytes=views.body().received,
            )
        structlog.contextvars.unbind_contextvars("request")
        # Also what an endpoint did not ask for: answered before it has arrived, the connection would end.
        if not views.body().ended and not await views.body().drain(_DRAIN_MOST, _DRAIN_SECONDS):
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
            view = views.of_plugin(node, mounted)
            name = f"plugin {mounted.plugin} {route.path}"
            app.add_url_rule(
                route.path, name, view, methods=list(route.methods), provide_automatic_options=False
            )
            _add_options(app, route.path, route.methods)
            shared.endpoints += views.described(mounted)

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


def _add_options(app: QuartTrio, path: str, methods: Iterable[str]) -> None:
    allowed = set(methods) | {"OPTIONS"}
    if "GET" in allowed:
        allowed.add("HEAD")
    listed = ", ".join(sorted(allowed))

    async def view(**_: str) -> Response:
        return Response(b"", 204, {"Allow": listed, "Access-Control-Allow-Methods": listed, **_CORS})

    app.add_url_rule(path, f"OPTIONS {path}", view, methods=["OPTIONS"], provide_automatic_options=False)
