"""Verdicts by processes are the verdicts of this one, also when a process dies in the middle."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from decentraspace.identity.keys import NodeKey
from decentraspace.records import judgement, judging
from decentraspace.records.judging import Judged, Judgement, Pool, judge
from decentraspace.records.store import AddResult, RecordStore
from decentraspace.records.verdict import RecordRefused
from tests.records.factory import (
    RULES,
    make_announcement,
    make_receipt,
    make_revocation,
    make_session,
    make_site,
    make_wallet,
    take,
)

NODE = NodeKey.generate()
NOW = int(time.time()) + 3600  # the suite may run for a while before these records are made


def envelopes() -> list[bytes]:
    """Of all kinds, valid and not."""
    wallet = make_wallet()
    session = make_session(wallet)
    good = [
        take(make_site(wallet, session, label=f"site{n}", controllers=(bytes(20),)), NODE) for n in range(9)
    ]
    good.append(take(make_revocation(wallet, session, Ed25519PrivateKey.generate()), NODE))
    good += [take(make_announcement(NODE, seq=n), NODE) for n in (1, 2)]
    good.append(take(make_receipt(NODE), NODE))
    forged = bytearray(good[0])
    forged[-1] ^= 1
    late = take(make_site(wallet, session, label="late", created=NOW + 5000), NODE)
    foreign = take(make_announcement(NodeKey.generate()), NODE)
    return [*good, bytes(forged), late, foreign, b"", b"rubbish", good[1][:-3]]


def plain(judgement: Judgement) -> object:
    if isinstance(judgement, RecordRefused):
        r = judgement
        return (str(r), r.problem_slug, r.hint, r.faulty, r.sponsor)
    return judgement


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes even for a few."""
    monkeypatch.setattr(judging, "_WORTH_IT", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


async def test_a_process_judges_as_this_one_does(always: None) -> None:
    given = envelopes()
    expected = [plain(judge(e, RULES, NOW)) for e in given]
    assert {isinstance(e, Judged) for e in expected} == {True, False}
    async with Pool(RULES).judges() as ask:
        for part in (given, given[:1], [], given * 20):
            found = await ask(part, NOW, False)
            assert [plain(j) for j in found] == [plain(judge(e, RULES, NOW)) for e in part]
        assert [plain(j) for j in await ask(given, NOW, True)] == [
            plain(judge(e, RULES, NOW, joining=True)) for e in given
        ]


async def test_few_are_judged_here() -> None:
    given = envelopes()
    async with Pool(RULES).judges() as ask:
        found = await ask(given, NOW, False)
        assert _children() == []
    assert [plain(j) for j in found] == [plain(judge(e, RULES, NOW)) for e in given]


async def test_a_process_that_dies_is_made_up_for(always: None) -> None:
    given = envelopes()
    async with Pool(RULES).judges() as ask:
        await ask(given, NOW, False)
        children = _children()
        assert len(children) == 2
        for child in children:
            os.kill(child, 9)
        for _ in range(3):
            found = await ask(given, NOW, False)
            assert [plain(j) for j in found] == [plain(judge(e, RULES, NOW)) for e in given]


async def test_no_process_stays_behind(always: None) -> None:
    with trio.move_on_after(0.5):
        async with Pool(RULES).judges() as ask:
            while True:
                await ask(envelopes(), NOW, False)
    assert _children() == []


async def test_one_stream_at_a_time_has_processes(always: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, and whatever they were promised: the others are judged here."""
    given = envelopes()
    expected = [plain(judge(e, RULES, NOW)) for e in given]
    monkeypatch.setattr(judging, "_WORTH_IT", len(given) + 1)
    pool = Pool(RULES)
    async with pool.judges() as first, pool.judges() as second:
        for ask in (first, second):
            assert [plain(j) for j in await ask(given, NOW, False)] == expected
            assert _children() == []
        for ask in (first, second, first):
            assert [plain(j) for j in await ask(given, NOW, False)] == expected
            assert len(_children()) == 2


async def test_processes_end_when_a_stream_pauses(always: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And are there for another one, or again for the first."""
    monkeypatch.setattr(judging, "_IDLE", 0.1)
    given = envelopes()
    pool = Pool(RULES)
    async with pool.judges() as first:
        await first(given, NOW, False)
        with trio.fail_after(10):
            while _children():
                await trio.sleep(0.02)
        async with pool.judges() as second:
            for ask in (second, first):
                found = await ask(given, NOW, False)
                assert [plain(j) for j in found] == [plain(judge(e, RULES, NOW)) for e in given]
    assert _children() == []


def _children() -> list[int]:
    """This process's judging processes; other tests may have children of their own that outlive them."""
    task = Path("/proc/self/task")
    children = [int(pid) for thread in task.iterdir() for pid in (thread / "children").read_text().split()]
    return [pid for pid in children if judgement.__name__.encode() in _command(pid)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


async def test_what_was_judged_elsewhere_is_stored_as_if_here(always: None, tmp_path: Path) -> None:
    given = envelopes()
    here, there = (RecordStore(tmp_path / name, RULES) for name in ("here", "there"))
    try:
        expected = here.add_many(given, now=NOW)
        async with Pool(RULES).judges() as ask:
            found = there.add_judged(await ask(given, NOW, False), now=NOW)
        for one, other in zip(expected, found, strict=True):
            if isinstance(one, AddResult):
                assert one == other
            else:
                assert isinstance(other, RecordRefused)
                assert plain(one) == plain(other)
        assert here.ids() == there.ids()
        assert here.tree().summary == there.tree().summary
    finally:
        here.close()
        there.close()
