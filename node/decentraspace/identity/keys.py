"""The node's own key: Ed25519, on disk with mode 0600, encrypted when a passphrase is given."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

import base58
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from decentraspace.errors import ConfigError
from decentraspace.identity import didkey

_MOST = 16 * 1024  # bytes of a key file
_PASSPHRASE_MOST = 1023  # bytes; OpenSSL takes no more


def peer_id_of(public: bytes) -> str:
    """libp2p peer id (12D3Koo…): identity multihash of the protobuf of an Ed25519 key.

    Source: https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md.
    """
    return str(base58.b58encode(b"\x00\x24\x08\x01\x12\x20" + public).decode())


def public_of(peer_id: str) -> bytes | None:
    """The Ed25519 key inside a peer id, or None when it holds none."""
    try:
        raw = bytes(base58.b58decode(peer_id)) if len(peer_id) < 80 else b""
    except ValueError:
        return None
    found = raw[6:] if raw[:6] == b"\x00\x24\x08\x01\x12\x20" and len(raw) == 38 else None
    return found if found is not None and peer_id_of(found) == peer_id else None


class NodeKey:
    """Signs for this node. `public`: 32 bytes."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()
        self.did = didkey.encode(self.public)
        self.peer_id = peer_id_of(self.public)

    def sign(self, data: bytes) -> bytes:
        return self._private.sign(data)

    def private_bytes32(self) -> bytes:
        return self._private.private_bytes_raw()

    @property
    def private(self) -> Ed25519PrivateKey:
        return self._private

    @classmethod
    def generate(cls) -> NodeKey:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load_or_create(cls, path: Path, passphrase: bytes | None) -> NodeKey:
        """Read the key at `path`, or make it. With a passphrase, a key that was not encrypted becomes so.

        ConfigError for a file that others may read, a wrong or missing passphrase, or no Ed25519 key.
        """
        if passphrase and len(passphrase) > _PASSPHRASE_MOST:
            raise ConfigError(f"The key's passphrase has more than {_PASSPHRASE_MOST} bytes")
        try:
            if path.exists() and not path.is_file():
                raise ConfigError(f"{path} is not a file")  # opening a pipe would wait for ever
            if not path.exists():
                # Should another process be faster, its key stands.
                cls.generate()._save(path, passphrase, replace=False)
            return cls._load(path, passphrase)
        except OSError as error:
            raise ConfigError(f"{path} cannot be read or made: {error.strerror}") from error

    @classmethod
    def _load(cls, path: Path, passphrase: bytes | None) -> NodeKey:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise ConfigError(f"{path} can be read by others", hint=f"Run: chmod 600 {path}")
            pem = file.read(_MOST)
        encrypted = b"ENCRYPTED" in pem.partition(b"\n")[0]
        try:
            private = serialization.load_pem_private_key(pem, passphrase or None if encrypted else None)
        except TypeError as error:
            raise ConfigError(
                f"{path} is encrypted", hint="Give its passphrase in DECENTRASPACE_KEY_PASSPHRASE."
            ) from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"{path} cannot be read: wrong passphrase, or not a key") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise ConfigError(f"{path} is not an Ed25519 key")
        key = cls(private)
        if passphrase and not encrypted:
            # Where a link leads: replacing the link itself would leave the bare key behind it.
            key._save(Path(os.path.realpath(path)), passphrase, replace=True)
        return key

    def _save(self, path: Path, passphrase: bytes | None, *, replace: bool) -> None:
        """Durable when it returns; the file is whole, and readable by its owner only, at every instant."""
        pem = self._private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption(),
        )
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp: a name nobody foresaw, mode 0600.
        descriptor, name = tempfile.mkstemp(prefix=path.name + ".", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.replace(name, path)
            else:
                with contextlib.suppress(FileExistsError):
                    os.link(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
