"""Bytes to requests, by llhttp in its strict mode, and the rules that it leaves to others.

Two servers that disagree about where a request ends can be made to see different requests (RFC 9112 section 11.2),
and another server stands in front of this one. So what is not certain is refused, and the connection with it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httptools
import structlog
from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade

from decentraspace.gateway.http.exchange import Exchange
from decentraspace.gateway.http.message import NAMES, Headers, Refused, parse_target

if TYPE_CHECKING:
    from decentraspace.gateway.http.connection import Connection

log = structlog.get_logger(__name__)

_ANY = re.compile(rb"[A-Z]{1,20} \S{1,4000} HTTP/1\.[01]\r\n")  # by a method that the parser does not know
_METHODS = {b"GET": "GET", b"HEAD": "HEAD"}
_ONCE = frozenset({"host", "content-length", "transfer-encoding"})
_SLASH = 0x2F
NOTHING, HEAD, BODY = range(3)  # what has been read of the next request


class Reader:
    """Of one connection, which is given each request when its last byte was read. `state`: of the next one;
    `ended`: the last request that there will be was given; `expects`: its client waits to be told to go on."""

    __slots__ = (
        "_body",
        "_connection",
        "_count",
        "_exchange",
        "_headers",
        "_limits",
        "_parser",
        "_raw",
        "_url",
        "ended",
        "expects",
        "state",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._limits = connection.server.limits
        self._parser = httptools.HttpRequestParser(self)
        self._headers = Headers()
        self._url = b""
        self._exchange: Any = None
        self._raw = self._count = self._body = 0
        self.state = NOTHING
        self.ended = self.expects = False

    def feed(self, data: bytes | memoryview) -> None:
        """Never raises: what is no request becomes one that is refused."""
        if self.ended:
            return
        before = self.state
        try:
            self._parser.feed_data(data)
            if self.state != NOTHING:
                if self.state != before:
                    self._connection.since = self._connection.server.now
                self._raw += len(data)
                self._bound()
        except HttpParserUpgrade:
            return  # not done here, and nothing else is read: its request was the last
        except Refused as refused:
            self._refuse(refused.status)
        except HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, Refused):
                self._refuse(cause.status)
            else:
                if cause is not None:
                    log.error("gateway_request_not_read", exc_info=cause)
                unknown = (
                    before == NOTHING and isinstance(error, HttpParserInvalidMethodError) and _ANY.match(data)
                )
                self._refuse(500 if cause is not None else 405 if unknown else 400)

    def close(self) -> None:
        """The parser knows this object and this object the parser: apart, they need nobody to collect them."""
        self.ended = True
        del self._parser, self._connection

    def _bound(self) -> None:
        """What has not ended yet, whatever the parser makes of it."""
        if self.state == HEAD:
            if self._raw > self._limits.head:
                raise Refused(414 if len(self._url) > self._limits.head // 2 else 431)
        elif self._raw > 2 * self._limits.body:
            raise Refused(413)

    def _refuse(self, status: int) -> None:
        if not self.ended:
            self.ended, self.state, self.expects = True, NOTHING, False
            self._connection.take(Exchange.refused(self._connection, status))

    # -- called by the parser

    def on_message_begin(self) -> None:
        self._headers, self._url = Headers(), b""
        self._raw = self._count = 0
        self.state = HEAD

    def on_url(self, part: bytes) -> None:
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.state == BODY:
            return  # of a trailer, in which nothing is of interest (RFC 9110 section 6.5.1)
        self._count += 1
        if self._count > self._limits.fields:
            raise Refused(431)
        headers = self._headers
        key = NAMES.get(name) or name.decode("latin-1").lower()
        if key in headers:
            if key in _ONCE:
                raise Refused(400)
            headers.again(key, value.decode("latin-1"))
        else:
            headers[key] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        parser, headers = self._parser, self._headers
        method = _METHODS.get(parser.get_method()) or parser.get_method().decode("latin-1")
        stays = parser.should_keep_alive()
        if stays and "connection" not in headers and method != "CONNECT":
            version = "1.1"  # of all versions only this one stays without saying so
        else:
            version = parser.get_http_version()
            if version not in ("1.1", "1.0"):
                raise Refused(505)
            # Of another protocol, and so of what follows the request, nothing is read here.
            stays = stays and not parser.should_upgrade()
        if "host" not in headers and version == "1.1":
            raise Refused(400)
        if "transfer-encoding" in headers:
            if version == "1.0" or headers["transfer-encoding"].lower() != "chunked":
                raise Refused(400)
            self.expects = _expects(headers, version)
        elif "content-length" in headers:
            length = int(headers["content-length"])
            if length > self._limits.body:
                raise Refused(413)
            self.expects = length > 0 and _expects(headers, version)
        url = self._url
        target: tuple[str | None, str, str]
        if url[0] == _SLASH and b"%" not in url and b"?" not in url and b"#" not in url:
            target = None, url.decode("latin-1"), ""  # as most are, and all ASCII: llhttp sees to that
        else:
            target = parse_target(url, method)
        self._exchange = Exchange(self._connection, method, target, headers, version, stays)
        self.state, self._raw, self._body = BODY, 0, 0

    def on_body(self, data: bytes) -> None:
        self._body += len(data)
        if self._body > self._limits.body:
            raise Refused(413)

    def on_message_complete(self) -> None:
        exchange = self._exchange
        self._exchange = None
        self.state, self.expects = NOTHING, False
        if not exchange.stays:
            self.ended = True
        self._connection.take(exchange)


def _expects(headers: Headers, version: str) -> bool:
    return version == "1.1" and headers.get("expect", "").lower() == "100-continue"
