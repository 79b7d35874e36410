"""The README says what is so."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from decentraspace.errors import ConfigError
from decentraspace_dns_registrar.settings import Settings, read

README = Path(__file__).resolve().parents[1] / "README.md"


def rows() -> list[str]:
    """The lines of the table, as they must stand."""
    made = []
    for one in fields(Settings):
        default = list(one.default) if isinstance(one.default, tuple) else one.default
        shown = "the root's keys" if one.name == "trust_anchors" else f"`{json.dumps(default)}`"
        made.append(f"| `{one.name}` | {shown} | {one.metadata['doc']} |")
    return made


def test_every_setting_has_its_line_and_no_other_is_there() -> None:
    assert re.findall(r"^\| `.*$", README.read_text(), re.MULTILINE) == rows()


def test_the_readmes_examples_are_whole() -> None:
    for example in re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL):
        read(tomllib.loads(example)["plugin"]["dns_registrar"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nonsense", 1),
        ("resolvers", ["dns.example"]),
        ("resolvers", ["192.0.2.1"] * 10),
        ("resolvers", "192.0.2.1"),
        ("resolvers", ["192.0.2.1:0"]),
        ("timeout", 0),
        ("timeout", True),
        ("trust_anchors", [". nonsense"]),
        ("trust_anchors", ["20326 8 2 E06D"]),
        ("gateways", ["localhost"]),
        ("gateways", ["192.0.2.1"]),
        ("addresses", ["gateway.example"]),
        ("update_networks", ["10.0.0.1/8"]),
        ("registrar", "godaddy"),
        ("key_file", "relative/path"),
        ("sharing_id", "../x"),
        ("currency", "XYZ"),
        ("rate", [0, 1]),
        ("rate", [1.5, 1]),
        ("fee_bps", -1),
        ("most", True),
        ("quote_valid", 1),
        ("api", "http://api.gandi.net"),
        ("api_timeout", 0),
    ],
)
def test_wrong_settings_are_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        read({name: value})
    assert f"plugin.dns_registrar{'' if name == 'nonsense' else '.'}" in caught.value.detail
    assert name in caught.value.detail


def test_a_token_put_where_the_file_belongs_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        read({"key_file": "pat_secret"})
    assert "pat_secret" not in caught.value.detail + caught.value.hint
    with pytest.raises(ConfigError, match="key_file"):
        read({"registrar": "gandi"})
