"""One site by all kinds of name, at a node where none of them was linked: its own host, DNS, ENS, Handshake and a
label of SiteRegistry. All real: two chains (anvil), hsd, name servers (Knot), nodes, Caddy and an ACME authority.

first     where the owner is logged in, and links
second    has only heard of it; Caddy in front gets certificates of Pebble
careless  a stranger's node, whose resolvers are not there: it takes any link, and tells the others
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from plugins.billing_polygon.tests import conftest as polygon
from plugins.dns_ens.tests import chain as ethereum
from plugins.dns_handshake.tests.hsd import Hsd, hsd, txt
from plugins.dns_registrar.tests.zones import Zones, zones

from decentraspace.testing import RunningNode
from tests.deploy.front import Caddy, Ports, Refused, caddy, pebble, poll
from tests.node.running import command
from tests.support import free_port

PLUGINS = ("billing_polygon", "dns_ens", "dns_handshake", "dns_registrar")
DOMAIN, API = "gw.plain.example", "api.plain.example"
NAMES = {"dns": "shop.plain.example", "ens": "shop.eth", "handshake": "changing", "own": "garden.dsp"}
PAGE, OTHER = "<h1>the owner's", "<h1>a stranger's"
YEAR = 365 * 86400
OWNER, STRANGER = polygon.account(2), polygon.account(5)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Stage:
    first: RunningNode
    second: RunningNode
    careless: RunningNode
    caddy: Caddy
    host: str
    run: Callable[..., Any]


def registered(world: polygon.World, label: str) -> None:
    """By its owner, with credits of hers."""
    price, secret = world.sites.functions.priceOf(label, YEAR).call(), secrets.token_bytes(32)
    world.recharge(price, OWNER)
    world.send(world.vault.functions.approve(world.sites.address, price), OWNER)
    hidden = world.sites.functions.commitmentOf(label, OWNER.address, secret).call()
    world.send(world.sites.functions.commit(hidden), OWNER)
    world.chain.mine(1, 61)
    world.send(world.sites.functions.register(label, OWNER.address, YEAR, secret), OWNER)


def tables(folder: Path, ens: ethereum.Ens, chain: Hsd, dns: Zones, world: polygon.World) -> dict[str, Any]:
    """What the operator of a node sets for each plugin: every name's system is asked, and the machine may be busy."""
    key = folder / "hsd.key"
    key.write_text(chain.key + "\n")
    return {
        "dns_ens": ens.settings(ttl=1),
        "dns_handshake": {
            "rpc": [chain.url], "api_key_file": str(key), "network": "regtest", "private": True, "safe": False,
            "ttl": 1, "timeout": 20.0, "deadline": 60.0,
        },
        "dns_registrar": {"resolvers": [dns.server], "trust_anchors": []},
        "billing_polygon": {
            "rpc": [world.chain.url], "chain_id": polygon.CHAIN, "vault": world.vault.address,
            "operators": world.operators.address, "sites": world.sites.address, "labels": "dsp",
        },
    }  # fmt: skip


