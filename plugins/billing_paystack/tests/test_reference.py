"""The README says what is so."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from decentraspace.errors import ConfigError
from decentraspace_billing_paystack.settings import PUBLISHED_SOURCES, Settings, read

README = Path(__file__).resolve().parents[1] / "README.md"
_WHOLE: dict[str, Any] = {"key_file": "/k", "email": "a@b.example", "rate": [160_000, 1_000_000]}


def rows() -> list[str]:
    """The lines of the table, as they must stand."""
    made = []
    for one in fields(Settings):
        default = list(one.default) if isinstance(one.default, tuple) else one.default
        made.append(f"| `{one.name}` | `{json.dumps(default)}` | {one.metadata['doc']} |")
    return made


def test_every_setting_has_its_line_and_no_other_is_there() -> None:
    assert re.findall(r"^\| `.*$", README.read_text(), re.MULTILINE)[: len(rows())] == rows()


def test_the_published_addresses_are_in_the_readme() -> None:
    for address in PUBLISHED_SOURCES:
        assert address in README.read_text()


def test_the_readmes_example_is_whole() -> None:
    import tomllib

    [example] = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    settings = read(tomllib.loads(example)["plugin"]["billing_paystack"])
    assert settings.key_file
    assert settings.rate[0] > 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nonsense", 1),
        ("key_file", "relative/path"),
        ("email", "nobody"),
        ("email", "a b@c.example"),
        ("currency", "XYZ"),
        ("rate", [160_000.5, 1_000_000]),
        ("rate", [0, 1]),
        ("rate", [1, 2, 3]),
        ("rate", True),
        ("fee_bps", -1),
        ("fee_fixed", True),
        ("least", 200_000_000),
        ("sources", ["52.31.139"]),
        ("sources", "52.31.139.75"),
        ("proxies", [1.5]),
        ("channels", []),
        ("channels", ["cash"]),
        ("callback_url", "javascript:alert(1)"),
        ("callback_url", "http://node.example/"),
        ("api", "http://api.paystack.co"),
        ("api", "https://user:word@api.paystack.co"),
        ("timeout", 0),
        ("test", "yes"),
    ],
)
def test_wrong_settings_are_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        read({**_WHOLE, name: value})
    assert f"plugin.billing_paystack{'' if name == 'nonsense' else '.'}" in caught.value.detail
    assert name in caught.value.detail


@pytest.mark.parametrize("name", ["email", "rate"])
def test_what_is_missing_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        read({key: value for key, value in _WHOLE.items() if key != name})


def test_a_key_put_where_the_file_belongs_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        read({**_WHOLE, "key_file": "sk_live_secret"})
    assert "sk_live_secret" not in caught.value.detail + caught.value.hint
