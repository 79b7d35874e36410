"""Roots that records name are served though this node holds no copy; others are not asked for."""

from __future__ import annotations

import time

from decentraspace.content import cid as cids
from decentraspace.identity.keys import NodeKey
from decentraspace.records.signing import sponsor
from tests.gateway.served import Served
from tests.records.factory import make_session, make_site, make_wallet

NAMED = cids.make(cids.RAW, b"a page on another node")
UNNAMED = cids.make(cids.RAW, b"content of nobody's site")


def test_a_root_is_asked_for_only_once_a_record_names_it(served: Served) -> None:
    assert served.by_cid(NAMED).status == 404
    now, wallet = int(time.time()), make_wallet()
    session = make_session(wallet, served.node.rules, issued_at=now - 60, expires_at=now + 3600)
    record = make_site(wallet, session, served.node.rules, root=NAMED, created=now)
    served.node.records.add(sponsor(record, NodeKey.generate(), now), now=now)
    # Nobody has it here; what counts is that it was looked for.
    deadline = time.monotonic() + 20
    while (status := served.by_path(NAMED, Accept="application/vnd.ipld.raw").status) == 404:
        assert time.monotonic() < deadline
    assert status == 504
    assert served.by_cid(UNNAMED).status == 404


def test_only_if_cached_is_answered_from_here_or_not_at_all(served: Served) -> None:
    owner = served.site({"index.html": b"here"})
    head = served.node.records.head(owner.site_id)
    assert head is not None
    cached = {"Cache-Control": "only-if-cached", "Accept": "application/vnd.ipld.raw"}
    assert served.by_path(head.root, **cached).status == 200
    assert served.by_path(UNNAMED, **cached).status == 412
