"""The table of endpoints: what each takes and gives, typed; code, checks and OpenAPI cannot differ."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from decentraspace.api.body import Body
from decentraspace.api.services import NodeServices
from decentraspace.api.state import State
from decentraspace.errors import DecentraSpaceError, Forbidden, Unauthorized
from decentraspace.identity.sessions import Session

JSON_MOST = 64 * 1024  # bytes of a JSON body, unless an endpoint says otherwise


@dataclass(frozen=True)
class Reply:
    """`value`: a dataclass (sent as JSON), bytes, or None for no content."""

    value: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """One request. `body`: the parsed dataclass, None for a streamed one; `query`: likewise."""

    node: NodeServices
    state: State
    shared: Any
    method: str
    path: str
    headers: Mapping[str, str]
    media: str
    content_type: str
    stream: Body
    raw_query: Mapping[str, str]
    session: Session | None = None
    token: str = ""
    body: Any = None
    query: Any = None
    params: Mapping[str, str] = field(default_factory=dict)  # from `{name}` in the endpoint's path

    @property
    def owner(self) -> bytes:
        """20 bytes of the wallet that is logged in."""
        if self.session is None:
            raise Unauthorized("Log in first: send `Authorization: Bearer TOKEN`")
        return self.session.owner

    @property
    def is_admin(self) -> bool:
        """Whether an administrator is logged in, by a session that is not limited to one site."""
        session = self.session
        return session is not None and session.unlimited and self.node.is_admin(session.owner)

    def need_unlimited(self) -> None:
        """Forbidden for a session that may publish one site only."""
        refuse_limited(self.session)


def refuse_limited(session: Session | None) -> None:
    """Forbidden for a session that may publish one site only: it deploys that one and does nothing else."""
    if session is not None and not session.unlimited:
        raise Forbidden(
            f"This login may only publish the site {session.scope}",
            hint="Log in without --scope.",
            slug="limited-session",
            site=session.scope,
        )


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True)
class Media:
    """A content type that an endpoint takes as a stream. `schema`: its JSON Schema."""

    doc: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string", "format": "binary"})


@dataclass(frozen=True)
class Endpoint:
    """`login`: a wallet must be logged in ("optional": may be); `narrow`: a session that is limited to one
    site may use it; `json`: dataclass of a JSON body; `streams`:
    content types taken as a stream; `answers`: status -> dataclass, or a content type; `replay`: whether an
    Idempotency-Key makes a repetition answer the same (else repeating it is harmless by itself)."""

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    doc: str = ""
    login: bool | str = False
    narrow: bool = False
    admin: bool = False
    json: type | None = None
    json_most: int = JSON_MOST
    streams: Mapping[str, Media] = field(default_factory=dict)
    query: type | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[int, Any] = field(default_factory=dict)
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[type[DecentraSpaceError], ...] = ()
    replay: bool = False

    @property
    def rule(self) -> str:
        """The path as the router has it: `{name}` stands for one segment."""
        return self.path.replace("{", "<").replace("}", ">")

    @property
    def name(self) -> str:
        words = [w for w in re.sub(r"[.{}]", "/", self.path).split("/") if w]
        return "_".join([self.method.lower(), *words])


F = TypeVar("F", bound=Handler)


class RouteTable:
    """Endpoints by path and method."""

    def __init__(self) -> None:
        self._endpoints: dict[tuple[str, str], Endpoint] = {}

    def add(self, method: str, path: str, **facts: Any) -> Callable[[F], F]:
        """Decorator. Summary and description are the handler's docstring: first line, and the rest."""

        def mark(handler: F) -> F:
            lines = (handler.__doc__ or "").strip().split("\n", 1)
            doc = " ".join(lines[1].split()) if len(lines) > 1 else ""
            endpoint = Endpoint(method, path, handler, lines[0].rstrip("."), doc=doc, **facts)
            if (path, method) in self._endpoints:
                raise ValueError(f"{method} {path} is there twice")
            self._endpoints[path, method] = endpoint
            return handler

        return mark

    def include(self, other: RouteTable) -> None:
        for endpoint in other:
            self.add(endpoint.method, endpoint.path, **_facts(endpoint))(endpoint.handler)

    def __iter__(self) -> Any:
        return iter(self._endpoints.values())

    def paths(self) -> dict[str, dict[str, Endpoint]]:
        """path -> method -> endpoint."""
        found: dict[str, dict[str, Endpoint]] = {}
        for endpoint in self:
            found.setdefault(endpoint.path, {})[endpoint.method] = endpoint
        return found


def _facts(endpoint: Endpoint) -> dict[str, Any]:
    given = {"method", "path", "handler", "summary", "doc"}
    return {f.name: getattr(endpoint, f.name) for f in dataclasses.fields(endpoint) if f.name not in given}


def encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
