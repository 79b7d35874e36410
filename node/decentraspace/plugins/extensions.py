"""What plugins add to the API and the command line, and what of it is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from decentraspace.routes import HttpResponse, Route
from decentraspace.shapes import Nonsense

if TYPE_CHECKING:
    import click

log = structlog.get_logger(__name__)

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
_MAX_BODY = 16 * 1024 * 1024
_MAX_HEADERS = 100


def take_routes(plugin: str, routes: list[Route], taken: set[str]) -> list[Route]:
    """Those that are well formed and whose path is not `taken`; adds their paths to it."""
    good = []
    for route in routes:
        reason = _fault(route) or ("the path is taken already" if route.path in taken else "")
        if reason:
            log.warning("plugin_route_skipped", plugin=plugin, path=str(route.path)[:200], reason=reason)
            continue
        taken.add(route.path)
        good.append(route)
    return good


def take_commands(plugin: str, group: click.Group, taken: set[str]) -> list[click.Command]:
    """Those whose name is not `taken`; adds their names to it."""
    import click

    good = []
    for name, command in group.commands.items():
        if name in taken or not isinstance(command, click.Command) or name != command.name:
            reason = "the name is taken already" if name in taken else "it is no click command of this name"
            log.warning("plugin_command_skipped", plugin=plugin, command=str(name)[:60], reason=reason)
            continue
        taken.add(name)
        good.append(command)
    return good


def _fault(route: Route) -> str:
    """What is wrong with a route by itself, or ""."""
    path, methods = route.path, route.methods
    if type(path) is not str or not path.startswith("/") or not path.endswith("/") or len(path) > 200:
        return "a path is a text of at most 200 characters that begins and ends with /"
    if not all(c.isascii() and (c.isalnum() or c in "/-_.") for c in path):
        return "a path has letters, digits and - _ . only"
    if "//" in path or {".", ".."} & set(path.split("/")):
        return "a path has no empty segments, no . and no .."
    if (
        type(methods) is not tuple
        or not methods
        or not all(type(m) is str and m in _METHODS for m in methods)
    ):
        return f"methods is a tuple of {', '.join(sorted(_METHODS))}"
    if type(route.summary) is not str or len(route.summary) > 200:
        return "a summary is a text of at most 200 characters"
    if not callable(route.handler):
        return "its handler cannot be called"
    return ""


def checked_response(value: Any) -> HttpResponse:
    """A plain copy of a handler's answer; Nonsense if it is none."""
    if type(value) is not HttpResponse:
        raise Nonsense(f"an HttpResponse was expected, not {type(value).__name__[:60]}")
    if type(value.status) is not int or not 200 <= value.status <= 599:
        raise Nonsense("the status must be 200 to 599")
    if type(value.body) is not bytes or len(value.body) > _MAX_BODY:
        raise Nonsense(f"the body must be at most {_MAX_BODY} bytes")
    headers = {}
    for name, text in dict(value.headers).items():
        if type(name) is not str or type(text) is not str or any(c in "\r\n\0" for c in name + text):
            raise Nonsense("headers must be texts on one line")
        headers[name.lower()] = text
    if len(headers) > _MAX_HEADERS:
        raise Nonsense(f"at most {_MAX_HEADERS} headers are allowed")
    return HttpResponse(value.status, value.body, headers)
