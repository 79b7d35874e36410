"""Gateways that strangers name: asked within bounds, and never where they should not be (EIP-3668)."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from eth_abi.abi import encode
from plugins.dns_ens.tests.chain import Ens, serve
from plugins.dns_ens.tests.conftest import IPFS, IPFS_CID, Managed, resolve

from decentraspace.errors import Unavailable

GATEWAYS, OTHER_SENDER, AGAIN_AND_AGAIN, ALL_GAS, LONG, REVERTS, RUBBISH, OFFSETS = range(8)
GOOD = json.dumps({"data": "0x" + encode(["bytes"], [IPFS]).hex()}).encode()
HELD = threading.Event()


def answer(method: str, path: str, body: bytes) -> Any:
    """What each path does; those that hang do so until the tests are over."""
    way = path.split("/")[1]
    if way == "good":
        return 200, GOOD
    if way == "post" and method == "POST":
        asked = json.loads(body)
        assert set(asked) == {"data", "sender"}
        return 200, GOOD
    if way == "redirect":
        return 302, {"Location": path.replace("redirect", "good"), "Content-Length": "0"}, []
    if way == "endless":
        return 200, {"Content-Type": "application/json"}, itertools.repeat(b" " * 4096)
    if way == "huge":
        return 200, {"Content-Length": str(1 << 40)}, [b'{"data": "0x' + b"00" * 100_000]
    if way == "slow":
        HELD.wait(60)
    if way == "drip":
        return 200, {"Content-Type": "application/json"}, _drip()
    if way == "broken":
        return 502, b"<html>"
    if way == "gone":
        return 404, b"{}"
    if way == "rubbish":
        return 200, b'{"data": 7}'
    if way == "deep":
        return 200, b"[" * 30_000
    return 200, b""


def _drip() -> Iterator[bytes]:
    for _ in range(600):
        yield b" "
        if HELD.wait(0.1):
            return


@pytest.fixture(scope="module")
def gateways() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    HELD.clear()
    with serve(answer) as found:
        yield found
        HELD.set()


@pytest.fixture
def odd(ens: Ens) -> str:
    """A name whose resolver sends where the tests want."""
    name = ens.register("odd", ens.chain.accounts[1])
    ens.resolve_by(name, ens.chain.accounts[1], ens.odd.address)
    return name


def name_gateways(ens: Ens, urls: list[str], way: int = GATEWAYS) -> None:
    ens.chain.send(ens.odd.functions.set(way, urls))


async def test_get_and_post(ens: Ens, managed: Managed, odd: str, gateways: Any) -> None:
    url, asked = gateways
    manager = await managed(**ens.settings(allow_private=True))
    name_gateways(ens, [url + "/good/{sender}/{data}"])
    assert (await resolve(manager, odd))["value"] == IPFS_CID
    method, path = asked[-1]
    assert (method, path.split("/")[2]) == ("GET", ens.odd.address.lower())
    name_gateways(ens, [url + "/post/{sender}"])
    assert (await resolve(manager, odd))["value"] == IPFS_CID
    assert asked[-1] == ("POST", f"/post/{ens.odd.address.lower()}")


@pytest.mark.parametrize(
    "way", ["redirect", "endless", "huge", "slow", "drip", "broken", "rubbish", "deep", "empty"]
)
async def test_the_next_gateway_is_asked(
    ens: Ens, managed: Managed, odd: str, gateways: Any, way: str
) -> None:
    url, asked = gateways
    name_gateways(ens, [f"{url}/{way}/{{data}}", "ftp://127.0.0.1/{data}", url + "/good/{data}"])
    manager = await managed(**ens.settings(allow_private=True, gateway_timeout=3))
    asked.clear()
    assert (await resolve(manager, odd))["value"] == IPFS_CID
    # A redirect was not followed: the good one is asked once, by its own URL.
    assert [path.split("/")[1] for _, path in asked] == [way, "good"]


async def test_no_more_gateways_than_the_setting_says(
    ens: Ens, managed: Managed, odd: str, gateways: Any
) -> None:
    url, asked = gateways
    name_gateways(ens, [f"{url}/broken/{number}/{{data}}" for number in range(9)] + [url + "/good/{data}"])
    manager = await managed(**ens.settings(allow_private=True, gateways=2))
    asked.clear()
    with pytest.raises(Unavailable, match="8 more are not asked"):
        await resolve(manager, odd)
    assert len(asked) == 2


async def test_a_gateway_that_says_no_ends_it(ens: Ens, managed: Managed, odd: str, gateways: Any) -> None:
    url, asked = gateways
    name_gateways(ens, [url + "/gone/{data}", url + "/good/{data}"])
    manager = await managed(**ens.settings(allow_private=True))
    asked.clear()
    with pytest.raises(Unavailable, match="404"):
        await resolve(manager, odd)
    assert len(asked) == 1


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0x7f.1", "2130706433"]
)
async def test_not_to_this_machine(ens: Ens, managed: Managed, odd: str, gateways: Any, host: str) -> None:
    url, asked = gateways
    port = url.rpartition(":")[2]
    name_gateways(ens, [f"http://{host}:{port}/good/{{data}}"])
    manager = await managed(**ens.settings())
    asked.clear()
    with pytest.raises(Unavailable, match=r"private|resolve"):
        await resolve(manager, odd)
    assert not asked


async def test_not_by_way_of_a_proxy(
    ens: Ens, managed: Managed, odd: str, gateways: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy of the environment would reach what this node must not."""
    url, asked = gateways
    monkeypatch.setenv("http_proxy", url)
    monkeypatch.setenv("ALL_PROXY", url)
    name_gateways(ens, ["http://192.168.7.7/good/{data}"])
    manager = await managed(**ens.settings())
    asked.clear()
    with pytest.raises(Unavailable, match="private"):
        await resolve(manager, odd)
    assert not asked


