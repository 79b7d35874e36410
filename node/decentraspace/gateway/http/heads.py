"""The first lines of an answer."""

from __future__ import annotations

import re
from email.utils import formatdate
from http import HTTPStatus

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 section 5.5
_ANSWER_MOST, _ANSWERS_MOST = 64 * 1024, 4 * 1024 * 1024  # bytes of one, of all
_KEPT_MOST, _KEPT_LENGTH = 1024, 4096  # heads; bytes of one, as sites may add to theirs

ALLOWED = "GET, HEAD, OPTIONS"  # methods
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Fields = list[tuple[str, str]]


def encode(status: int, fields: Fields, length: int | None) -> bytes:
    """All but the end, which `Tails` has. `length`: of the body, where no field says it. ValueError for what
    would be read as something else."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\n"]
    told = False
    for name, value in fields:
        if _NAME.fullmatch(name) is None or _FORBIDDEN.search(value):
            raise ValueError(f"A header {name[:40]!r} of an answer has a forbidden character")
        if name.lower() == "content-length":
            told = True
            if not has_body(status) and status != 304:
                continue
        lines.append(f"{name}: {value}\r\n")
    if length is not None and not told and has_body(status):
        lines.append(f"content-length: {length}\r\n")
    return "".join(lines).encode()


def has_body(status: int) -> bool:
    """RFC 9110 section 6.4.1."""
    return status == 200 or (status > 200 and status not in (204, 304))


class Kept:
    """What is sent again and again: the first lines of pages that are in memory, and for a second all of an answer.
    A list of fields that was given once is not changed any more."""

    def __init__(self) -> None:
        self._heads: dict[int, tuple[Fields, int, int, bytes]] = {}
        self._answers: dict[int, tuple[Fields, int, bytes, bytes]] = {}
        self._room = _ANSWERS_MOST

    def get(self, status: int, fields: Fields, length: int) -> bytes:
        """The first lines."""
        found = self._heads.get(id(fields))
        if found is not None and found[0] is fields and found[1] == status and found[2] == length:
            return found[3]
        head = encode(status, fields, length)
        if len(head) <= _KEPT_LENGTH:
            if len(self._heads) >= _KEPT_MOST:
                self._heads.clear()
            self._heads[id(fields)] = fields, status, length, head
        return head

    def whole(self, status: int, fields: Fields, body: bytes, tail: bytes) -> bytes | None:
        """An answer in one piece, which goes out faster than two; None where there is no room for it."""
        found = self._answers.get(id(fields))
        if found is not None and found[0] is fields and found[1] == status and found[2] is body:
            return found[3]
        size = len(body)
        if size > _ANSWER_MOST or size > self._room or not has_body(status):
            return None
        answer = b"".join((self.get(status, fields, size), tail, body))
        self._room -= len(answer)
        self._answers[id(fields)] = fields, status, body, answer
        return answer

    def forget(self) -> None:
        """The time of day is another one."""
        self._answers.clear()
        self._room = _ANSWERS_MOST


class Tails:
    """The last lines of a head, by what becomes of the connection; made anew each second, for the date."""

    def __init__(self, now: float) -> None:
        self._second = -1
        self.update(now)

    def update(self, now: float) -> bool:
        """Whether they are others now; `now`: seconds since 1970."""
        if int(now) == self._second:
            return False
        self._second = int(now)
        date = f"date: {formatdate(now, usegmt=True)}\r\n".encode()
        self.stays = date + b"\r\n"
        self.stays_old = date + b"connection: keep-alive\r\n\r\n"  # for clients of HTTP/1.0
        self.ends = date + b"connection: close\r\n\r\n"
        return True


def refusal(status: int) -> tuple[Fields, bytes]:
    """An answer to what never became a request."""
    body = f"{status} {_REASONS.get(status, 'Error')}\n".encode()
    fields = [("content-type", "text/plain; charset=utf-8"), ("x-content-type-options", "nosniff")]
    return [*fields, *([("allow", ALLOWED)] if status == 405 else ())], body
