"""Which blocks a node gives to IPFS peers: those that its gateway would serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from decentraspace.app import Node
from decentraspace.config import load
from decentraspace.content import cid as cids
from decentraspace.content.denylist import EXACT
from decentraspace.moderation import targets


def node(folder: Path, **settings: Any) -> Node:
    return Node(load(environ={}, overrides={"node": {"data_dir": str(folder)}, **settings}))


@pytest.mark.parametrize("open_relay", [False, True])
def test_what_is_published_and_not_blocked_is_given(tmp_path: Path, open_relay: bool) -> None:
    with node(tmp_path, gateway={"open_relay": open_relay}) as ours:
        published, uploaded = (cids.make(cids.RAW, data) for data in (b"published", b"uploaded"))
        ours.blocks.put_many([(published, b"published"), (uploaded, b"uploaded")])
        ours.blocks.pin(published, "site:test")
        ours.blocks.pin(uploaded, "upload:1")
        assert ours._serves(published)
        assert ours._serves(uploaded) == open_relay
        assert not ours._serves(cids.make(cids.RAW, b"absent"))
        target = targets.parse("cid", cids.to_text(published))
        ours.hosting.moderation.rules.set_own([(target.digest, EXACT, 451, "by a court")])
        assert not ours._serves(published)


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    with node(tmp_path, network={"bitswap": False}) as ours:
        assert ours.bitswap is None
