"""Seeds of the laboratory, and the laboratory itself: that it does what it says, and finds what is wrong.

`DECENTRASPACE_LAB_SEEDS=20 pytest tests/network/test_lab.py` runs twenty; `python -m tests.network.lab --seed N`
one of them.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from decentraspace.placement import ranked
from tests.network.lab import check, plan
from tests.network.lab.nodes import Failed, LabNode, until
from tests.network.lab.owner import Owner, Site
from tests.network.lab.scenario import REPLICAS, Laboratory
from tests.network.lab.tunnels import Namespace, NoNamespaces, Switch, Weather
from tests.support import ROOT, require_real

SEEDS = int(os.environ.get("DECENTRASPACE_LAB_SEEDS", "2"))
DEADLINE = 280.0  # seconds for one; it takes about 30 on an idle machine


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_after_any_failure_all_is_as_it_should_be(seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.network.lab", "--seed", str(seed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_it_finds_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that copy nothing, one that has lost a site's blocks, one that is gone, one that is apart."""
    monkeypatch.setenv("DECENTRASPACE_HOME", str(tmp_path))
    with Laboratory(tmp_path / "lab", 4, 1) as lab:
        first, *others = lab.nodes
        for node in lab.nodes:
            node.configure([first.address], hosting={"replicate": node in (first, others[0])})
            node.start()
        for node in lab.nodes:
            node.wait()
        owner = Owner(random.Random(1))
        site = owner.new_site()
        assert owner.deploy(site, first) == "acknowledged"
        check.all_is_well(lab.nodes, owner.sites, 2, 30.0)
        until(lambda: others[0].key.peer_id in checked(first, site.id), 30.0, "nobody checks anybody")
        with pytest.raises(Failed, match="have signed that they hold"):
            check.all_is_well(lab.nodes, owner.sites, REPLICAS, 3.0)
        version = site.newest
        assert version is not None
        version.files["index.html"] += b"!"
        with pytest.raises(Failed, match="does not serve"):
            check.all_is_well(lab.nodes, owner.sites, 2, 1.0)
        cid, data = next(iter(version.blocks.items()))
        version.blocks[cid] = data + b"!"
        with pytest.raises(Failed, match="gives other bytes"):
            check.all_is_well(lab.nodes, owner.sites, 2, 1.0)
        site.versions.pop()
        site.versions.append(owner._next(site))
        site.versions[-1].acknowledged = True
        with pytest.raises(Failed, match="shows version"):
            check.all_is_well(lab.nodes, owner.sites, 2, 1.0)
        process = first._process
        assert process is not None
        process.kill()
        process.wait()
        with pytest.raises(Failed, match="ended by itself"):
            check.all_is_well(lab.nodes, owner.sites, 2, 1.0)
        first._process = None


@pytest.mark.slow
def test_as_many_hold_a_site_as_its_record_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And who took it. Nodes that came late, when others had stepped in for them, have their share in the end."""
    monkeypatch.setenv("DECENTRASPACE_HOME", str(tmp_path))
    with Laboratory(tmp_path / "lab", 6, 1, replicas=2, loopback=True) as lab:
        for node in lab.nodes:
            node.configure([lab.nodes[0].address], limits={"free_replicas": 4}, hosting={"replicas_max": 4})
            node.start()
        for node in lab.nodes:
            node.wait()
        owner = Owner(random.Random(1))
        sites = [owner.new_site(replicas) for replicas in (1, 4, None)]
        for site, node in zip(sites, lab.nodes, strict=False):
            assert owner.deploy(site, node) == "acknowledged"
        assert owner.deploy(owner.new_site(5), lab.nodes[0]) == "payment-required"
        check.all_is_well(lab.nodes, owner.sites, 2, 60.0)
        keys = {node.key.public: node.key.peer_id for node in lab.nodes}
        for site, taker, copies in zip(sites, lab.nodes, (1, 4, 2), strict=False):
            expected = {keys[key] for key in ranked(site.id, keys)[:copies]} | {taker.key.peer_id}

            def as_expected(site: Site = site, expected: set[str] = expected, copies: int = copies) -> bool:
                found = [node.site_status(site.id) for node in lab.nodes]
                return all(
                    status is not None
                    and {holder["peer_id"] for holder in status["holders"]} == expected
                    and status["copies"]
                    == {"asked": site.replicas, "wanted": copies, "present": len(expected)}
                    for status in found
                )

            until(as_expected, 60.0, f"not {expected} hold {site.label}: {lab.nodes[0].site_status(site.id)}")


@pytest.mark.slow
def test_copies_move_on_where_no_node_reaches_a_gateway_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All have private addresses, which none of them fetches from; they are connected over libp2p."""
    monkeypatch.setenv("DECENTRASPACE_HOME", str(tmp_path))
    with Laboratory(tmp_path / "lab", 4, 1, replicas=2, loopback=True) as lab:
        owner = Owner(random.Random(1))
        addresses = [node.address for node in lab.nodes]
        for node in lab.nodes:
            node.configure(addresses, network={"allow_private": False}, node={"admins": [owner.address]})
            node.start()
        for node in lab.nodes:
            node.wait()
        first, *others = lab.nodes
        site = owner.new_site()
        assert owner.deploy(site, first) == "acknowledged"
        check.all_is_well(lab.nodes, owner.sites, 2, 60.0)
        until(lambda: bool(checked(first, site.id)), 60.0, "nobody is checked")
        until(lambda: bool(owner.leave(first)["safe"]), 60.0, "the first cannot leave")

        def lets_go() -> bool:
            status = first.site_status(site.id)
            return status is not None and not status["held_here"]

        until(lets_go, 60.0, "the first lets nothing go")
        first.stop()
        check.all_is_well(others, owner.sites, 2, 10.0)


