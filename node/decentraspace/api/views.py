"""What is done around every endpoint: who asks, what was sent, the answer, and the same answer again.

Plugins' endpoints get less: who asks, and the request as it is.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from quart import Response, request

from decentraspace.api import resumable
from decentraspace.api.body import Body
from decentraspace.api.routing import Call, Endpoint, Reply, encode, refuse_limited
from decentraspace.api.schemas import dump, parse, parse_query
from decentraspace.api.services import NodeServices
from decentraspace.api.state import Answer, State
from decentraspace.errors import BadInput, Forbidden, Unauthorized, UnsupportedMedia
from decentraspace.identity.ethereum import checksum_address
from decentraspace.plugins import MountedRoute
from decentraspace.routes import HttpRequest

_PLUGIN_BODY = 1024 * 1024  # bytes
_BRACKETS_MOST = 500  # in a JSON body; no endpoint takes more than a few


def body() -> Body:
    """Of the request at hand."""
    found: Any = request.body
    return found  # type: ignore[no-any-return]


def of_endpoint(
    endpoint: Endpoint, node: NodeServices, state: State, shared: Any
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
            stream=body(),
            raw_query=request.args,
            session=session,
            token=token,
            params=params,
        )
        call.query = _query(endpoint)
        raw = b""
        if endpoint.json is not None and (media == "application/json" or not endpoint.streams):
            raw = await body().read(endpoint.json_most)
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


def described(mounted: MountedRoute) -> list[Endpoint]:
    """A plugin's route for the documentation; `of_plugin` answers it."""

    async def elsewhere(_: Call) -> None:
        raise NotImplementedError

    route, by = mounted.route, f"Added by the plugin `{mounted.plugin}`."
    summary = route.summary.rstrip(".") or f"Of the plugin {mounted.plugin}"
    login: bool | str = True if route.login else "optional"
    return [
        Endpoint(method, route.path, elsewhere, summary, "plugins", doc=by, login=login)
        for method in route.methods
    ]


def of_plugin(node: NodeServices, mounted: MountedRoute) -> Callable[[], Awaitable[Response]]:
    async def view() -> Response:
        session, _ = await _identify(node, optional=not mounted.route.login)
        refuse_limited(session)  # plugins are told of the wallet alone, not of limits
        asked = HttpRequest(
            request.method,
            request.path,
            {k.lower(): v for k, v in request.args.items()},
            {k.lower(): v for k, v in request.headers.items() if k.lower() != "authorization"},
            await body().read(_PLUGIN_BODY),
            checksum_address(session.owner) if session else None,
        )
        answer = await node.plugins.serve(mounted, asked)
        return Response(answer.body, answer.status, dict(answer.headers))

    return view
