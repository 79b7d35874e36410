"""Processes that tests kill: `python -m tests.content.victims store|uploads FOLDER`.

For each line on its input it forks, so that nothing is imported anew, and the child works as the line says
until it is killed. The child tells its process id first, then what it is about to do and what is done; after
its death "dead" and the exit code follow. Every message is one write, so none arrives in part.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from decentraspace.content import pins
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.gc import collect
from decentraspace.content.reader import BlockMissing
from decentraspace.content.siteindex import SiteEntry, SiteIndex
from decentraspace.content.uploads import UploadStore
from tests.content.stores import Block, leaf, node
from tests.support import ROOT

DAGS = 12
GRACE = 3600.0  # seconds
QUOTA = 1 << 26
OWNER = bytes(20)
MAX_UPLOAD = 1 << 24


def dag(number: int) -> list[Block]:
    """Some forty blocks, root last: some of its own, some shared with the neighbour, some with all."""
    source = random.Random(number)
    own = [leaf(b"%d own %d " % (number, n) + source.randbytes(source.randrange(6000))) for n in range(15)]
    shared = [leaf(b"%d shared %d " % (number // 2, n) * 90) for n in range(15)]
    common = [leaf(b"common %d" % n) for n in range(5)]
    inner = [node(cid for cid, _ in some) for some in (own, shared, common, own[:5] + common)]
    return [*own, *shared, *common, *inner, node([*(cid for cid, _ in inner), shared[0][0]])]


def say(message: str) -> None:
    os.write(1, f"{message}\n".encode())


# -- what a child does


def live_on_store(folder: Path, line: str) -> None:
    """Two publishers with six DAGs each, and a collector, all at once. Lives are two hours apart."""
    life = int(line)
    pins._OPERATIONS = 8  # so that a pin takes many transactions
    store = BlockStore.open(folder, quota=QUOTA)
    store.clock = lambda: time.time_ns() // 1_000_000 + life * 7_200_000
    threads = [threading.Thread(target=_publish, args=(store, life, who)) for who in range(2)]
    threads.append(threading.Thread(target=_collect, args=(store,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _publish(store: BlockStore, life: int, who: int) -> None:
    source, index = random.Random(life * 2 + who), SiteIndex(store)
    with _dying():
        for turn in count():
            number = 2 * source.randrange(DAGS // 2) + who
            blocks, name = dag(number), source.choice(["a", "b"])
            root = blocks[-1][0]
            if source.random() < 0.2:
                hollow = node([root, leaf(b"nowhere")[0]])
                store.put_many([*blocks, hollow])
                try:
                    store.pin(hollow[0], name)
                except BlockMissing:
                    say("refused")
            elif source.random() < 0.6:
                with store.hold():
                    store.put_many(blocks)
                    say(f"put {number}")
                    say(f"try pin {number} {name}")
                    store.pin(root, name)
                say(f"pin {number} {name}")
                seq = life * 1_000_000 + turn
                say(f"try point {who} {seq}")
                index.put(f"site-{who}", SiteEntry("id", "label", OWNER, root, seq))
                say(f"point {who} {seq}")
            else:
                say(f"try unpin {number} {name}")
                store.unpin(root, name)
                say(f"unpin {number} {name}")


def _collect(store: BlockStore) -> None:
    with _dying():
        while True:
            for progress in collect(store, grace=GRACE, batch=5):
                say(f"collected {progress.blocks}")
            time.sleep(0.001)


def live_on_uploads(folder: Path, line: str) -> None:
    """`line` is "seed upload's-id offset", id "new" for a new one. Sends a file that lies beside the folder."""
    seed, name, begin = line.split()
    source, offset = random.Random(int(seed)), int(begin)
    content = folder.with_name("content").read_bytes()
    store = UploadStore(folder, max_bytes=MAX_UPLOAD)
    if name == "new":
        name = store.create(OWNER, "application/octet-stream", len(content))
        say(f"created {name}")
    while offset < len(content):
        sizes = [source.randrange(1, 9000) for _ in range(source.randrange(1, 6))]
        end = min(offset + sum(sizes), len(content))
        chunks = (content[at : min(at + 3000, end)] for at in range(offset, end, 3000))
        offset = store.append(name, offset, chunks)
        say(f"at {offset}")
    say(f"try remove {name}")
    store.remove(name)
    while True:
        say(f"removed {name}")
        time.sleep(0.001)


@contextmanager
def _dying() -> Iterator[None]:
    """A thread's failure ends the process, with a code that the test does not expect."""
    try:
        yield
    except BaseException:  # noqa: BLE001 - told by the exit code
        traceback.print_exc()
        os._exit(3)


def main() -> None:
    live: Callable[[Path, str], None] = {"store": live_on_store, "uploads": live_on_uploads}[sys.argv[1]]
    for line in sys.stdin:
        child = os.fork()
        if not child:
            with _dying():
                say(f"pid {os.getpid()}")
                live(Path(sys.argv[2]), line)
            os._exit(4)
        _, status = os.waitpid(child, 0)
        say(f"dead {os.waitstatus_to_exitcode(status)}")


# -- the test's side


class Victims:
    """The process that forks them, and what they say."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.content.victims", kind, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def __enter__(self) -> Victims:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def life(self, line: str, messages: int, moment: float) -> list[str]:
        """Start one, let it say so many messages, kill it `moment` seconds later; everything it said."""
        assert self._process.stdin
        assert self._process.stdout
        print(line, file=self._process.stdin, flush=True)
        pid = int(self._process.stdout.readline().removeprefix("pid "))
        said: list[str] = []
        while len(said) < messages and not (said and said[-1].startswith("dead")):
            said.append(self._process.stdout.readline().strip())
            assert said[-1], "the process that forks has ended"
        time.sleep(moment)  # not waiting for anything: the instant of the kill
        os.kill(pid, signal.SIGKILL)
        while not (said and said[-1].startswith("dead")):
            said.append(self._process.stdout.readline().strip())
            assert said[-1], "the process that forks has ended"
        assert said.pop() == f"dead {-signal.SIGKILL}", "it did not die of the kill"
        return said


if __name__ == "__main__":
    main()
