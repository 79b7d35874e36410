"""Which plugins are found, and under which settings."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from decentraspace.config import PluginsConfig
from decentraspace.errors import ConfigError
from decentraspace.plugins import PluginManager, loading
from tests.support import IN_TREE_PLUGINS

from .conftest import HEAD, Workshop, info

HOOK = "@hookimpl\nasync def storage_unpin(cid): return True\n"


def test_files_by_name(workshop: Workshop) -> None:
    workshop.write("second", "__version__ = '1.2'\n" + HOOK)
    workshop.write("first", HOOK)
    workshop.write("_helper", "raise ValueError('not a plugin')")
    (workshop.folder / "notes.txt").write_text("not a plugin")
    (workshop.folder / "package").mkdir()
    found = [i for i in workshop.manager().describe() if i.name not in IN_TREE_PLUGINS]
    assert [(i.name, i.version, i.health) for i in found] == [("first", "", "ok"), ("second", "1.2", "ok")]
    assert found[0].source == str(workshop.folder / "first.py")
    assert found[0].hooks == ("storage_unpin",)


@pytest.mark.parametrize("name", ["Upper", "with-dash", "9lives", "x" * 41, "ümlaut"])
def test_odd_names_are_refused(name: str, workshop: Workshop) -> None:
    workshop.write(name, HOOK)
    assert info(workshop.manager(), name).health == "refused"


def test_a_folder_that_is_not_there_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"plugins\.directory"):
        PluginManager(PluginsConfig(directory=str(tmp_path / "nowhere"))).load_blocking()


def test_enabled_and_disabled(workshop: Workshop) -> None:
    for name in ("a", "b", "c"):
        workshop.write(name, HOOK if name != "c" else "raise ValueError('must not be imported')")
    manager = workshop.manager(disabled=("c", *IN_TREE_PLUGINS))
    assert [info(manager, name).health for name in "abc"] == ["ok", "ok", "off"]
    manager = workshop.manager(enabled=("b", "missing"))
    assert [info(manager, name).health for name in "abc"] == ["off", "ok", "off"]
    assert info(manager, "missing").health == "refused"
    assert "not installed" in info(manager, "missing").error
    manager = workshop.manager(enabled=("a", "b"), disabled=("b",))
    assert [info(manager, name).health for name in "ab"] == ["ok", "off"]


def test_an_unreadable_file(workshop: Workshop) -> None:
    (workshop.folder / "binary.py").write_bytes(os.urandom(1000))
    (workshop.folder / "dangling.py").symlink_to(workshop.folder / "nowhere")
    manager = workshop.manager()
    assert info(manager, "binary").health == "refused"
    assert info(manager, "dangling").health == "refused"


def test_dataclasses_work_in_a_file(workshop: Workshop) -> None:
    workshop.write(
        "data", "from dataclasses import dataclass\n@dataclass\nclass A:\n    b: 'int' = 1\n" + HOOK
    )
    assert info(workshop.manager(), "data").health == "ok"


# -- installed distributions, by real metadata on sys.path


def install(folder: Path, name: str, source: str, entry: str | None = None) -> None:
    """A distribution as pip leaves it: a module and its metadata."""
    (folder / f"{name}_module.py").write_text(HEAD + source)
    meta = folder / f"{name}-2.5.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n")
    (meta / "entry_points.txt").write_text(f"[decentraspace.plugins]\n{name} = {entry or name + '_module'}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


async def test_entry_points(site: Path, workshop: Workshop) -> None:
    install(site, "installed", HOOK)
    install(
        site,
        "object",
        "class P:\n    @hookimpl\n    async def storage_unpin(self, cid): return False\np = P()\n",
        "object_module:p",
    )
    install(site, "absent", "", "no_such_module")
    install(site, "wrong", "", "wrong_module:nothing")
    install(site, "exits", "sys.exit(4)")
    manager = workshop.manager()
    found = info(manager, "installed")
    assert (found.version, found.source, found.health) == ("2.5", "installed", "ok")
    assert [info(manager, name).health for name in ("absent", "wrong", "exits")] == ["refused"] * 3
    results = await manager.call("storage_unpin", cid="x")
    assert [(r.plugin, r.value) for r in results] == [("installed", True), ("object", False)]


def test_a_file_cannot_take_the_place_of_an_installed_plugin(site: Path, workshop: Workshop) -> None:
    install(site, "taken", HOOK)
    workshop.write("taken", "raise ValueError('must not be imported')")
    states = [(i.source, i.health) for i in workshop.manager().describe() if i.name == "taken"]
    assert sorted(states) == sorted([("taken", "ok"), (str(workshop.folder / "taken.py"), "refused")])


def test_broken_metadata(site: Path, workshop: Workshop) -> None:
    """A half-removed distribution does not stop the node from starting."""
    install(site, "sound", HOOK)
    install(site, "garbled", HOOK)
    (site / "garbled-2.5.dist-info" / "entry_points.txt").write_bytes(
        b"[decentraspace.plugins\n\xff\xfe = = \n"
    )
    manager = workshop.manager()
    assert info(manager, "sound").health == "ok"


def test_this_checkouts_plugins_are_installed() -> None:
    """Each folder below plugins/ is a distribution with an entry point of its name."""
    root = Path(__file__).resolve().parents[2] / "plugins"
    names = {point.name for point in metadata.entry_points(group=loading.GROUP)}
    assert {path.parent.name for path in root.glob("*/pyproject.toml")} <= names


def test_hookimpl_is_light() -> None:
    """Gateway workers and one-shot commands import the package: it must cost next to nothing."""
    code = "import decentraspace, sys; print(sorted(m.split('.')[0] for m in sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("trio", "structlog", "lmdb", "click", "libp2p", "tinydb"):
        assert f"'{heavy}'" not in out


def test_a_whole_process_survives(tmp_path: Path) -> None:
    """The same as elsewhere, but nothing of it inside the test's own process: it ends by itself, with 0."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    bad: dict[str, Any] = {
        "exits": "sys.exit(9)",
        "hangs": "threading.Event().wait()",
        "blocks": "@hookimpl\nasync def storage_unpin(cid): threading.Event().wait()\n",
        "quits": "@hookimpl\nasync def storage_unpin(cid): raise KeyboardInterrupt\n",
        "good": HOOK,
    }
    for name, source in bad.items():
        (plugins / f"{name}.py").write_text(HEAD + source)
    code = f"""
import trio
from decentraspace.config import PluginsConfig
from decentraspace.plugins import PluginManager
async def main():
    manager = PluginManager(PluginsConfig(directory={str(plugins)!r}, timeout=2.0), grace=0.5)
    await manager.load()
    print(await manager.call("storage_unpin", cid="x"))
    await manager.close()
trio.run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "HookResult(plugin='good', value=True)" in done.stdout


def test_a_missing_metadata_file_is_no_trouble(site: Path, workshop: Workshop) -> None:
    install(site, "nameless", HOOK)
    (site / "nameless-2.5.dist-info" / "METADATA").unlink()
    assert info(workshop.manager(), "nameless").health in ("ok", "refused")
