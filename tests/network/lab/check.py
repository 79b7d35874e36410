"""What must hold when everything has healed, looked at from outside until it does."""

from __future__ import annotations

import time

from decentraspace.content import cid as cids
from tests.network.lab.nodes import Failed, LabNode
from tests.network.lab.owner import Site, Version


def all_is_well(nodes: list[LabNode], sites: list[Site], replicas: int, deadline: float) -> float:
    """Seconds until all of it held at once. Failed, with what did not, after `deadline` seconds.

    Every node has the same records; of each site the last acknowledged version, or one after it of which
    nobody knows whether it was taken, is the head on all of them; `replicas` of them hold all its blocks and
    have signed so; each node serves each of its files.
    """
    began = time.monotonic()
    while True:
        for node in nodes:
            node.check_alive()
        wrong = _wrong(nodes, sites, replicas)
        seconds = time.monotonic() - began
        if not wrong:
            return seconds
        if seconds > deadline:
            raise Failed(f"after {seconds:.0f} s: {wrong}")
        time.sleep(0.2)


def _wrong(nodes: list[LabNode], sites: list[Site], replicas: int) -> str:
    """The first thing that does not hold, "" when all does."""
    sets = {node: node.record_ids() for node in nodes}
    for node in nodes[1:]:
        if apart := sets[node] ^ sets[nodes[0]]:
            return f"{node} and {nodes[0]} differ in {len(apart)} of {len(sets[node])} records"
    for site in sites:
        if site.versions and (wrong := _site_wrong(nodes, site, site.replicas or replicas)):
            return f"{site.label} ({site.id}): {wrong}"
    return ""


def _site_wrong(nodes: list[LabNode], site: Site, replicas: int) -> str:
    newest, unclear = site.newest, site.uncertain
    may_be = {v.manifest: v for v in (newest, unclear) if v is not None}
    heads: dict[str, list[LabNode]] = {}
    claims: dict[LabNode, frozenset[str]] = {}
    for node in nodes:
        status = node.site_status(site.id)
        if status is None and newest is None:
            heads.setdefault("", []).append(node)
            continue
        if status is None:
            return f"{node} does not know it"
        if status["manifest"] not in may_be:
            return f"{node} shows version {status['seq']}, not {[v.seq for v in may_be.values()]}"
        heads.setdefault(status["manifest"], []).append(node)
        claims[node] = frozenset(holder["peer_id"] for holder in status["holders"])
    if len(heads) > 1:
        return f"nodes show different versions: {heads}"
    if "" in heads:
        return ""
    version = may_be[next(iter(heads))]
    if len(set(claims.values())) > 1:
        return "nodes know different holders"
    signed = claims[nodes[0]]
    holders = [node for node in nodes if node.key.peer_id in signed]
    if len(holders) < min(replicas, len(nodes)):
        return f"only {holders} have signed that they hold version {version.seq}"
    for node in holders:
        if wrong := _not_held(node, version):
            return wrong
    for node in nodes:
        if wrong := _not_served(node, site, version):
            return wrong
    return ""


def _not_held(node: LabNode, version: Version) -> str:
    """Block by block, with nobody asked on the way."""
    for cid, data in version.blocks.items():
        headers = {"Cache-Control": "only-if-cached", "Accept": "application/vnd.ipld.raw"}
        answer = node.get(f"/ipfs/{cids.to_text(cid)}?format=raw", headers=headers)
        if answer is None or answer.status != 200:
            return f"{node} has signed and lacks {cids.to_text(cid)} ({answer and answer.status})"
        if answer.body != data:
            return f"{node} gives other bytes for {cids.to_text(cid)}"
    return ""


def _not_served(node: LabNode, site: Site, version: Version) -> str:
    host = f"{site.label}--{site.id}.localhost:{node.ports[1]}"
    for name, data in version.files.items():
        answer = node.get("/" + name, headers={"Host": host})
        if answer is None or answer.status != 200 or answer.body != data:
            return f"{node} does not serve {name} of version {version.seq} ({answer and answer.status})"
    return ""
