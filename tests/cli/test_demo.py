"""The demo, unattended, on a folder with what documentation generators leave behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Result
from tests.support import find_anvil, require_real


@pytest.mark.slow
@pytest.mark.parametrize("chain", ["anvil", "py-evm"])
def test_the_demo_holds_for_a_folder_with_hidden_files(
    run: Callable[..., Result], tmp_path: Path, chain: str
) -> None:
    if chain == "anvil":
        require_real("anvil", find_anvil())
    site = tmp_path / "docs"
    (site / ".well-known").mkdir(parents=True)
    (site / "index.html").write_text("<h1>docs</h1>")
    (site / ".nojekyll").write_text("")
    (site / ".well-known" / "security.txt").write_text("Contact: mailto:me@site.example")
    done = run("demo", "--once", "--chain", chain, site)
    assert done.code == 0, done.err
    assert "2 files deployed" in done.out
    assert f"of this demo's own ({chain})" in done.out
    assert "node 2 settled 200 credits" in done.out
    assert "statement holds against the chain" in done.out
    assert done.out.splitlines()[-1].endswith("all held")


@pytest.mark.slow
def test_a_demo_whose_chain_does_not_start_fails(run: Callable[..., Result], tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "decentraspace_billing_polygon"
    broken.mkdir(parents=True)
    (broken / "__init__.py").touch()
    (broken / "devchain.py").write_text("raise SystemExit('no chain today')")
    site = tmp_path / "docs"
    site.mkdir()
    (site / "index.html").write_text("<h1>docs</h1>")
    done = run("demo", "--once", site, PYTHONPATH=str(broken.parent))
    assert (done.code, "no chain today" in done.err) == (1, True), done.err
    assert "all held" not in done.out
