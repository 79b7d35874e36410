"""The development chain of pip packages alone (eth-tester, py-evm), as `make demo` has it where there is no anvil."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

import httpx
import pytest
from plugins.billing_polygon.tests.conftest import World, account, artifact
from web3 import HTTPProvider, Web3
from web3.middleware import SignAndSendRawMiddlewareBuilder


class PyEvm:
    """As much of `Anvil` as a `World` uses; a block comes at each transaction, and five times a second."""

    def __init__(self) -> None:
        if importlib.util.find_spec("eth_tester") is None:
            pytest.skip("eth-tester is not installed")
        program = [sys.executable, "-m", "decentraspace_billing_polygon.devchain", "--engine", "py-evm"]
        self.process = subprocess.Popen(
            [*program, "--block-time", "0.2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended with {self.process.wait(10)}"
        self.made: dict[str, Any] = json.loads(line)
        self.url = self.made["rpc"]
        self.web3 = Web3(HTTPProvider(self.url))
        people = [account(number) for number in range(10)]
        self.web3.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(people), layer=0)

    def ask(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = httpx.post(self.url, json=body, timeout=30, trust_env=False).json()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def finalize(self) -> None:
        for _ in range(3):
            self.ask("evm_mine")

    def world(self) -> World:
        """The contracts that are there from the start."""

        def contract(name: str, at: str) -> Any:
            return self.web3.eth.contract(address=self.made[at], abi=artifact(name)["abi"])

        return World(
            self,  # type: ignore[arg-type]
            contract("DevDollar", "token"),
            contract("CreditVault", "vault"),
            contract("OperatorRegistry", "operators"),
            contract("SiteRegistry", "sites"),
            account(1),
            account(2),
        )

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()  # it ends with who started it
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
