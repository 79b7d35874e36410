"""Workers that are killed and restarted, and what becomes of the counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from decentraspace.ledger.usage import UsageStore
from tests.gateway.served import Answer, Owner, Served, Wire, until

PAGE = b"<p>counted"


def ask(site: Owner) -> Answer | None:
    """None where the connection broke: it was with the one that was killed."""
    try:
        return site.get("/")
    except (EOFError, ConnectionError):
        return None


def runs(pid: int) -> bool:
    """Whether it is there, and more than an entry that nobody has asked for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_killed_worker_comes_back(serve: Callable[..., Served]) -> None:
    served = serve()
    site = served.site({"index.html": PAGE})
    for _ in range(2):
        (old,) = served.workers()
        assert site.get("/").body == PAGE
        os.kill(old, signal.SIGKILL)
        until(lambda: (answer := ask(site)) is not None and answer.body == PAGE)
        (new,) = until(served.workers)
        assert new != old
    # It is a full worker: it reports, and it takes up new versions.
    site.deploy({"index.html": b"<p>new"})
    assert site.get("/").body == b"<p>new"
    before = served.totals(site)[0]
    site.get("/")
    until(lambda: served.totals(site)[0] > before)


def test_one_of_two_killed_is_no_outage(serve: Callable[..., Served]) -> None:
    served = serve(gateway={"workers": 2})
    site = served.site({"index.html": PAGE})
    workers = until(lambda: len(found := served.workers()) == 2 and found)
    os.kill(min(workers), signal.SIGKILL)
    until(lambda: min(workers) not in served.workers())
    for _ in range(50):
        assert ask(site) is not None
    until(lambda: len(served.workers()) == 2)


def test_a_killed_gateway_comes_back(serve: Callable[..., Served]) -> None:
    """All of it: its workers end with it, and the node starts another."""
    served = serve()
    site = served.site({"index.html": PAGE})
    (main,) = served.mains()
    workers = served.workers()
    os.kill(main, signal.SIGKILL)
    until(lambda: served.mains() - {main} and (answer := ask(site)) is not None and answer.status == 200)
    assert not workers & served.workers()
    assert not any(runs(pid) for pid in workers)


