"""Every error a person can meet, each with what to do next; rendered as RFC 9457 problem documents.

Raise the narrowest class. `detail` says what is wrong with *this* input, `hint` what to do about it.
The `type` of a problem document is `urn:decentraspace:problem:` followed by the class's `slug`, and
never changes once published.
"""

from __future__ import annotations

from typing import Any, ClassVar

TYPE_PREFIX = "urn:decentraspace:problem:"


class DecentraSpaceError(Exception):
    """Base of all expected failures; anything else that escapes is a bug."""

    slug: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong inside the node"

    def __init__(self, detail: str = "", *, hint: str = "", slug: str = "", **members: Any) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.hint = hint
        self.members = members
        self.problem_slug = slug or self.slug

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 problem document: type, title, status, and detail, hint and members where given."""
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.problem_slug,
            "title": self.title,
            "status": self.status,
        }
        if self.detail:
            document["detail"] = self.detail
        if self.hint:
            document["hint"] = self.hint
        return {**document, **self.members}


class BadInput(DecentraSpaceError):
    slug, status, title = "bad-input", 400, "The input is not valid"


class Unauthorized(DecentraSpaceError):
    slug, status, title = "unauthorized", 401, "Log in first"


class PaymentRequired(DecentraSpaceError):
    slug, status, title = "payment-required", 402, "More credit is needed"


class Forbidden(DecentraSpaceError):
    slug, status, title = "forbidden", 403, "This is not yours to do"


class NotFound(DecentraSpaceError):
    slug, status, title = "not-found", 404, "There is no such thing here"


class Conflict(DecentraSpaceError):
    slug, status, title = "conflict", 409, "This clashes with what is already there"


class Gone(DecentraSpaceError):
    slug, status, title = "gone", 410, "This is no longer served"


class Blocked(Gone):
    slug, title = "blocked", "The operator of this node has decided not to serve this"


class BlockedByLaw(Blocked):
    slug, status, title = "blocked-by-law", 451, "This is not served here for legal reasons"


class TooLarge(DecentraSpaceError):
    slug, status, title = "too-large", 413, "This is larger than the limit"


class UnsupportedMedia(DecentraSpaceError):
    slug, status, title = "unsupported-media", 415, "This content type is not understood here"


class Unprocessable(DecentraSpaceError):
    slug, status, title = "unprocessable", 422, "The content does not hold together"


class TooMany(DecentraSpaceError):
    slug, status, title = "too-many", 429, "Too much at once; slow down"


class Unavailable(DecentraSpaceError):
    slug, status, title = "unavailable", 503, "Not available right now"


class QuotaExceeded(DecentraSpaceError):
    slug, status, title = "quota-exceeded", 507, "There is no room left"


class ConfigError(DecentraSpaceError):
    slug, status, title = "config", 500, "The configuration is not valid"


def in_words(error: BaseException) -> str:
    """What went wrong and what to do next, as sentences on one line."""
    parts = (str(error).strip(), str(getattr(error, "hint", "")).strip())
    return " ".join(part if part[-1] in ".!?…" else part + "." for part in parts if part)


def innermost(error: BaseException) -> BaseException:
    """The first error within groups of groups: what people are told."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
