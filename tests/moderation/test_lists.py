"""Following the files of denylists: appended, replaced, broken, gone, and a reader that is killed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from decentraspace.content import cid as cids
from decentraspace.content import denylist
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.denied import DenyRules
from decentraspace.errors import QuotaExceeded
from decentraspace.moderation.lists import Lists

ROOT = Path(__file__).resolve().parents[2]


def cid(number: int) -> bytes:
    return cids.make(cids.RAW, str(number).encode())


def rule(number: int) -> str:
    return f"/ipfs/{cids.to_text(cid(number))}\n"


def many(count: int) -> str:
    return "".join(f"//{hashlib.sha256(n.to_bytes(4, 'big')).hexdigest()}\n" for n in range(count))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlockStore]:
    with BlockStore.open(tmp_path / "blocks", quota=1 << 30) as store:
        yield store


@pytest.fixture
def rules(store: BlockStore) -> DenyRules:
    return DenyRules(store)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ours.deny"


def blocked(rules: DenyRules, numbers: range) -> list[int]:
    return [n for n in numbers if rules.find(cid(n)) is not None]


def test_what_is_appended_is_read_alone(rules: DenyRules, path: Path) -> None:
    path.write_text("hints:\n  gateway_status: 451\n---\n" + rule(0) + "nonsense\n")
    lists = Lists(rules, (str(path),))
    assert lists.update()
    first = rules.state.lists[0]
    with path.open("a") as file:
        file.write("more nonsense\n" + rule(1))
    assert lists.update()
    second = rules.state.lists[0]
    assert blocked(rules, range(3)) == [0, 1]
    assert rules.find(cid(1)).status == 451  # type: ignore[union-attr]
    assert (second.slot, second.lines, second.rules, second.faults) == (first.slot, 7, 2, 2)
    assert [s.partition(":")[0] for s in second.samples] == ["line 5", "line 6"]
    generation = rules.state.generation
    assert not lists.update()
    assert rules.state.generation == generation


def test_a_change_in_the_middle_is_read_whole(rules: DenyRules, path: Path) -> None:
    path.write_text(rule(0) + rule(1))
    lists = Lists(rules, (str(path),))
    lists.update()
    path.write_text(rule(2) + rule(1) + rule(3))
    assert lists.update()
    assert blocked(rules, range(5)) == [1, 2, 3]
    path.write_text("!" + rule(1).strip() + "\n")
    assert lists.update()
    assert blocked(rules, range(5)) == []


def test_a_line_that_is_still_being_written(rules: DenyRules, path: Path) -> None:
    """Half a line is no rule, or another one; when it is whole, it alone counts."""
    directory = rule(0).strip() + "/secret"
    path.write_text(directory[:-3])
    lists = Lists(rules, (str(path),))
    lists.update()
    assert rules.find(cid(0), "sec") is not None
    path.write_text(directory + "\n")
    lists.update()
    assert rules.find(cid(0), "sec") is None
    assert rules.find(cid(0), "secret") is not None


@pytest.mark.parametrize(
    "broken",
    [
        b"version: 2\n---\n",
        b"no header\n---\n",
        b"#" + b"x" * denylist.MAX_LINE + b"\n",
        None,
        "folder",
        "pipe",
    ],
)
def test_a_broken_list_leaves_in_force_what_it_said(
    broken: bytes | str | None, rules: DenyRules, path: Path
) -> None:
    path.write_text(rule(0))
    lists = Lists(rules, (str(path),))
    lists.update()
    path.unlink()
    if isinstance(broken, bytes):
        path.write_bytes(broken + rule(1).encode())
    elif broken == "pipe":
        os.mkfifo(path)
    elif broken == "folder":
        path.mkdir()
    again = Lists(DenyRules(rules._store), (str(path),))  # as after a restart
    for one in (lists, again):
        one.update()
        if broken == "folder":
            continue  # an empty folder of lists, and so none
        assert one.loaded[0].error
        assert blocked(rules, range(3)) == [0]
        assert one.loaded[0].state is not None
    if broken != "folder":
        path.unlink(missing_ok=True)
        path.write_text(rule(2))
        assert lists.update()
        assert blocked(rules, range(3)) == [2]
        assert lists.loaded[0].error == ""


def test_a_list_taken_out_of_the_settings_is_forgotten(rules: DenyRules, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.deny"
    path.write_text(rule(0))
    other.write_text(rule(1))
    Lists(rules, (str(path), str(other))).update()
    assert blocked(rules, range(3)) == [0, 1]
    Lists(rules, (str(other),)).update()
    assert blocked(rules, range(3)) == [1]
    Lists(rules, ()).update()
    assert blocked(rules, range(3)) == []
    with rules._store.read() as txn:
        assert txn.stat(rules._store.db["denied"])["entries"] == 1, "only the state is left"


def test_a_folder_is_read_by_name(rules: DenyRules, tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "b.deny").write_text("!" + rule(0))
    (folder / "a.deny").write_text(rule(0) + rule(1))
    (folder / "c.txt").write_text(rule(2))
    lists = Lists(rules, (str(folder),))
    lists.update()
    assert blocked(rules, range(3)) == [1]
    (folder / "c.deny").write_text(rule(0))
    lists.update()
    assert blocked(rules, range(3)) == [0, 1]


def test_other_processes_see_the_same(rules: DenyRules, path: Path, store: BlockStore) -> None:
    path.write_text(rule(0))
    lists = Lists(rules, (str(path),))
    lists.update()
    code = (
        "import sys; from pathlib import Path\n"
        "from decentraspace.content.blockstore import BlockStore\n"
        "from decentraspace.content.denied import DenyRules\n"
        "rules = DenyRules(BlockStore.open(Path(sys.argv[1]), readonly=True))\n"
        "for line in sys.stdin:\n"
        "    changed = rules.refresh()\n"
        "    print(changed, [rules.find(bytes.fromhex(c)) is not None for c in line.split()], flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None

        def ask() -> str:
            reader.stdin.write(f"{cid(0).hex()} {cid(1).hex()}\n")  # type: ignore[union-attr]
            reader.stdin.flush()  # type: ignore[union-attr]
            return reader.stdout.readline().strip()  # type: ignore[union-attr]

        assert ask() == "False [True, False]"
        path.write_text(rule(1))
        lists.update()
        assert ask() == "True [False, True]"
        assert ask() == "False [False, True]"
        reader.stdin.close()


def test_a_reader_killed_while_it_loads_leaves_the_old_list(tmp_path: Path, path: Path) -> None:
    """Old rules are in force until the new ones are whole; what the crash left is removed."""
    folder = tmp_path / "blocks"
    path.write_text(rule(0))
    with BlockStore.open(folder, quota=1 << 30) as store:
        Lists(DenyRules(store), (str(path),)).update()
    path.write_text(many(400_000))
    code = (
        "import sys; from pathlib import Path\n"
        "from decentraspace.content.blockstore import BlockStore\n"
        "from decentraspace.content.denied import DenyRules\n"
        "from decentraspace.moderation.lists import Lists\n"
        "store = BlockStore.open(Path(sys.argv[1]), quota=1 << 30)\n"
        "write = DenyRules._write\n"
        "def told(self, *rest):\n"
        "    write(self, *rest); print('batch', flush=True)\n"
        "DenyRules._write = told\n"
        "Lists(DenyRules(store), (sys.argv[2],)).update()\n"
    )
    for batches in (1, 3, 6):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(folder), str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as child:
            assert child.stdout is not None
            for _ in range(batches):
                assert child.stdout.readline() == "batch\n"
            os.kill(child.pid, signal.SIGKILL)
        with BlockStore.open(folder, quota=1 << 30) as store:
            rules = DenyRules(store)
            assert rules.find(cid(0)) is not None
            with store.read() as txn:
                assert txn.stat(store.db["denied"])["entries"] > 1000, "it was not killed while it loaded"
            rules.tidy()
            with store.read() as txn:
                assert txn.stat(store.db["denied"])["entries"] == 2


def test_a_store_without_room_keeps_the_old_list(rules: DenyRules, path: Path) -> None:
    path.write_text(rule(0))
    lists = Lists(rules, (str(path),))
    lists.update()
    path.write_text(many(200_000))
    used = rules._store.env.info()["map_size"]
    rules._store.env.set_mapsize(4 * 1024 * 1024)
    with pytest.raises(QuotaExceeded):
        lists.update()
    assert blocked(rules, range(2)) == [0]
    rules._store.env.set_mapsize(used)
    assert lists.update()
    assert blocked(rules, range(2)) == []
    assert rules.state.lists[0].rules == 200_000
