"""A chain of one's own with the contracts on it, for `make demo` and for trying out: nothing of it outlives it.

    python -m decentraspace_billing_polygon.devchain [--engine anvil|py-evm] [--port N] [--block-time SECONDS]

prints a line of JSON once all is there, and goes on until it is ended or its standard input is closed. Needs anvil,
or the package eth-tester with py-evm, in which case the chain is in this process. Loopback only. Its accounts are
those of the mnemonic that everybody knows: never send them anything on another chain.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MNEMONIC = "test test test test test test test test test test test junk"
CHAIN_ID = 31337
ENGINES = ("anvil", "py-evm")
_ROOT = Path(__file__).resolve().parents[3]
_ZERO = "0x" + 40 * "0"
_DEPLOYER = 9
_PATIENCE = 60.0


@dataclass(frozen=True)
class DevChain:
    """`keys`: private keys, hexadecimal, of ten accounts that have coins; anybody may mint the `token`."""

    engine: str
    rpc: str
    chain_id: int
    token: str
    vault: str
    operators: str
    sites: str
    first_block: int
    keys: tuple[str, ...]


def find_anvil() -> str | None:
    built = _ROOT / "contracts" / "node_modules" / ".bin" / "anvil"
    return str(built) if built.exists() else shutil.which("anvil")


def keys() -> tuple[str, ...]:
    from eth_account import Account

    Account.enable_unaudited_hdwallet_features()
    made = [Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{n}").key for n in range(10)]
    return tuple("0x" + bytes(key).hex() for key in made)


@contextmanager
def chain(engine: str | None = None, port: int = 0, block_time: float = 1.0) -> Iterator[str]:
    """URL of a chain without contracts, a block each `block_time` seconds, all but the newest two final. RuntimeError
    when there is neither anvil nor py-evm. Blocking."""
    anvil = find_anvil()
    if engine is None:
        engine = "anvil" if anvil else "py-evm"
    if engine == "anvil":
        if anvil is None:
            raise RuntimeError(
                "anvil is not installed: run `npm ci` in contracts/, or choose --engine py-evm"
            )
        with _anvil(anvil, port, block_time) as url:
            yield url
    else:
        from eth_account import Account

        from decentraspace_billing_polygon.devrpc import serve

        rich = [bytes.fromhex(Account.from_key(key).address[2:]) for key in keys()]
        with serve(rich, CHAIN_ID, port, block_time) as url:
            yield url


@contextmanager
def _anvil(program: str, port: int, block_time: float) -> Iterator[str]:
    if not port:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
    process = subprocess.Popen(
        [program, "--host", "127.0.0.1", "--port", str(port), "--silent", "--chain-id", str(CHAIN_ID),
         "--mnemonic", MNEMONIC, "--slots-in-an-epoch", "1", "--block-time", f"{block_time:g}"],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def deploy(url: str, engine: str, artifacts: Path | None = None) -> DevChain:
    """The contracts of `artifacts` (by default the repository's) onto the chain at `url`; when it returns they are in
    a final block. Blocking."""
    from eth_account import Account
    from web3 import HTTPProvider, Web3

    folder = artifacts or _ROOT / "contracts" / "artifacts"
    web3 = Web3(HTTPProvider(url))
    _until(web3.is_connected, "the chain answers")
    all_keys = keys()
    deployer = Account.from_key(all_keys[_DEPLOYER])
    first = web3.eth.block_number

    def put(name: str, *arguments: Any) -> str:
        made = json.loads((folder / f"{name}.json").read_text())
        contract = web3.eth.contract(abi=made["abi"], bytecode=made["bytecode"])
        transaction = contract.constructor(*arguments).build_transaction(
            {"from": deployer.address, "nonce": web3.eth.get_transaction_count(deployer.address)}
        )
        digest = web3.eth.send_raw_transaction(deployer.sign_transaction(transaction).raw_transaction)
        receipt = web3.eth.wait_for_transaction_receipt(digest, timeout=_PATIENCE, poll_latency=0.05)
        if receipt["status"] != 1:
            raise RuntimeError(f"{name} could not be deployed")
        return str(receipt["contractAddress"])

    token = put("DevDollar")
    vault = put("CreditVault", (token, _ZERO, _ZERO, 0, _ZERO, 0, deployer.address))
    operators = put("OperatorRegistry", vault, deployer.address, 1_000_000)
    sites = put("SiteRegistry", vault, deployer.address, 5_000_000, 250_000, bytes(32))
    newest = web3.eth.block_number
    _until(lambda: web3.eth.get_block("finalized")["number"] >= newest, "the contracts are final")
    return DevChain(engine, url, CHAIN_ID, token, vault, operators, sites, first, all_keys)


def _until(condition: Any, what: str) -> None:
    end = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {_PATIENCE:g} s: {what}")
        time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(prog="devchain", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--engine", choices=ENGINES, help="by default anvil where it is installed")
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1; by default one that is free")
    parser.add_argument("--block-time", type=float, default=1.0, help="seconds between blocks")
    parser.add_argument("--artifacts", type=Path, help="folder of the contracts' artifacts")
    given = parser.parse_args()
    engine = given.engine or ("anvil" if find_anvil() else "py-evm")
    try:
        with chain(engine, given.port, given.block_time) as url:
            made = deploy(url, engine, given.artifacts)
            print(json.dumps(asdict(made)), flush=True)  # noqa: T201
            _until_ended()
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _until_ended() -> None:
    """So that it does not outlive who started it, however that ended."""
    import signal

    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())

    def watch() -> None:
        while sys.stdin.read(1):
            pass
        over.set()

    if not sys.stdin.isatty():
        threading.Thread(target=watch, daemon=True).start()
    over.wait()


if __name__ == "__main__":
    sys.exit(main())
