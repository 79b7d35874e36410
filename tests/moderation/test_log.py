"""The take-down log: complete, unforgeable, and whole after a kill at any moment."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from decentraspace.content import cid as cids
from decentraspace.content.denylist import content, double_hash, modern
from decentraspace.errors import BadInput, NotFound, Unprocessable
from decentraspace.identity.keys import NodeKey
from decentraspace.moderation import takedowns, targets
from decentraspace.moderation.decisions import Decisions
from decentraspace.moderation.takedowns import decode_entry, make_entry, verify_log
from decentraspace.records import cbor

ROOT = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).with_name("log_child.py")
CID = targets.parse("cid", cids.to_text(cids.make(cids.RAW, b"x")))
OTHER = targets.parse("cid", cids.to_text(cids.make(cids.RAW, b"y")))
SITE = targets.parse("site", "blog--" + "a" * 16)
FACTS = {"status": 451, "reason": "why", "hidden": False, "by": bytes(20)}


@pytest.fixture
def decisions(tmp_path: Path) -> Iterator[Decisions]:
    made = Decisions(tmp_path / "moderation.sqlite", NodeKey.generate())
    yield made
    made.close()


def raw(decisions: Decisions) -> list[bytes]:
    return [entry.raw for entry in decisions.log(0, 1000)]


def test_every_decision_is_an_entry(decisions: Decisions) -> None:
    decisions.block(CID, **FACTS, now=100)
    decisions.block(CID, **FACTS, now=101)  # decided already
    decisions.block(SITE, **{**FACTS, "status": 410}, now=102)
    decisions.block(SITE, **FACTS, now=103)
    decisions.unblock(CID, reason="lifted", now=104)
    found = [(e.seq, e.time, e.action, e.kind, e.target, e.status, e.reason) for e in decisions.log()]
    assert found == [
        (1, 100, "block", "cid", CID.text, 451, "why"),
        (2, 102, "block", "site", "a" * 16, 410, "why"),
        (3, 103, "block", "site", "a" * 16, 451, "why"),
        (4, 104, "unblock", "cid", CID.text, 451, "lifted"),
    ]
    verified = verify_log(raw(decisions))
    assert verified.entries == 4
    assert verified.head == hashlib.sha256(decisions.log()[-1].raw).digest()
    assert [d.kind for d in decisions.listed()] == ["site"]
    assert [e.seq for e in decisions.log(2, 1)] == [3]


def test_an_entry_as_the_documentation_says_it_is_verified(decisions: Decisions) -> None:
    """By hand, from the bytes alone."""
    decisions.block(CID, **FACTS)
    decisions.block(OTHER, **FACTS)
    first, second = (cbor.decode(entry) for entry in raw(decisions))
    signature = second.pop("sig")
    key = Ed25519PublicKey.from_public_bytes(second["node"])
    key.verify(signature, b"decentraspace-takedown-v1\0" + cbor.encode(second))
    assert first["prev"] == bytes(32)
    assert second["prev"] == hashlib.sha256(raw(decisions)[0]).digest()


def test_what_is_hidden_is_nowhere_in_the_log_nor_in_the_file(decisions: Decisions, tmp_path: Path) -> None:
    decisions.block(CID, **{**FACTS, "hidden": True})
    decisions.block(SITE, **{**FACTS, "hidden": True})
    subject = content(cids.parse(CID.text))
    assert [e.target for e in decisions.log()] == [double_hash(modern(subject, "")), SITE.hash]
    assert decisions.listed()[0].target == CID.hash
    decisions.unblock(CID)
    decisions.unblock(2)
    log = b"".join(raw(decisions))
    assert CID.text.encode() not in log
    assert SITE.text.encode() not in log
    assert [e.target for e in decisions.log(2)] == [CID.hash, SITE.hash]
    assert decisions.listed() == []
    decisions.close()
    assert not any(CID.text.encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_hiding_what_was_named_replaces_it(decisions: Decisions) -> None:
    decisions.block(CID, **FACTS)
    decisions.block(CID, **{**FACTS, "hidden": True})
    [one] = decisions.listed()
    assert one.hidden
    assert one.target == CID.hash
    [(digest, _, _, _)] = decisions.rules()
    assert digest == CID.hash_digest


def test_the_logs_time_does_not_go_back(decisions: Decisions) -> None:
    decisions.block(CID, **FACTS, now=1000)
    decisions.block(OTHER, **FACTS, now=500)
    assert [e.time for e in decisions.log()] == [1000, 1000]
    verify_log(raw(decisions))


@pytest.mark.parametrize(
    "change",
    [
        lambda log: log[1:],
        lambda log: log[:1] + log[2:],
        lambda log: [log[1], log[0], *log[2:]],
        lambda log: [*log[:2], log[1], *log[2:]],
        lambda log: [log[0][:-1] + bytes((log[0][-1] ^ 1,)), *log[1:]],
        lambda log: [log[0].replace(b"why", b"WHY"), *log[1:]],
        lambda log: [*log, b""],
        lambda log: [*log, b"\xff" * 100],
        lambda log: [*log, bytes(10_000)],
        lambda log: [*log, cbor.encode({"v": 1})],
        lambda log: [*log[:-1], cbor.encode({**cbor.decode(log[-1]), "more": 1})],
        lambda log: [*log[:-1], cbor.encode({**cbor.decode(log[-1]), "seq": "4"})],
        lambda log: [*log[:-1], cbor.encode({**cbor.decode(log[-1]), "node": bytes(32)})],
    ],
)
def test_a_log_that_was_tampered_with(change: object, decisions: Decisions) -> None:
    for target in (CID, OTHER, SITE):
        decisions.block(target, **FACTS)
    decisions.unblock(SITE)
    verify_log(raw(decisions))
    with pytest.raises(Unprocessable):
        verify_log(change(raw(decisions)))  # type: ignore[operator]


def test_a_log_that_was_cut_off_or_written_anew_is_known_by_a_hash_seen_before(tmp_path: Path) -> None:
    key = NodeKey.generate()
    first = Decisions(tmp_path / "first.sqlite", key)
    second = Decisions(tmp_path / "second.sqlite", key)
    for store in (first, second):
        store.block(CID, **FACTS)
    first.block(OTHER, **FACTS)
    second.block(SITE, **FACTS)
    seen = verify_log(raw(first)).head
    first.unblock(OTHER)
    verify_log(raw(first), known=seen, peer_id=key.peer_id)
    for log in (raw(first)[:1], raw(second), []):
        with pytest.raises(Unprocessable, match="no longer"):
            verify_log(log, known=seen)
    with pytest.raises(Unprocessable, match="not of"):
        verify_log(raw(first), peer_id=NodeKey.generate().peer_id)
    first.close()
    second.close()


def test_another_nodes_entry_does_not_continue_a_log(decisions: Decisions) -> None:
    decisions.block(CID, **FACTS)
    thief = NodeKey.generate()
    last = decisions.log()[-1]
    facts = {"time": last.time, "action": "unblock", "kind": "cid", "target": CID.text}
    forged = make_entry(thief.sign, thief.public, last, **facts, hidden=False, status=451, reason="")
    with pytest.raises(Unprocessable, match="another node"):
        verify_log([last.raw, forged.raw])


def test_a_record_is_no_entry_and_an_entry_no_record(decisions: Decisions) -> None:
    """One key signs both: neither signature is good for the other."""
    from decentraspace.records import codec

    decisions.block(CID, **FACTS)
    assert not takedowns.DOMAIN.startswith(codec.RECORD_DOMAIN)
    assert not codec.RECORD_DOMAIN.startswith(takedowns.DOMAIN)
    with pytest.raises(BadInput):
        codec.decode_record(raw(decisions)[0])


@pytest.mark.parametrize("reason", ["x" * 501, "line\nline", "\x1b[31mred"])
def test_reasons_have_bounds(reason: str, decisions: Decisions) -> None:
    with pytest.raises(BadInput):
        decisions.block(CID, **{**FACTS, "reason": reason})
    with pytest.raises(BadInput):
        decisions.unblock(CID, reason=reason)
    assert decisions.log() == []


def test_what_cannot_be_blocked_or_unblocked(decisions: Decisions) -> None:
    with pytest.raises(BadInput):
        decisions.block(CID, **{**FACTS, "status": 404})
    for what in (CID, 7):
        with pytest.raises(NotFound):
            decisions.unblock(what)
    for kind, text in (("cid", "x"), ("site", "blog"), ("owner", "0x12"), ("path", "/")):
        with pytest.raises(BadInput):
            targets.parse(kind, text)
    assert decisions.log() == []


@pytest.mark.parametrize(
    ("kind", "spellings"),
    [
        ("cid", ["QmVTF1yEejXd9iMgoRTFDxBv7HAz9kuZcQNBzHrceuK9HR",
                 "/ipfs/bafybeidjwik6im54nrpfg7osdvmx7zojl5oaxqel5cmsz46iuelwf5acja",
                 "ipfs://bafybeidjwik6im54nrpfg7osdvmx7zojl5oaxqel5cmsz46iuelwf5acja/"]),
        ("site", ["a" * 16, "blog--" + "a" * 16, "https://Blog--" + "a" * 16 + ".Sites.Example:8080/x"]),
        ("owner", ["0x2c7536E3605D9C16a7a3D7b1898e529396a65c23", "0x2c7536e3605d9c16a7a3d7b1898e529396a65c23"]),
    ],
)  # fmt: skip
def test_spellings_of_one_target(kind: str, spellings: list[str]) -> None:
    assert len({targets.parse(kind, text) for text in spellings}) == 1


def test_kills_lose_nothing_and_leave_a_whole_log(tmp_path: Path) -> None:
    """A writer says each decision only after it is durable; it is killed at thirty different moments."""
    told = 0
    folder = tmp_path / "node"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for round_ in range(30):
        child = subprocess.Popen(
            [sys.executable, str(CHILD), str(folder)], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(1 + round_ % 3)]
        time.sleep((round_ * 37 % 11) / 2000)  # not to wait for anything: to be killed at different moments
        os.kill(child.pid, signal.SIGKILL)
        lines += child.stdout.readlines()
        child.wait()
        whole = [line for line in lines if line.endswith("\n")]
        told = max([told, *(int(line) for line in whole)])

        store = Decisions(folder / "moderation.sqlite", NodeKey.load_or_create(folder / "node.key", None))
        entries = store.log(0, 100_000)
        assert verify_log(e.raw for e in entries).entries == len(entries) >= told
        blocked: set[str] = set()
        for entry in entries:
            (blocked.add if entry.action == "block" else blocked.discard)(entry.target)
        assert {d.target for d in store.listed(0, 100_000)} == blocked
        assert len(store.rules()) == len(blocked)
        store.close()
    assert told >= 30


def test_an_entry_decodes_to_itself(decisions: Decisions) -> None:
    decisions.block(CID, **FACTS)
    [entry] = decisions.log()
    assert decode_entry(entry.raw) == entry
