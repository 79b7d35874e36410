"""eth-tester's chain (py-evm, in this process) as JSON-RPC over loopback HTTP: what a plugin and web3 ask for."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_BODY_MOST = 4 * 1024 * 1024
_NOT_FINAL = 2  # newest blocks


class Chain:
    """For any thread."""

    def __init__(self, rich: Sequence[bytes], chain_id: int) -> None:
        from eth_tester import EthereumTester, PyEVMBackend

        account = {"balance": 10_000 * 10**18, "nonce": 0, "code": b"", "storage": {}}
        backend = PyEVMBackend(genesis_state={address: dict(account) for address in rich})
        type(backend.chain).chain_id = chain_id  # there is no other way
        self._tester, anybody = EthereumTester(backend), "0x" + rich[0].hex()
        self._lock, self._ahead = threading.RLock(), 0
        self._methods: dict[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: "devchain/py-evm",
            "net_version": lambda: str(chain_id),
            "eth_chainId": lambda: chain_id,
            "eth_accounts": self._tester.get_accounts,
            "eth_blockNumber": self._newest,
            "eth_gasPrice": lambda: 2 * 10**9,
            "eth_maxPriorityFeePerGas": lambda: 10**9,
            "eth_getBlockByNumber": self._block,
            "eth_getBalance": lambda who, at="latest": self._tester.get_balance(who, self._number(at)),
            "eth_getCode": lambda who, at="latest": self._tester.get_code(who, self._number(at)),
            "eth_getTransactionCount": lambda who, at="latest": self._tester.get_nonce(who, self._number(at)),
            "eth_call": lambda call, at="latest": self._tester.call(_call(call, anybody), self._number(at)),
            "eth_estimateGas": lambda call, at="latest": self._tester.estimate_gas(_call(call, anybody)),
            "eth_sendRawTransaction": self._tester.send_raw_transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getTransactionByHash": self._transaction,
            "eth_getLogs": self._logs,
            "evm_mine": self.mine,
            "evm_increaseTime": self._later,
        }

    def mine(self) -> str:
        """A block, not older than the clock."""
        with self._lock:
            now = int(time.time()) + self._ahead
            if now > self._tester.get_block_by_number("pending")["timestamp"]:
                self._tester.time_travel(now)
            self._tester.mine_block()
        return "0x0"

    def _later(self, seconds: int | str) -> int:
        """From the next block on, that much later."""
        self._ahead += int(seconds, 16) if isinstance(seconds, str) else int(seconds)
        return self._ahead

    def answer(self, question: Any) -> dict[str, Any]:
        """To one question of JSON-RPC 2.0."""
        from eth_tester.exceptions import TransactionFailed
        from eth_tester.exceptions import ValidationError as Wrong
        from eth_utils import ValidationError

        number = question.get("id") if isinstance(question, dict) else None
        try:
            method = self._methods.get(str(question["method"]))
            if method is None:
                return _error(number, -32601, f"{question['method']} is not there")
            with self._lock:
                return {"jsonrpc": "2.0", "id": number, "result": _plain(method(*question.get("params", ())))}
        except TransactionFailed as error:
            data = str(error.args[0]) if error.args and str(error.args[0]).startswith("0x") else "0x"
            return _error(number, 3, f"execution reverted: {error}", data)
        except (Wrong, ValidationError) as error:
            said = "nonce too low: " if "nonce" in str(error).lower() else ""
            return _error(number, -32000, f"{said}{error}")
        except Exception as error:  # noqa: BLE001  # of py-evm, which has no common one; whoever asked is told
            return _error(number, -32602, f"{type(error).__name__}: {error}")

    def _newest(self) -> int:
        return int(self._tester.get_block_by_number("latest")["number"])

    def _number(self, tag: str) -> int | str:
        if tag in ("finalized", "safe"):
            return max(0, self._newest() - _NOT_FINAL)
        return int(tag, 16) if tag.startswith("0x") else tag

    def _block(self, tag: str, whole: bool) -> Any:
        from eth_tester.exceptions import BlockNotFound

        try:
            return self._tester.get_block_by_number(self._number(tag), whole)
        except BlockNotFound:
            return None

    def _receipt(self, digest: str) -> Any:
        from eth_tester.exceptions import TransactionNotFound

        try:
            return self._tester.get_transaction_receipt(digest)
        except TransactionNotFound:
            return None

    def _transaction(self, digest: str) -> Any:
        from eth_tester.exceptions import TransactionNotFound

        try:
            return self._tester.get_transaction_by_hash(digest)
        except TransactionNotFound:
            return None

    def _logs(self, question: dict[str, Any]) -> Any:
        return self._tester.get_logs(
            from_block=self._number(question.get("fromBlock", "0x0")),
            to_block=self._number(question.get("toBlock", "latest")),
            address=question.get("address"),
            topics=question.get("topics"),
        )


def _call(call: dict[str, Any], anybody: str) -> dict[str, Any]:
    """As eth-tester takes it."""
    found: dict[str, Any] = {name: call[name] for name in ("from", "to", "data") if name in call}
    if "input" in call:
        found["data"] = call["input"]
    if int(call.get("value", "0x0"), 16):
        found["value"] = int(call["value"], 16)
    return {"from": anybody, **found}  # who calls is charged for it, so it must have coins


def _plain(value: Any, name: str = "") -> Any:
    """As JSON-RPC has it: camel case, quantities in hex."""
    if isinstance(value, dict):
        return {_camel(str(key)): _plain(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes | bytearray):
        return "0x" + bytes(value).hex()
    if isinstance(value, int) and not isinstance(value, bool):
        # A quantity, but for what is bytes in truth.
        return f"0x{value:0512x}" if name == "logs_bloom" else hex(value)
    return value


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _error(number: Any, code: int, message: str, data: str = "") -> dict[str, Any]:
    error = {"code": code, "message": message[:1000], **({"data": data} if data else {})}
    return {"jsonrpc": "2.0", "id": number, "error": error}


@contextmanager
def serve(rich: Sequence[bytes], chain_id: int, port: int, block_time: float) -> Iterator[str]:
    """Its URL; `rich`: addresses that have coins from the start. A block comes at each transaction, and each
    `block_time` seconds."""
    chain, over = Chain(rich, chain_id), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length", "0"))
            if not 0 < size <= _BODY_MOST:
                self.send_error(413)
                self.close_connection = True
                return
            try:
                asked = json.loads(self.rfile.read(size))
            except ValueError:
                self.send_error(400)
                return
            found = [chain.answer(one) for one in asked] if isinstance(asked, list) else chain.answer(asked)
            data = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None: ...

    def mine() -> None:
        while not over.wait(block_time):
            chain.mine()

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,)), threading.Thread(target=mine)]
    for thread in threads:
        thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        for thread in threads:
            thread.join()
