"""Content from other nodes: honest and hostile HTTP servers, all real, on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from functools import wraps
from pathlib import Path

import pytest
import trio

from decentraspace.content import car, dagpb
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.dagpb import Link
from decentraspace.errors import QuotaExceeded, TooLarge, Unavailable, Unprocessable
from decentraspace.network.fetch import Fetcher, Provider
from decentraspace.network.source import is_public
from tests.network.gateways import Answer, Dag, Gateway, Request, gateway, make_dag, site

STALL = 0.4  # seconds; short, so that hostile servers are left soon
MOST = 1 << 26


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlockStore]:
    with BlockStore.open(tmp_path / "blocks", quota=MOST) as opened:
        yield opened


def fetcher_for(store: BlockStore, *providers: Provider | Gateway, private: bool = True) -> Fetcher:
    given = [p.provider if isinstance(p, Gateway) else p for p in providers]

    async def find(root: bytes) -> list[Provider]:
        return given

    return Fetcher(store, find, private, stall=STALL)


async def take(fetcher: Fetcher, dag: Dag, deadline: float = 20.0) -> None:
    await fetcher.fetch(dag.root, deadline=deadline, max_bytes=2 * dag.size + 1000)


def holds_all(store: BlockStore, dag: Dag) -> bool:
    return all(store.get(cid) == data for cid, data in dag.blocks.items())


# -- honest


async def test_a_whole_site_comes_in_one_stream(store: BlockStore) -> None:
    dag = site()
    async with gateway(dag) as server:
        result = await fetcher_for(store, server).fetch(dag.root, deadline=20, max_bytes=MOST)
    assert holds_all(store, dag)
    assert store.missing(dag.root) == []
    assert result.bytes >= dag.size
    assert server.asked == [(dag.root, "raw"), (dag.root, "car")]
    assert server.connections == 1


async def test_of_a_new_version_only_what_changed_is_asked_for(store: BlockStore) -> None:
    old = make_dag({f"d{n}/a": bytes([n]) * 5000 for n in range(20)})
    new = make_dag({f"d{n}/a": bytes([n]) * 5000 for n in range(20)} | {"d3/a": b"new" * 1000})
    async with gateway(old) as server:
        await take(fetcher_for(store, server), old)
    async with gateway(new) as server:
        result = await fetcher_for(store, server).fetch(new.root, deadline=20, max_bytes=MOST)
    assert holds_all(store, new)
    assert result.blocks == len(set(new.blocks) - set(old.blocks))
    assert (new.root, "car") not in server.asked


async def test_what_is_here_already_is_not_asked_for(store: BlockStore) -> None:
    dag = site()
    store.put_many(dag.blocks.items())
    async with gateway(dag) as server:
        result = await fetcher_for(store, server).fetch(dag.root, deadline=20, max_bytes=MOST)
    assert (result.bytes, result.blocks, server.asked) == (0, 0, [])


async def test_a_single_raw_block_is_a_site(store: BlockStore) -> None:
    dag = Dag(cids.make(cids.RAW, b"one"), {cids.make(cids.RAW, b"one"): b"one"})
    async with gateway(dag) as server:
        await take(fetcher_for(store, server), dag)
    assert holds_all(store, dag)


async def test_inlined_blocks_are_never_on_the_wire(store: BlockStore) -> None:
    leaf = b"linked from an inlined node"
    leaf_cid = cids.make(cids.RAW, leaf)
    inner = dagpb.encode([Link(leaf_cid)], None)
    inlined = b"\x01\x70\x00" + cids.varint(len(inner)) + inner
    root = dagpb.encode([Link(inlined)], None)
    root_cid = cids.make(cids.DAG_PB, root)
    top = dagpb.encode([Link(root_cid)], None)
    dag = Dag(cids.make(cids.DAG_PB, top), {cids.make(cids.DAG_PB, top): top, root_cid: root, leaf_cid: leaf})
    async with gateway(dag) as server:
        await take(fetcher_for(store, server), dag)
    assert holds_all(store, dag)


async def test_one_fetch_per_root_at_a_time(store: BlockStore) -> None:
    dag = site()
    async with gateway(dag) as server:
        fetcher = fetcher_for(store, server)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(take, fetcher, dag)
    assert holds_all(store, dag)
    assert len(server.asked) == 2


async def test_visitors_waiting_for_one_block_cause_one_request(store: BlockStore) -> None:
    dag = site()
    leaf = next(c for c in dag.blocks if cids.codec(c) == cids.RAW)
    answers: list[bool] = []
    async with gateway(dag) as server:
        fetcher = fetcher_for(store, server)

        async def visitor() -> None:
            answers.append(await fetcher.fetch_block(leaf, dag.root))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(visitor)
    assert answers == [True] * 20
    assert store.get(leaf) == dag.blocks[leaf]
    assert server.asked == [(leaf, "raw")]


# -- dishonest, broken, hostile


def after_the_root(answer: Answer) -> Answer:
    """Honest about the root, which is asked for by itself, and only then what `answer` does."""

    @wraps(answer)
    async def both(request: Request) -> None:
        await (request.honest() if request.form == "raw" else answer(request))

    return both


async def silent(request: Request) -> None:
    await trio.sleep_forever()


async def closes(request: Request) -> None:
    await request.stream.aclose()


async def missing(request: Request) -> None:
    await request.whole(b"no", "404 Not Found")


async def failing(request: Request) -> None:
    await request.whole(b"oops", "500 Internal Server Error")


async def wrong_bytes(request: Request) -> None:
    body = bytearray(request.body() or b"wrong")
    body[-1] ^= 1
    await request.whole(bytes(body))


@after_the_root
async def wrong_bytes_in_the_middle(request: Request) -> None:
    body = bytearray(request.body() or b"wrong")
    body[len(body) // 2] ^= 1
    await request.whole(bytes(body))


async def cut_off(request: Request) -> None:
    body = request.body() or b""
    await request.head(length=len(body))
    await request.write(body[: len(body) // 2])
    await request.stream.aclose()


@after_the_root
async def cut_off_but_says_so(request: Request) -> None:
    """Ends the answer properly, in the middle of a block."""
    await request.whole((request.body() or b"")[:-100])


async def garbage(request: Request) -> None:
    await request.whole(bytes(range(256)) * 40)


async def not_http(request: Request) -> None:
    await request.write(b"\x00\x01\x02 SSH-2.0-OpenSSH\r\n\r\n")


async def empty(request: Request) -> None:
    await request.whole(b"")


@after_the_root
async def empty_car(request: Request) -> None:
    """A CAR with a right header and no blocks, again and again."""
    await request.whole(car.header([request.cid]))


@after_the_root
async def unasked_blocks(request: Request) -> None:
    body = car.header([request.cid]) + car.frame(cids.make(cids.RAW, b"spam"), b"spam")
    await request.whole(body)


@after_the_root
async def repeats_a_block(request: Request) -> None:
    """The same right block for ever: each frame verifies, nothing is gained."""
    await request.head()
    await request.chunk(car.header([request.cid]))
    while True:
        await request.chunk(car.frame(request.cid, request.gateway.dag.blocks[request.cid]))


async def endless(request: Request) -> None:
    await request.head()
    while True:
        await request.chunk(b"\x00" * 65536)


async def stalls_in_the_middle(request: Request) -> None:
    body = request.body() or b""
    await request.head(length=len(body))
    await request.write(body[: len(body) // 2])
    await trio.sleep_forever()


async def drips(request: Request) -> None:
    """A byte now and then, always within the read timeout."""
    body = request.body() or b""
    await request.head(length=len(body))
    for n in range(len(body)):
        await request.write(body[n : n + 1])
        await trio.sleep(STALL / 8)


async def redirects_inside(request: Request) -> None:
    await request.whole(b"", "302 Found", "Location: http://169.254.169.254/latest/meta-data/")


async def huge_headers(request: Request) -> None:
    await request.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        await request.write(b"X-Filler: " + b"x" * 8192 + b"\r\n")


async def endless_hints(request: Request) -> None:
    while True:
        await request.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await trio.sleep(STALL / 20)


async def compressed(request: Request) -> None:
    """Asked for identity, says gzip: a bomb for whoever unpacks."""
    await request.whole(request.body() or b"", "200 OK", "Content-Encoding: gzip")


async def endless_block(request: Request) -> None:
    """A section that announces more than a block may have."""
    if request.form == "raw":
        await endless(request)
    await request.whole(car.header([request.cid]) + cids.varint(1 << 40) + b"x" * 100)


HOSTILE: list[Answer] = [
    silent,
    closes,
    missing,
    failing,
    wrong_bytes,
    wrong_bytes_in_the_middle,
    cut_off,
    cut_off_but_says_so,
    garbage,
    not_http,
    empty,
    empty_car,
    unasked_blocks,
    repeats_a_block,
    endless,
    endless_block,
    stalls_in_the_middle,
    drips,
    after_the_root(drips),
    redirects_inside,
    huge_headers,
    endless_hints,
]


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda a: a.__name__)
async def test_a_hostile_provider_is_left_for_the_next(store: BlockStore, answer: Answer) -> None:
    dag = site()
    async with gateway(dag, answer) as bad, gateway(dag) as good:
        await take(fetcher_for(store, bad, good), dag)
        assert bad.asked
        assert good.asked
    assert holds_all(store, dag)
    assert store.missing(dag.root) == []
    assert store.stats().blocks == len(dag.blocks)  # and nothing else


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda a: a.__name__)
async def test_a_hostile_provider_alone_is_an_ordinary_failure(store: BlockStore, answer: Answer) -> None:
    dag = site()
    async with gateway(dag, answer) as bad:
        with pytest.raises(Unavailable):
            await take(fetcher_for(store, bad), dag)
        assert not await fetcher_for(store, bad).fetch_block(cids.make(cids.RAW, b"none"), dag.root)


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda a: a.__name__)
async def test_a_hostile_provider_of_parts_is_left_for_the_next(store: BlockStore, answer: Answer) -> None:
    """With some of the site here already, parts are asked for, several at once."""
    dag = site()
    leaf = next(c for c in dag.blocks if cids.codec(c) == cids.RAW)
    store.put_many([(dag.root, dag.blocks[dag.root]), (leaf, dag.blocks[leaf])])
    links = dagpb.links_of(dag.root, dag.blocks[dag.root])
    store.put_many([(links[0], dag.blocks[links[0]])])
    async with gateway(dag, answer) as bad, gateway(dag) as good:
        await take(fetcher_for(store, bad, good), dag)
    assert holds_all(store, dag)


async def test_a_compressed_answer_is_not_unpacked(store: BlockStore) -> None:
    dag = site()
    async with gateway(dag, compressed) as server:
        await take(fetcher_for(store, server), dag)  # the bytes are right; nothing was unpacked
    assert holds_all(store, dag)


async def test_the_next_provider_goes_on_where_the_last_one_failed(store: BlockStore) -> None:
    dag = site(count=100, size=4000)

    async with gateway(dag, after_the_root(cut_off)) as first, gateway(dag) as second:
        result = await fetcher_for(store, first, second).fetch(dag.root, deadline=20, max_bytes=MOST)
        assert (dag.root, "car") not in second.asked
    assert holds_all(store, dag)
    assert (
        result.blocks == len(dag.blocks) + 1
    )  # none came twice, but for the root, which says what to ask for


async def test_what_came_before_a_deadline_is_kept(store: BlockStore) -> None:
    dag = site(count=100, size=60_000)  # half of it is less than is stored at once

    async with gateway(dag, after_the_root(stalls_in_the_middle)) as server:
        fetcher = fetcher_for(store, server)
        fetcher._stall = 60.0
        with pytest.raises(Unavailable):
            await take(fetcher, dag, deadline=2.0)
    assert store.stats().blocks > len(dag.blocks) // 3
    async with gateway(dag) as server:
        result = await fetcher_for(store, server).fetch(dag.root, deadline=20, max_bytes=MOST)
    assert holds_all(store, dag)
    assert result.blocks < len(dag.blocks) * 2 // 3


async def test_a_disk_that_is_busy_costs_the_provider_nothing(store: BlockStore) -> None:
    """Nothing can be stored for longer than the provider may be silent, and more comes than may wait."""
    dag = site(count=100, size=250_000)
    done: list[bool] = []

    def write() -> None:
        with store.write():
            trio.from_thread.run(trio.sleep, 3 * STALL)
            done.append(True)

    async def honest_meanwhile(request: Request) -> None:
        if request.form == "car":
            nursery.start_soon(trio.to_thread.run_sync, write)
        await request.honest()

    async with trio.open_nursery() as nursery, gateway(dag, honest_meanwhile) as server:
        fetcher = fetcher_for(store, server)
        await take(fetcher, dag)
        assert done
        assert server.asked == [(dag.root, "raw"), (dag.root, "car")]
    assert holds_all(store, dag)


async def test_nobody_there_is_an_ordinary_failure(store: BlockStore) -> None:
    dag = site()
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        dead = Provider(f"http://127.0.0.1:{unused.getsockname()[1]}", "dead")
        for provider in (
            dead,
            Provider("http://nobody.invalid", "x"),
            Provider("http://[::", "x"),
            Provider("http://" + "a" * 70 + ".example", "x"),
            Provider("http://\udce4", "x"),
        ):
            with pytest.raises(Unavailable):
                await take(fetcher_for(store, provider), dag)
    with pytest.raises(Unavailable):
        await take(fetcher_for(store), dag)


async def test_content_larger_than_its_record_says_is_refused(store: BlockStore) -> None:
    dag = site()
    async with gateway(dag) as server:
        with pytest.raises(TooLarge):
            await fetcher_for(store, server).fetch(dag.root, deadline=20, max_bytes=dag.size // 2)
    # The same when parts are fetched.
    links = dagpb.links_of(dag.root, dag.blocks[dag.root])
    store.put_many([(links[0], dag.blocks[links[0]])])
    async with gateway(dag) as server:
        with pytest.raises(TooLarge):
            await fetcher_for(store, server).fetch(dag.root, deadline=20, max_bytes=dag.size // 10)


async def test_a_full_store_is_said_in_words(tmp_path: Path) -> None:
    dag = site(count=40, size=200_000)
    with BlockStore.open(tmp_path / "small", quota=1_000_000) as store:
        async with gateway(dag) as server:
            fetcher = fetcher_for(store, server)
            with pytest.raises(QuotaExceeded):
                await fetcher.fetch(dag.root, deadline=20, max_bytes=MOST)
    with BlockStore.open(tmp_path / "tiny", quota=10) as store:
        async with gateway(dag) as server:
            assert not await fetcher_for(store, server).fetch_block(dag.root, dag.root)


async def test_malformed_content_is_nobodys_fault(store: BlockStore) -> None:
    """A block whose bytes match its CID but are no DAG-PB: every provider would send the same."""
    broken = b"this is not protobuf"
    broken_cid = cids.make(cids.DAG_PB, broken)
    for top in (dagpb.encode([Link(broken_cid)], None), broken):
        root = cids.make(cids.DAG_PB, top)
        dag = Dag(root, {root: top, broken_cid: broken})

        async def serve(request: Request, dag: Dag = dag) -> None:
            rest = [(c, b) for c, b in dag.blocks.items() if c != request.cid]
            body = car.encode([request.cid], [(request.cid, dag.blocks[request.cid]), *rest])
            await request.whole(dag.blocks[request.cid] if request.form == "raw" else body)

        async with gateway(dag, serve) as server:
            fetcher = fetcher_for(store, server)
            with pytest.raises(Unprocessable):
                await take(fetcher, dag)


async def test_a_deadline_ends_a_fetch_and_costs_the_provider_its_place(store: BlockStore) -> None:
    dag = site()

    async def slow(request: Request) -> None:
        await trio.sleep_forever()

    async with gateway(dag, slow) as bad, gateway(dag) as good:
        fetcher = fetcher_for(store, bad, good)
        fetcher._stall = 60.0
        with pytest.raises(Unavailable):
            await take(fetcher, dag, deadline=0.3)
        await take(fetcher, dag)  # the other one is asked first now
        assert len(bad.asked) == 1
    assert holds_all(store, dag)


async def test_a_visitor_does_not_wait_longer_than_the_deadline(store: BlockStore) -> None:
    dag = site()
    async with gateway(dag, silent) as bad:
        fetcher = fetcher_for(store, *[bad.provider] * 5)
        fetcher._stall = 60.0
        assert not await fetcher.fetch_block(dag.root, dag.root, deadline=0.3)


async def test_a_visitor_who_leaves_does_not_take_the_others_along(store: BlockStore) -> None:
    dag = site()
    release = trio.Event()

    async def held_back(request: Request) -> None:
        await release.wait()
        await request.honest()

    async with gateway(dag, held_back) as server, trio.open_nursery() as nursery:
        fetcher = fetcher_for(store, server)
        fetcher._stall = 60.0
        leaver = trio.CancelScope()
        answers: list[bool] = []

        async def leaves() -> None:
            with leaver:
                await fetcher.fetch_block(dag.root, dag.root)

        async def stays() -> None:
            answers.append(await fetcher.fetch_block(dag.root, dag.root))

        nursery.start_soon(leaves)
        while not server.asked:
            await trio.sleep(0.01)
        nursery.start_soon(stays)
        leaver.cancel()
        release.set()
        while not answers:
            await trio.sleep(0.01)
    assert answers == [True]


async def test_thousands_of_failures_do_not_overflow(store: BlockStore) -> None:
    fetcher = fetcher_for(store)
    for _ in range(3000):
        fetcher._failed(Provider("http://x", "x"), ValueError("again"))


# -- whom this node connects to


async def test_private_addresses_are_not_connected_to(store: BlockStore) -> None:
    dag = site()
    async with gateway(dag) as server:
        named = Provider(f"http://localhost:{server.port}", "x")
        mapped = Provider(f"http://[::ffff:127.0.0.1]:{server.port}", "y")
        with pytest.raises(Unavailable):
            await take(fetcher_for(store, server.provider, named, mapped, private=False), dag)
        assert server.connections == 0


async def test_the_host_header_names_the_provider_as_announced(store: BlockStore) -> None:
    dag = site()
    hosts: list[str] = []

    async def noting(request: Request) -> None:
        hosts.append(request.host)
        await request.honest()

    async with gateway(dag, noting) as server:
        await take(fetcher_for(store, Provider(f"http://localhost:{server.port}", "x")), dag)
        assert set(hosts) == {f"localhost:{server.port}"}


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:10.0.0.1",
        "::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:a00:1::",
    ],
)  # fmt: skip
def test_addresses_that_are_not_of_the_open_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_addresses_of_the_open_internet(address: str) -> None:
    assert is_public(address)
