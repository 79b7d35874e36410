"""Documents of a plugin: whole after `kill -9` at any instant, and nothing acknowledged is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tinydb import where

from decentraspace import plugin_storage
from decentraspace.errors import Conflict, TooLarge, Unprocessable
from decentraspace.plugin_storage import open_documents

CHILD = """
import sys
from decentraspace.plugin_storage import open_documents
from tinydb import where
with open_documents(sys.argv[1]) as documents:
    table = documents.table("t")
    found = table.get(where("k") == "n")
    n = found["v"] if found else 0
    print("open", n, flush=True)
    while True:
        n += 1
        table.upsert({"k": "n", "v": n, "pad": "x" * (n * 997 % 40000)}, where("k") == "n")
        print("ack", n, flush=True)
"""


def test_nothing_acknowledged_is_lost_by_a_kill(tmp_path: Path) -> None:
    path, rng, acknowledged = tmp_path / "d.json", random.Random(5), 0
    for _ in range(12):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        after = rng.randrange(1, 60)
        for number, line in enumerate(child.stdout):
            word, value = line.split()
            if word == b"open":
                # The last acknowledged change, or the one that was under way.
                assert int(value) in (acknowledged, acknowledged + 1)
            acknowledged = int(value)
            if number == after:
                child.send_signal(signal.SIGKILL)
                break
        for line in child.stdout:
            if line.startswith(b"ack") and line.endswith(b"\n"):
                acknowledged = int(line.split()[1])
        child.wait()
        if path.exists():
            json.loads(path.read_bytes())
    with open_documents(path) as documents:
        (document,) = documents.table("t").all()
        assert document["v"] in (acknowledged, acknowledged + 1)


def test_it_is_private_and_leaves_nothing_lying_about(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "d.json"
    old = os.umask(0)
    try:
        with open_documents(path) as documents:
            documents.insert({"ü": "ß"})
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in path.parent.iterdir()) == ["d.json", "d.json.lock"]
    assert "ß" in path.read_text("utf-8")  # an operator can read it


def test_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    with open_documents(path), pytest.raises(Conflict, match="open already"):
        open_documents(path)
    with open_documents(path) as documents:
        documents.insert({"a": 1})


def test_a_leftover_of_a_crash_is_cleared(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    with open_documents(path) as documents:
        documents.insert({"a": 1})
    (tmp_path / "d.json.tmp").write_text('{"half')
    with open_documents(path) as documents:
        assert documents.search(where("a") == 1)
        assert not (tmp_path / "d.json.tmp").exists()


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    with open_documents(tmp_path / "d.json") as documents:
        (tmp_path / "d.json.tmp").symlink_to(target)
        with pytest.raises(OSError, match="symbolic links"):
            documents.insert({"a": 1})
    assert target.read_text() == "precious"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"5", b'{"t": 5}', b"\xff\xfe", b"[" * 100_000, b'{"t": {"1": {}}', b"null"]
)
def test_a_damaged_file_is_refused_and_kept(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_bytes(content)
    with open_documents(path) as documents:
        with pytest.raises(Unprocessable):
            documents.table("t").all()
        with pytest.raises(Unprocessable):
            documents.table("t").insert({"a": 1})
    assert path.read_bytes() == content


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_storage, "MAX_BYTES", 1000)
    path = tmp_path / "d.json"
    with open_documents(path) as documents:
        documents.insert({"a": "x" * 100})
        with pytest.raises(TooLarge):
            documents.insert({"a": "x" * 1000})
        assert len(documents.all()) == 1
    path.write_bytes(b" " * 1001)
    with open_documents(path) as documents, pytest.raises(TooLarge):
        documents.all()


def test_what_is_no_json_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    with open_documents(path) as documents:
        documents.insert({"a": 1})
        before = path.read_bytes()
        for wrong in (object(), float("nan"), b"bytes"):
            with pytest.raises((TypeError, ValueError)):
                documents.insert({"a": wrong})
        assert path.read_bytes() == before


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d.json"
    with open_documents(path) as documents:
        documents.insert({"a": 1})

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            documents.insert({"a": 2})
        monkeypatch.undo()
        assert [document["a"] for document in documents.all()] == [1]
        documents.insert({"a": 3})
    with open_documents(path) as documents:
        assert [document["a"] for document in documents.all()] == [1, 3]
