"""Uploads that are interrupted, by errors and by `kill -9`, and go on at the offset that was told."""

from __future__ import annotations

import json
import os
import random
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from decentraspace.content.uploads import LIFETIME, UploadStore
from decentraspace.errors import Conflict, NotFound, TooLarge
from tests.content.stores import python, traced
from tests.content.victims import MAX_UPLOAD, OWNER, Victims

STRANGER = b"\1" * 20


@pytest.fixture
def uploads(tmp_path: Path) -> UploadStore:
    return UploadStore(tmp_path / "uploads", max_bytes=1000)


def test_bytes_are_added_where_the_upload_ends(uploads: UploadStore) -> None:
    name = uploads.create(OWNER, "application/zip", 11)
    assert uploads.offset(name) == 0
    assert uploads.append(name, 0, [b"hello", b"", b" "]) == 6
    assert uploads.append(name, 6, []) == 6
    assert uploads.append(name, 6, iter([b"world"])) == 11
    assert uploads.path(name).read_bytes() == b"hello world"
    info = uploads.info(name, OWNER)
    assert (info.owner, info.content_type, info.length) == (OWNER.hex(), "application/zip", 11)
    assert abs(info.created - time.time()) < 60


@pytest.mark.parametrize("offset", [0, 4, 6, 1000, -1])
def test_a_wrong_offset_is_refused_with_the_right_one(uploads: UploadStore, offset: int) -> None:
    name = uploads.create(OWNER, "x", None)
    uploads.append(name, 0, [b"12345"])
    with pytest.raises(Conflict) as caught:
        uploads.append(name, offset, [b"more"])
    assert caught.value.problem()["offset"] == 5
    assert uploads.path(name).read_bytes() == b"12345"


def test_what_came_before_an_error_is_kept_and_gone_on_from(uploads: UploadStore) -> None:
    def broken() -> Iterator[bytes]:
        yield b"first"
        raise ConnectionResetError

    name = uploads.create(OWNER, "x", None)
    with pytest.raises(ConnectionResetError):
        uploads.append(name, 0, broken())
    assert uploads.offset(name) == 5
    assert uploads.append(name, 5, [b" second"]) == 12
    assert uploads.path(name).read_bytes() == b"first second"


def test_the_limit_holds_for_what_is_announced_and_for_what_comes(uploads: UploadStore) -> None:
    with pytest.raises(TooLarge):
        uploads.create(OWNER, "x", 1001)
    name = uploads.create(OWNER, "x", None)
    assert uploads.append(name, 0, [b"x" * 1000]) == 1000
    with pytest.raises(TooLarge):
        uploads.append(name, 1000, [b"y"])
    assert uploads.path(name).read_bytes() == b"x" * 1000
    assert uploads.append(uploads.create(OWNER, "x", 1000), 0, [b"x" * 1000]) == 1000


def test_only_its_owner_is_told_of_an_upload(uploads: UploadStore) -> None:
    name = uploads.create(OWNER, "x", None)
    with pytest.raises(NotFound):
        uploads.info(name, STRANGER)
    uploads.create(OWNER, "x", None)
    assert (uploads.count(OWNER), uploads.count(STRANGER)) == (2, 0)


@pytest.mark.parametrize(
    "name", ["", "0" * 32, "../../etc/passwd", "A" * 32, "0" * 31, "0" * 33, "0" * 32 + "\n", "٠" * 32]
)
def test_names_that_no_upload_has(uploads: UploadStore, name: str) -> None:
    with pytest.raises(NotFound):
        uploads.info(name, OWNER)
    with pytest.raises(NotFound):
        uploads.offset(name)
    with pytest.raises(NotFound):
        uploads.append(name, 0, [b"x"])


def test_a_removed_upload_is_gone_and_not_made_anew(uploads: UploadStore, tmp_path: Path) -> None:
    name = uploads.create(OWNER, "x", None)
    chunks = iter([b"while", b"sent"])

    def removing() -> Iterator[bytes]:
        yield next(chunks)
        uploads.remove(name)
        yield next(chunks)

    uploads.append(name, 0, removing())
    uploads.remove(name)
    with pytest.raises(NotFound):
        uploads.append(name, 0, [b"again"])
    with pytest.raises(NotFound):
        uploads.info(name, OWNER)
    assert list((tmp_path / "uploads").iterdir()) == []


def test_others_on_the_machine_cannot_read_it(uploads: UploadStore, tmp_path: Path) -> None:
    name = uploads.create(OWNER, "x", None)
    assert stat.S_IMODE((tmp_path / "uploads").stat().st_mode) == 0o700
    assert stat.S_IMODE(uploads.path(name).stat().st_mode) == 0o600


