"""A chain of one's own (anvil) with ENS on it, as its authors compiled it; and a relay before it that can misbehave."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from web3 import HTTPProvider, Web3

from decentraspace.testing import free_port, require_real
from decentraspace_dns_ens import naming

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PACKAGES = HERE / "ens" / "node_modules" / "@ensdomains"
CHAIN = 31337
DAY = 86400


class Anvil:
    def __init__(self) -> None:
        built = ROOT / "contracts" / "node_modules" / ".bin" / "anvil"
        program = require_real("anvil", str(built) if built.exists() else shutil.which("anvil"))
        require_real("ENS's contracts (tests/install.sh)", PACKAGES.exists())
        require_real("solc", (ROOT / "contracts" / "node_modules" / "solc").exists())
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [program, "--port", str(port), "--silent", "--chain-id", str(CHAIN)], stdin=subprocess.DEVNULL
        )
        self.web3 = Web3(HTTPProvider(self.url))
        until = time.monotonic() + 30
        while not self.web3.is_connected():
            if time.monotonic() > until or self.process.poll() is not None:
                raise AssertionError("anvil does not start")
            time.sleep(0.02)
        self.accounts: list[str] = list(self.web3.eth.accounts)

    def ask(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = httpx.post(self.url, json=body, timeout=30, trust_env=False).json()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def send(self, call: Any, sender: str | None = None) -> Any:
        digest = call.transact({"from": sender or self.accounts[0]})
        receipt = self.web3.eth.wait_for_transaction_receipt(digest, timeout=30)
        assert receipt["status"] == 1
        return receipt

    def sign(self, prepared: dict[str, Any], sender: str) -> None:
        """Send what `name_transaction` prepared, as a wallet would."""
        assert prepared["chain_id"] == CHAIN
        transaction = {
            "from": sender,
            "to": Web3.to_checksum_address(prepared["to"]),
            "data": prepared["data"],
            "value": prepared["value"],
        }
        receipt = self.web3.eth.wait_for_transaction_receipt(
            self.web3.eth.send_transaction(transaction), timeout=30
        )
        assert receipt["status"] == 1

    def deploy(self, made: dict[str, Any], *arguments: Any) -> Any:
        contract = self.web3.eth.contract(abi=made["abi"], bytecode=made["bytecode"])
        receipt = self.send(contract.constructor(*arguments))
        return self.web3.eth.contract(address=receipt["contractAddress"], abi=made["abi"])

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def packaged(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PACKAGES / path).read_text())
    return found


@cache
def builder() -> Any:
    spec = importlib.util.spec_from_file_location("build_questions", HERE.parent / "contracts" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def own() -> dict[str, Any]:
    """The contracts of the tests, compiled."""
    found: dict[str, Any] = builder().compile_(*sorted((HERE / "contracts").glob("*.sol")))
    return found


@dataclass
class Ens:
    """ENS on a chain: the registry with its fallback, the permanent registrar of .eth, the public resolver."""

    chain: Anvil
    registry: Any
    registrar: Any
    resolver: Any
    wrapper: Any
    odd: Any

    @classmethod
    def on(cls, chain: Anvil) -> Ens:
        archive = "ens-archived-contracts/abis"
        old = chain.deploy(packaged(f"{archive}/ens/ENSRegistry.json"))
        registry = chain.deploy(packaged(f"{archive}/ens/ENSRegistryWithFallback.json"), old.address)
        eth = naming.namehash("eth")
        registrar = chain.deploy(
            packaged(f"{archive}/ethregistrar/BaseRegistrarImplementation.json"), registry.address, eth
        )
        me = chain.accounts[0]
        chain.send(registry.functions.setSubnodeOwner(bytes(32), naming.keccak256(b"eth"), registrar.address))
        chain.send(registrar.functions.addController(me))
        resolver = chain.deploy(packaged(f"{archive}/ethregistrar/PublicResolver.json"), registry.address)
        wrapper = chain.deploy(own()["Wrapper"], registry.address, registrar.address, eth)
        return cls(chain, registry, registrar, resolver, wrapper, chain.deploy(own()["Odd"]))

    def register(self, label: str, owner: str, days: int = 365) -> str:
        """As the registrar's controller does when somebody has paid. The name."""
        number = int.from_bytes(naming.keccak256(label.encode()))
        self.chain.send(self.registrar.functions.register(number, owner, days * DAY))
        return f"{label}.eth"

    def resolve_by(self, name: str, owner: str, resolver: str) -> None:
        self.chain.send(self.registry.functions.setResolver(naming.namehash(name), resolver), owner)

    def show(self, label: str, owner: str, contenthash: bytes) -> str:
        """A name registered, with the public resolver, and what it is to show."""
        name = self.register(label, owner)
        self.resolve_by(name, owner, self.resolver.address)
        self.set(name, owner, contenthash)
        return name

    def set(self, name: str, owner: str, contenthash: bytes) -> None:
        self.chain.send(self.resolver.functions.setContenthash(naming.namehash(name), contenthash), owner)

    def subname(self, parent: str, label: str, by: str, owner: str) -> str:
        call = self.registry.functions.setSubnodeOwner(
            naming.namehash(parent), naming.keccak256(label.encode()), owner
        )
        self.chain.send(call, by)
        return f"{label}.{parent}"

    def wrap(self, label: str, owner: str) -> None:
        self.chain.send(self.registrar.functions.setApprovalForAll(self.wrapper.address, True), owner)
        self.chain.send(self.wrapper.functions.wrapETH2LD(label, owner), owner)

    def settings(self, **more: Any) -> dict[str, Any]:
        return {
            "rpc": [self.chain.url],
            "chain_id": CHAIN,
            "registry": self.registry.address,
            "wrapper": self.wrapper.address,
            "universal": "",
            "public_resolver": self.resolver.address,
            "timeout": 30,
            "patience": 10,
            "gateway_timeout": 20,
            **more,
        }


