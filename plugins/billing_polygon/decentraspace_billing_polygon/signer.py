"""Who signs the operator's transactions: a key in an encrypted file, or a signer elsewhere."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any, Protocol

import trio
from eth_account import Account

from decentraspace.errors import ConfigError, Conflict, Unavailable
from decentraspace_billing_polygon import forms
from decentraspace_billing_polygon.rpc import Endpoints


class Signer(Protocol):
    """`address`: with its checksum."""

    address: str

    async def sign(self, transaction: dict[str, Any]) -> tuple[str, str]:
        """Hash and raw bytes, both as hex, of the transaction (EIP-1559, type 2) that is signed."""
        ...


class KeyFile:
    """A keystore of version 3 (Web3 Secret Storage). Slow to open by design: open it in a thread."""

    def __init__(self, path: Path, password: str) -> None:
        try:
            self._account = Account.from_key(Account.decrypt(json.loads(path.read_text()), password))
        except OSError as error:
            raise ConfigError(f"The operator's key cannot be read: {error}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"{path} does not open: it is no keystore, or the password is another one"
            ) from error
        self.address: str = self._account.address

    async def sign(self, transaction: dict[str, Any]) -> tuple[str, str]:
        signed = self._account.sign_transaction(transaction)
        return "0x" + bytes(signed.hash).hex(), "0x" + bytes(signed.raw_transaction).hex()


class External:
    """`eth_signTransaction` of another program, such as Web3Signer, that holds the key."""

    def __init__(self, url: str, address: str, timeout: float) -> None:
        self.address = address
        self._endpoint = Endpoints((url,), 1, timeout)

    async def aclose(self) -> None:
        await self._endpoint.aclose()

    async def sign(self, transaction: dict[str, Any]) -> tuple[str, str]:
        asked = {k: hex(v) if isinstance(v, int) else v for k, v in transaction.items()}
        answer = await self._endpoint.any("eth_signTransaction", {**asked, "from": self.address})
        raw = forms.hexes(answer["raw"] if isinstance(answer, dict) else answer)
        return await trio.to_thread.run_sync(self._checked, raw, transaction)

    def _checked(self, raw: str, transaction: dict[str, Any]) -> tuple[str, str]:
        """Only what was asked for, by whom it was asked of: another program is not to be believed."""
        from eth_account.typed_transactions import TypedTransaction
        from eth_utils import keccak
        from hexbytes import HexBytes

        data = HexBytes(raw)
        try:
            signer = Account.recover_transaction(data)
            found = TypedTransaction.from_bytes(data).as_dict()
        except (ValueError, TypeError) as error:
            raise Unavailable(f"The external signer answers with no transaction: {error}") from error
        same = all(_plain(found.get(k)) == _plain(v) for k, v in transaction.items() if k != "type")
        if signer.lower() != self.address.lower() or not same:
            raise Unavailable("The external signer signed something else, or for another address")
        return "0x" + keccak(data).hex(), raw


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return "0x" + bytes(value).hex()
    return value.lower() if isinstance(value, str) else value


def make_keystore(path: Path, password: str) -> str:
    """A new key at `path`, mode 0600, which must not exist; its address. Takes about a second."""
    account = Account.from_key(secrets.token_bytes(32))
    text = json.dumps(account.encrypt(password))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Conflict(
            f"{path} exists already", hint="Name another file; this one is left as it is."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be made: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return str(account.address)


def read_password(path: Path) -> str:
    """The file's first line. ConfigError when others could read it."""
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path} can be read by others", hint=f"chmod 600 {path}")
        return path.read_text().split("\n", 1)[0].removesuffix("\r")
    except OSError as error:
        raise ConfigError(f"The password of the operator's key cannot be read: {error}") from error