def test_what_nobody_went_on_with_for_a_day_expires(uploads: UploadStore, tmp_path: Path) -> None:
    old, young, continued = (uploads.create(OWNER, "x", None) for _ in range(3))
    folder = tmp_path / "uploads"
    long_ago = time.time() - LIFETIME - 10
    for name in (old, continued):
        for suffix in (".json", ".part"):
            os.utime(folder / f"{name}{suffix}", (long_ago, long_ago))
    uploads.append(continued, 0, [b"still coming"])
    (folder / f"{'a' * 32}.new").write_text("a kill during create left this")
    os.utime(folder / f"{'a' * 32}.new", (long_ago, long_ago))
    (folder / "README").write_text("not ours")
    os.utime(folder / "README", (long_ago, long_ago))
    uploads.expire(time.time())
    with pytest.raises(NotFound):
        uploads.info(old, OWNER)
    assert uploads.offset(young) == 0
    assert uploads.append(continued, 12, [b"!"]) == 13
    assert uploads.count(OWNER) == 2
    left = {path.name for path in folder.iterdir()}
    assert left == {"README", *(f"{n}.{s}" for n in (young, continued) for s in ("json", "part"))}
    uploads.expire(time.time() + 2 * LIFETIME)
    assert [path.name for path in folder.iterdir()] == ["README"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "7", '{"owner": 1}', '{"x": 2}', "\x00", "[" * 100_000]
)
def test_a_damaged_description_counts_as_no_upload(uploads: UploadStore, tmp_path: Path, text: str) -> None:
    name = uploads.create(OWNER, "x", None)
    (tmp_path / "uploads" / f"{name}.json").write_text(text)
    with pytest.raises(NotFound):
        uploads.info(name, OWNER)
    assert uploads.count(OWNER) == 0


# -- a disk without room


FULL = """
import json, resource, signal, sys
from pathlib import Path
from decentraspace.content.uploads import UploadStore
from decentraspace.errors import QuotaExceeded
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
owner = bytes(20)
store = UploadStore(Path(sys.argv[1]), max_bytes=1 << 30)
name = store.create(owner, "x", None)
offset = store.append(name, 0, [b"a" * 50_000])
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, hard))
refused = False
try:
    store.append(name, offset, [b"b" * 10_000, b"c" * 30_000])
except QuotaExceeded:
    refused = True
kept = store.offset(name)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
try:
    store.create(owner, "x", None)
    created = True
except QuotaExceeded:
    created = False
listed = store.count(owner)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
end = store.append(name, kept, [b"d" * 10])
print(json.dumps([refused, kept, created, listed, end, name]))
"""


def test_a_disk_without_room_is_an_error_that_keeps_what_came(tmp_path: Path) -> None:
    process = python(FULL, tmp_path / "uploads")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    refused, kept, created, listed, end, name = json.loads(output)
    assert refused
    assert not created
    assert listed == 1, "what could not be made is not listed"
    assert 60_000 <= kept <= 70_000
    assert end == kept + 10
    content = UploadStore(tmp_path / "uploads", max_bytes=1).path(name).read_bytes()
    assert content == (b"a" * 50_000 + b"b" * 10_000 + b"c" * 30_000)[:kept] + b"d" * 10


# -- kill -9


SENT = """
import sys
from pathlib import Path
from decentraspace.content.uploads import UploadStore
from tests.content.victims import OWNER, say
store = UploadStore(Path(sys.argv[1]), max_bytes=1 << 20)
name = store.create(OWNER, "x", None)
say("created")
offset = store.append(name, 0, [b"UPLOADED", b"UPLOADED"])
say("at")
"""


def test_what_is_told_was_synced(tmp_path: Path) -> None:
    """A kill leaves the system's caches alone; so it is the calls that are looked at."""
    creating, _, rest = traced(tmp_path, SENT, tmp_path / "uploads").partition('"created\\n"')
    order = re.findall(
        r'\b(write|fsync|rename)\w*\((?:\d+, "\{|\d+\)|(?:AT_FDCWD, )?"[^"]*\.new")',
        creating[creating.index(".part") :],
    )
    assert order == ["write", "fsync", "rename", "fsync"]
    appending = rest.partition('"at\\n"')[0]
    assert re.findall(r'(\w+)\(\d+(?:, "UPLOADED"|\))', appending) == ["write", "write", "fsync"]


def test_an_offset_that_was_told_survives_any_kill(tmp_path: Path) -> None:
    source = random.Random()
    content = source.randbytes(600_000)
    (tmp_path / "content").write_bytes(content)
    folder = tmp_path / "uploads"
    store = UploadStore(folder, max_bytes=MAX_UPLOAD)
    name, offset, finished, kills = "new", 0, 0, 0
    with Victims("uploads", folder) as victims:
        while kills < 40 or not finished:
            kills += 1
            messages = source.choice([0, 1, source.randrange(12)])
            acknowledged, removing, removed = offset, False, False
            said = victims.life(f"{kills} {name} {offset}", messages, source.random() * 0.01)
            for message in said:
                match message.split():
                    case ["created", new]:
                        name = new
                    case ["at", number]:
                        acknowledged = int(number)
                    case ["try", "remove", _]:
                        removing = True
                    case ["removed", _]:
                        removed = True
            if name == "new":
                continue
            if removing:
                assert acknowledged == len(content)
                if removed:
                    with pytest.raises(NotFound):
                        store.info(name, OWNER)
                finished += 1
                name, offset = "new", 0
                continue
            assert store.info(name, OWNER).length == len(content)
            offset = store.offset(name)
            assert offset >= acknowledged
            assert store.path(name).read_bytes() == content[:offset]
    store.expire(time.time() + 2 * LIFETIME)
    assert list(folder.iterdir()) == []
