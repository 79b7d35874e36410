"""Content in other forms than pages: tars, documents of JSON and CBOR, CARs with duplicates."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator

import base58
import libipld
import pytest

from decentraspace.content import car, dagpb, unixfs
from decentraspace.content import cid as cids
from decentraspace.content.dagpb import Link
from tests.gateway.served import Answer, Served

IMMUTABLE = "public, max-age=29030400, immutable"
LEAF = b"at the end of a link"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("relay")
    with Served(folder, gateway={"open_relay": True, "fetch_timeout": 1.0}).serving() as running:
        yield running


def put(served: Served, codec: int, block: bytes) -> bytes:
    cid = cids.make(codec, block)
    served.node.blocks.put_many([(cid, block)])
    return cid


@pytest.fixture(scope="module")
def documents(relay: Served) -> dict[str, tuple[bytes, bytes]]:
    """Name -> (CID, block). The DAG ones link to a file at /a/link."""
    leaf = put(relay, cids.RAW, LEAF)
    link = b"\xd8\x2a\x58" + bytes([len(leaf) + 1]) + b"\0" + leaf
    blocks = {
        "dag-json": (
            cids.DAG_JSON,
            json.dumps({"a": {"link": {"/": cids.to_text(leaf)}}, "t": "<b>"}).encode(),
        ),
        "dag-cbor": (cids.DAG_CBOR, b"\xa1\x61a\xa1\x64link" + link),
        "json": (cids.JSON, b'{"plain": 1}'),
        "cbor": (cids.CBOR, bytes(libipld.encode_dag_cbor({"plain": 1}))),
    }
    return {name: (put(relay, codec, block), block) for name, (codec, block) in blocks.items()}


# -- documents


@pytest.mark.parametrize("name", ["dag-json", "dag-cbor", "json", "cbor"])
def test_a_document_as_it_is(relay: Served, documents: dict[str, tuple[bytes, bytes]], name: str) -> None:
    cid, block = documents[name]
    text, plain = cids.to_text(cid), name.removeprefix("dag-")
    own = f"application/vnd.ipld.{name}" if name.startswith("dag") else f"application/{name}"
    for asked, accept, kind, tag in (
        ("", "*/*", own, name),
        (f"?format={name}", "*/*", own, name),
        ("", own, own, name),
        (f"?format={plain}", "application/vnd.ipld.raw", f"application/{plain}", plain),
        ("", f"application/{plain}", f"application/{plain}", plain),
    ):
        answer = relay.by_path(cid, asked, accept=accept)
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, block, kind)
        assert answer.headers["etag"] == f'"{text}.{tag}"'
        assert answer.headers["cache-control"] == IMMUTABLE
        assert answer.headers["vary"] == "Accept"
        save = "inline" if plain == "json" else "attachment"
        assert answer.headers["content-disposition"].startswith(f'{save}; filename="{text}.{plain}"')
        assert relay.by_path(cid, asked, accept=accept, if_none_match=answer.headers["etag"]).status == 304
        part = relay.by_path(cid, asked, accept=accept, range="bytes=2-4")
        assert (part.status, part.body) == (206, block[2:5])
    saved = relay.by_path(cid, "?download=true&filename=mine.x")
    assert saved.headers["content-disposition"].startswith('attachment; filename="mine.x"')


def test_no_document_is_converted(relay: Served, documents: dict[str, tuple[bytes, bytes]]) -> None:
    folder = relay.store({"a.txt": b"a"})
    for cid, form in (
        (documents["dag-json"][0], "dag-cbor"),
        (documents["dag-cbor"][0], "json"),
        (documents["json"][0], "dag-json"),
        (folder, "dag-json"),
    ):
        assert relay.by_path(cid, f"/?format={form}").status == 406
    # A file is what it is, whatever somebody would like it to be.
    assert relay.by_path(folder, "/a.txt?format=json").body == b"a"


def test_paths_lead_through_documents(relay: Served, documents: dict[str, tuple[bytes, bytes]]) -> None:
    for name in ("dag-json", "dag-cbor"):
        cid, _ = documents[name]
        answer = relay.by_path(cid, "/a/link")
        leaf = cids.to_text(cids.make(cids.RAW, LEAF))
        assert answer.body == LEAF
        assert answer.headers["x-ipfs-roots"] == f"{cids.to_text(cid)},{leaf}"
        assert answer.headers["x-ipfs-path"] == f"/ipfs/{cids.to_text(cid)}/a/link"
        assert relay.by_path(cid, "/a").status == 501
        assert relay.by_path(cid, f"/a?format={name}").status == 501
        assert relay.by_path(cid, "/a/other").status == 404
        blocks = unpacked(relay.by_path(cid, "/a/link?format=car"))
        assert blocks == [cid, cids.make(cids.RAW, LEAF)]


def test_browsers_are_shown_documents(relay: Served, documents: dict[str, tuple[bytes, bytes]]) -> None:
    for name in ("dag-json", "dag-cbor"):
        answer = relay.by_path(documents[name][0], "/", accept="text/html,*/*")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["content-security-policy"] == "sandbox"
        assert cids.to_text(cids.make(cids.RAW, LEAF)).encode() in answer.body
        assert b"<b>" not in answer.body
    broken = put(relay, cids.DAG_CBOR, b"\xa1no document")
    assert relay.by_path(broken, "/", accept="text/html").status == 200
    assert relay.by_path(broken, "/x").status in (400, 500)


# -- tars


def test_a_folder_as_a_tar(relay: Served) -> None:
    big = bytes(range(256)) * 9000
    root = relay.store({"a.txt": b"a", "ü/b.bin": big, "ü/empty": b"", "x" * 120 + "/long.txt": b"l"})
    name = cids.to_text(root)
    answer = relay.by_path(root, "/?format=tar")
    assert answer.headers["content-type"] == "application/x-tar"
    assert answer.headers["content-disposition"].startswith(f'attachment; filename="{name}.tar"')
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as unpacked_tar:
        found = {m.name: unpacked_tar.extractfile(m).read() for m in unpacked_tar if m.isfile()}  # type: ignore[union-attr]
    assert found == {
        f"{name}/a.txt": b"a",
        f"{name}/ü/b.bin": big,
        f"{name}/ü/empty": b"",
        f"{name}/{'x' * 120}/long.txt": b"l",
    }
    assert relay.by_path(root, "/", accept="application/x-tar").body == answer.body
    one = relay.by_path(root, "/a.txt?format=tar")
    with tarfile.open(fileobj=io.BytesIO(one.body)) as single:
        assert [m.size for m in single] == [1]
    etag = answer.headers["etag"]
    assert relay.by_path(root, "/?format=tar", if_none_match=etag).status == 304


@pytest.mark.parametrize("name", ["../out", "a/../../out", "..", "/etc/passwd", "."])
def test_no_tar_leads_out_of_its_folder(relay: Served, name: str) -> None:
    leaf = put(relay, cids.RAW, LEAF)
    root = put(relay, cids.DAG_PB, dagpb.encode([Link(leaf, name, 9)], unixfs.DIRECTORY))
    answer = relay.by_path(root, "/?format=tar")
    if answer.status == 200:  # below the folder after all
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as unpacked_tar:
            assert all(m.name.startswith(cids.to_text(root)) and ".." not in m.name for m in unpacked_tar)
    else:
        assert answer.status == 502


def test_a_tar_with_a_hole_is_broken_off(relay: Served) -> None:
    """Whoever unpacks it must notice."""
    missing = cids.make(cids.RAW, b"nobody has this")
    filling = relay.store({f"{n}.bin": bytes([n]) * 900_000 for n in range(3)})
    links = [Link(filling, "a", 1), Link(missing, "b", 1)]
    root = put(relay, cids.DAG_PB, dagpb.encode(links, unixfs.DIRECTORY))
    body = relay.by_path(root, "/?format=tar").body
    assert len(body) > 2_000_000
    assert not body.endswith(bytes(512))  # a tar ends in blocks of zeros
    with tarfile.open(fileobj=io.BytesIO(body)) as broken:
        read = sum(member.size for member in broken)
        with pytest.raises(tarfile.InvalidHeaderError):
            broken.tarinfo.frombuf(body[broken.offset : broken.offset + 512], "utf-8", "strict")
    assert read == 2_700_000


# -- CARs


def unpacked(answer: Answer) -> list[bytes]:
    decoder = car.CarDecoder()
    found = [cid for cid, _ in decoder.feed(answer.body)]
    decoder.close()
    return found


def test_duplicates_are_given_to_those_who_ask(relay: Served) -> None:
    root = relay.store({"a": b"same", "b": b"same", "c/d": b"same"})
    leaf = cids.make(cids.RAW, b"same")
    for asked, accept in (
        ("/?format=car&car-dups=y", "*/*"),
        ("/", "application/vnd.ipld.car; dups=y"),
        ("/?format=car", "application/vnd.ipld.car; version=1; order=dfs; dups=y"),
        ("/?car-dups=y", "application/vnd.ipld.car; dups=n"),
    ):
        answer = relay.by_path(root, asked, accept=accept)
        assert answer.headers["content-type"].endswith("order=dfs; dups=y")
        assert unpacked(answer).count(leaf) == 3
    for accept in ("*/*", "application/vnd.ipld.car; dups=n"):
        answer = relay.by_path(root, "/?format=car", accept=accept)
        assert unpacked(answer).count(leaf) == 1
    for wrong in ("car-dups=maybe", "car-order=bfs", "car-version=2"):
        assert relay.by_path(root, f"/?format=car&{wrong}").status == 400
    carried = b"\x01\x55\x00\x05hello"
    assert unpacked(relay.by_path(carried, "/?format=car&car-dups=y")) == []


def test_cids_of_version_0_are_given_as_they_are_linked(relay: Served) -> None:
    """To those who ask under one: they look for blocks by the very bytes of a link."""
    inner = put(relay, cids.DAG_PB, dagpb.encode([], unixfs.encode_file(0, [])))
    leaf = put(relay, cids.RAW, LEAF)
    links = [Link(cids.multihash(inner), "a", 1), Link(leaf, "b", 1)]
    root = put(relay, cids.DAG_PB, dagpb.encode(links, unixfs.DIRECTORY))
    old = base58.b58encode(cids.multihash(root)).decode()
    body = relay.get(f"127.0.0.1:{relay.port}", f"/ipfs/{old}?format=car").body
    written = [cids.multihash(root), cids.multihash(inner), leaf]
    blocks = [relay.node.blocks.get_or_raise(cid) for cid in (root, inner, leaf)]
    assert body == car.encode([written[0]], list(zip(written, blocks, strict=True)))
    assert unpacked(relay.by_path(root, "?format=car")) == [root, inner, leaf]
    assert relay.by_path(root, "?format=car").body != body


def test_parts_of_blocks_and_of_files_with_holes(relay: Served) -> None:
    block = bytes(range(200))
    cid = put(relay, cids.RAW, block)
    part = relay.by_path(cid, "?format=raw", range="bytes=10-19")
    assert (part.status, part.body) == (206, block[10:20])
    missing = cids.make(cids.RAW, bytes(200))
    data = unixfs.encode_file(400, [200, 200])
    holed = put(relay, cids.DAG_PB, dagpb.encode([Link(missing, "", 200), Link(cid, "", 200)], data))
    answer = relay.by_path(holed, "", range="bytes=250-259")
    assert (answer.status, answer.body) == (206, block[50:60])
    assert answer.headers["content-range"] == "bytes 250-259/400"
    assert relay.by_path(holed, "", range="bytes=0-9").status == 504


# -- all of them


def test_scripts_of_all_origins_may_read_content(relay: Served) -> None:
    root = relay.store({"a.txt": b"a"})
    asks: list[Callable[[], Answer]] = [
        lambda: relay.by_path(root, "/a.txt"),
        lambda: relay.by_cid(root, "/a.txt"),
        lambda: relay.by_path(root, "/?format=car"),
        lambda: relay.by_path(root, "/a.txt", "OPTIONS"),
    ]
    for ask in asks:
        headers = ask().headers
        assert headers["access-control-allow-origin"] == "*"
        assert "HEAD" in headers["access-control-allow-methods"]
        assert "Range" in headers["access-control-allow-headers"]
        assert "X-Ipfs-Roots" in headers["access-control-expose-headers"]


def test_a_sites_own_queries_are_its_own(relay: Served) -> None:
    site = relay.site({"index.html": b"<p>page", "data.json": b"{}"})
    for query in ("?format=json", "?format=dag-json", "?download=true&filename=x", "?uri=ipfs://x"):
        answer = site.get("/" + query)
        assert (answer.status, answer.body) == (200, b"<p>page")
        assert "content-disposition" not in answer.headers
    assert site.get("/data.json", accept="application/vnd.ipld.dag-json, application/json").body == b"{}"


def test_what_to_save_a_file_as(relay: Served) -> None:
    root = relay.store({"a.txt": b"a"})
    for query, expected in (
        ("?filename=b.txt", "inline; filename=\"b.txt\"; filename*=UTF-8''b.txt"),
        ("?download=true", "attachment; filename=\"a.txt\"; filename*=UTF-8''a.txt"),
        (
            "?download=true&filename=%D1%82%22%0D%0A.x",
            "attachment; filename=\"____.x\"; filename*=UTF-8''%D1%82%22%0D%0A.x",
        ),
    ):
        assert relay.by_path(root, "/a.txt" + query).headers["content-disposition"] == expected
