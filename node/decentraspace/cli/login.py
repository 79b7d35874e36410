"""`decentraspace login` and `logout`: the wallet signs once, here; no node sees its key."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import click

from decentraspace.cli.completion import complete_label
from decentraspace.cli.output import emit, json_option
from decentraspace.errors import BadInput
from decentraspace.identity.ethereum import checksum_address
from decentraspace.records.schema import MAX_LABEL, check_label, site_id

_SITE = re.compile(r"[a-z2-7]{16}")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9]|-(?=[a-z0-9]))*(?:--[a-z2-7]{16})?")


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
    "--scope",
    default="*",
    show_default=True,
    shell_complete=complete_label,
    help="Site that the session may publish: its label, site id or host; * for all.",
)
@click.option(
    "--days",
    default=30,
    show_default=True,
    type=click.IntRange(1, 90),
    help="Days until the session runs out.",
)
@click.option(
    "--names/--no-names",
    default=True,
    help="Let the wallet sign a second text, from which the IPNS names of your sites are made.",
)
@click.option(
    "--name-generation",
    default=1,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    help="Raise it to give your sites other IPNS names, if somebody else has had your session file.",
)
@click.option("--yes", is_flag=True, help="Sign without asking.")
@json_option
def login(
    node: str | None,
    keystore: Path | None,
    key_stdin: bool,
    scope: str,
    days: int,
    names: bool,
    name_generation: int,
    yes: bool,
    as_json: bool,
) -> None:
    """Let a session key, made on this machine, publish for your wallet.

    The wallet's key is asked for at a hidden prompt, used for two signatures, and forgotten: one lets the
    session key publish (EIP-4361), of the other the keys of your sites' IPNS names are made, the same at every
    login. What is to be signed is shown first; on a terminal you are asked whether to sign it.

    \b
    Examples:
      decentraspace login --node https://api.node.example
      decentraspace login --keystore ~/wallet.json --days 7
      decentraspace login --scope blog --days 90    # for a machine that publishes one site
      pass show wallet | decentraspace login --key-stdin
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from decentraspace.cli import client
    from decentraspace.identity import delegation, sitekeys

    _check_scope(scope)
    url = node or client.last_node() or client.DEFAULT_NODE
    with client.Api(url) as api:
        challenge = api.get("/auth/login/")
        account = account_of(keystore, key_stdin)
        owner = bytes.fromhex(account.address[2:])
        scope = _site_of(owner, scope)
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

        of_names = sitekeys.message(owner, challenge["network"], name_generation) if names else ""
        if not as_json:
            click.echo(f"Your wallet signs this text:\n\n{message}\n", err=True)
            if of_names:
                click.echo(f"And this one, which nobody is sent the signature of:\n\n{of_names}\n", err=True)
            if not yes and not key_stdin and sys.stdin.isatty():
                click.confirm("Sign it?", abort=True, default=True, err=True)
        signature = bytes(account.sign_message(encode_defunct(text=message)).signature)
        seed = _seed_of_names(account, of_names, scope) if of_names else b""
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
            names=seed.hex(),
        )
        saved.delegation.verify(Rules())
        answer = api.log_in_with(saved)
        replaced = client.last_key()
        path = client.save(saved)
    value = {
        "owner": saved.owner,
        "node": url,
        "key": answer["key"],
        "scope": scope,
        "message": message,
        "session": str(path),
        "replaces": replaced,
    }
    text = f"Logged in as {saved.owner} at {url}. The session is kept in {path}."
    if replaced:
        text += (
            f"\nIt replaces the session key {replaced}, which stays valid until it runs out. "
            f"If somebody else may have it: decentraspace revoke {replaced}"
        )
    emit(value, text, as_json)


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
    label = scope.rpartition("--")[0] or scope
    if scope != "*" and not (_SITE.fullmatch(scope) or (_HOST.fullmatch(scope) and len(label) <= MAX_LABEL)):
        raise BadInput(
            f"--scope is the label of a site, its site id or host, or *, not {scope[:80]!r}.",
            hint="`decentraspace sites` lists yours.",
        )


def _site_of(owner: bytes, scope: str) -> str:
    """The site id that `scope` means; 16 letters that can be an id are one."""
    if scope == "*" or _SITE.fullmatch(scope):
        return scope
    label, marker, site = scope.rpartition("--")
    if not marker:
        return site_id(owner, check_label(scope))
    if site != site_id(owner, label):
        raise BadInput(f"{scope} is no site of the wallet {checksum_address(owner)}.")
    return site


def _seed_of_names(account: Any, text: str, scope: str) -> bytes:
    """A login for one site gets the key of that site's name, and of no other."""
    from eth_account.messages import encode_defunct

    from decentraspace.identity import sitekeys

    seed = sitekeys.seed(bytes(account.sign_message(encode_defunct(text=text)).signature))
    return seed if scope == "*" else sitekeys.site_seed(seed, scope)


def account_of(keystore: Path | None, key_stdin: bool) -> Any:
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
        except (ValueError, TypeError, KeyError, NotImplementedError) as error:
            why = "wrong passphrase" if "MAC mismatch" in str(error) else "it is no keystore of version 3"
            raise BadInput(f"{keystore} cannot be opened: {why}.") from error
    text = (
        sys.stdin.readline()
        if key_stdin
        else click.prompt("Wallet's private key (hexadecimal)", hide_input=True, err=True)
    )
    digits = text.strip().removeprefix("0x")
    # The text is never repeated: it may be a key with a slip in it.
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digits):
        raise BadInput(
            f"That is not a private key: 64 hexadecimal digits are expected, and it has {len(digits)} characters"
            + ("." if len(digits) != 64 else ", not all of them such digits.")
        )
    try:
        return Account.from_key(bytes.fromhex(digits))
    except ValueError as error:
        raise BadInput(
            "That is not a private key: as a number it is 0, or beyond what secp256k1 has keys for."
        ) from error


def _read_keystore(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise BadInput(f"{path} is not a keystore file: it is not JSON.") from error
