"""What is told to other nodes is of use to them: no loopback address leaves a machine."""

from __future__ import annotations

import pytest

from decentraspace import reach
from decentraspace.config import Config, load

HERE = ["/ip4/127.0.0.1/tcp/4001"]
EVERYWHERE = ["/ip4/0.0.0.0/tcp/4001"]


def made(host: str, public: str = "", listen: list[str] = EVERYWHERE, **network: object) -> Config:
    section = {"host": host, "port": 1234, "public_url": public}
    return load(
        environ={}, overrides={"api": section, "gateway": section, "network": {"listen": listen, **network}}
    )


@pytest.mark.parametrize(
    ("host", "public", "told"),
    [
        ("127.0.0.1", "", ""),
        ("127.3.2.1", "", ""),
        ("::1", "", ""),
        ("localhost", "", ""),
        ("0.0.0.0", "", ""),
        ("::", "", ""),
        ("203.0.113.7", "", "http://203.0.113.7:1234"),
        ("2001:db8::7", "", "http://[2001:db8::7]:1234"),
        ("node.example", "", "http://node.example:1234"),
        ("127.0.0.1", "https://node.example/", "https://node.example"),
        ("0.0.0.0", "https://node.example", "https://node.example"),
        ("203.0.113.7", "http://127.0.0.1:8080", ""),
        ("203.0.113.7", "http://localhost:8080", ""),
        ("203.0.113.7", "http://[::1]:8080", ""),
    ],
)
def test_what_is_told_to_the_world(host: str, public: str, told: str) -> None:
    config = made(host, public)
    assert reach.announced_gateway(config) == reach.announced_api(config) == told
    trouble = reach.trouble(config)
    assert (trouble is None) == bool(told)
    if trouble:
        assert "Others cannot fetch from this node" in trouble[0]
        assert "gateway.public_url" in trouble[1]


@pytest.mark.parametrize(
    ("host", "told"),
    [("127.0.0.1", "http://127.0.0.1:1234"), ("::", "http://[::1]:1234"), ("::1", "http://[::1]:1234")],
)
def test_nodes_of_one_machine_tell_each_other(host: str, told: str) -> None:
    config = made(host, listen=HERE)
    assert reach.alone(config)
    assert reach.announced_gateway(config) == told
    assert reach.trouble(config) is None


def test_what_is_announced_counts_rather_than_what_is_listened_on() -> None:
    tunnel = made("127.0.0.1", listen=HERE, announce=["/dns4/node.example/tcp/4001"])
    assert not reach.alone(tunnel)
    assert reach.announced_gateway(tunnel) == ""
    assert reach.alone(made("127.0.0.1", listen=["/ip6/::1/tcp/4001", *HERE]))


def test_a_node_as_it_comes_is_warned() -> None:
    assert reach.trouble(load(environ={})) is not None
