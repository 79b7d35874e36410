"""Names that a plugin speaks for: as hosts, below the gateway's own, and never by the visitor's choice."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from decentraspace.content import cid as cids
from decentraspace.names.cache import Bounds
from decentraspace.names.service import NameService
from decentraspace.records.signing import sponsor
from tests.gateway.served import Owner, Served, until
from tests.gateway.test_linked import FILES, HOME, link
from tests.records.factory import make_domain, make_session, make_wallet
from tests.support import IN_TREE_PLUGINS

SPEAKER = textwrap.dedent('''
    """Says of names what stands in a file: {"name": what name_resolve gives, or an error's text}."""
    import json
    from decentraspace import errors, hookimpl

    def said(node, name):
        return json.loads((node.data_dir / "say.json").read_text()).get(name)

    @hookimpl
    async def name_resolve(name, node):
        with open(node.data_dir / "asked", "a") as file:
            file.write(name + " ")
        found = said(node, name)
        if isinstance(found, str):
            raise errors.Unavailable(found)
        return found

    @hookimpl
    async def name_verify(name, owner, node):
        holder = (said(node, "holder:" + name) or "").lower()
        state = "held" if holder == owner else "stranger" if holder else "missing"
        return {"state": state, "method": "told", "detail": "It is " + (holder or "nobody") + "'s."}
''')


class Speaker:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._said: dict[str, Any] = {}
        self.say({})

    def say(self, more: dict[str, Any]) -> None:
        self._said |= more
        (self.folder / "say.new").write_text(json.dumps(self._said))
        (self.folder / "say.new").rename(self.folder / "say.json")

    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return path.read_text().split() if path.exists() else []


@pytest.fixture(scope="module")
def plugged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("plugins")
    for name in ("speaker", "other"):
        (folder / f"{name}.py").write_text(SPEAKER)
    made = Served(
        tmp_path_factory.mktemp("plugged"),
        plugins={"directory": str(folder), "disabled": list(IN_TREE_PLUGINS), "timeout": 20.0},
        names={"resolvers": ["eth=speaker", "welcome=speaker"], "dns": False, "timeout": 20.0},
        gateway={"public_url": "http://gateway.example", "fetch_timeout": 2.0},
    )
    node = made.node
    node.plugins.load_blocking(node)
    node.names = NameService.of_node(
        node.config, node.records, node.plugins, node.book, Bounds(0, 60, 0, 0, 0, 0)
    )
    with made.serving() as running:
        yield running
        node.plugins.close_blocking()


@pytest.fixture(scope="module")
def speaker(plugged: Served) -> Speaker:
    other = Speaker(plugged.node.config.data_dir / "plugins" / "other")
    made = Speaker(plugged.node.config.data_dir / "plugins" / "speaker")
    made.other = other  # type: ignore[attr-defined]
    return made


@pytest.fixture(scope="module")
def owner(plugged: Served) -> Owner:
    return plugged.site(FILES)


def test_a_name_is_served_at_all_its_hosts(plugged: Served, speaker: Speaker, owner: Owner) -> None:
    root = cids.to_text(owner.deploy({**FILES, "v": b"2"}).head.root)
    speaker.say(
        {
            "my-name.eth": {"kind": "ipfs", "value": root},
            "site.eth": {"kind": "site", "value": owner.site_id},
            "welcome": {"kind": "site", "value": f"{owner.label}--{owner.site_id}"},
            "below.eth": {"kind": "ipns", "value": "my-name.eth", "path": "/v"},
        }
    )
    gateway = f"localhost:{plugged.port}"
    for host in ("my-name.eth", f"my-name.eth.{gateway}", f"my--name-eth.{gateway}"):
        assert plugged.get(host).body == HOME, host
    for host in ("site.eth", f"site.eth.{gateway}", f"site-eth.{gateway}", "welcome"):
        answer = plugged.get(host)
        assert (answer.body, answer.headers["x-of"]) == (HOME, "site"), host
    assert plugged.get("below.eth").body == b"2"
    assert plugged.get("127.0.0.1", "/ipns/site.eth/").body == HOME


def test_only_the_plugin_that_is_set_is_asked(plugged: Served, speaker: Speaker) -> None:
    assert plugged.get("nobody.eth").status == 404
    assert "nobody.eth" in speaker.asked()
    assert plugged.get("nobody.example").status == 404
    assert "nobody.example" not in speaker.asked()
    assert speaker.other.asked() == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"kind": "none", "value": ""}, 404),
        ({"kind": "ipfs", "value": "no cid"}, 502),
        ({"kind": "ipns", "value": "no key"}, 502),
        ({"kind": "ipns", "value": "http://[::1]/x"}, 502),
        ({"kind": "ipns", "value": "loop.eth"}, 502),
        ({"kind": "site", "value": "../../etc"}, 404),
        ({"kind": "site", "value": "a" * 16}, 404),
        ("The chain does not answer", 502),
        ({"kind": "nonsense"}, 502),
    ],
    ids=str,
)
def test_what_a_chain_says_may_be_anything(plugged: Served, speaker: Speaker, said: Any, status: int) -> None:
    speaker.say({"loop.eth": said})
    until(lambda: plugged.get("loop.eth").status == status)


def test_a_link_goes_before_what_the_name_says_of_itself(
    plugged: Served, speaker: Speaker, owner: Owner
) -> None:
    other = plugged.site({"index.html": b"other"})
    speaker.say(
        {"moved.eth": {"kind": "site", "value": other.site_id}, "holder:moved.eth": owner.wallet.address}
    )
    until(lambda: plugged.get("moved.eth").body == b"other")
    link(plugged, other, "moved.eth")
    link(plugged, owner, "moved.eth")
    until(lambda: plugged.get("moved.eth").body == HOME)
    assert plugged.get(f"moved-eth.localhost:{plugged.port}").body == HOME
    speaker.say({"holder:moved.eth": other.wallet.address})
    with plugged.node.book.writing() as db:
        db.execute("UPDATE proofs SET fresh = 0")
    until(lambda: plugged.get("moved.eth").body == b"other")


def test_claims_of_strangers_shut_nobody_out(plugged: Served, speaker: Speaker, owner: Owner) -> None:
    """Many come before the one who may link it, and the naming system does not say on its own who that is."""
    now = int(time.time())
    for _ in range(20):
        wallet = make_wallet()
        record = make_domain(wallet, make_session(wallet), name="crowd.eth")
        plugged.node.records.add(sponsor(record, plugged.node.key, now), now=now, local=True)
    link(plugged, owner, "crowd.eth")
    speaker.say({"holder:crowd.eth": owner.wallet.address})
    until(lambda: plugged.get("crowd.eth").body == HOME)
    assert len(plugged.node.book.looked_at("crowd.eth")) == 21
