"""Whose claim of a name counts, as far as a real name server proves it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from decentraspace.config import Config, PluginsConfig, load
from decentraspace.names.book import Book, found_now
from decentraspace.names.cache import Bounds
from decentraspace.names.claims import Claims, gateway_host
from decentraspace.names.proofs import Proof, owners
from decentraspace.plugins import PluginManager
from decentraspace.records.signing import sponsor
from decentraspace.records.store import RecordStore
from tests.names.knot import ZONE, Knot, knot
from tests.records.factory import RULES, address_of, make_domain, make_session, make_wallet
from tests.records.worlds import NODES

DAY = 86400


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    with knot(tmp_path_factory.mktemp("knot")) as running:
        yield running


def config(server: Knot, **names: Any) -> Config:
    return load(environ={}, overrides={"names": {"nameservers": [server.server], "timeout": 20.0, **names}})


class Known:
    """Records, what was found about them, and the claims of both."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.records = RecordStore(folder / "records.sqlite", RULES)
        self.book = Book(folder / "names.sqlite")
        self.claims = Claims(
            config, self.records, PluginManager(PluginsConfig()), self.book, Bounds(0, 60, 0, 0, 0, 0)
        )

    @asynccontextmanager
    async def running(self) -> Any:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.claims.run)
            yield self
            nursery.cancel_scope.cancel()

    def claim(self, name: str, **changes: Any) -> bytes:
        """By somebody new."""
        wallet = make_wallet()
        record = make_domain(wallet, make_session(wallet), name=name, **changes)
        now = int(time.time())
        self.records.add(sponsor(record, NODES[0], now), now=now, local=True)
        return address_of(wallet)

    def close(self) -> None:
        self.records.close()
        self.book.close()


def prove(server: Knot, name: str, *wallets: bytes) -> str:
    server.set(f"_decentraspace.{name}", *(f"decentraspace-owner=0x{w.hex()}" for w in wallets), ttl=0)
    return f"{name}.{ZONE}"


async def test_many_claims_hide_nobody(server: Knot, tmp_path: Path) -> None:
    """Wallets cost nothing: the one that the name's records name is found among any number of others."""
    known = Known(tmp_path, config(server))
    for _ in range(30):
        known.claim(f"wanted.{ZONE}")
    owner = known.claim(f"wanted.{ZONE}")
    name = prove(server, "wanted", owner)
    async with known.running():
        shown = await known.claims.shown(name)
        assert shown is not None
        assert shown.link.wallet == owner
        assert len(known.book.looked_at(name)) <= 10, "nobody made it look into all of them"
    known.close()


async def test_of_several_that_are_proven_the_newest_link_counts(server: Knot, tmp_path: Path) -> None:
    known = Known(tmp_path, config(server))
    first = known.claim(f"both.{ZONE}", created=int(time.time()) - 10)
    second = known.claim(f"both.{ZONE}")
    name = prove(server, "both", first, second)
    async with known.running():
        shown = await known.claims.shown(name)
        assert shown is not None
        assert shown.link.wallet == second
    known.close()


async def test_proofs_are_looked_at_again_though_nobody_visits(server: Knot, tmp_path: Path) -> None:
    known = Known(tmp_path, config(server, check_every=1.0, grace=0.0))
    owner = known.claim(f"again.{ZONE}")
    name = prove(server, "again", owner)
    async with known.running():
        assert await known.claims.shown(name) is not None
        prove(server, "again", b"\1" * 20)
        with trio.fail_after(30):
            while (found := known.book.get(name, owner)) is None or found.proof.state != "stranger":
                await trio.sleep(0.05)
        assert await known.claims.shown(name) is None
    known.close()


async def test_names_of_which_nobody_can_say_keep_no_others_from_being_looked_at(
    server: Knot, tmp_path: Path
) -> None:
    known = Known(tmp_path, config(server, check_every=1.0, grace=0.0, timeout=1.0))
    for number in range(20):
        name = f"none{number:02}.elsewhere.example"  # not this server's: it refuses to say
        known.book.put(found_now(name, known.claim(name), Proof("held", "txt", ""), 1, None))
    owner = known.claim(f"behind.{ZONE}")
    name = prove(server, "behind", b"\1" * 20)
    known.book.put(found_now(name, owner, Proof("held", "txt", ""), 2, None))
    async with known.running():
        with trio.fail_after(60):
            while (found := known.book.get(name, owner)) is None or found.proof.state != "stranger":
                await trio.sleep(0.05)
    known.close()


async def test_what_was_found_outlives_a_restart(server: Knot, tmp_path: Path) -> None:
    known = Known(tmp_path, config(server))
    owner = known.claim(f"kept.{ZONE}")
    name = prove(server, "kept", owner)
    async with known.running():
        assert await known.claims.shown(name) is not None
    known.close()
    away = load(environ={}, overrides={"names": {"nameservers": ["127.0.0.1:1"], "timeout": 1.0}})
    again = Known(tmp_path, away)
    async with again.running():
        shown = await again.claims.shown(name)
        assert shown is not None
        assert shown.link.wallet == owner
    again.close()


@pytest.mark.parametrize(
    ("states", "at", "stands"),
    [
        (["held"], 0, True),
        (["held"], 2 * DAY, True),  # nobody could say since
        (["held"], 5 * DAY, False),
        (["missing"], 0, False),
        (["held", "missing"], 3 * DAY - 10, True),
        (["held", "missing", "missing"], 3 * DAY + 30, False),  # counted from the first time
        (["held", "missing", "held"], 2 * DAY, True),
        (["held", "stranger"], 0, False),
        (["held", "stranger", "missing"], 0, False),  # it does not come back by being taken off
        (["held", "stranger", "held"], 0, True),
    ],
)
def test_how_long_a_proof_stands(states: list[Any], at: int, stands: bool) -> None:
    found = None
    for number, state in enumerate(states):
        found = found_now("a.example", b"w", Proof(state, "txt", ""), 1000 + number * 10, found)
    assert found is not None
    assert found.stands(1000 + at, DAY, 3 * DAY) is stands


def test_a_name_that_ended_is_shown_for_the_grace_period() -> None:
    found = found_now("a.eth", b"w", Proof("held", "ens-owner", "", expires=2000), 1000, None)
    assert found.stands(2000 + DAY, DAY, 3 * DAY)
    assert not found.stands(2000 + 3 * DAY, 30 * DAY, 3 * DAY)


def test_which_wallets_texts_name() -> None:
    one, other = "0x" + "ab" * 20, "0x" + "cd" * 20
    assert owners(
        [f"decentraspace-owner={one.upper().replace('0X', '0x')}", f" decentraspace-owner={other} "]
    ) == {
        one,
        other,
    }
    wrong = [
        "v=spf1",
        "decentraspace-owner=",
        "decentraspace-owner=0x12",
        f"owner={one}",
        f"decentraspace-owner={one}0",
    ]
    assert owners(wrong) == frozenset()


@pytest.mark.parametrize(
    ("gateway", "host"),
    [
        ({}, ""),
        ({"domain": "gate.example"}, "gate.example"),
        ({"public_url": "https://gate.example:8443"}, "gate.example"),
        ({"public_url": "http://192.0.2.1:8080"}, ""),
    ],
)
def test_where_names_are_to_lead(gateway: dict[str, str], host: str) -> None:
    assert gateway_host(load(environ={}, overrides={"gateway": gateway})) == host
