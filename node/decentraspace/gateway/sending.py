"""Answers on their way to a client: whole, a part, or as fast as they are taken; all of them counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from decentraspace.content import reader
from decentraspace.errors import Blocked, DecentraSpaceError, Unavailable
from decentraspace.gateway import negotiate
from decentraspace.gateway.http import ClientGone, Exchange
from decentraspace.gateway.page import NOSNIFF, Headers, Page
from decentraspace.gateway.request import Target, refusal
from decentraspace.gateway.supply import Supply
from decentraspace.gateway.usage import UsageCounter

_AT_ONCE = 1024 * 1024  # bytes of a body that is sent from memory; what is larger is read as it is taken
_OF_THE_BODY = frozenset({"content-type", "content-encoding", "content-disposition", "accept-ranges"})


class Sender:
    """One per worker."""

    def __init__(self, supply: Supply, usage: UsageCounter) -> None:
        self._supply, self._usage = supply, usage

    async def answer(
        self, target: Target, page: Page, asked: str | None, headers: Any, protocol: Exchange, method: str
    ) -> None:
        """What is due of a page, by the conditions of the request; `asked`: its Range."""
        tag = headers.get("if-none-match")
        if tag is not None and page.status == 200 and negotiate.etag_matches(tag, page.etag):
            self.not_modified(page.headers, target.site, protocol)
            return
        if asked is not None and page.status == 200 and _unchanged(headers.get("if-range"), page):
            span = negotiate.single_range(asked, page.size)
            if span is not None:
                await self._part(target, page, span, protocol)
                return
        if page.body is not None or method == "HEAD":
            self.send(page, target.site, method, protocol)
        else:
            await self._file(target, page, page.status, 0, page.size, page.headers, protocol)

    def send(self, page: Page, site: str, method: str, protocol: Exchange) -> None:
        """All of a page that is in memory, or only its headers."""
        if page.location:
            headers = [*page.headers, ("location", page.location), ("content-length", "0")]
            self._usage.add(site, page.status, 0)
            protocol.response_empty(page.status, headers)
        elif method == "HEAD":
            self._usage.add(site, page.status, 0)
            protocol.response_empty(page.status, [*page.headers, ("content-length", str(page.size))])
        else:
            self._usage.add(site, page.status, page.size)
            protocol.response_bytes(page.status, page.headers, page.body or b"")

    def not_modified(self, headers: Headers, site: str, protocol: Exchange) -> None:
        self._usage.add(site, 304, 0)
        protocol.response_empty(304, [h for h in headers if h[0] not in _OF_THE_BODY])

    def only_headers(self, headers: Headers, site: str, protocol: Exchange) -> None:
        """Of a body whose length nobody knows before it was made."""
        self._usage.add(site, 200, 0)
        protocol.response_empty(200, headers)

    async def _part(
        self, target: Target, page: Page, span: tuple[int, int] | bool, protocol: Exchange
    ) -> None:
        if isinstance(span, bool):
            self._usage.add(target.site, 416, 0)
            headers = [("content-range", f"bytes */{page.size}"), ("content-length", "0"), NOSNIFF]
            protocol.response_empty(416, headers)
            return
        start, end = span
        headers = [*page.headers, ("content-range", f"bytes {start}-{end - 1}/{page.size}")]
        if page.body is not None:
            self._usage.add(target.site, 206, end - start)
            protocol.response_bytes(206, headers, page.body[start:end])
        else:
            await self._file(target, page, 206, start, end, headers, protocol)

    async def _file(
        self,
        target: Target,
        page: Page,
        status: int,
        start: int,
        end: int,
        headers: Headers,
        protocol: Exchange,
    ) -> None:
        """Bytes of a large file, read as they are sent."""

        def parts(done: int) -> Iterator[bytes]:
            return reader.iter_file(self._supply.verified, page.stream, start + done, end)

        if end - start <= _AT_ONCE:
            try:
                body = await self._supply.patiently(target.root, lambda: b"".join(parts(0)))
            except TimeoutError as error:
                raise refusal(504, "Not in time", "No node gave the content in time.", target.site) from error
            except (Unavailable, Blocked):
                raise
            except DecentraSpaceError as error:
                raise refusal(502, "Content is damaged", str(error), target.site) from error
            self._usage.add(target.site, status, len(body))
            protocol.response_bytes(status, headers, body)
            return
        await self.stream(
            target, status, [*headers, ("content-length", str(end - start))], b"", parts, protocol
        )

    async def stream(
        self,
        target: Target,
        status: int,
        headers: Headers,
        broken_off: bytes,
        parts: Callable[[int], Iterator[bytes]],
        protocol: Exchange,
    ) -> None:
        """`parts(bytes sent)` as fast as the client takes them. What cannot go on is broken off, so that no
        client takes a part for the whole: Content-Length tells, or else `broken_off`."""
        first: list[bytes] = []
        size = sent = 0
        streaming = False
        gone = protocol.client_disconnect()

        async def send(data: bytes) -> None:
            nonlocal sent
            sent += len(data)
            await protocol.send_bytes(data)

        try:
            try:
                async for piece in self._supply.pieces(target.root, parts, gone):
                    if streaming:
                        await send(piece)
                        continue
                    first.append(piece)
                    size += len(piece)
                    if size > _AT_ONCE:
                        protocol.response_stream(status, headers)
                        streaming = True
                        await send(b"".join(first))
                        first.clear()
            except DecentraSpaceError as error:
                if not streaming and isinstance(error, Blocked):
                    raise
                if not streaming:
                    if isinstance(error, Unavailable):
                        raise refusal(504, "Not in time", str(error), target.site) from error
                    raise refusal(502, "Content is damaged", str(error), target.site) from error
                await send(broken_off)
            if not streaming:
                self._usage.add(target.site, status, size)
                protocol.response_bytes(status, headers, b"".join(first))
        except ClientGone:
            pass
        finally:
            gone.cancel()
            if streaming:
                self._usage.add(target.site, status, sent)


def _unchanged(if_range: str | None, page: Page) -> bool:
    """Strong comparison, as If-Range wants it; a date is never right: there are none here."""
    return if_range is None or if_range.strip() == page.etag
