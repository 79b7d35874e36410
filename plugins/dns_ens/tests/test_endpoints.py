"""One round to the chain for a name; endpoints that are silent, broken, behind, or lie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import trio
import trio.testing
from plugins.dns_ens.tests.chain import Ens, Relay, builder, relay
from plugins.dns_ens.tests.conftest import IPFS, IPFS_CID, Managed, Offchain, resolve, verify

from decentraspace.errors import ConfigError, Unavailable
from decentraspace_dns_ens import contenthash
from decentraspace_dns_ens.rpc import Endpoints
from decentraspace_dns_ens.settings import Settings, read

Relays = Any
OTHER = contenthash.read(IPFS[:-1] + b"\x20").value


@pytest.fixture
def relays(ens: Ens) -> Iterator[list[Relay]]:
    with ExitStack() as stack:
        yield [stack.enter_context(relay(ens.chain)) for _ in range(3)]


def urls(relays: list[Relay]) -> list[str]:
    return [one.url for one in relays]


def lie(result: str) -> str:
    """Another content under the same name."""
    return result.replace(IPFS.hex(), IPFS.hex()[:-2] + "20")


async def test_a_cold_name_takes_one_round(ens: Ens, managed: Managed, relays: list[Relay]) -> None:
    owner = ens.chain.accounts[1]
    name = ens.show("cold", owner, IPFS)
    deep = "a.b.c." + name
    manager = await managed(**ens.settings(rpc=[relays[0].url]))
    assert (await resolve(manager, name))["value"] == IPFS_CID
    assert relays[0].asked == ["eth_call"]
    assert (await resolve(manager, deep))["kind"] == "none"
    assert (await verify(manager, name, owner))["state"] == "held"
    assert relays[0].asked == ["eth_call"] * 3


async def test_a_gateway_costs_one_more(
    ens: Ens, managed: Managed, relays: list[Relay], offchain: Offchain
) -> None:
    owner = ens.chain.accounts[1]
    name = ens.register("costs", owner)
    ens.resolve_by(name, owner, offchain.resolver.address)
    offchain.gateway.records[f"x.{name}"] = IPFS
    manager = await managed(**ens.settings(rpc=[relays[0].url], allow_private=True))
    assert (await resolve(manager, f"x.{name}"))["value"] == IPFS_CID
    assert relays[0].asked == ["eth_call"] * 2
    assert len(offchain.asked) == 1


@pytest.mark.parametrize(
    "way", ["silent", "broken", "rubbish", "limited", lambda result: "0x", lambda result: 7]
)
async def test_another_endpoint_is_asked(ens: Ens, managed: Managed, relays: list[Relay], way: Any) -> None:
    name = ens.show("failover", ens.chain.accounts[1], IPFS)
    relays[0].way = way
    manager = await managed(**ens.settings(rpc=urls(relays[:2]), patience=0.3))
    assert (await resolve(manager, name))["value"] == IPFS_CID
    assert (await resolve(manager, name))["value"] == IPFS_CID
    assert relays[0].asked  # it is the first in the list
    assert len(relays[1].asked) == 2
    relays[0].free.set()


async def test_no_endpoint_answers(ens: Ens, managed: Managed, relays: list[Relay]) -> None:
    for one, way in zip(relays, ("broken", "rubbish", "limited"), strict=True):
        one.way = way
    manager = await managed(**ens.settings(rpc=urls(relays)))
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1") as silent:
        await resolve(manager, "name.eth")
    assert "http://" not in str(silent.value)  # keys may stand in a URL


async def test_the_operator_is_told_once(
    ens: Ens, managed: Managed, relays: list[Relay], capsys: pytest.CaptureFixture[str]
) -> None:
    name = ens.show("told", ens.chain.accounts[1], IPFS)
    manager = await managed(**ens.settings(rpc=[relays[0].url]))
    relays[0].way = "broken"
    for _ in range(3):
        with pytest.raises(Unavailable):
            await resolve(manager, name)
    relays[0].way = "honest"
    for _ in range(3):
        await resolve(manager, name)
    told = [line for line in capsys.readouterr().out.splitlines() if "ens_endpoints" in line]
    assert len(told) == 2
    assert "127.0.0.1" in told[0]
    assert "over" in told[1]


async def test_one_of_three_cannot_lie(ens: Ens, managed: Managed, relays: list[Relay]) -> None:
    name = ens.show("truth", ens.chain.accounts[1], IPFS)
    relays[0].way = lie
    manager = await managed(**ens.settings(rpc=urls(relays)))
    assert (await resolve(manager, name))["value"] == IPFS_CID
    # Alone it would be believed: that the lie is one is what this shows.
    manager = await managed(**ens.settings(rpc=urls(relays[:1])))
    assert (await resolve(manager, name))["value"] == OTHER


async def test_two_that_differ_are_not_believed(ens: Ens, managed: Managed, relays: list[Relay]) -> None:
    name = ens.show("differ", ens.chain.accounts[1], IPFS)
    relays[0].way = lie
    manager = await managed(**ens.settings(rpc=urls(relays[:2]), quorum=2))
    with pytest.raises(Unavailable, match="differ"):
        await resolve(manager, name)


async def test_one_that_is_a_block_behind_is_no_liar(ens: Ens, managed: Managed, relays: list[Relay]) -> None:
    """Both are asked once more, for the older of their blocks."""
    owner = ens.chain.accounts[1]
    name = ens.show("behind", owner, IPFS)
    relays[0].way, relays[0].block = "behind", hex(ens.chain.web3.eth.block_number)
    ens.set(name, owner, IPFS[:-1] + b"\x20")
    manager = await managed(**ens.settings(rpc=urls(relays[:2]), quorum=2))
    assert (await resolve(manager, name))["value"] == IPFS_CID


async def test_endpoints_of_another_chain(ens: Ens, managed: Managed) -> None:
    manager = await managed(**ens.settings(chain_id=5))
    with pytest.raises(Unavailable, match="of chain 31337, not 5"):
        await resolve(manager, "name.eth")


def test_the_questions_are_what_their_source_compiles_to(ens: Ens) -> None:
    assert builder().MADE.read_text() == builder().text()


async def test_one_that_failed_is_asked_last_for_a_while(
    relays: list[Relay], autojump_clock: trio.testing.MockClock
) -> None:
    endpoints = Endpoints(urls(relays), quorum=1, patience=1, timeout=1)
    first, second, _ = endpoints._ordered()
    endpoints._failed(first, "broken")
    assert endpoints._ordered()[-1] is first
    assert endpoints._ordered()[0] is second
    await trio.sleep(2.1)
    assert endpoints._ordered()[0] is first
    for _ in range(20):
        endpoints._failed(first, "broken")
    await trio.sleep(60.1)  # never longer
    assert endpoints._ordered()[0] is first
    await endpoints.aclose()


def test_how_many_must_agree() -> None:
    endpoints = [f"https://{number}.example/" for number in range(5)]
    found = [Settings(rpc=tuple(endpoints[:count])).agreeing for count in range(1, 6)]
    assert found == [1, 1, 2, 3, 3]


@pytest.mark.parametrize(
    "table",
    [
        {"rcp": []},
        {"rpc": ["not a url"]},
        {"rpc": 7},
        {"rpc": ["https://user:word@a.example/"]},
        {"rpc": ["https://a.example/", "https://a.example/"]},
        {"rpc": ["https://a.example/"], "quorum": 2},
        {"registry": "0x12"},
        {"timeout": 0},
        {"timeout": True},
        {"gateways": -1},
        {"allow_private": "yes"},
        {"ttl": 1.5},
    ],
)
def test_wrong_settings_are_named(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"plugin\.dns_ens"):
        read(table)
