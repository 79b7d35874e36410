"""Sets that are compared by fingerprints of ranges: pure, and over a stream between two real stores."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import libipld
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from decentraspace.errors import BadInput, Unavailable
from decentraspace.identity.keys import NodeKey
from decentraspace.network import frames, reconcile, sync
from decentraspace.network.reconcile import EMPTY, ID, LEAF, Comparison, Summary, Tree, answer, tree_of
from decentraspace.network.refused import Refused
from decentraspace.network.serving import Serving
from decentraspace.records import codec
from decentraspace.records.store import AddResult, RecordStore
from tests.network.peers import sites
from tests.records.factory import RULES, make_announcement, take

NODE = NodeKey.generate()
NAMES = st.integers(0, 400).map(lambda n: hashlib.sha256(b"%d" % n).digest())
# Names that agree in their first half-bytes: whoever makes records can choose them so, at a price.
CLOSE = st.tuples(st.integers(0, 5), st.integers(0, 60)).map(
    lambda n: bytes(n[0]) + n[1].to_bytes(32 - n[0], "big")
)
SETS = st.sets(st.one_of(NAMES, CLOSE), max_size=300)


def drawn(count: int, seed: int = 1) -> list[bytes]:
    draw = random.Random(seed)
    return [draw.randbytes(ID) for _ in range(count)]


def compared(mine: Tree, theirs: Tree, most: int = 10**9) -> tuple[Comparison, int, int]:
    """What was found, in how many questions, with how many bytes of ranges, descriptions and names."""
    comparison = Comparison(mine, theirs.summary, most)
    questions = size = 0
    while (question := comparison.question()) is not None:
        questions += 1
        split, names = answer(theirs, question.split, question.names)
        size += sum(map(len, [*question.split, *question.names, *split, *names]))
        comparison.learn(split, names)
    return comparison, questions, size


# -- trees


@given(SETS, st.lists(st.tuples(SETS, SETS), max_size=4))
def test_a_tree_follows_from_its_set_alone(
    first: set[bytes], changes: list[tuple[set[bytes], set[bytes]]]
) -> None:
    tree, expected = tree_of(first), set(first)
    for added, removed in changes:
        before = list(tree)
        changed = tree.changed(added, removed)
        assert list(tree) == before  # a snapshot stays what it was
        tree, expected = changed, (expected | added) - removed
        assert list(tree) == sorted(expected)
        assert len(tree) == tree.count == len(expected)
        assert tree.summary == tree_of(expected).summary
    for name in first:
        assert (name in tree) == (name in expected)


@given(SETS, SETS)
def test_different_sets_have_different_fingerprints(one: set[bytes], other: set[bytes]) -> None:
    assert (tree_of(one).fingerprint == tree_of(other).fingerprint) == (one == other)


@given(SETS, st.lists(st.integers(0, 15), max_size=6))
def test_the_part_below_a_range_is_the_tree_of_what_is_in_it(names: set[bytes], prefix: list[int]) -> None:
    digits = "".join(f"{half:x}" for half in prefix)
    inside = {name for name in names if name.hex().startswith(digits)}
    below = tree_of(names).below(bytes(prefix))
    assert set(below) == inside
    if len(inside) <= LEAF:
        assert below.summary == tree_of(inside).summary


# -- comparing


@settings(deadline=None)
@given(SETS, SETS)
def test_any_two_sets_end_equal(one: set[bytes], other: set[bytes]) -> None:
    found, _, _ = compared(tree_of(one), tree_of(other))
    assert sorted(found.wanted) == sorted(other - one)
    assert sorted(found.offered) == sorted(one - other)
    assert not found.more


@settings(deadline=None)
@given(SETS, SETS, st.integers(1, 60))
def test_cut_short_it_ends_equal_after_some_rounds(one: set[bytes], other: set[bytes], most: int) -> None:
    rounds = 0
    while True:
        found, _, _ = compared(tree_of(one), tree_of(other), most)
        assert set(found.wanted) <= other - one
        assert set(found.offered) <= one - other
        one, other = one | set(found.wanted), other | set(found.offered)
        rounds += 1
        if not found.more:
            break
        assert found.wanted or found.offered
    assert one == other
    assert rounds <= 1 + 600 // most


@pytest.mark.parametrize("count", [1_000, 10_000, 100_000])
def test_questions_grow_with_the_logarithm_and_bytes_with_the_difference(count: int) -> None:
    names = drawn(count + 50)
    both, rest = names[:count], names[count:]
    mine, theirs = tree_of(both + rest[:25]), tree_of(both + rest[25:])
    found, questions, size = compared(mine, theirs)
    assert (sorted(found.wanted), sorted(found.offered)) == (sorted(rest[25:]), sorted(rest[:25]))
    assert questions <= 6
    assert size < 100_000
    assert compared(mine, mine)[1:] == (0, 0)
    few, questions, size = compared(mine, mine.changed(rest[25:26]))
    assert few.wanted == rest[25:26]
    assert questions <= 6
    assert size < 6_000


def test_names_that_are_chosen_close_to_each_other_cost_only_depth() -> None:
    """As if somebody had found names that agree in 28 bytes."""
    close = [bytes(28) + n.to_bytes(4, "big") for n in range(3000)]
    tree = tree_of(drawn(3000) + close)
    found, questions, _ = compared(tree_of(drawn(3000)), tree)
    assert sorted(found.wanted) == close
    assert questions < 2 * ID + 6


def test_a_joining_node_lists_and_does_not_ask_twice() -> None:
    names = drawn(50_000)
    found, questions, size = compared(EMPTY, tree_of(names))
    assert sorted(found.wanted) == sorted(names)
    assert size < 1.1 * ID * len(names)
    assert questions < 20


# -- those who lie


@settings(deadline=None)
@given(SETS, SETS, st.data())
def test_a_changed_answer_is_noticed(one: set[bytes], other: set[bytes], data: st.DataObject) -> None:
    theirs = tree_of(other)
    comparison = Comparison(tree_of(one), theirs.summary, 10**9)
    while (question := comparison.question()) is not None:
        split, names = answer(theirs, question.split, question.names)
        lists = data.draw(st.sampled_from([told for told in (split, names) if told]))
        at = data.draw(st.integers(0, len(lists) - 1))
        good = lists[at]
        flipped = data.draw(st.integers(0, 8 * len(good) - 1))
        lists[at] = (int.from_bytes(good, "big") ^ 1 << flipped).to_bytes(len(good), "big")
        if data.draw(st.booleans()):
            with pytest.raises(BadInput):
                comparison.learn(split, names)
            return
        lists[at] = good
        comparison.learn(split, names)


ODD = st.one_of(
    st.none(), st.integers(), st.binary(max_size=500), st.text(max_size=5), st.lists(st.binary(max_size=40))
)


@settings(deadline=None)
@given(SETS, st.lists(ODD, max_size=3), st.lists(ODD, max_size=3))
def test_anything_for_an_answer_or_a_question_is_bad_input(names: set[bytes], split: Any, told: Any) -> None:
    tree = tree_of(names)
    comparison = Comparison(EMPTY, Summary(5, bytes(24)), 10**9)
    assert comparison.question() is not None
    with pytest.raises(BadInput):
        comparison.learn(split, told)
    with suppress(BadInput):
        described, listed = answer(tree, split, told)
        assert len(described) + len(listed) == len(split) + len(told)


def test_a_tree_of_invented_parts_without_end_is_left_at_the_bottom() -> None:
    """Parts that contain themselves cannot have their own hash; parts that were made beforehand can, as deep
    as one likes."""
    levels: list[bytes] = []
    summary = Summary(10_000, b"never asked for, 24 byte")
    for _ in range(70):
        described = summary.count.to_bytes(4, "big") + summary.fingerprint + bytes(4 * 15)
        levels.append(described)
        summary = Summary(10_000, hashlib.sha256(b"\x01" + described).digest()[: reconcile.FINGERPRINT])
    comparison = Comparison(tree_of(drawn(40)), summary, 10**9)
    asked = 0
    with pytest.raises(BadInput, match="divided further"):
        for described in reversed(levels):
            assert comparison.question() is not None
            asked += 1
            comparison.learn([described], [])
    assert asked == reconcile.DEPTH_MOST


def test_parts_that_do_not_add_up_are_refused() -> None:
    for counts in ([1] * 16, [LEAF + 1, 1] + [0] * 14, [LEAF + 2] + [0] * 15):
        described = b"".join(n.to_bytes(4, "big") + (bytes(24) if n else b"") for n in counts)
        fingerprint = hashlib.sha256(b"\x01" + described).digest()[: reconcile.FINGERPRINT]
        comparison = Comparison(tree_of(drawn(40)), Summary(LEAF + 1, fingerprint), 10**9)
        assert comparison.question() is not None
        with pytest.raises(BadInput):
            comparison.learn([described], [])


def test_nobody_has_more_listed_at_once_than_may_be() -> None:
    with pytest.raises(BadInput, match="too many"):
        answer(tree_of(drawn(reconcile.LISTED_MOST + 1)), [], [b""])


# -- packs


@settings(deadline=None)
@given(st.lists(st.binary(max_size=3000), max_size=300))
def test_packs_hold_what_was_put_in(items: list[bytes]) -> None:
    packed = list(frames.packs(items))
    assert [item for pack, _ in packed for item in frames.unpack(pack)] == items
    assert [len(frames.unpack(pack)) for pack, _ in packed] == [count for _, count in packed]


def test_packs_fit_into_messages() -> None:
    items = [random.Random(n).randbytes(codec.MAX_ENVELOPE) for n in range(60)]
    for pack, _ in frames.packs(items):
        assert len(frames.encode({"records": pack})) < frames.MAX_FRAME


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 300))
def test_no_pack_crashes(rubbish: bytes, cut: int) -> None:
    [(good, _)] = frames.packs([b"one", b"two" * 50])
    for pack in (rubbish, good[:cut], good[:cut] + rubbish, rubbish + good):
        with suppress(BadInput):
            frames.unpack(pack)


# -- between two stores


class Stream:
    """One end of a pair: what libp2p streams have, over trio's own."""

    def __init__(self, inner: trio.StapledStream[Any, Any]) -> None:
        self._inner = inner

    async def read(self, n: int | None = None) -> bytes:
        return bytes(await self._inner.receive_some(n))

    async def write(self, data: bytes) -> None:
        await self._inner.send_all(data)

    async def close(self) -> None:
        await self._inner.aclose()