def checked(node: LabNode, site: str) -> set[str]:
    """Peers that have given `node` a random block of a site from their own disk."""
    status = node.site_status(site)
    return {h["peer_id"] for h in status["holders"] if h.get("checked")} if status else set()


def test_a_plan_is_a_function_of_its_seed() -> None:
    plans = [plan.make(seed, 6, 20.0, network=True, replicas=3) for seed in (*range(40), *range(40))]
    assert plans[:40] == plans[40:]
    assert len({p.faults for p in plans}) == 40
    kinds = {fault.kind for p in plans for fault in p.faults}
    assert kinds == {"kill", "pause", "partition", "one-way", "weather"}
    assert {p.lost is None for p in plans} == {True, False}
    assert {p.disk_only for p in plans} == {True, False}
    without = plan.make(1, 5, 60.0, network=False, replicas=3)
    assert {fault.kind for fault in without.faults} == {"kill", "pause"}


@pytest.fixture
def switched() -> Iterator[tuple[list[Namespace], Switch]]:
    namespaces = []
    try:
        namespaces = [Namespace(0), Namespace(1)]
    except NoNamespaces as error:
        require_real(f"a network namespace ({error})", None)
    switch = Switch(namespaces, 1)
    yield namespaces, switch
    switch.close()
    for namespace in namespaces:
        namespace.close()


def test_weather_between_namespaces(switched: tuple[list[Namespace], Switch]) -> None:
    """Datagrams: as many as are sent, none, some of them, late ones."""
    (here, there), switch = switched
    with here.entered():
        receiver = socket.socket(type=socket.SOCK_DGRAM)
        receiver.bind((here.address, 0))
    with there.entered():
        sender = socket.socket(type=socket.SOCK_DGRAM)
    with receiver, sender:
        receiver.settimeout(DEADLINE)
        to = receiver.getsockname()

        def arrived(count: int) -> int:
            """Of so many sent in this weather. One more in calm weather says when all have had their turn."""
            handled = switch.passed + switch.dropped + count
            for _ in range(count):
                sender.sendto(b"x", to)
            until(lambda: switch.passed + switch.dropped == handled, 30.0, "the switch stands still")
            switch.calm()
            sender.sendto(b"last", to)
            found = 0
            while receiver.recv(10) != b"last":
                found += 1
            return found

        assert arrived(50) == 50
        switch.set(1, 0, Weather(cut=True))
        assert arrived(50) == 0
        switch.set(0, 1, Weather(cut=True))  # the other direction
        assert arrived(50) == 50
        switch.set(1, 0, Weather(loss=0.5))
        assert 0 < arrived(100) < 100
        switch.set(1, 0, Weather(delay=0.3))
        began = time.monotonic()
        sender.sendto(b"late", to)
        assert receiver.recv(10) == b"late"
        assert time.monotonic() - began >= 0.3