@dataclass
class Relay:
    """An endpoint before the chain. `way`: "honest", "silent", "broken" (HTTP 500), "rubbish", "limited" (an error
    of JSON-RPC), "behind" (answers for an older block), or a function from a result to another one."""

    url: str
    way: Any = "honest"
    asked: list[str] = field(default_factory=list)
    free: threading.Event = field(default_factory=threading.Event)
    block: str = "0x0"


@contextmanager
def relay(chain: Anvil) -> Iterator[Relay]:
    def answer(body: bytes) -> tuple[int, bytes]:
        question = json.loads(body)
        it.asked.append(question["method"])
        if it.way == "silent":
            it.free.wait(60)
        if it.way == "broken":
            return 500, b"<html>oops</html>"
        if it.way == "rubbish":
            return 200, b'{"jsonrpc": "2.0", "id": 1, "result": "0x12'
        if it.way == "limited":
            return 429, json.dumps({"error": {"code": -32005, "message": "too many requests"}}).encode()
        if it.way == "behind":
            question["params"] = [p if p != "latest" else it.block for p in question["params"]]
        given = httpx.post(chain.url, json=question, timeout=30, trust_env=False).json()
        if callable(it.way) and "result" in given:
            given["result"] = it.way(given["result"])
        return 200, json.dumps(given).encode()

    with serve(lambda method, path, body: answer(body)) as (url, _):
        it = Relay(url)
        try:
            yield it
        finally:
            it.free.set()


@contextmanager
def serve(answer: Any) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A real HTTP server on loopback: `answer(method, path, body)` gives (status, body), or
    (status, headers, chunks). Its URL, and what it was asked."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve(b"")

        def do_POST(self) -> None:
            self._serve(self.rfile.read(int(self.headers["Content-Length"])))

        def _serve(self, body: bytes) -> None:
            asked.append((self.command, self.path))
            given = answer(self.command, self.path, body)
            try:
                self.send_response(given[0])
                if len(given) == 2:
                    self.send_header("Content-Length", str(len(given[1])))
                    self.end_headers()
                    self.wfile.write(given[1])
                    return
                for name, value in given[1].items():
                    self.send_header(name, value)
                self.end_headers()
                self.close_connection = True
                for chunk in given[2]:
                    self.wfile.write(chunk)
            except OSError:
                self.close_connection = True  # whoever asked has gone

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


os.environ.setdefault("NO_PROXY", "127.0.0.1")  # web3's own requests stay on this machine