def pair() -> tuple[Stream, Stream]:
    one, other = trio.testing.memory_stream_pair()
    return Stream(one), Stream(other)


@asynccontextmanager
async def stores(folder: Path) -> AsyncIterator[tuple[RecordStore, RecordStore]]:
    both = RecordStore(folder / "one.sqlite", RULES), RecordStore(folder / "other.sqlite", RULES)
    try:
        yield both
    finally:
        for store in both:
            store.close()


def put(store: RecordStore, envelopes: Iterable[bytes]) -> None:
    results = store.add_many(list(envelopes), now=int(time.time()))
    assert all(isinstance(result, AddResult) for result in results)


async def ignore(_: Sequence[AddResult]) -> None:
    pass


async def exchanged(one: RecordStore, other: RecordStore) -> tuple[sync.SyncResult, sync.SyncResult]:
    ends = pair()
    results: list[Any] = [None, None]

    async def begin() -> None:
        results[0] = await sync.initiate(ends[0], one, ignore, joining=False, peer="other")

    async def respond() -> None:
        results[1] = await sync.respond(ends[1], other, ignore, peer="one")

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin)
            nursery.start_soon(respond)
    return results[0], results[1]


async def test_two_stores_end_equal_and_then_say_little(tmp_path: Path) -> None:
    envelopes = [take(record, NODE) for record in sites(500)]
    async with stores(tmp_path) as (one, other):
        put(one, envelopes[:480])
        put(other, envelopes[30:])
        first, second = await exchanged(one, other)
        assert (first.received, first.sent, first.more) == (20, 30, False)
        assert (second.received, second.sent, second.more) == (30, 20, False)
        assert one.ids() == other.ids()
        assert len(one.ids()) == 500
        assert one.tree().summary == other.tree().summary == tree_of(i[-ID:] for i in one.ids()).summary
        again, _ = await exchanged(one, other)
        assert (again.received, again.sent) == (0, 0)
        assert again.bytes_in + again.bytes_out < 200