def node(folder: Path, plugins: dict[str, Any], resolvers: dict[str, str], **settings: str) -> RunningNode:
    lines = [
        f"names.resolvers = {json.dumps([f'{name}={plugin}' for name, plugin in resolvers.items()])}",
        "names.timeout = 60",
        "plugins.timeout = 60",
    ]
    for plugin, values in plugins.items():
        lines += [f"[plugin.{plugin}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    (folder / "config.toml").write_text("\n".join(lines))
    return RunningNode(
        folder, plugins=plugins, CONFIG=str(folder / "config.toml"), NETWORK_ALLOW_PRIVATE="yes",
        LIMITS_FREE_NAMES="10", LIMITS_PAID_NAMES="10", **settings,
    )  # fmt: skip


def commands(folder: Path) -> Callable[..., Any]:
    def run(who: str, *words: object, code: int = 0, stdin: str = "") -> Any:
        """What the command line prints for the owner or the stranger, as JSON; why it refuses, for `code` 2."""
        home = folder / who
        home.mkdir(exist_ok=True)
        done = command(home, *words, "--json", stdin=stdin)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code else json.loads(done.stdout)

    return run


def peer(node: RunningNode) -> str:
    answer = node.get("/readyz")
    assert answer is not None
    return f"{node.environment['DECENTRASPACE_NETWORK_LISTEN']}/p2p/{answer.json()['peer_id']}"


def bought(ens: ethereum.Ens, chain: Hsd, dns: Zones, world: polygon.World) -> None:
    """The owner has all the names, and a proof where the system has none of its own."""
    dns.prove(NAMES["dns"], OWNER.address)
    assert ens.register(NAMES["ens"].removesuffix(".eth"), OWNER.address) == NAMES["ens"]
    registered(world, NAMES["own"].removesuffix(".dsp"))
    chain.win(NAMES["handshake"])
    chain.update(NAMES["handshake"], txt(f"decentraspace-owner={OWNER.address}"))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("everywhere")
    run, ports = commands(folder), Ports(free_port(), free_port())
    with ExitStack() as stack:
        dns = stack.enter_context(zones(folder / "zones"))
        for name in (API, f"*.{DOMAIN}", *NAMES.values(), *(f"{n}.{DOMAIN}" for n in NAMES.values())):
            if name.endswith(".example"):
                dns.set(name, "A", "127.0.0.1")
        authority = stack.enter_context(pebble(folder / "pebble", dns.server, ports))
        chain = stack.enter_context(hsd(folder / "hsd"))
        mainnet, other = ethereum.Anvil(), polygon.Anvil()
        stack.callback(mainnet.close)
        stack.callback(other.close)
        ens, world = ethereum.Ens.on(mainnet), polygon.make_world(other)
        bought(ens, chain, dns, world)
        plugins = tables(folder, ens, chain, dns, world)
        resolvers = {"eth": "dns_ens", NAMES["handshake"]: "dns_handshake", "dsp": "billing_polygon"}

        def start(name: str, key: bytes, **settings: str) -> RunningNode:
            (folder / name).mkdir()
            own = {**plugins["billing_polygon"], **polygon.keystore(folder / name, key)}
            made = node(folder / name, {**plugins, "billing_polygon": own}, resolvers, **settings)
            return stack.enter_context(made)

        first = start("first", polygon.account(1).key)
        known = peer(first)
        second = start(
            "second", polygon.account(3).key,
            NETWORK_BOOTSTRAP=known,
            GATEWAY_DOMAIN=DOMAIN, GATEWAY_PLAIN_HOSTS="dsp", GATEWAY_PUBLIC_URL=f"https://{DOMAIN}",
        )  # fmt: skip
        (folder / "careless").mkdir()
        nobody = f"127.0.0.1:{free_port()}"
        careless = node(
            folder / "careless",
            {},
            resolvers,
            NETWORK_BOOTSTRAP=known,
            NAMES_NAMESERVERS=nobody,
            NAMES_TIMEOUT="2",
        )
        stack.enter_context(careless)
        addresses = {"API": f"127.0.0.1:{second.api}", "GATEWAY": f"127.0.0.1:{second.gateway}"}
        front = stack.enter_context(
            caddy(folder / "caddy", ports, authority, API_DOMAIN=API, SITES_DOMAIN=DOMAIN, **addresses)
        )

        host = ""
        for who, wallet, where, page in (
            ("stranger", STRANGER, careless, OTHER), ("owner", OWNER, first, PAGE),
        ):  # fmt: skip
            run(who, "login", "--node", where.url, "--key-stdin", stdin=bytes(wallet.key).hex() + "\n")
            site = folder / f"{who}s-site"
            site.mkdir()
            (site / "index.html").write_text(page)
            host = run(who, "deploy", site, "--site", "shop")["host"]
        for name in NAMES.values():
            linked = run("owner", "domains", "link", name, "shop")
            assert linked["state"] == "linked", linked
        yield Stage(first, second, careless, front, host, run)


def shows(node: RunningNode, host: str) -> None:
    def so() -> bool:
        answer = httpx.get(
            f"http://127.0.0.1:{node.gateway}/", headers={"Host": host}, timeout=90, trust_env=False
        )
        return answer.status_code == 200 and answer.text == PAGE

    node.until(so, 90)


def shows_safely(stage: Stage, host: str) -> None:
    """Over HTTPS, with a certificate that Caddy gets when it is asked for the host."""

    def so() -> bool:
        try:
            answer = stage.caddy.get(host)
        except Refused:  # the node has not heard of it yet
            return False
        return answer.status == 200 and answer.body.decode() == PAGE

    poll(so, f"HTTPS for {host}")
    assert stage.caddy.names(host) == {host}


def test_its_own_host(stage: Stage) -> None:
    shows(stage.second, f"{stage.host}.{DOMAIN}")
    shows_safely(stage, f"{stage.host}.{DOMAIN}")


@pytest.mark.parametrize("kind", NAMES)
def test_a_name_where_it_was_not_linked(stage: Stage, kind: str) -> None:
    shows(stage.second, NAMES[kind])
    if kind == "dns":
        shows_safely(stage, NAMES[kind])
    else:  # for visitors who know nothing of such names
        shows_safely(stage, f"{NAMES[kind]}.{DOMAIN}")
    if kind == "own":
        shows_safely(stage, f"garden.{DOMAIN}")


@pytest.mark.parametrize("kind", NAMES)
def test_a_name_is_not_a_strangers(stage: Stage, kind: str) -> None:
    """Neither by asking a node that looks, nor by a link that another node has let through."""
    name, run = NAMES[kind], stage.run
    assert "name-not-yours" in run(
        "stranger", "domains", "link", name, "shop", "--node", stage.first.url, code=2
    )
    assert run("stranger", "domains", "link", name, "shop")["number"] == 1

    def heard() -> Any:
        found = run("stranger", "domains", "status", name, "--node", stage.second.url)
        return found if found["number"] == 1 else None

    assert stage.second.until(heard, 90)["state"] == "stranger"
    for where in (stage.first, stage.second):
        shows(where, name)
