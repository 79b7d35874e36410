"""Uploads: every content type, hostile ones, quotas, and going on after an interruption."""

from __future__ import annotations

import gzip
import io
import os
import socket
import stat
import tarfile
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
import trio

from decentraspace.api import body as bodies
from decentraspace.api import intake
from decentraspace.content import car
from decentraspace.content import cid as cids
from decentraspace.content.importer import TreeBuilder
from decentraspace.content.reader import iter_file, list_directory, resolve
from decentraspace.moderation import targets
from tests.api.small_node import Person, SmallNode

UPLOAD = "/storage/upload/"
ZIPPED = {"Content-Type": "application/zip"}
CAR = "application/vnd.ipld.car"
FILES = {
    "index.html": b"<h1>hi</h1>",
    "a/b/deep.txt": b"deep",
    "empty": b"",
    "big.bin": os.urandom(700_000),
    "\u00fcmlaut \u96ea.txt": b"unicode",
}


def expected_root() -> str:
    builder = TreeBuilder(lambda cid, data: None)
    for path, data in FILES.items():
        builder.put_file(path, io.BytesIO(data))
    return cids.to_text(builder.finish().cid)


def as_zip(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return out.getvalue()


def as_tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def as_car(files: dict[str, bytes]) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """(root, blocks)"""
    blocks: dict[bytes, bytes] = {}
    builder = TreeBuilder(lambda cid, data: blocks.update({cid: data}))
    for path, data in files.items():
        builder.put_file(path, io.BytesIO(data))
    return builder.finish().cid, list(blocks.items())


async def send(client: httpx.AsyncClient, person: Person, media: str, body: Any, path: str = UPLOAD) -> Any:
    return await client.post(path, content=body, headers={**person.headers, "Content-Type": media})


def slug(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return str(answer.json()["type"]).rpartition(":")[2]


def boundary_form(files: dict[str, bytes]) -> tuple[str, bytes]:
    boundary = "b0undary"
    out = bytearray()
    for path, data in files.items():
        out += (
            f"--{boundary}\r\nContent-Disposition: form-data; name=file; "
            f'filename="{path}"\r\nContent-Type: text/plain\r\n\r\n'
        ).encode()
        out += data + b"\r\n"
    return f"multipart/form-data; boundary={boundary}", bytes(out + f"--{boundary}--\r\n".encode())


@pytest.mark.parametrize("kind", ["zip", "stored zip", "tar", "tar.gz", "form", "car"])
async def test_every_form_of_upload_has_the_same_root(
    client: httpx.AsyncClient, person: Person, node: SmallNode, kind: str
) -> None:
    if kind == "form":
        media, body = boundary_form(FILES)
    elif kind == "car":
        root, blocks = as_car(FILES)
        media, body = CAR, car.encode([root], blocks)
    elif kind.endswith("zip"):
        how = zipfile.ZIP_STORED if "stored" in kind else zipfile.ZIP_DEFLATED
        media, body = "application/zip", as_zip(FILES, how)
    else:
        media, body = "application/x-tar", as_tar(FILES, "w:gz" if kind == "tar.gz" else "w")
    answer = await send(client, person, media, body)
    assert answer.status_code == 200, answer.text
    done = answer.json()
    assert done["cid"] == expected_root()
    assert done["links"]["path"].endswith(f"/ipfs/{done['cid']}")
    root = cids.parse(done["cid"])
    assert not node.blocks.missing(root)
    assert node.blocks.is_pinned(root)
    for path, data in FILES.items():
        found = resolve(node.blocks.get_or_raise, root, path.split("/")).stat
        assert b"".join(iter_file(node.blocks.get_or_raise, found.cid)) == data


async def test_a_form_in_any_pieces(client: httpx.AsyncClient, person: Person) -> None:
    media, body = boundary_form(FILES)
    for size in (1 << 16, 4099, 777):

        async def pieces(size: int = size) -> AsyncIterator[bytes]:
            for start in range(0, len(body), size):
                yield body[start : start + size]

        answer = await send(client, person, media, pieces())
        assert answer.json()["cid"] == expected_root()


async def test_one_file(client: httpx.AsyncClient, person: Person, node: SmallNode) -> None:
    data = os.urandom(600_000)
    done = (await send(client, person, "application/octet-stream", data)).json()
    assert done["size"] == len(data)
    assert b"".join(iter_file(node.blocks.get_or_raise, cids.parse(done["cid"]))) == data


async def test_only_what_is_missing_is_asked_for(client: httpx.AsyncClient, person: Person) -> None:
    root, blocks = as_car(FILES)
    want = [cids.to_text(cid) for cid, _ in blocks]
    answer = await client.post(UPLOAD, json={"want": want}, headers=person.headers)
    assert answer.json() == {"missing": want}
    half = blocks[: len(blocks) // 2]
    stored = await send(client, person, CAR, car.encode([], half), UPLOAD + "?blocks=1")
    assert stored.json() == {
        "stored": len(half),
        "new": len(half),
        "bytes": sum(len(data) for _, data in half),
    }
    answer = await client.post(UPLOAD, json={"want": want}, headers=person.headers)
    assert answer.json() == {"missing": want[len(half) :]}
    whole = await send(client, person, CAR, car.encode([root], half))
    assert (whole.status_code, slug(whole)) == (422, "missing-blocks")
    assert whole.json()["missing"]
    rest = await send(client, person, CAR, car.encode([root], blocks[len(half) :]))
    assert rest.json()["cid"] == cids.to_text(root)


async def test_nothing_without_a_login(client: httpx.AsyncClient) -> None:
    for method in ("POST", "PATCH", "DELETE", "HEAD"):
        answer = await client.request(method, UPLOAD, params={"upload": "0" * 32})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"


# -- hostile archives


def link_tar(name: str, target: str, kind: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        archive.addfile(info)
    return out.getvalue()


def link_zip(name: str, target: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, target)
    return out.getvalue()


def lying_zip() -> bytes:
    """A member that says it has 10 bytes and unpacks to a million."""
    data = bytearray(as_zip({"x": bytes(1_000_000)}))
    for position in (data.find(b"PK\x03\x04") + 22, data.find(b"PK\x01\x02") + 24):
        data[position : position + 4] = (10).to_bytes(4, "little")
    return bytes(data)


HOSTILE = {
    "slip": ("application/zip", as_zip({"../evil": b"x"})),
    "absolute": ("application/zip", as_zip({"/etc/passwd": b"x"})),
    "backslash": ("application/zip", as_zip({"..\\evil": b"x"})),
    "dot": ("application/zip", as_zip({"a/./b": b"x"})),
    "empty name part": ("application/zip", as_zip({"a//b": b"x"})),
    "file below a file": ("application/zip", as_zip({"a": b"x", "a/b": b"y"})),
    "lying size": ("application/zip", lying_zip()),
    "not a zip": ("application/zip", b"PK\x03\x04" + os.urandom(500)),
    "no zip at all": ("application/zip", b""),
    "zip cut": ("application/zip", as_zip(FILES)[:-30]),
    "empty zip": ("application/zip", as_zip({})),
    "zip symlink out": ("application/zip", link_zip("a/link", "../../x")),
    "zip symlink absolute": ("application/zip", link_zip("link", "/etc/passwd")),
    "tar slip": ("application/x-tar", as_tar({"../evil": b"x"})),
    "tar symlink out": ("application/x-tar", link_tar("link", "../x", tarfile.SYMTYPE)),
    "tar hard link": ("application/x-tar", link_tar("link", "other", tarfile.LNKTYPE)),
    "tar device": ("application/x-tar", link_tar("null", "", tarfile.CHRTYPE)),
    "tar fifo": ("application/x-tar", link_tar("pipe", "", tarfile.FIFOTYPE)),
    "tar cut": ("application/x-tar", as_tar(FILES)[:300_000]),
    "not a tar": ("application/x-tar", os.urandom(2000)),
    "empty tar": ("application/x-tar", b""),
    "gzip cut": ("application/gzip", as_tar(FILES, "w:gz")[:2000]),
    "gzip of noise": ("application/gzip", gzip.compress(os.urandom(3000))),
    "car of noise": (CAR, os.urandom(5000)),
    "empty car": (CAR, b""),
    "car without a root": (CAR, car.encode([], as_car(FILES)[1])),
    "car with two roots": (CAR, car.encode([as_car(FILES)[0]] * 2, as_car(FILES)[1])),
    "car cut": (CAR, car.encode([as_car(FILES)[0]], as_car(FILES)[1])[:-3]),
    "form without boundary": ("multipart/form-data", boundary_form(FILES)[1]),
    "form cut": (boundary_form(FILES)[0], boundary_form(FILES)[1][:300_000]),
    "form empty": (boundary_form({})[0], b"--b0undary--\r\n"),
    "form of noise": (boundary_form({})[0], os.urandom(5000)),
    "form slip": boundary_form({"../x": b"x"}),
    "form twice": (boundary_form({})[0], boundary_form({"x": b"1"})[1][:-14] + boundary_form({"x": b"2"})[1]),
    "form header flood": (
        boundary_form({})[0],
        b"--b0undary\r\n" + b"X-Y: z\r\n" * 50_000,
    ),
    "unknown type": ("application/x-rar", b"Rar!"),
    "no type": ("", b"something"),
    "json nothing": ("application/json", b""),
    "json deep": ("application/json", b"[" * 100_000),
    "json not a cid": ("application/json", b'{"want": ["nonsense"]}'),
    "json number": ("application/json", b'{"want": [1]}'),
    "json unknown": ("application/json", b'{"want": [], "have": []}'),
    "json NaN": ("application/json", b'{"want": NaN}'),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_uploads_are_refused_in_words(
    client: httpx.AsyncClient, person: Person, node: SmallNode, name: str
) -> None:
    media, body = HOSTILE[name]
    answer = await send(client, person, media, body)
    assert 400 <= answer.status_code < 500, answer.text
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["title"]
    assert problem.get("detail")
    assert "Traceback" not in answer.text
    assert list(node.blocks.pins()) == []
    assert list((node.config.data_dir / "uploads").iterdir()) == []


async def test_a_block_that_does_not_match_its_cid_is_refused(
    client: httpx.AsyncClient, person: Person, node: SmallNode
) -> None:
    good, bad = cids.make(cids.RAW, b"good"), cids.make(cids.RAW, b"what it says")
    body = car.header([]) + car.frame(good, b"good") + car.frame(bad, b"what it is")
    answer = await send(client, person, CAR, body, UPLOAD + "?blocks=1")
    assert answer.status_code == 422
    assert not node.blocks.has(bad)


async def test_bombs_stop_at_the_limit(make_node: Callable[..., SmallNode]) -> None:
    node = make_node(api={"max_upload": 2_000_000, "max_upload_files": 100})
    async with node.serving() as client:
        person = await Person(node).log_in(client)
        bomb = {"zeros": bytes(5_000_000)}
        for media, body in (
            ("application/zip", as_zip(bomb)),
            ("application/gzip", as_tar(bomb, "w:gz")),
            ("application/octet-stream", bytes(2_000_001)),
            boundary_form(bomb),
        ):
            answer = await send(client, person, media, body)
            assert answer.status_code == 413, (media, answer.text)
            assert slug(answer) == "too-large"
        many = {f"f{number}": b"" for number in range(101)}
        for media, body in (
            ("application/zip", as_zip(many)),
            ("application/x-tar", as_tar(many)),
            boundary_form(many),
        ):
            answer = await send(client, person, media, body)
            assert (answer.status_code, slug(answer)) == (413, "too-large")
        assert node.blocks.stats().bytes <= 4 * 2_000_000 + 1_000_000


async def test_a_wallet_uploads_no_more_than_its_tier(make_node: Callable[..., SmallNode]) -> None:
    node = make_node(limits={"free_bytes": 1_000_000})
    async with node.serving() as client:
        person = await Person(node).log_in(client)
        answer = None
        for _ in range(20):
            data = os.urandom(100_000)
            answer = await send(
                client, person, CAR, car.encode([], [(cids.make(cids.RAW, data), data)]), UPLOAD + "?blocks=1"
            )
            if answer.status_code != 200:
                break
        assert answer is not None
        assert (answer.status_code, slug(answer)) == (429, "upload-allowance")
        said = "may upload 1.0 MB in 60 minutes, and that is used up"
        assert said in answer.json()["detail"]
        assert node.blocks.stats().bytes <= 1_000_000
        other = await Person(node).log_in(client)
        assert (await send(client, other, "application/octet-stream", b"fine")).status_code == 200
        node.sessions.set_tier(person.address, "paid", person.address)
        assert (await send(client, person, "application/octet-stream", b"fine now")).status_code == 200


async def test_a_full_node_says_so(make_node: Callable[..., SmallNode]) -> None:
    node = make_node(storage={"quota": 500_000})
    async with node.serving() as client:
        person = await Person(node).log_in(client)
        node.sessions.set_tier(person.address, "paid", person.address)
        answer = await send(client, person, "application/octet-stream", os.urandom(2_000_000))
        assert (answer.status_code, slug(answer)) == (507, "quota-exceeded")
        assert (await client.get("/healthz")).status_code == 200


async def test_uploads_are_given_up(client: httpx.AsyncClient, person: Person, node: SmallNode) -> None:
    cid = (await send(client, person, "application/octet-stream", b"mine")).json()["cid"]
    other = await Person(node).log_in(client)
    assert (await client.delete(UPLOAD, params={"cid": cid}, headers=other.headers)).status_code == 204
    assert node.blocks.is_pinned(cids.parse(cid)), "somebody else's pin must stay"
    assert (await client.delete(UPLOAD, params={"cid": cid}, headers=person.headers)).status_code == 204
    assert not node.blocks.is_pinned(cids.parse(cid))
    assert (await client.delete(UPLOAD, headers=person.headers)).status_code == 400


# -- interruptions


async def begin(client: httpx.AsyncClient, person: Person, media: str, first: bytes, **headers: str) -> str:
    answer = await client.post(
        UPLOAD,
        content=first,
        headers={**person.headers, "Content-Type": media, "Upload-Complete": "?0", **headers},
    )
    assert answer.status_code == 201, answer.text
    assert answer.headers["upload-offset"] == str(len(first))
    return answer.headers["location"]


async def go_on(
    client: httpx.AsyncClient, person: Person, where: str, offset: int, data: bytes, complete: str
) -> httpx.Response:
    headers = {
        "Content-Type": "application/partial-upload",
        "Upload-Offset": str(offset),
        "Upload-Complete": complete,
    }
    return await client.patch(where, content=data, headers={**person.headers, **headers})


@pytest.mark.parametrize("kind", ["zip", "tar", "car"])
async def test_an_upload_goes_on_where_it_stopped(
    client: httpx.AsyncClient, person: Person, node: SmallNode, kind: str
) -> None:
    root, blocks = as_car(FILES)
    media, body = {
        "zip": ("application/zip", as_zip(FILES)),
        "tar": ("application/x-tar", as_tar(FILES)),
        "car": (CAR, car.encode([root], blocks)),
    }[kind]
    where = await begin(client, person, media, body[:1000], **{"Upload-Length": str(len(body))})
    wrong = await go_on(client, person, where, 900, body[900:], "?0")
    assert (wrong.status_code, slug(wrong), wrong.json()["offset"]) == (409, "wrong-offset", 1000)
    part = await go_on(client, person, where, 1000, body[1000:5000], "?0")
    assert (part.status_code, part.headers["upload-offset"]) == (204, "5000")
    early = await go_on(client, person, where, 5000, b"", "?1")
    assert (early.status_code, slug(early)) == (409, "wrong-length")
    head = await client.head(where, headers=person.headers)
    assert (head.status_code, head.headers["upload-offset"]) == (204, "5000")
    assert head.headers["upload-length"] == str(len(body))
    done = await go_on(client, person, where, 5000, body[5000:], "?1")
    assert done.status_code == 200, done.text
    assert done.json()["cid"] == expected_root()
    assert (await client.head(where, headers=person.headers)).status_code == 404
    assert list((node.config.data_dir / "uploads").iterdir()) == []


async def test_a_broken_connection_keeps_what_arrived(
    client: httpx.AsyncClient, person: Person, node: SmallNode
) -> None:
    body = as_zip({"noise": os.urandom(3_000_000)})
    where = await begin(client, person, "application/zip", b"")
    stream = await trio.open_tcp_stream("127.0.0.1", node.config.api.port)
    head = (
        f"PATCH {where} HTTP/1.1\r\nHost: x\r\nContent-Type: application/partial-upload\r\n"
        f"Authorization: {person.headers['Authorization']}\r\n"
        f"Upload-Offset: 0\r\nUpload-Complete: ?1\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    await stream.send_all(head.encode() + body[:2_000_000])
    await stream.aclose()
    offset = 0
    with trio.fail_after(20):
        while offset == 0:
            answer = await client.head(where, headers=person.headers)
            offset = int(answer.headers["upload-offset"])
        # The first request may still be at work on what had arrived.
        while True:
            answer = await client.head(where, headers=person.headers)
            offset = int(answer.headers["upload-offset"])
            done = await go_on(client, person, where, offset, body[offset:], "?1")
            if done.status_code != 409:
                break
    assert 0 < offset <= 2_000_000
    assert done.status_code == 200, done.text
    [entry] = list_directory(node.blocks.get_or_raise, cids.parse(done.json()["cid"]))
    assert entry.name == "noise"


async def test_uploads_of_others_do_not_exist(
    client: httpx.AsyncClient, person: Person, node: SmallNode
) -> None:
    where = await begin(client, person, "application/zip", b"abc")
    other = await Person(node).log_in(client)
    for method in ("HEAD", "DELETE"):
        assert (await client.request(method, where, headers=other.headers)).status_code == 404
    assert (await go_on(client, other, where, 3, b"x", "?0")).status_code == 404
    bad = UPLOAD + "?upload=../../node.key"
    assert (await go_on(client, person, bad, 0, b"x", "?0")).status_code == 400
    assert (await client.delete(where, headers=person.headers)).status_code == 204
    assert (await client.head(where, headers=person.headers)).status_code == 404


async def test_a_wallet_has_few_uploads_open(client: httpx.AsyncClient, person: Person) -> None:
    for _ in range(8):
        await begin(client, person, "application/zip", b"x")
    answer = await client.post(
        UPLOAD,
        content=b"x",
        headers={**person.headers, "Content-Type": "application/zip", "Upload-Complete": "?0"},
    )
    assert (answer.status_code, slug(answer)) == (429, "busy")


async def test_an_upload_waits_for_a_slow_store_instead_of_filling_memory(
    client: httpx.AsyncClient, person: Person, node: SmallNode
) -> None:
    """While the store is locked the kernel's buffers fill, and the sender cannot go on for ever."""
    sent = 0
    address = ("127.0.0.1", node.config.api.port)
    with node.blocks.write(), socket.create_connection(address) as raw:
        raw.setblocking(False)
        head = (
            f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
            f"Authorization: {person.headers['Authorization']}\r\nContent-Length: 1000000000\r\n\r\n"
        )
        raw.sendall(head.encode())
        piece = os.urandom(1 << 16)
        with trio.move_on_after(3):
            while True:
                await trio.lowlevel.wait_writable(raw)
                sent += raw.send(piece)
    assert sent < 64 * 1024 * 1024, "the node took in what it could not store"


async def slow(node: SmallNode, person: Person, sent: bytes = b"x") -> trio.SocketStream:
    """A request that begins an upload, sends so much of a large body, and no more."""
    stream = await trio.open_tcp_stream("127.0.0.1", node.config.api.port)
    head = (
        f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Type: application/zip\r\n"
        f"Authorization: {person.headers['Authorization']}\r\n"
        "Upload-Complete: ?0\r\nContent-Length: 50000000\r\n\r\n"
    )
    await stream.send_all(head.encode() + sent)
    return stream


async def test_slow_uploads_cost_others_nothing(client: httpx.AsyncClient, node: SmallNode) -> None:
    people = [await Person(node).log_in(client) for _ in range(6)]
    streams = [await slow(node, person) for person in people for _ in range(4)]
    with trio.fail_after(20):
        while node.uploads.spooled()[0] < len(streams):
            await trio.sleep(0.02)
    honest = await Person(node).log_in(client)
    with trio.fail_after(15):
        done = await client.post(UPLOAD, content=as_zip(FILES), headers=honest.headers | ZIPPED)
        where = await begin(client, honest, "application/zip", as_zip(FILES))
        resumed = await go_on(client, honest, where, len(as_zip(FILES)), b"", "?1")
    assert done.status_code == resumed.status_code == 200
    fifth = await client.post(
        UPLOAD, content=b"x", headers={**people[0].headers, **ZIPPED, "Upload-Complete": "?0"}
    )
    assert (fifth.status_code, slug(fifth)) == (429, "busy")
    for stream in streams:
        await stream.aclose()


async def test_an_upload_that_is_too_slow_ends_and_keeps_what_came(
    client: httpx.AsyncClient, person: Person, node: SmallNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "STALL", 0.5)
    stream = await slow(node, person, b"y" * 5000)
    answer = b""

    async def trickle() -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                await stream.send_all(b"z")
                await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trickle)
        with trio.fail_after(20):
            while b"\r\n\r\n" not in answer:
                answer += await stream.receive_some()
        nursery.cancel_scope.cancel()
    await stream.aclose()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert 5000 <= node.uploads.spooled()[1] < 6000


async def test_the_paid_tier_has_places_of_its_own(client: httpx.AsyncClient, node: SmallNode) -> None:
    """However many of the free tier are at it, each with more than a mebibyte sent."""
    people = [await Person(node).log_in(client) for _ in range(3)]
    streams = []
    for person in people:
        for _ in range(4):
            stream = await trio.open_tcp_stream("127.0.0.1", node.config.api.port)
            head = (
                f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
                f"Authorization: {person.headers['Authorization']}\r\nContent-Length: 50000000\r\n\r\n"
            )
            await stream.send_all(head.encode() + bytes(1_200_000))
            streams.append(stream)
    another = await Person(node).log_in(client)
    data = {"content": b"hello", "headers": {**another.headers, "Content-Type": "application/octet-stream"}}
    with trio.fail_after(20):
        while (answer := await client.post(UPLOAD, **data)).status_code == 200:
            await trio.sleep(0.02)
    assert (answer.status_code, slug(answer)) == (429, "busy")
    node.sessions.set_tier(another.address, "paid", bytes(20))
    with trio.fail_after(15):
        assert (await client.post(UPLOAD, **data)).status_code == 200
    for stream in streams:
        await stream.aclose()


@pytest.mark.parametrize("tier", ["free", "paid"])
async def test_a_whole_upload_of_the_free_tier_keeps_its_place_only_at_some_speed(
    client: httpx.AsyncClient, person: Person, node: SmallNode, monkeypatch: pytest.MonkeyPatch, tier: str
) -> None:
    """It comes fast enough not to be stalled, and far too slowly for others to wait for its end."""
    monkeypatch.setattr(intake, "_FREE_FIRST", 0.5)
    node.sessions.set_tier(person.address, tier, bytes(20))  # type: ignore[arg-type]
    stream = await trio.open_tcp_stream("127.0.0.1", node.config.api.port)
    head = (
        f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
        f"Authorization: {person.headers['Authorization']}\r\nContent-Length: 50000000\r\n\r\n"
    )
    await stream.send_all(head.encode() + bytes(1_060_000))
    answer, sent = b"", 0

    async def trickle() -> None:
        nonlocal sent
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                await stream.send_all(bytes(500))
                sent += 500
                await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trickle)
        if tier == "paid":
            with trio.fail_after(30):
                while sent < 30_000:  # three seconds: six times what the free tier has
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
            return
        with trio.fail_after(30):
            while b"}" not in answer:
                answer += await stream.receive_some()
        nursery.cancel_scope.cancel()
    await stream.aclose()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"less than 32.0 kB a second" in answer
    assert b"Upload-Complete" in answer


async def test_an_upload_that_is_blocked_is_neither_listed_nor_charged(
    client: httpx.AsyncClient, person: Person, node: SmallNode
) -> None:
    done = await client.post(
        UPLOAD, content=b"bad", headers={**person.headers, "Content-Type": "application/octet-stream"}
    )
    listed = (await client.get(UPLOAD, headers=person.headers)).json()
    assert [one["cid"] for one in listed["uploads"]] == [done.json()["cid"]]
    target = targets.parse("cid", done.json()["cid"])
    await node.hosting.moderation.block(target, status=410, reason="", hidden=False, by=bytes(20))
    listed = (await client.get(UPLOAD, headers=person.headers)).json()
    assert (listed["uploads"], listed["bytes"]) == ([], 0)
    assert list(node.blocks.pins()) == []