async def test_the_resolver_asks_for_itself_alone(
    ens: Ens, managed: Managed, odd: str, gateways: Any
) -> None:
    url, asked = gateways
    name_gateways(ens, [url + "/good/{data}"], OTHER_SENDER)
    manager = await managed(**ens.settings(allow_private=True))
    asked.clear()
    with pytest.raises(Unavailable, match="not its own"):
        await resolve(manager, odd)
    assert not asked


async def test_not_again_and_again(ens: Ens, managed: Managed, odd: str, gateways: Any) -> None:
    url, asked = gateways
    name_gateways(ens, [url + "/good/{data}"], AGAIN_AND_AGAIN)
    manager = await managed(**ens.settings(allow_private=True))
    asked.clear()
    with pytest.raises(Unavailable, match="more than 4 times"):
        await resolve(manager, odd)
    assert len(asked) == 4


async def test_a_name_has_its_time(ens: Ens, managed: Managed, odd: str, gateways: Any) -> None:
    url, _ = gateways
    name_gateways(ens, [f"{url}/slow/{number}/{{data}}" for number in range(3)])
    manager = await managed(**ens.settings(allow_private=True, timeout=1.5, gateway_timeout=30))
    with pytest.raises(Unavailable, match=r"within 1\.5 s"):
        await resolve(manager, odd)


@pytest.mark.parametrize("way", [ALL_GAS, LONG, REVERTS, RUBBISH, OFFSETS])
async def test_a_resolver_that_misbehaves_has_no_content(
    ens: Ens, managed: Managed, odd: str, way: int
) -> None:
    name_gateways(ens, [], way)
    manager = await managed(**ens.settings())
    assert await resolve(manager, odd) == {"kind": "none", "value": "", "ttl": 300}


@pytest.mark.parametrize(
    "template",
    ["", "http://", "http://[", "file:///etc/passwd", "http://user:word@127.0.0.1/{data}", "http://a b/{data}",
     "http://127.0.0.1:99999/{data}", "http://127.0.0.1\r\nX: y/{data}", "http://" + "a" * 3000, "http://ä.example/{data}"],
)  # fmt: skip
async def test_what_is_no_url(ens: Ens, managed: Managed, odd: str, template: str) -> None:
    name_gateways(ens, [template])
    manager = await managed(**ens.settings(allow_private=True))
    with pytest.raises(Unavailable, match="No gateway"):
        await resolve(manager, odd)


async def test_a_gateway_that_nobody_serves(ens: Ens, managed: Managed, odd: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    name_gateways(ens, [f"http://127.0.0.1:{port}/{{data}}"])
    manager = await managed(**ens.settings(allow_private=True))
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
        await resolve(manager, odd)
