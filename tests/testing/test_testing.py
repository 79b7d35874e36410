"""What authors of plugins test with: it does what it says, and a node carries none of it."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import trio
from eth_account import Account
from eth_account.messages import encode_defunct

from decentraspace import testing
from decentraspace.identity.ethereum import parse_address, recover_personal_sign
from decentraspace.testing import Clock, RunningNode, Wallet, Workbench, require_real, until
from tests.support import ROOT

PAGE = ROOT / "docs" / "how-to" / "write-a-plugin.md"
NAME = "hello_on_a_workbench"


def page_code(heading: str) -> str:
    """The first Python of a section of the page."""
    section = PAGE.read_text("utf-8").partition(f"\n## {heading}\n")[2]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page's plugin as a distribution, for this process and those it starts; its name."""
    folder = tmp_path / "installed"
    info = folder / f"{NAME}-1.dist-info"
    info.mkdir(parents=True)
    (folder / f"{NAME}.py").write_text(page_code("One file"))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[decentraspace.plugins]\n{NAME} = {NAME}\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return NAME


async def test_a_workbench_starts_a_plugin_again_with_what_it_kept(tmp_path: Path, installed: str) -> None:
    with Workbench(tmp_path / "bench", installed, {"greeting": "good day"}) as bench:
        first = await bench.start()
        assert [p.name for p in first.describe() if p.health == "ok"] == [installed]
        assert [mounted.route.path for mounted in await first.routes()] == ["/hello/"]
        parts = bench.parts(greeting="hi")
        root = parts.site(b"one", b"two")
        again = await bench.start(parts)
        assert again is not first
        assert parts.config.plugin[installed] == {"greeting": "hi"}
        await bench.stop()
        assert bench.parts().blocks.is_pinned(root)


def test_a_node_runs_with_the_plugins_that_are_named_alone(tmp_path: Path, installed: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(f'[plugin.{installed}]\ngreeting = "good day"\n')
    with RunningNode(tmp_path / "node", plugins=[installed], CONFIG=str(file)) as node:
        found = node.get("/hello/?name=you")
        assert found is not None
        assert found.json() == {"say": "good day, you"}
    with RunningNode(tmp_path / "other") as node:
        found = node.get("/hello/")
        assert found is not None
        assert found.status_code == 404


def test_a_wallet_signs_as_others_do() -> None:
    wallet = Wallet()
    account = Account.from_key(wallet.key)
    assert wallet.address == account.address
    for text in ("", "hello", "ü" * 300):
        signature = wallet.sign(text)
        assert signature == bytes(account.sign_message(encode_defunct(text=text)).signature)
        assert recover_personal_sign(text.encode(), signature) == parse_address(wallet.address)
    assert Wallet(wallet.key).address == wallet.address
    assert Wallet().address != wallet.address


def test_a_clock_goes_by_its_test() -> None:
    clock = Clock(10)
    clock.advance(5)
    assert clock() == clock.now == 15
    with pytest.raises(ValueError, match="-1 seconds"):
        clock.advance(-1)


async def test_until_waits_for_functions_of_both_kinds() -> None:
    seen: list[int] = []

    def plain() -> int:
        seen.append(1)
        return len(seen) if len(seen) > 2 else 0

    async def other() -> str:
        await trio.lowlevel.checkpoint()
        return "there"

    assert await until(plain) == 3
    assert await until(other) == "there"
    with pytest.raises(AssertionError, match=r"not so within 0\.05 s"):
        await until(lambda: None, 0.05)


def test_what_is_not_here_is_skipped_or_fails_where_it_must_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert require_real("a thing", "/bin/thing") == "/bin/thing"
    monkeypatch.delenv("DECENTRASPACE_REQUIRE_REAL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="a thing is not here"):
        require_real("a thing", None)
    monkeypatch.setenv("DECENTRASPACE_REQUIRE_REAL", "1")
    with pytest.raises(pytest.fail.Exception, match="a thing is not here"):
        require_real("a thing", None)


def test_a_node_carries_none_of_it_and_pytest_is_not_needed_to_import_it() -> None:
    code = textwrap.dedent(
        """
        import sys
        import decentraspace.app, decentraspace.cli.main, decentraspace.gateway.worker
        assert not [name for name in sys.modules if name.startswith("decentraspace.testing")]
        import decentraspace.testing
        assert not {"pytest", "eth_account"} & set(sys.modules)
        """
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_page_names_all_of_it() -> None:
    section = PAGE.read_text("utf-8").partition("\n## Test it")[2]
    for name in testing.__all__:
        assert f"`{name}" in section, name


def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "hello.py").write_text(page_code("One file"))
    (tmp_path / "tests" / "test_hello.py").write_text(page_code("Test it"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "trio_mode=true"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
