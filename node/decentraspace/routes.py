"""HTTP endpoints of plugins: what they describe themselves with, and what goes in and out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decentraspace.public import NodeAPI


@dataclass(frozen=True)
class HttpRequest:
    """`path` without query; `query` and `headers` with lower-case names, last value each; `owner`: address
    of the wallet that is logged in, or None."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    owner: str | None = None


@dataclass(frozen=True)
class HttpResponse:
    """`body` is sent as it is; give its content type in `headers`."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


@dataclass(frozen=True)
class Route:
    """One endpoint of a plugin: `await handler(request, node)` gives the answer, in the plugin's own thread.

    `path` starts with `/` and ends with `/`; `methods` such as ("GET", "POST"). With `login` the node has
    made sure that a wallet is logged in. `summary` is for the API's documentation.
    """

    path: str
    handler: Callable[[HttpRequest, NodeAPI], Awaitable[HttpResponse]]
    methods: tuple[str, ...] = ("GET",)
    login: bool = False
    summary: str = ""
