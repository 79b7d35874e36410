"""`kill -9` wherever it hurts: nobody pays twice, and nothing that was paid is forgotten."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
from plugins.billing_paystack.tests.conftest import OWNER, Managed
from plugins.billing_paystack.tests.standin import Answer, Paystack

from decentraspace.testing import Workbench, until

_SCRIPT = Path(__file__).with_name("cut_off.py")


def _start(tmp_path: Path, key: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(_SCRIPT), str(tmp_path / "config.toml"), str(tmp_path / "data"), OWNER, "5000000", key],
        stdout=subprocess.PIPE,
    )  # fmt: skip


async def _killed_when(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    try:

        async def so() -> bool:
            assert process.poll() is None
            return condition()

        await until(so, 60)
    finally:
        process.kill()
        await trio.to_thread.run_sync(process.wait)
        assert process.stdout is not None
        process.stdout.close()


async def test_killed_between_asking_paystack_and_writing_its_answer_down(
    workbench: Workbench, managed: Managed, paystack: Paystack, tmp_path: Path
) -> None:
    workbench.parts()  # the configuration
    never = threading.Event()
    paystack.mischief = lambda method, path, raw: Answer(200, raw, wait=never)  # taken, and not answered
    await _killed_when(_start(tmp_path, "k"), lambda: len(paystack.initialized) == 1)
    paystack.mischief = None
    never.set()
    lost = paystack.initialized[0]["reference"]

    node = await managed()
    begun = await node.recharge(key="k")
    assert begun["reference"] != lost
    assert begun["url"].startswith("https://checkout.paystack.com/")
    assert await node.recharge(key="k") == begun
    paystack.pay(begun["reference"])
    for _ in range(2):
        found = await node.called(paystack.charge_success(begun["reference"]))
        assert (found["status"], found["credits"]) == ("done", 5_000_000)
    # Should somebody have had the first URL after all, what they pay is not lost either.
    paystack.pay(lost)
    assert (await node.called(paystack.charge_success(lost)))["status"] == "done"
    assert len(paystack.initialized) == 2


async def test_killed_before_paystack_was_asked(
    workbench: Workbench, managed: Managed, paystack: Paystack, tmp_path: Path
) -> None:
    workbench.parts()
    never = threading.Event()
    paystack.mischief = lambda method, path, raw: Answer(500, b"", wait=never)
    documents = tmp_path / "data" / "plugins" / "billing_paystack" / "payments.json"
    await _killed_when(_start(tmp_path, "k"), documents.exists)
    with paystack._lock:  # as if it had never arrived
        paystack.transactions.clear()
        paystack.initialized.clear()
    paystack.mischief = None
    never.set()
    node = await managed()
    begun = await node.recharge(key="k")
    assert [asked["reference"] for asked in paystack.initialized] == [begun["reference"]]
    assert begun["url"]


async def test_killed_after_the_payer_was_told(
    workbench: Workbench, managed: Managed, paystack: Paystack, tmp_path: Path
) -> None:
    workbench.parts()
    process = _start(tmp_path, "k")
    assert process.stdout is not None
    told = process.stdout
    line: list[bytes] = []

    def read() -> None:  # past what is logged
        for one in iter(told.readline, b""):
            if one.startswith(b'{"'):
                line.append(one)
                return

    reader = threading.Thread(target=read)
    reader.start()
    await _killed_when(process, lambda: bool(line))
    reader.join()
    [reference] = paystack.transactions
    assert reference.encode() in line[0]
    paystack.pay(reference)

    node = await managed(poll=1)

    async def credited() -> Any:
        found = (await node.events())["events"]
        return [e for e in found if e["status"] == "done"]

    [done] = await until(credited)
    assert (done["reference"], done["owner"], done["credits"]) == (reference, OWNER, 5_000_000)
    assert (await node.recharge(key="k"))["status"] == "done"
