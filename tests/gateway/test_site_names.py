"""A site's IPNS name at a gateway: the newest version, and the record that its owner signed for it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from decentraspace.content import cid as cids
from decentraspace.content import ipns
from decentraspace.content.siteindex import FLAG_PAUSED
from decentraspace.errors import Unprocessable
from decentraspace.names import published
from decentraspace.records import naming
from decentraspace.records.schema import site_id
from decentraspace.records.signing import sign_site
from tests.gateway.served import Owner, Served, until
from tests.records.factory import make_manifest, take

ONE, TWO = {"index.html": b"<p>one"}, {"index.html": b"<p>two", "sub/page.html": b"<p>page"}


class Named(Owner):
    """An owner whose client has a key of the site's name."""

    def __init__(self, served: Served) -> None:
        served._owners += 1
        super().__init__(served, f"named{served._owners}")
        self.key = Ed25519PrivateKey.generate()
        self.name = naming.name_of(self.key.public_key().public_bytes_raw())
        self.text = ipns.name_text(self.name)
        self.life = 3600

    def record(self, files: dict[str, bytes], **changes: Any) -> bytes:
        """The next version, with a record of its name; `changes` of the manifest after that was signed."""
        node = self.served.node
        root = self.served.store(files)
        made = make_manifest(
            self.address, label=self.label, root=root, size=node.blocks.dag_size(root), **self._next
        )
        issued_at = self.session[1].verify(node.rules).issued_at
        made = replace(made, ipns=naming.sign(self.key, made, issued_at, int(time.time()) + self.life))
        return sign_site(replace(made, **changes), *self.session, node.rules)

    def publish(self, files: dict[str, bytes], **changes: Any) -> bytes:
        """Root of the version that is then shown."""
        deployed = self.served.call(
            self.served.node.hosting.deploy, self.address, self.record(files, **changes)
        )
        head = deployed.head
        self._next = {"seq": head.seq + 1, "prev": head.cid}
        self.site_id = head.site_id
        self.host = f"{self.label}--{head.site_id}.localhost:{self.served.port}"
        return bytes(head.root)

    def by_name(self, path: str = "/", **headers: str) -> Any:
        return self.served.get("127.0.0.1", f"/ipns/{self.text}{path}", **headers)

    def signed(self) -> ipns.Record:
        """What the gateway gives to those who verify."""
        return ipns.verify(self.name, self.by_name("?format=ipns-record").body)


@pytest.fixture
def owner(served: Served) -> Named:
    return Named(served)


def test_a_name_shows_the_newest_version_at_once(served: Served, owner: Named) -> None:
    for files in (ONE, TWO, ONE):
        root = owner.publish(files)
        answer = owner.by_name()
        assert (answer.status, answer.body) == (200, files["index.html"])
        assert answer.headers["cache-control"] == "public, max-age=60"
        assert answer.headers["x-ipfs-roots"].startswith(cids.to_text(root))
        assert owner.signed().value == f"/ipfs/{cids.to_text(root)}"
        assert served.get(f"{owner.text}.ipns.localhost:{served.port}").body == files["index.html"]
    before = served.totals(owner)[0]
    owner.by_name()
    until(lambda: served.totals(owner)[0] > before)  # it is the site's


def test_a_version_without_a_record(owner: Named) -> None:
    """As of an older client: the name goes on here, and what was signed stays what it is."""
    first = owner.publish(ONE)
    owner.publish(TWO, ipns=None)
    assert owner.by_name().body == TWO["index.html"]
    assert owner.signed().value == f"/ipfs/{cids.to_text(first)}"


def test_a_record_that_is_over(owner: Named) -> None:
    """The name goes on here: the site's versions say where it leads."""
    node = owner.served.node
    owner.life = -1
    now = int(time.time())
    result = node.records.add(take(owner.record(ONE), node.key), now=now, local=True)  # as by gossip
    found = published.of_site(node.records, result.heads[0].site_id)
    assert found is not None
    assert not found.valid
    assert owner.by_name().body == ONE["index.html"]
    assert owner.by_name("?format=ipns-record").status == 502
    assert all(name != owner.name for name, _ in published.current(node.records, lambda _: True))


