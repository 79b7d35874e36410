"""Answers in other forms than a page: blocks, CARs, tars, documents and records of names."""

from __future__ import annotations

from typing import Any

from decentraspace.content import cid as cids
from decentraspace.content import reader
from decentraspace.content.reader import Resolved
from decentraspace.errors import BadInput, Blocked, DecentraSpaceError, NotFound, Unavailable
from decentraspace.gateway import formats, native, negotiate, tarball, trustless
from decentraspace.gateway.formats import Request
from decentraspace.gateway.http import Exchange
from decentraspace.gateway.names import Names
from decentraspace.gateway.page import CORS, NOSNIFF, Page, site_mode
from decentraspace.gateway.request import Target, refusal
from decentraspace.gateway.sending import Sender
from decentraspace.gateway.supply import Supply


class Answers:
    """One per worker."""

    def __init__(self, supply: Supply, names: Names, sender: Sender) -> None:
        self._supply, self._names, self._sender = supply, names, sender

    async def give(
        self, target: Target, request: Request, headers: Any, protocol: Exchange, method: str
    ) -> bool:
        """Answer in the form that is asked for; False where that is what an ordinary answer is in."""
        found, block = await self._find(target, request)
        if request.form not in (formats.RAW, formats.CAR, formats.TAR):
            if found.stat.kind != "node" and native.fits(found.stat.cid, request.form):
                return False
            if found.stat.kind == "file" and request.form in ("json", "cbor"):
                return False
            await self._document(
                target, request, found.stat.cid, block, found.trail, headers, protocol, method
            )
            return True
        answer = trustless.headers_for(request, target.root, target.path, target.mode, found)
        etag = dict(answer)["etag"]
        if request.form == formats.RAW:
            page = Page(200, [*answer, ("accept-ranges", "bytes")], block, etag, len(block))
            asked = headers.get("range") if method == "GET" else None
            await self._sender.answer(target, page, asked, headers, protocol, method)
            return True
        tag = headers.get("if-none-match")
        if tag is not None and negotiate.etag_matches(tag, etag):
            self._sender.not_modified(answer, target.site, protocol)
        elif method == "HEAD":
            self._sender.only_headers(answer, target.site, protocol)
        else:
            get = self._supply.verified
            if request.form == formats.CAR:
                parts = trustless.from_byte(
                    lambda: trustless.car_stream(get, target.root, found, request, target.old)
                )
                broken_off = trustless.BROKEN_OFF
            else:
                parts = trustless.from_byte(lambda: tarball.stream(get, found.stat))
                broken_off = tarball.BROKEN_OFF
            await self._sender.stream(target, 200, answer, broken_off, parts, protocol)
        return True

    async def document(
        self, target: Target, request: Request, page: Page, headers: Any, protocol: Exchange, method: str
    ) -> None:
        """The answer that `page` stands for, which is no UnixFS."""
        block = await self._supply.patiently(target.root, lambda: self._supply.verified(page.native))
        await self._document(target, request, page.native, block, page.roots, headers, protocol, method)

    async def _document(
        self,
        target: Target,
        request: Request,
        cid: bytes,
        block: bytes,
        trail: tuple[bytes, ...],
        headers: Any,
        protocol: Exchange,
        method: str,
    ) -> None:
        # In a thread: a preview takes a while.
        page = await self._supply.patiently(
            target.root, lambda: native.page(cid, block, trail, target.path, target.mode, request)
        )
        asked = headers.get("range") if method == "GET" else None
        await self._sender.answer(target, page, asked, headers, protocol, method)

    async def record(
        self, name: str, request: Request, headers: Any, protocol: Exchange, method: str
    ) -> None:
        """The signed record of a key's name, for clients that verify it."""
        record = await self._names.record(name)
        etag = f'"{cids.to_text(cids.make(cids.RAW, record.encoded))}"'
        answer = [
            ("content-type", formats.TYPES[formats.NAME_RECORD]),
            ("cache-control", f"public, max-age={record.ttl}"),
            ("etag", etag),
            ("vary", "Accept"),
            NOSNIFF,
            *CORS,
            (
                "content-disposition",
                formats.disposition("attachment", request.filename or f"{name}.ipns-record"),
            ),
        ]
        page = Page(200, answer, record.encoded, etag, len(record.encoded))
        target = Target("", b"", "", site_mode(False))  # nobody's
        await self._sender.answer(target, page, None, headers, protocol, method)

    async def _find(self, target: Target, request: Request) -> tuple[Resolved, bytes]:
        """What the path leads to, and its block unless a stream of it is wanted."""
        segments = [part for part in target.path.split("/") if part]
        get = self._supply.verified

        def find() -> tuple[Resolved, bytes]:
            found = reader.resolve(get, target.root, segments)
            return found, b"" if request.form in (formats.CAR, formats.TAR) else get(found.stat.cid)

        try:
            return await self._supply.patiently(target.root, find)
        except NotFound as error:
            raise refusal(404, "Not found", str(error), target.site) from error
        except reader.Inside as error:
            raise refusal(501, "Not a block", str(error), target.site) from error
        except BadInput as error:
            raise refusal(400, "Bad request", str(error), target.site) from error
        except TimeoutError as error:
            raise refusal(504, "Not in time", "No node gave the content in time.", target.site) from error
        except (Unavailable, Blocked):
            raise
        except DecentraSpaceError as error:
            raise refusal(502, "Content is damaged", str(error), target.site) from error