def test_a_gateway_that_cannot_be_started_again_is_tried_later(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As when there are no files or processes to be had just now: the node stays."""
    served = serve()
    site = served.site({"index.html": PAGE})
    (main,) = served.mains()
    with capture_logs() as logs:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere"))
        os.kill(main, signal.SIGKILL)
        until(lambda: any(line["event"] == "gateway_not_started" for line in logs))
        monkeypatch.undo()
    until(lambda: (answer := ask(site)) is not None and answer.status == 200)


READER = """
import sys
from pathlib import Path
from decentraspace.content.blockstore import BlockStore
store = BlockStore.open(Path(sys.argv[1]), readonly=True)
with store.read():
    print("reading", flush=True)
    sys.stdin.read()
"""


def test_whoever_was_killed_while_reading_is_forgotten(serve: Callable[..., Served]) -> None:
    """Its place among the readers would keep the store from ever using a page again."""
    served = serve()
    site = served.site({"index.html": PAGE})
    blocks = served.node.blocks
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(blocks.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"reading\n"
        reader.kill()
    assert str(reader.pid) in blocks.env.readers()
    (old,) = served.workers()
    os.kill(old, signal.SIGKILL)
    until(lambda: ask(site) is not None)
    assert str(reader.pid) not in blocks.env.readers()


@pytest.mark.parametrize("kind", ["nothing", "half", "asked once"])
def test_silence_is_not_waited_out(silent: dict[str, Wire], kind: str) -> None:
    """The tests before took about as long as that is allowed."""
    assert silent[kind].ended()


# -- counting


def test_every_answer_is_counted_once(served: Served) -> None:
    site = served.site({"index.html": PAGE, "large.bin": b"x" * 3_000_000, "a/b": b"b"})
    tag = site.get("/").headers["etag"]
    total = len(PAGE)
    for path, method, headers in (
        ("/", "HEAD", {}),
        ("/", "GET", {"if_none_match": tag}),
        ("/", "GET", {"range": "bytes=0-3"}),
        ("/", "GET", {"range": "bytes=100-"}),
        ("/a", "GET", {}),
        ("/large.bin", "GET", {}),
        ("/large.bin", "GET", {"range": "bytes=5-2000004"}),
        ("/nothing", "GET", {}),
        ("/nothing", "HEAD", {}),
        ("/a/b", "GET", {"accept": "application/vnd.ipld.raw"}),
        ("/a/b?format=car", "GET", {}),
    ):
        total += len(site.get(path, method, **headers).body)
    until(lambda: served.totals(site)[0] >= 12)
    assert served.totals(site) == (12, total)
    by_status = {row.status: row.requests for row in served.node.usage.rows(site.site_id)}
    assert by_status == {2: 7, 3: 2, 4: 3}


def test_a_batch_whose_acknowledgement_is_lost_counts_once(serve: Callable[..., Served]) -> None:
    served = serve()
    site = served.site({"index.html": PAGE})
    served.lose_answers = True
    for _ in range(20):
        site.get("/")
    until(lambda: len(served.batches) >= 2)
    assert len(set(served.batches)) == 1  # the same one, again
    counted = served.totals(site)[0]
    for _ in range(5):
        site.get("/")
    served.lose_answers = False
    until(lambda: served.totals(site)[0] == 25)
    assert 1 <= counted <= 20
    assert served.totals(site) == (25, 25 * len(PAGE))


def test_under_load_counts_are_written_down_once_a_second(serve: Callable[..., Served]) -> None:
    """And not as often as the node's disk lets them."""
    served = serve()
    site = served.site({"index.html": PAGE})
    began, asked = time.monotonic(), 0
    with Wire(served.port) as wire:
        while len(served.batches) < 4:
            assert time.monotonic() < began + 60
            assert wire.get(site.host).body == PAGE
            asked += 1
    # The last may have come while the fourth was looked for; the first comes after at most a second.
    assert len(served.batches) - 2 <= time.monotonic() - began
    until(lambda: served.totals(site)[0] >= asked)
    assert served.totals(site) == (asked, asked * len(PAGE))


def test_a_killed_worker_takes_at_most_what_it_did_not_report(serve: Callable[..., Served]) -> None:
    """What was acknowledged stays counted, and nothing is ever counted twice."""
    served = serve()
    site = served.site({"index.html": PAGE})
    answered = acknowledged = 0
    for _ in range(2):
        for _ in range(30):
            answered += ask(site) is not None
        until(lambda before=acknowledged: served.totals(site)[0] > before)
        acknowledged = served.totals(site)[0]
        served.lose_answers = True  # killed with a batch counted, but not acknowledged: the worst moment
        batches = len(served.batches)
        for _ in range(10):
            answered += ask(site) is not None
        until(lambda batches=batches: len(served.batches) > batches)
        (worker,) = served.workers()
        os.kill(worker, signal.SIGKILL)
        served.lose_answers = False
        until(lambda: ask(site) is not None)
        answered += 1
        assert acknowledged <= served.totals(site)[0] <= answered
        acknowledged = served.totals(site)[0]
    last = acknowledged
    until(lambda: served.totals(site)[0] > last)
    assert acknowledged <= served.totals(site)[0] <= answered
    names = {worker for worker, _ in served.batches}
    assert len(names) == 3  # one that came back has another name, so that its numbers begin anew


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_lost_when_the_node_stops(tmp_path: Path, workers: int) -> None:
    """The last second is handed over by workers that are told to end."""
    folder = tmp_path / "node"
    with Served(folder, gateway={"workers": workers}).serving() as served:
        site = served.site({"index.html": PAGE})
        for _ in range(40):
            assert site.get("/").status == 200
    usage = UsageStore(folder / "usage.sqlite")
    try:
        assert usage.totals(site.site_id) == (40, 40 * len(PAGE))
    finally:
        usage.close()


def test_a_disk_that_is_full_does_not_end_the_node(serve: Callable[..., Served]) -> None:
    """Neither what cannot be counted nor what cannot be looked up."""
    served = serve()
    site = served.site({"index.html": PAGE})
    served.lose_answers = True  # an OSError out of the handler
    site.get("/")
    until(lambda: served.batches)
    served.node.hosting.index.delete(site.host.split(".")[0])
    quota, served.node.blocks.quota = served.node.blocks.quota, 0
    assert site.get("/").status in (200, 404)
    served.node.blocks.quota = quota
    served.lose_answers = False
    until(lambda: served.totals(site)[0] >= 1)
