"""A request, and the way to answer it: what the application is given."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from decentraspace.gateway.http import heads
from decentraspace.gateway.http.heads import Fields
from decentraspace.gateway.http.message import Headers, Target

if TYPE_CHECKING:
    from decentraspace.gateway.http.connection import Connection

_NO_TARGET = Target(None, "", "")


class ClientGone(Exception):
    """It closed the connection, or took too little for too long."""


class Exchange:
    """`path` is decoded, `query_string` is not; `authority`: the host of a target that names one, which then
    counts; `http_version`: "1.1" or "1.0". `stays`: whether the connection outlives it.

    Exactly one answer is given: by `response_empty` or `response_bytes`, or by `response_stream` and then
    `send_bytes` for each part. A body whose length no header said ends with the application's work; one that
    ends too early ends its connection, so that the client sees it.
    """

    refusal = 0
    started = False
    _chunked = _mute = False
    _left: int | None = None

    def __init__(
        self,
        connection: Connection,
        method: str,
        target: tuple[str | None, str, str],
        headers: Headers,
        version: str,
        stays: bool,
    ) -> None:
        self._connection = connection
        self.method = method
        self.authority, self.path, self.query_string = target
        self.headers = headers
        self.http_version = version
        self.stays = stays

    @classmethod
    def refused(cls, connection: Connection, status: int) -> Exchange:
        """In place of a request that was none: the answer is `status`, in its turn, and the last one."""
        exchange = cls(connection, "", _NO_TARGET, Headers(), "1.1", False)
        exchange.refusal = status
        return exchange

    def response_empty(self, status: int, headers: Fields) -> None:
        length = None if self.method == "HEAD" else 0  # what a GET would have, only the application knows
        head = heads.encode(status, headers, length)
        self._begin()
        self._connection.send(head + self._tail())

    def response_bytes(self, status: int, headers: Fields, body: bytes) -> None:
        connection = self._connection
        server = connection.server
        if self.stays and self.method == "GET" and self.http_version == "1.1" and not server.stopping:
            whole = server.heads.whole(status, headers, body, server.tails.stays)
            if whole is not None and not self.started:
                self.started = True
                connection.send(whole)
                return
        head = server.heads.get(status, headers, len(body))
        self._begin()
        if self.method == "HEAD" or not heads.has_body(status):
            connection.send(head + self._tail())
        else:
            connection.send_all((head + self._tail(), body))

    def response_stream(self, status: int, headers: Fields) -> None:
        """The head; the parts are sent by `send_bytes`."""
        length = next((value for name, value in headers if name.lower() == "content-length"), None)
        mute = self.method == "HEAD" or not heads.has_body(status)
        chunked = length is None and self.http_version == "1.1"
        if chunked:
            headers = [*headers, ("transfer-encoding", "chunked")]
        head = heads.encode(status, headers, None)
        self._begin()
        self._mute, self._chunked = mute, chunked
        if length is not None:
            self._left = int(length)
        elif not chunked:
            self.stays = False  # the connection's end is that of the body
        self._connection.send(head + self._tail())

    async def send_bytes(self, data: bytes) -> None:
        """Returns when more can be taken. ClientGone."""
        connection = self._connection
        if connection.lost:
            raise ClientGone
        if data and not self._mute:
            if self._left is not None:
                if len(data) > self._left:
                    raise ValueError("A body is longer than its Content-Length")
                self._left -= len(data)
            if self._chunked:
                connection.send_all((b"%x\r\n" % len(data), data, b"\r\n"))
            else:
                connection.send(data)
        await connection.room()
        if connection.lost:
            raise ClientGone

    def client_disconnect(self) -> asyncio.Future[None]:
        """Done when the client has left before its answer was complete."""
        return self._connection.leaving()

    def end(self, *, whole: bool) -> None:
        """The application's work is done; `whole`: as it should be."""
        if not self.started:
            fields, body = heads.refusal(self.refusal or 500)
            self.stays = self.stays and whole
            self.response_bytes(self.refusal or 500, fields, body)
        elif not whole or (self._left and not self._mute):
            self.stays = False
            if not whole:
                self._connection.abort()
        elif self._chunked and not self._mute:
            self._connection.send(b"0\r\n\r\n")

    def _begin(self) -> None:
        if self.started:
            raise RuntimeError("A request has been answered twice")
        self.started = True
        if self._connection.server.stopping:
            self.stays = False

    def _tail(self) -> bytes:
        tails = self._connection.server.tails
        if not self.stays:
            return tails.ends
        return tails.stays if self.http_version == "1.1" else tails.stays_old
