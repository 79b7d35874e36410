"""`kill -9` while records are added: what was acknowledged is there, and what follows from it is right."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sqlite3
import time
from multiprocessing.connection import Connection
from pathlib import Path

from decentraspace.records.store import RecordStore
from decentraspace.records.verdict import RecordRefused
from tests.records import worlds

# A fork has everything imported: forty deaths take seconds, not minutes.
_CONTEXT = multiprocessing.get_context("fork")


def _add(path: Path, envelopes: list[bytes], order: list[int], answer: Connection) -> None:
    """The victim: says each number after `add` has returned."""
    store = worlds.open_store(path)
    for number in order:
        with contextlib.suppress(RecordRefused):
            store.add(envelopes[number], now=worlds.NOW)
            answer.send(number)
    store.close()


def _open(path: Path, answer: Connection) -> None:
    answer.send("about to open")
    worlds.open_store(path).close()


def _killed(after: int, delay: float, target: object, *arguments: object) -> list[int]:
    """What a child said until it was killed, `delay` seconds after it had said `after` things."""
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    child = _CONTEXT.Process(target=target, args=(*arguments, theirs))  # type: ignore[arg-type]
    child.start()
    theirs.close()
    said: list[int] = []
    with contextlib.suppress(EOFError):  # it came to its end
        while len(said) < after:
            assert ours.poll(60)
            said.append(ours.recv())
        time.sleep(delay)  # a random instant, not a wait for something
    assert child.pid is not None
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGKILL)
    child.join(60)
    assert child.exitcode in (0, -signal.SIGKILL)
    with contextlib.suppress(EOFError):
        while ours.poll():
            said.append(ours.recv())
    ours.close()
    return said


def _check_sound(path: Path) -> None:
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


def test_nothing_acknowledged_is_lost_and_nothing_is_half_done(tmp_path: Path) -> None:
    draw = random.Random(42)
    kills = 0
    for seed in range(2):
        envelopes = worlds.build(worlds.drawn(200 + seed, 150))
        path = tmp_path / f"{seed}.sqlite"
        acknowledged: set[int] = set()
        for _ in range(20):
            order = draw.sample(range(len(envelopes)), len(envelopes))
            order.sort(key=lambda number: number in acknowledged)  # new ones first
            said = _killed(draw.randrange(1, 12), draw.random() * 0.005, _add, path, envelopes, order)
            kills += 1
            acknowledged.update(said)
            _check_sound(path)
            store = worlds.open_store(path)
            present = set(store.ids())
            # Those are there which the rules would keep of what is there: no row without the others.
            worlds.check(store, [e for e in envelopes if _cid(e) in present])
            for number in acknowledged:
                assert store.add(envelopes[number], now=worlds.NOW).status in ("known", "stale")
            assert set(store.ids()) == present
            store.close()
        assert len(acknowledged) > 20
        store = worlds.open_store(path)
        store.add_many(envelopes, now=worlds.NOW)
        worlds.check(store, envelopes)
        store.close()
    assert kills == 40


def test_a_store_killed_while_it_is_made_can_be_opened(tmp_path: Path) -> None:
    draw = random.Random(43)
    for number in range(15):
        path = tmp_path / f"{number}.sqlite"
        _killed(1, draw.random() * 0.02, _open, path)
        store: RecordStore = worlds.open_store(path)
        assert store.ids() == []
        store.close()
        _check_sound(path)


def _cid(envelope: bytes) -> bytes:
    return worlds.codec.record_cid(worlds.codec.decode_envelope(envelope).record)
