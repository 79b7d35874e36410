"""Small content that reads as if it had no end, and content that is not here: no thread is lost over it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from decentraspace.content import car, unixfs
from decentraspace.content import cid as cids
from decentraspace.content.dagpb import Link
from decentraspace.network.fetch import Provider
from tests.content.blocks import Blocks
from tests.gateway.served import Served, until

THREADS = 4  # of a worker, for what has to be read


def kept(served: Served, blocks: Blocks, root: bytes) -> bytes:
    writer = served.node.blocks.writer()
    for cid, data in blocks.items():
        writer.put(cid, data)
    writer.flush()
    served.node.blocks.pin(root, "test")
    return root


@pytest.fixture
def doubled(served: Served) -> bytes:
    """A file of 2^40 bytes in 41 blocks."""
    blocks, size = Blocks(), 1
    cid = blocks.raw(b"x")
    for _ in range(40):
        cid, size = blocks.node([Link(cid)] * 2, unixfs.encode_file(2 * size, [size] * 2)), 2 * size
    return kept(served, blocks, cid)


def test_a_file_of_doubled_parts_is_a_short_car(served: Served, doubled: bytes) -> None:
    for query in ("", "&entity-bytes=0:*", f"&entity-bytes=1:{2**40 - 2}", "&entity-bytes=-5:*"):
        decoder = car.CarDecoder()
        answer = served.by_path(doubled, f"?format=car&dag-scope=entity{query}")
        assert answer.status == 200
        assert len(decoder.feed(answer.body)) == 41
        decoder.close()


@pytest.mark.parametrize("query", ["?format=car&dag-scope=entity&car-dups=y", "?format=tar", ""])
def test_whoever_leaves_frees_the_thread(served: Served, doubled: bytes, query: str) -> None:
    other = served.store({"index.html": query.encode() + b"still served"})
    served.node.blocks.pin(other, "test")
    host = f"127.0.0.1:{served.port}"
    for _ in range(2 * THREADS):
        with served.wire() as wire:
            wire.send(f"GET /ipfs/{cids.to_text(doubled)}{query} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    until(lambda: served.by_path(other, "/index.html").status in (200, 301))


def test_a_car_of_content_that_others_hold(served: Served, serve: Callable[..., Served]) -> None:
    root = served.store({f"{n:03}/page.html": b"%d" % n for n in range(120)})
    served.node.blocks.pin(root, "test")
    others = [Provider(f"http://127.0.0.1:{served.port}", "peer")]
    relay = serve(providers=others, gateway={"open_relay": True})
    there, here = car.CarDecoder(), car.CarDecoder()
    expected = there.feed(served.by_path(root, "?format=car").body)
    assert len(expected) == 241
    assert here.feed(relay.by_path(root, "?format=car").body) == expected
    here.close()
    asked = [cid for cid, _ in relay.fetches]
    assert asked
    assert len(asked) == len(set(asked))
