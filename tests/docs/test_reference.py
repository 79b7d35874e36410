"""The reference names every hook and every setting, exactly as the code has them, and nothing else.

After a change, paste what a failure prints into the page.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import Field
from pathlib import Path
from typing import Any

import pytest

from decentraspace import config, forms, public, routes
from decentraspace.hookspecs import HOOKS, Hook
from tests.support import IN_TREE_PLUGINS

ROOT = Path(__file__).resolve().parents[2]
HOOKS_PAGE = ROOT / "docs/reference/hooks.md"
SETTINGS_PAGE = ROOT / "docs/reference/settings.md"
GUIDE = ROOT / "docs/how-to/write-a-plugin.md"


def hook_section(hook: Hook) -> str:
    """What the reference must say about a hook, to the letter."""
    if hook.kind == "event":
        deadline = "`plugins.timeout`; an event, `def` or `async def`, nobody waits for it"
    else:
        deadline = "`plugins.timeout`" if hook.deadline is None else f"{hook.deadline:g} seconds"
    return (
        f"### {hook.name}\n\n```python\n{hook.declaration}\n```\n\n{hook.doc}\n\n"
        f"Returns: {hook.returns.text}.\nDeadline: {deadline}.\n"
    )


def setting_row(section: str, setting: Field[Any]) -> str:
    """A setting's line in the reference: name, type, default, variable, meaning."""
    default = setting.default
    shown = json.dumps(list(default) if isinstance(default, tuple) else default)
    variable = f"DECENTRASPACE_{section}_{setting.name}".upper()
    return f"| `{setting.name}` | {forms.kind_of(setting)} | `{shown}` | `{variable}` | {setting.metadata['doc']} |"


def settings() -> list[tuple[str, Field[Any]]]:
    return [(name, field) for name, cls in config.sections().items() for field in dataclasses.fields(cls)]


@pytest.mark.parametrize("hook", HOOKS.values(), ids=lambda hook: hook.name)
def test_hook_is_documented(hook: Hook) -> None:
    section = hook_section(hook)
    assert section in HOOKS_PAGE.read_text(), f"docs/reference/hooks.md lacks:\n\n{section}"


def test_no_hook_is_invented() -> None:
    named = re.findall(r"^### (\w+)$", HOOKS_PAGE.read_text(), re.MULTILINE)
    assert named == list(HOOKS)


@pytest.mark.parametrize("hook", HOOKS.values(), ids=lambda hook: hook.name)
def test_hook_explains_itself(hook: Hook) -> None:
    """One docstring each, which mentions every argument that its name does not explain."""
    assert len(hook.doc) > 30
    assert hook.doc.rstrip().endswith((".", "`"))
    assert "node" in hook.arguments or hook.name == "cli_commands"


@pytest.mark.parametrize(
    ("section", "setting"), settings(), ids=lambda v: v if isinstance(v, str) else v.name
)
def test_setting_is_documented(section: str, setting: Field[Any]) -> None:
    row = setting_row(section, setting)
    text = SETTINGS_PAGE.read_text()
    start = text.find(f"\n## [{section}]\n")
    assert start >= 0, f"docs/reference/settings.md lacks the section ## [{section}]"
    end = text.find("\n## ", start + 1)
    assert row in text[start : end if end >= 0 else None].splitlines(), f"it lacks, or differs from:\n{row}"


def test_no_setting_is_invented() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*`(DECENTRASPACE_\w+)`", SETTINGS_PAGE.read_text(), re.MULTILINE)
    expected = [(s.name, f"DECENTRASPACE_{section}_{s.name}".upper()) for section, s in settings()]
    assert rows == expected


@pytest.mark.parametrize(
    ("section", "setting"), settings(), ids=lambda v: v if isinstance(v, str) else v.name
)
def test_the_variable_works(section: str, setting: Field[Any]) -> None:
    """The environment variable that the reference names sets that setting, and only that."""
    form = setting.metadata["form"]
    text = form.example if form else "seven"
    values = {bool: "yes", int: "7", float: "7.5", str: text, tuple: f"{text}, {text}"}
    expected = {bool: True, int: 7, float: 7.5, str: text, tuple: (text, text)}
    kind = type(setting.default)
    variable = f"DECENTRASPACE_{section}_{setting.name}".upper()
    loaded = config.load(environ={variable: values[kind]})
    assert getattr(getattr(loaded, section), setting.name) == expected[kind]
    changed = dataclasses.replace(getattr(loaded, section), **{setting.name: setting.default})
    assert dataclasses.replace(loaded, **{section: changed}) == config.load(environ={})


@pytest.mark.parametrize("cls", [public.NodeAPI, routes.Route, routes.HttpRequest, routes.HttpResponse])
def test_what_plugins_are_given_is_documented(cls: type) -> None:
    text = HOOKS_PAGE.read_text()
    names = [f.name for f in dataclasses.fields(cls)]
    names += [name for name, value in vars(cls).items() if callable(value)]
    for name in names:
        if not name.startswith("_"):
            assert re.search(rf"`{name}\b", text), f"docs/reference/hooks.md lacks {cls.__name__}.{name}"


def test_the_guides_plugin_works(tmp_path: Path) -> None:
    """The one-file plugin of the how-to loads, and its hooks are those it says."""
    from decentraspace.config import PluginsConfig
    from decentraspace.plugins import PluginManager

    code = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert code, "the guide shows no plugin"
    for number, source in enumerate(code):
        if "@hookimpl" in source:
            (tmp_path / f"guide{number}.py").write_text(source)
    manager = PluginManager(PluginsConfig(directory=str(tmp_path), disabled=IN_TREE_PLUGINS))
    manager.load_blocking()
    try:
        loaded = [info for info in manager.describe() if info.name.startswith("guide")]
        assert loaded
        for info in loaded:
            assert info.health == "ok", info.error
    finally:
        manager.close_blocking()


def test_links_lead_somewhere() -> None:
    for page in (HOOKS_PAGE, SETTINGS_PAGE, GUIDE):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