async def test_a_statement_that_was_replaced_vanishes_from_the_set(tmp_path: Path) -> None:
    async with stores(tmp_path) as (one, other):
        put(one, [take(make_announcement(NODE, seq=1), NODE)])
        old = one.tree()
        await exchanged(one, other)
        put(one, [take(make_announcement(NODE, seq=n), NODE) for n in (2, 4, 3)])
        assert one.tree().count == 1
        assert list(one.tree()) == [i[-ID:] for i in one.ids()] != list(old)
        await exchanged(other, one)  # the old one is offered, and the new one replaces it
        assert other.ids() == one.ids()
        assert other.tree().summary == one.tree().summary


async def test_more_than_one_exchange_may_bring_is_brought_by_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "_NAMED_MOST", 60)
    envelopes = [take(record, NODE) for record in sites(400)]
    async with stores(tmp_path) as (one, other):
        put(one, envelopes[:200])
        put(other, envelopes[200:])
        rounds, sizes = 0, [400]
        while (await exchanged(one, other))[0].more:
            rounds += 1
            sizes.append(len(one.ids()) + len(other.ids()))
            assert rounds < 20
        assert sizes == sorted(set(sizes))  # each goes on where the one before ended
        assert len(one.ids()) == len(other.ids()) == 400


async def test_what_was_taken_before_a_cut_is_kept(tmp_path: Path) -> None:
    """The connection breaks after every so many bytes; each exchange brings some, and none brings it twice."""
    envelopes = [take(record, NODE) for record in sites(1500)]
    async with stores(tmp_path) as (one, other):
        put(other, envelopes)
        sizes = [0]
        while len(one.ids()) < len(envelopes):
            ends = pair()
            left = 200_000

            async def begin(stream: Stream = ends[0]) -> None:
                with suppress(BadInput, trio.BrokenResourceError, trio.ClosedResourceError):
                    await sync.initiate(stream, one, ignore, joining=False)
                await stream.close()

            def spend(size: int, records: int) -> None:
                nonlocal left
                left -= size
                if left < 0:
                    raise Unavailable("cut")

            async def respond(stream: Stream = ends[1]) -> None:
                with suppress(BadInput, Unavailable, trio.BrokenResourceError):
                    await sync.respond(stream, other, ignore, spend=spend)
                await stream.close()

            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(begin)
                    nursery.start_soon(respond)
            sizes.append(len(one.ids()))
            assert sizes[-1] > sizes[-2]
        assert len(sizes) > 2
        assert one.tree().summary == other.tree().summary


