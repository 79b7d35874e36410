"""The demo, unattended, on a folder with what documentation generators leave behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Result


@pytest.mark.slow
def test_the_demo_holds_for_a_folder_with_hidden_files(run: Callable[..., Result], tmp_path: Path) -> None:
    site = tmp_path / "docs"
    (site / ".well-known").mkdir(parents=True)
    (site / "index.html").write_text("<h1>docs</h1>")
    (site / ".nojekyll").write_text("")
    (site / ".well-known" / "security.txt").write_text("Contact: mailto:me@site.example")
    done = run("demo", "--once", site)
    assert done.code == 0, done.err
    assert "2 files deployed" in done.out
    assert done.out.splitlines()[-1].endswith("all held")
