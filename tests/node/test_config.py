"""A slip in the configuration is named when it is read: file or variable, section, setting, what would do."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decentraspace import config, forms
from decentraspace.config import load
from decentraspace.errors import ConfigError
from decentraspace.records.schema import NodeAnnouncement

PEER = "12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf"
LONG = "x" * 70

WRONG: list[tuple[str, str, Any]] = [
    ("node", "operator", "bob"),
    ("node", "operator", "0x2c7536e3605D9C16a7a3D7b1898e529396a65c23"),
    ("node", "admins", ["0x1"]),
    ("node", "name", LONG),
    ("node", "name", "a\x1b[2Jb"),
    ("node", "name", "\ufffd"),
    ("node", "data_dir", ""),
    ("node", "data_dir", "~nobody-has-this-name/x"),
    ("network", "name", "Dev Net"),
    ("network", "name", ""),
    ("network", "chain_id", 0),
    ("network", "siwe_domain", "https://app.example"),
    ("network", "siwe_domain", "app.example:99999"),
    ("network", "listen", ["/ip4/0.0.0.0"]),
    ("network", "listen", ["/ip4/0.0.0.0/tcp/99999"]),
    ("network", "listen", ["/dns4/here/tcp/4001"]),
    ("network", "listen", ["/ip4/0.0.0.0/udp/4001/quic-v1"]),
    ("network", "announce", ["foo"]),
    ("network", "announce", [f"/ip4/10.0.0.{n}/tcp/4001" for n in range(17)]),
    ("network", "announce", [f"/dns4/{'a' * 200}/tcp/4001"]),
    ("network", "bootstrap", ["foo"]),
    ("network", "bootstrap", ["/ip4/10.0.0.1/tcp/4001"]),
    ("network", "bootstrap", [f"/p2p/{PEER}"]),
    ("network", "bootstrap", ["/ip4/10.0.0.1/tcp/4001/p2p/bob"]),
    ("network", "max_peers", 0),
    ("network", "sync_interval", 0.0),
    ("api", "host", ""),
    ("api", "host", "1.2.3"),
    ("api", "host", "[::1]"),
    ("api", "port", 0),
    ("api", "port", 99999),
    ("api", "public_url", "api.example"),
    ("api", "public_url", "https://api.example/?a=b"),
    ("api", "public_url", "https://a.example:99999"),
    ("api", "token_lifetime", -1),
    ("gateway", "port", -1),
    ("gateway", "workers", 257),
    ("gateway", "domain", "sites example"),
    ("gateway", "domain", "*.sites.example"),
    ("gateway", "public_url", "ftp://x"),
    ("gateway", "cache_mb", -1),
    ("gateway", "fetch_timeout", float("inf")),
    ("storage", "quota", -5),
    ("storage", "quota", 10**20),
    ("storage", "gc_interval", float("nan")),
    ("storage", "gc_interval", 0),
    ("storage", "gc_grace", 10**400),
    ("records", "sponsors", ["bob"]),
    ("limits", "free_sites", -1),
    ("plugins", "timeout", float("nan")),
    ("log", "format", "xml"),
    ("log", "level", "INFO"),
]


@pytest.mark.parametrize(("section", "setting", "value"), WRONG)
def test_what_is_wrong_is_named(section: str, setting: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ={}, overrides={section: {setting: value}})
    assert f"{section}.{setting} m" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_the_error_says_where_it_is_from(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[gateway]\nport = 99999\n")
    with pytest.raises(ConfigError, match=re.escape(f"{path}: gateway.port must be 1 to 65535, not 99999")):
        load(path, environ={})
    path.write_text("[storage]\ngc_interval = nan\n")
    with pytest.raises(ConfigError, match=re.escape(f"{path}: storage.gc_interval must be 0.1 to")):
        load(path, environ={})
    for value in ("99999", "-1", "4e9"):
        with pytest.raises(ConfigError, match="DECENTRASPACE_API_PORT"):
            load(environ={"DECENTRASPACE_API_PORT": value})
    with pytest.raises(ConfigError, match=r"DECENTRASPACE_NETWORK_BOOTSTRAP \(network.bootstrap\)"):
        load(environ={"DECENTRASPACE_NETWORK_BOOTSTRAP": f"/ip4/10.0.0.1/tcp/4001/p2p/{PEER}, foo"})


def test_what_is_right_is_taken_in_one_spelling() -> None:
    loaded = load(
        environ={},
        overrides={
            "node": {"name": "Ångström's node 🚀", "operator": "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23"},
            "network": {
                "listen": ["/ip6/::/tcp/4001", "/ip4/127.0.0.1/tcp/0"],
                "announce": ["/dns4/node.example/tcp/443/wss", f"/ip4/1.2.3.4/tcp/1/p2p/{PEER}"],
                "bootstrap": [f"/dns6/node.example/tcp/4001/p2p/{PEER}"],
                "siwe_domain": "localhost:3000",
            },
            "api": {"host": "::1", "public_url": "https://api.example/base/"},
            "gateway": {"domain": "Sites.Example.", "host": "my_host", "public_url": "http://[::1]:81"},
            "storage": {"gc_interval": 5},
        },
    )
    assert loaded.gateway.domain == "sites.example", "browsers send it so"
    assert loaded.api_url == "https://api.example/base"
    assert loaded.gateway_url == "http://[::1]:81"
    assert loaded.storage.gc_interval == 5.0


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("::1", "http://[::1]:1234"),
        ("::", "http://[::1]:1234"),
        ("0.0.0.0", "http://127.0.0.1:1234"),
        ("10.0.0.7", "http://10.0.0.7:1234"),
        ("node.example", "http://node.example:1234"),
    ],
)
def test_urls_of_addresses(host: str, url: str) -> None:
    loaded = load(environ={}, overrides={s: {"host": host, "port": 1234} for s in ("api", "gateway")})
    assert (loaded.api_url, loaded.gateway_url) == (url, url)


def test_every_default_is_one_that_is_taken() -> None:
    for name, section in config.sections().items():
        for f in fields(section):
            form = f.metadata["form"]
            if isinstance(f.default, str) and f.default and form is not None:
                assert form.take(f.default) == f.default, (name, f.name)
            if isinstance(f.default, int | float) and not isinstance(f.default, bool):
                assert f.metadata["least"] <= f.default <= f.metadata["most"], (name, f.name)
            for one in f.default if isinstance(f.default, tuple) else ():
                assert form.take(one) == one


@given(st.text(max_size=80), st.one_of(st.text(max_size=80), st.just("http://a/ b")))
def test_what_is_taken_can_be_announced(name: str, url: str) -> None:
    """No configuration that loads makes an announcement that the node itself would refuse."""
    try:
        loaded = load(environ={}, overrides={"node": {"name": name}, "gateway": {"public_url": url}})
    except ConfigError:
        return
    NodeAnnouncement("", loaded.gateway_url, (), None, 0, {}, loaded.node.name, 1, 1).check()


@given(st.text(max_size=60))
def test_no_text_makes_a_form_fail_otherwise(value: str) -> None:
    for form in vars(forms).values():
        if isinstance(form, forms.Form):
            try:
                load(environ={}, overrides={"network": {"bootstrap": [value], "announce": [value]}})
                form.take(value)
            except (ConfigError, ValueError, forms.DecentraSpaceError):
                continue


@pytest.mark.parametrize(
    "variable", ["NODE_OPERATOR=bob", "STORAGE_GC_INTERVAL=nan", "API_PORT=99999", "NETWORK_BOOTSTRAP=foo"]
)
def test_run_says_it_in_one_line(tmp_path: Path, variable: str) -> None:
    name, _, value = variable.partition("=")
    done = subprocess.run(
        [sys.executable, "-m", "decentraspace", "run", "--data-dir", str(tmp_path / "data")],
        env={"PATH": "", "HOME": str(tmp_path), f"DECENTRASPACE_{name}": value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert re.fullmatch(rf"error: DECENTRASPACE_{name} .*\.\n", done.stderr), done.stderr
    assert not (tmp_path / "data").exists()