async def script(stream: Stream) -> list[dict[str, Any]]:
    """All messages that come, until the other end closes."""
    found: list[dict[str, Any]] = []
    with suppress(BadInput):
        while True:
            found.append((await frames.receive(stream))[0])
    return found


async def recorded(one: RecordStore, other: RecordStore) -> tuple[list[bytes], list[bytes]]:
    """What either side writes in an exchange, message by message, with both stores as they were."""
    ends = pair()
    written: tuple[list[bytes], list[bytes]] = ([], [])
    for end, kept in zip(ends, written, strict=True):
        write = end.write

        async def keep(data: bytes, write: Any = write, kept: list[bytes] = kept) -> None:
            kept.append(data)
            await write(data)

        end.write = keep  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: sync.initiate(ends[0], one, ignore, joining=False))
        nursery.start_soon(lambda: sync.respond(ends[1], other, ignore))
    return written


async def test_any_message_mutated_ends_the_exchange_or_does_no_harm(tmp_path: Path) -> None:
    """Neither side crashes, hangs or ends with a record that it should not have."""
    envelopes = [take(record, NODE) for record in sites(120)]
    names = {codec.record_cid(codec.decode_envelope(e).record) for e in envelopes}
    async with stores(tmp_path) as (one, other):
        put(one, envelopes[:70])
        put(other, envelopes[10:])
        (tmp_path / "x").mkdir()
        async with stores(tmp_path / "x") as (first, second):
            put(first, envelopes[:70])
            put(second, envelopes[10:])
            written = await recorded(first, second)
        draw = random.Random(7)
        for number in range(300):
            victim, side = (one, written[1]) if number % 2 else (other, written[0])
            messages = [bytearray(message) for message in side]
            target = draw.randrange(len(messages))
            match number % 6:
                case 0 | 1:
                    messages[target][draw.randrange(len(messages[target]))] ^= 1 << draw.randrange(8)
                case 2:
                    del messages[target][draw.randrange(len(messages[target])) :]
                case 3:
                    messages.insert(draw.randrange(len(messages)), bytearray(messages[target]))
                case 4:
                    del messages[target]
                case 5:
                    draw.shuffle(messages)
            ends = pair()

            async def play(stream: Stream = ends[0], messages: list[bytearray] = messages) -> None:
                with suppress(trio.BrokenResourceError):
                    for message in messages:
                        await stream.write(bytes(message))
                    await stream._inner.send_stream.aclose()
                await script(stream)

            async def suffer(
                stream: Stream = ends[1], victim: RecordStore = victim, number: int = number
            ) -> None:
                with suppress(BadInput):
                    if number % 2:
                        await sync.initiate(stream, victim, ignore, joining=False)
                    else:
                        await sync.respond(stream, victim, ignore)
                await stream.close()

            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(play)
                    nursery.start_soon(suffer)
        assert set(one.ids()) | set(other.ids()) <= names
        for store in (one, other):
            assert store.tree().summary == tree_of(i[-ID:] for i in store.ids()).summary


# -- a responder that lies


def message(**fields: Any) -> bytes:
    return frames.encode(fields)


