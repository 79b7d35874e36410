"""Failures as answers: every one is a problem document (RFC 9457), also what nobody expected."""

from __future__ import annotations

import errno
from typing import Any

import structlog
from quart import Response, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from decentraspace.api.routing import encode
from decentraspace.errors import DecentraSpaceError, QuotaExceeded

log = structlog.get_logger(__name__)

_RETRY_AFTER = 30  # seconds, of what does not know better
_TITLES = {
    400: "The request is not valid",
    404: "There is no such endpoint",
    405: "This method is not for this endpoint",
}


def register(app: QuartTrio) -> None:
    """Have `app` answer failures so."""
    app.register_error_handler(DecentraSpaceError, _problem)
    app.register_error_handler(HTTPException, _http_problem)
    app.register_error_handler(Exception, _bug)


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