def test_a_deploy_with_a_wrong_record_is_refused(owner: Named) -> None:
    served = owner.served
    good = owner.record(ONE)
    owner.life = -1
    over = owner.record(ONE)
    owner.life = 3600
    for record in (
        owner.record(ONE, size=10**6, root=served.store(TWO)),
        owner.record(ONE, ipns=(bytes(32), 2**31, bytes(64), bytes(64))),
        over,
    ):
        with pytest.raises(Unprocessable) as caught:
            served.call(served.node.hosting.deploy, owner.address, record)
        assert caught.value.problem_slug == "invalid-ipns"
    assert owner.by_name().status == 502
    served.call(served.node.hosting.deploy, owner.address, good)
    assert owner.by_name().body == ONE["index.html"]


def test_a_name_that_came_from_another_node(owner: Named) -> None:
    """Its head is known, and nothing of it is shown here yet."""
    owner.publish(ONE)
    node = owner.served.node
    label = owner.host.partition(".")[0]
    node.hosting.index.delete(label)
    node.hosting.holdings._names.set(label, None)
    assert owner.by_name().body == ONE["index.html"]
    assert owner.signed().sequence


def test_what_a_revocation_takes_back(owner: Named) -> None:
    owner.publish(ONE)
    assert owner.by_name().status == 200
    owner.revoke()
    until(lambda: owner.by_name().status == 502)
    assert owner.by_name("?format=ipns-record").status == 502
    assert published.by_name(owner.served.node.records, owner.name) is None


def test_a_paused_site_is_paused_by_its_name_too(owner: Named) -> None:
    owner.publish(ONE)
    index, label = owner.served.node.hosting.index, owner.host.partition(".")[0]
    entry = index.get(label)
    assert entry is not None
    index.put(label, entry._replace(flags=FLAG_PAUSED))
    assert owner.by_name().status == 402
    index.put(label, entry)
    assert owner.by_name().status == 200


def test_nobody_else_takes_a_name(served: Served, owner: Named) -> None:
    root = owner.publish(ONE)
    thief = Named(served)
    stolen = published.of_site(served.node.records, owner.site_id)
    assert stolen is not None
    # The record is anybody's to send: it changes nothing.
    later = ipns.create(thief.key, "/ipfs/bafkqaaa", until=time.time() + 99, sequence=2**60)[1]
    with pytest.raises(Unprocessable):
        ipns.NameStore(served.node.blocks).put(owner.name, later)
    # A site with the same content that says it has that name is refused by honest nodes, and has no name at others.
    block = served.node.records.record(owner._next["prev"])
    assert block is not None
    from decentraspace.records import codec
    from decentraspace.records.verdict import verify

    carried = codec.decode_record(block).body.ipns  # type: ignore[union-attr]
    record = thief.record(ONE, ipns=carried)
    assert verify(record, served.node.rules).named == b""
    assert published.by_name(served.node.records, owner.name) == stolen
    assert owner.signed().value == f"/ipfs/{cids.to_text(root)}"


def test_another_generation_of_keys(owner: Named) -> None:
    owner.publish(ONE)
    old = owner.text
    owner.key = Ed25519PrivateKey.generate()
    owner.name = naming.name_of(owner.key.public_key().public_bytes_raw())
    owner.text = ipns.name_text(owner.name)
    owner.publish(TWO)
    assert owner.by_name().body == TWO["index.html"]
    assert owner.served.get("127.0.0.1", f"/ipns/{old}/").status == 502


def test_what_a_node_has_to_publish(served: Served, owner: Named) -> None:
    owner.publish(ONE)
    owner.publish(TWO)
    unnamed = served.site(ONE)
    held = dict(published.current(served.node.records, served.node.hosting.holdings.holds))
    assert ipns.verify(owner.name, held[owner.name]).sequence & 0xFFFF == 2
    assert published.of_site(served.node.records, unnamed.site_id) is None
    assert not published.current(served.node.records, lambda _: False)
    assert site_id(owner.address, owner.label) == owner.site_id
