"""The node's key at rest: who may read it, encryption, damage, races and kills."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from decentraspace.errors import ConfigError
from decentraspace.identity.keys import NodeKey
from tests.support import ROOT


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refusal(path: Path, passphrase: bytes | None = None) -> ConfigError:
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(ConfigError) as caught:
        NodeKey.load_or_create(path, passphrase)
    # Whatever is wrong, the operator's file is left as it was.
    assert (path.read_bytes() if path.is_file() else None) == before
    return caught.value


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "node.key"


def test_a_key_is_made_once_and_stays(path: Path) -> None:
    key = NodeKey.load_or_create(path, None)
    again = NodeKey.load_or_create(path, None)
    assert (again.public, again.peer_id, again.did) == (key.public, key.peer_id, key.did)
    assert again.private_bytes32() == key.private_bytes32()
    key.private.public_key().verify(again.sign(b"x"), b"x")
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("bits", [0o601, 0o602, 0o604, 0o610, 0o620, 0o640, 0o644, 0o660, 0o666, 0o777])
def test_a_file_that_others_may_touch_is_refused(path: Path, bits: int) -> None:
    NodeKey.load_or_create(path, None)
    path.chmod(bits)
    error = refusal(path)
    assert "chmod 600" in error.hint
    path.chmod(0o600)
    NodeKey.load_or_create(path, None)


@pytest.mark.parametrize("bits", [0o600, 0o400, 0o700])
def test_a_file_of_the_owner_alone_is_taken(path: Path, bits: int) -> None:
    key = NodeKey.load_or_create(path, None)
    path.chmod(bits)
    assert NodeKey.load_or_create(path, None).public == key.public


def test_an_encrypted_key_opens_with_its_passphrase_alone(path: Path) -> None:
    key = NodeKey.load_or_create(path, b"correct horse")
    assert b"ENCRYPTED" in path.read_bytes()
    assert key.private_bytes32() not in path.read_bytes()
    assert mode(path) == 0o600
    assert NodeKey.load_or_create(path, b"correct horse").public == key.public
    assert "passphrase" in str(refusal(path, b"wrong horse"))
    assert "DECENTRASPACE_KEY_PASSPHRASE" in refusal(path, None).hint
    assert "DECENTRASPACE_KEY_PASSPHRASE" in refusal(path, b"").hint


def test_a_bare_key_is_encrypted_once_there_is_a_passphrase(path: Path) -> None:
    key = NodeKey.load_or_create(path, None)
    assert NodeKey.load_or_create(path, b"new").public == key.public
    assert b"ENCRYPTED" in path.read_bytes()
    assert mode(path) == 0o600
    assert list(path.parent.iterdir()) == [path]
    refusal(path)
    assert NodeKey.load_or_create(path, b"new").public == key.public


def test_passphrases_of_any_bytes(tmp_path: Path) -> None:
    for number, passphrase in enumerate([b"\x00", b"a\x00b", b"\xff\xfe", "\u00e9".encode(), b"x" * 1023]):
        path = tmp_path / str(number)
        key = NodeKey.load_or_create(path, passphrase)
        assert NodeKey.load_or_create(path, passphrase).public == key.public
        refusal(path, passphrase[:-1] + b"?")
    refusal(tmp_path / "long", b"x" * 1024)
    assert not (tmp_path / "long").exists()


@pytest.mark.parametrize("passphrase", [None, b"secret"])
def test_a_file_cut_short_is_refused_and_never_replaced(path: Path, passphrase: bytes | None) -> None:
    NodeKey.load_or_create(path, passphrase)
    whole = path.read_bytes()
    # All that is cut is white space at the last line's end.
    for length in range(len(whole.rstrip()) - 1):
        refusal(write(path, whole[:length]), passphrase)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP256K1()),
        ec.generate_private_key(ec.SECP256R1()),
    ],
    ids=["RSA", "secp256k1", "P-256"],
)
def test_keys_of_another_kind_are_refused(
    path: Path, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
) -> None:
    path.parent.mkdir()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    refusal(write(path, pem))


def test_files_that_are_no_key(path: Path) -> None:
    path.parent.mkdir()
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for data in (pem, b"\x00" * 100, b"\xff" * 100_000, b"hello\n", b"-----BEGIN PRIVATE KEY-----\n"):
        refusal(write(path, data))
        refusal(path, b"secret")


def test_what_is_no_file(tmp_path: Path) -> None:
    refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    refusal(tmp_path / "pipe")
    (tmp_path / "file").touch()
    refusal(tmp_path / "file" / "node.key")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    refusal(loop)


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "node.key"
    key = NodeKey.load_or_create(target, None)
    link.symlink_to(target)
    assert NodeKey.load_or_create(link, None).public == key.public
    # Encrypted where it lies, not only where the link was.
    assert NodeKey.load_or_create(link, b"secret").public == key.public
    assert link.is_symlink()
    assert b"ENCRYPTED" in target.read_bytes()
    target.chmod(0o644)
    assert "can be read by others" in str(refusal(link, b"secret"))


def test_a_link_to_nowhere_is_not_filled(tmp_path: Path) -> None:
    """It may lead to a disk that is not mounted, and the node must not take a new name for that."""
    link = tmp_path / "node.key"
    link.symlink_to(tmp_path / "absent" / "key")
    refusal(link)
    assert link.is_symlink()
    assert list(tmp_path.iterdir()) == [link]


def child(folder: Path, count: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.identity.key_child", str(folder), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_processes_that_start_at_once_get_the_same_key(tmp_path: Path) -> None:
    rounds = 25
    children = [child(tmp_path, rounds) for _ in range(4)]
    for number in range(rounds):
        for process in children:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = {process.stdout.readline() for process in children if process.stdout is not None}
        key = NodeKey.load_or_create(tmp_path / f"{number}.key", None)
        assert answers == {f"{number} {key.peer_id}\n"}
    for process in children:
        process.communicate()
        assert process.returncode == 0
    assert len(list(tmp_path.iterdir())) == rounds
    assert {mode(path) for path in tmp_path.iterdir()} == {0o600}


def test_a_kill_leaves_a_whole_key_or_none(tmp_path: Path) -> None:
    rng = random.Random(7)
    made = 0
    for life in range(10):
        folder = tmp_path / str(life)
        process = child(folder, 0)
        killer = threading.Timer(rng.uniform(0.0, 0.05), process.kill)
        killer.start()
        output, _ = process.communicate()
        killer.join()
        # A line cut off by the kill was not acknowledged to anybody.
        lines = [line.split() for line in output.split("\n")[:-1]]
        made += len(lines)
        for number, peer_id in lines:
            assert NodeKey.load_or_create(folder / f"{number}.key", None).peer_id == peer_id
        for path in folder.iterdir() if folder.exists() else ():
            assert mode(path) == 0o600
            if path.suffix == ".key":
                NodeKey.load_or_create(path, None)
        # The one that was being made can be made now.
        NodeKey.load_or_create(folder / f"{len(lines)}.key", None)
    assert made > 0
