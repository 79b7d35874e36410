"""Names that a record links to a site: served where the name's proof is found, with all that the site's host has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from decentraspace.names.cache import Bounds
from decentraspace.names.service import NameService
from decentraspace.records.ownership import Transfer
from decentraspace.records.schema import DomainLink
from decentraspace.records.signing import sign_domain, sponsor
from tests.gateway.served import Owner, Served, until
from tests.names.knot import ZONE, Knot, knot
from tests.records.factory import make_session

HOME = b"<p>linked"
FILES = {"index.html": HOME, "_redirects": b"/old /new 301", "_headers": b"/*\n  X-Of: site\n"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    with knot(tmp_path_factory.mktemp("knot")) as running:
        yield running


@pytest.fixture(scope="module")
def linking(server: Knot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(
        tmp_path_factory.mktemp("linked"),
        names={"nameservers": [server.server], "timeout": 20.0, "grace": 3600.0},
        gateway={"public_url": "http://gateway.example", "fetch_timeout": 2.0},
    )
    node = made.node
    # So that the tests need not wait for answers to be over.
    node.names = NameService.of_node(
        node.config, node.records, node.plugins, node.book, Bounds(0, 60, 0, 0, 0, 0)
    )
    with made.serving() as running:
        yield running


def link(linking: Served, owner: Owner, name: str, *, to: str | None = "", session: Any = None) -> None:
    """As if it had come from another node: nothing is verified. `to` None: take the name off."""
    node = linking.node
    label = None if to is None else (to or owner.label)
    body = DomainLink(
        owner.address,
        name,
        node.records.link_number(name, owner.address) + 1,
        int(time.time()),
        owner.address if label else None,
        label,
    )
    record = sign_domain(body, *(session or owner.session), node.rules)
    now = int(time.time())
    node.records.add(sponsor(record, node.key, now), now=now)


def prove(server: Knot, name: str, *owners: Owner) -> str:
    """The whole name, whose TXT record names these owners."""
    server.set(f"_decentraspace.{name}", *(f"decentraspace-owner={o.wallet.address}" for o in owners), ttl=0)
    return f"{name}.{ZONE}"


def again(linking: Served, name: str) -> None:
    """Have what was found out be over."""
    with linking.node.book.writing() as db:
        db.execute("UPDATE proofs SET fresh = 0 WHERE name = ?", (name,))


def test_a_linked_name_shows_the_site_as_its_own_host_does(linking: Served, server: Knot) -> None:
    owner = linking.site(FILES)
    name = prove(server, "shop", owner)
    assert linking.get(name).status == 404
    link(linking, owner, name)
    until(lambda: linking.get(name).status == 200)
    answer = linking.get(name)
    assert (answer.body, answer.headers["x-of"]) == (HOME, "site")
    assert linking.get(f"{name.upper()}.:80").body == HOME
    assert linking.get(name, "/old").headers["location"] == "/new"
    assert linking.get(name, "/missing").status == 404
    assert linking.get("127.0.0.1", f"/ipns/{name}/").body == HOME
    # The next version is there at once: the name leads to the site, not to content.
    owner.deploy({"index.html": b"second"})
    assert linking.get(name).body == b"second"
    link(linking, owner, name, to=None)
    until(lambda: linking.get(name).status == 404)


def test_who_has_no_proof_shows_nothing(linking: Served, server: Knot) -> None:
    owner, stranger = linking.site(FILES), linking.site({"index.html": b"stranger's"})
    name = prove(server, "mine", owner)
    link(linking, stranger, name)
    assert linking.get(name).status == 404
    link(linking, owner, name)
    until(lambda: linking.get(name).status == 200)
    assert linking.get(name).body == HOME
    # Left behind after an unlink, it is nobody else's for the taking.
    link(linking, owner, name, to=None)
    until(lambda: linking.get(name).status == 404)
    link(linking, stranger, name)
    again(linking, name)
    assert linking.get(name).status == 404
    claimed = linking.node.book.get(name, stranger.address)
    assert claimed is not None
    assert claimed.proof.state == "stranger"


def test_a_header_does_not_put_another_site_under_a_name(linking: Served, server: Knot) -> None:
    """A cache in front would keep it for all."""
    owner, stranger = linking.site(FILES), linking.site({"index.html": b"stranger's"})
    name = prove(server, "cached", owner)
    link(linking, owner, name)
    seen = set()

    def shows() -> bool:
        seen.add(linking.get(name, X_Forwarded_Host=stranger.host).body)
        return linking.get(name).body == HOME

    until(shows)
    assert seen == {HOME}


def test_a_name_that_goes_to_another_owner_is_theirs_at_once(linking: Served, server: Knot) -> None:
    old, new = linking.site(FILES), linking.site({"index.html": b"new owner's"})
    name = prove(server, "sold", old)
    link(linking, old, name)
    link(linking, new, name)
    until(lambda: linking.get(name).status == 200)
    assert linking.get(name).body == HOME
    prove(server, "sold", new)
    again(linking, name)
    until(lambda: linking.get(name).body == b"new owner's")


def test_a_name_without_its_proof_goes_on_for_the_grace_period(linking: Served, server: Knot) -> None:
    owner = linking.site(FILES)
    name = prove(server, "lapsed", owner)
    link(linking, owner, name)
    until(lambda: linking.get(name).status == 200)
    prove(server, "lapsed")
    again(linking, name)

    def lost() -> int:
        linking.get(name)
        found = linking.node.book.get(name, owner.address)
        assert found is not None
        return found.lost

    until(lambda: lost() > 0)
    assert linking.get(name).body == HOME
    with linking.node.book.writing() as db:
        db.execute("UPDATE proofs SET lost = lost - 4000, held = held - 4000 WHERE name = ?", (name,))
    until(lambda: linking.get(name).status == 404)


def test_a_revoked_key_s_link_ends(linking: Served, server: Knot) -> None:
    owner = linking.site(FILES)
    name = prove(server, "stolen", owner)
    link(linking, owner, name, session=make_session(owner.wallet, linking.node.rules))
    until(lambda: linking.get(name).status == 200)
    link(linking, owner, name)
    assert linking.get(name).status == 200
    owner.revoke()  # takes the site back, too
    until(lambda: linking.get(name).status == 404)


def test_a_site_that_is_given_away_takes_no_names_along(linking: Served, server: Knot) -> None:
    """The seller's name must not show what is the buyer's by now; the buyer's own does."""
    seller, buyer = linking.site(FILES), linking.site({"index.html": b"buyer's other site"})
    names = prove(server, "sellers", seller), prove(server, "buyers", buyer)
    link(linking, seller, names[0])
    until(lambda: linking.get(names[0]).status == 200)
    now = int(time.time())
    given = Transfer(seller.site_id, 7, 0, now + 2, buyer.address)  # in a block after the deploy
    linking.call(linking.node.hosting.follow_chain, [given], "1:0xregistry", 8)
    until(lambda: linking.get(names[0]).status == 404)
    later = make_session(buyer.wallet, linking.node.rules, issued_at=now)
    node = linking.node
    body = DomainLink(buyer.address, names[1], 1, now, seller.address, seller.label)
    record = sign_domain(body, *later, node.rules)
    node.records.add(sponsor(record, node.key, now), now=now)
    until(lambda: linking.get(names[1]).body == HOME)
    assert linking.get(names[0]).status == 404


def test_hosts_of_other_systems_names_below_the_gateway(linking: Served, server: Knot) -> None:
    """Of top-level domains that the operator has set a plugin for, and of no others."""
    owner = linking.site(FILES)
    with linking.wire() as wire:
        for host in ("some-eth.localhost", "some.name.eth.localhost"):
            answer = wire.get(f"{host}:{linking.port}")
            assert (answer.status, b"No such site" in answer.body) == (404, True)
    assert owner.get().body == HOME


def test_the_gateway_s_own_hosts_are_never_a_link_s(linking: Served, server: Knot) -> None:
    owner, other = linking.site(FILES), linking.site({"index.html": b"other"})
    for name in (f"{other.label}--{other.site_id}.localhost", "gateway.example"):
        link(linking, owner, name)
    assert other.get().body == b"other"
    assert linking.get("gateway.example").status == 404