ROOT = {"root": bytes(24), "count": 3}
LIES: dict[str, list[dict[str, Any]]] = {
    "a root of a wrong form": [{"root": bytes(23), "count": 3}],
    "names that do not fit": [ROOT, {"split": [], "names": [bytes(96)]}],
    "answers to other questions": [ROOT, {"split": [b"x"], "names": []}],
    "no answer": [ROOT, {"done": True}],
    "an answer that is no list": [ROOT, {"split": {}, "names": 5}],
    "parts that do not fit": [{"root": bytes(24), "count": 1000}, {"split": [bytes(64)], "names": []}],
}
INVENTED = tree_of(drawn(150))
HOLLOW: dict[str, list[dict[str, Any]]] = {
    "nothing it named": [{"done": True}],
    "records of other names": [{"records": next(frames.packs([take(sites(1)[0], NODE)]))[0]}],
    "what it was not offered": [{"take": bytes(32)}],
    "the same offer twice": [{"take": b"\x01" * 32}, {"take": b"\x01" * 32}],
    "takes of a wrong form": [{"take": [b"\x01" * 32]}],
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_a_lying_answer_is_the_peers_fault(lie: list[dict[str, Any]], tmp_path: Path) -> None:
    async with stores(tmp_path) as (one, _):
        put(one, [take(record, NODE) for record in sites(50)])
        ends = pair()
        for told in lie:
            await ends[1].write(frames.encode(told))
        with trio.fail_after(20), pytest.raises(BadInput):
            await sync.initiate(ends[0], one, ignore, joining=False)
        assert len(one.ids()) == 50


@pytest.mark.parametrize("lie", HOLLOW.values(), ids=HOLLOW)
async def test_who_names_what_it_does_not_have_is_at_fault(lie: list[dict[str, Any]], tmp_path: Path) -> None:
    """A tree of invented names is as good as any until records are asked for."""
    async with stores(tmp_path) as (one, _), trio.open_nursery() as nursery:
        mine, theirs = pair()

        async def liar() -> None:
            with suppress(BadInput, trio.BrokenResourceError):
                await frames.receive(theirs)
                await theirs.write(frames.encode({"root": INVENTED.fingerprint, "count": INVENTED.count}))
                while "split" in (question := (await frames.receive(theirs))[0]):
                    split, names = answer(INVENTED, question["split"], question["names"])
                    await theirs.write(frames.encode({"split": split, "names": names}))
                while question != {"done": True}:
                    question, _ = await frames.receive(theirs)
                for told in lie:
                    await theirs.write(frames.encode(told))
                await script(theirs)

        nursery.start_soon(liar)
        with trio.fail_after(20), pytest.raises(BadInput):
            await sync.initiate(mine, one, ignore, joining=False)
        await mine.close()
        assert one.ids() == []


async def test_names_refused_lately_are_neither_asked_for_nor_a_difference(tmp_path: Path) -> None:
    records = [take(record, NODE) for record in sites(40)]
    async with stores(tmp_path) as (one, other):
        put(one, records[:30])
        put(other, records)
        refused = Refused()
        names = sorted(set(other.tree()) - set(one.tree()))
        for name in names:
            refused.add(name, "elsewhere")

        async def once() -> sync.SyncResult:
            ends = pair()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: sync.respond(ends[1], other, ignore))
                return await sync.initiate(ends[0], one, ignore, joining=False, refused=refused, peer="other")

        first, second = await once(), await once()
        assert first.received == second.received == 0
        assert len(one.ids()) == 30
        assert sorted(refused.of("other")) == names
        assert second.bytes_in + second.bytes_out < 200  # for the two, the sets are equal


def test_a_peer_that_takes_everything_again_and_again_is_refused() -> None:
    clock = [0.0]
    serving = Serving(60.0, clock=lambda: clock[0])
    size = 1_000_000
    sent = 0
    with pytest.raises(Unavailable):
        for _ in range(10_000):
            serving.spend("greedy", size, 100_000)
            sent += size
    assert 100_000 * 1000 < sent < 100_000 * 3000
    serving.spend("modest", size, 100_000)
    clock[0] += 60
    serving.spend("greedy", size, 100_000)
    begun = 0
    while serving.begins("greedy"):
        begun += 1
        assert begun < 1000
    assert serving.begins("modest")
    clock[0] += 60
    assert serving.begins("greedy")


def test_messages_are_what_another_library_reads() -> None:
    data = frames.encode({"want": bytes(64)})
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    assert libipld.decode_dag_cbor(data[4:]) == {"want": bytes(64)}
