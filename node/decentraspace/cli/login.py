"""`decentraspace login` and `logout`: the wallet signs once, here; no node sees its key."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import click

from decentraspace.cli.output import emit, json_option
from decentraspace.errors import BadInput


@click.command()
@click.option(
    "--node", default=None, help="URL of a node's API (default: the last one, or http://127.0.0.1:8090)."
)
@click.option(
    "--keystore",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Ethereum keystore file (JSON, version 3).",
)
@click.option("--key-stdin", is_flag=True, help="Read the private key from standard input instead of asking.")
@click.option(
    "--scope", default="*", show_default=True, help="Site id that the session may publish; * for all."
)
@click.option(
    "--days",
    default=30,
    show_default=True,
    type=click.IntRange(1, 90),
    help="Days until the session runs out.",
)
@json_option
def login(
    node: str | None, keystore: Path | None, key_stdin: bool, scope: str, days: int, as_json: bool
) -> None:
    """Let a session key, made on this machine, publish for your wallet.

    The wallet's key is asked for at a hidden prompt, used for one signature (EIP-4361), and forgotten.

    \b
    Examples:
      decentraspace login --node https://api.node.example
      decentraspace login --keystore ~/wallet.json --days 7
      pass show wallet | decentraspace login --key-stdin
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from decentraspace.cli import client
    from decentraspace.identity import delegation
    from decentraspace.identity.ethereum import checksum_address

    _check_scope(scope)
    url = node or client.last_node() or client.DEFAULT_NODE
    with client.Api(url) as api:
        challenge = api.get("/auth/login/")
        account = _account(keystore, key_stdin)
        owner = bytes.fromhex(account.address[2:])
        session = Ed25519PrivateKey.generate()
        now = int(time.time())

        class Rules:
            chain_id = challenge["chain_id"]
            siwe_domain = challenge["domain"]

        message = delegation.build_message(
            owner,
            session.public_key().public_bytes_raw(),
            Rules(),
            issued_at=now,
            expires_at=now + days * 86400,
            scope=scope,
        )
        from eth_account.messages import encode_defunct

        if not as_json:
            click.echo(f"Your wallet signs this text:\n\n{message}\n", err=True)
        signature = bytes(account.sign_message(encode_defunct(text=message)).signature)
        saved = client.Saved(
            node=url,
            network=challenge["network"],
            chain_id=challenge["chain_id"],
            siwe_domain=challenge["domain"],
            owner=checksum_address(owner),
            scope=scope,
            expires=now + days * 86400,
            message=message,
            signature=signature.hex(),
            key=session.private_bytes_raw().hex(),
        )
        saved.delegation.verify(Rules())
        answer = api.log_in_with(saved)
        path = client.save(saved)
    value = {
        "owner": saved.owner,
        "node": url,
        "key": answer["key"],
        "scope": scope,
        "message": message,
        "session": str(path),
    }
    emit(value, f"Logged in as {saved.owner} at {url}. The session is kept in {path}.", as_json)


@click.command()
@json_option
def logout(as_json: bool) -> None:
    """Forget the session key on this machine.

    \b
    Example:
      decentraspace logout
    """
    from decentraspace.cli import client

    there = client.forget()
    emit({"forgotten": there}, "Logged out." if there else "Nobody was logged in.", as_json)


def _check_scope(scope: str) -> None:
    """Before anybody types a key for nothing."""
    if scope != "*" and not re.fullmatch(r"[a-z2-7]{16}", scope):
        raise BadInput(
            f"--scope is a site id (16 letters and digits) or *, not {scope[:80]!r}",
            hint="Site ids stand after the -- in a site's host; `decentraspace sites --json` lists yours.",
        )


def _account(keystore: Path | None, key_stdin: bool) -> Any:
    try:
        from eth_account import Account
    except ImportError as error:
        raise BadInput("eth-account is not installed.", hint="pip install 'decentraspace[wallet]'") from error

    if keystore is not None:
        document = _read_keystore(keystore)
        passphrase = (
            sys.stdin.readline().rstrip("\n")
            if key_stdin
            else click.prompt("Passphrase", hide_input=True, err=True)
        )
        try:
            return Account.from_key(Account.decrypt(document, passphrase))
        except (ValueError, TypeError, KeyError) as error:
            raise BadInput(f"{keystore} cannot be opened: {error}.") from error
    text = (
        sys.stdin.readline()
        if key_stdin
        else click.prompt("Wallet's private key (hexadecimal)", hide_input=True, err=True)
    )
    digits = text.strip().removeprefix("0x")
    try:
        if len(digits) != 64:
            raise ValueError("a key has 64 hexadecimal digits")
        return Account.from_key(bytes.fromhex(digits))
    except ValueError as error:
        # The text is never repeated: it may be a key with a slip in it.
        raise BadInput("That is not a private key: 64 hexadecimal digits are expected.") from error


def _read_keystore(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is not a keystore file: {error}.") from error
