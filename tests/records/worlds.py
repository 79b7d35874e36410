"""Generated sets of valid records, and what must follow from them whatever the order in which they come.

Two wallets, four session keys (both wallets delegate to the same ones), each under delegations of four
moments; two sites of each wallet, two channels; previous versions that are known, unknown, of another chain
or of another owner; revocations of one site and of all, of each other's signers; links of two names.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_account import Account
from eth_account.messages import encode_defunct
from hypothesis import strategies as st

from decentraspace.config import RecordsConfig
from decentraspace.content import cid as cids
from decentraspace.identity.delegation import Delegation, build_message
from decentraspace.identity.keys import NodeKey
from decentraspace.records import codec
from decentraspace.records.domains import Link, kept, link_of, resolve
from decentraspace.records.ownership import Ownership, epochs
from decentraspace.records.schema import DomainLink, Receipt, Revocation, SiteManifest, site_id
from decentraspace.records.state import Revoked, SiteState, Version, resolve_site
from decentraspace.records.store import RecordStore
from decentraspace.records.verdict import verify
from tests.records.factory import (
    RULES,
    address_of,
    make_announcement,
    make_domain,
    make_receipt,
    make_revocation,
    make_site,
    take,
)

T0 = 1_700_000_000
NOW = T0 + 1000
MOMENTS = 4
WALLETS = [Account.from_key(bytes([n]) * 32) for n in (1, 2)]
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(1, 5)]
NODES = [NodeKey(Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32)) for n in range(11, 14)]
LABELS, CHANNELS = ("one", "two"), ("production", "preview")


def _delegation(wallet: Any, key: Ed25519PrivateKey, issued: int) -> Delegation:
    message = build_message(
        address_of(wallet),
        key.public_key().public_bytes_raw(),
        RULES,
        issued_at=issued,
        expires_at=T0 + 86400,
        nonce="0123456789",
    )
    return Delegation(message, bytes(wallet.sign_message(encode_defunct(text=message)).signature))


SESSIONS = [
    [[(key, _delegation(wallet, key, T0 + moment)) for moment in range(MOMENTS)] for key in KEYS]
    for wallet in WALLETS
]

STEPS = st.lists(st.lists(st.integers(0, 63), min_size=8, max_size=8), min_size=1, max_size=24)
"""Hypothesis draws numbers, `build` makes records of them: so every failure shrinks to few small ones."""


def drawn(seed: int, count: int) -> list[list[int]]:
    """Steps for a world of `count` records."""
    draw = random.Random(seed)
    return [[draw.randrange(64) for _ in range(8)] for _ in range(count)]


@dataclass(frozen=True)
class Heads:
    """What a store must say."""

    states: dict[tuple[str, str], SiteState]  # by site id, channel
    statements: frozenset[bytes]  # CIDs of those that are the newest of their node
    links: dict[tuple[str, bytes], list[Link]]  # by name and wallet, those that are kept
    revocations: dict[bytes, list[Revoked]]  # by wallet


def build(steps: list[list[int]]) -> list[bytes]:
    """Envelopes, parents before children."""
    envelopes: list[bytes] = []
    versions: list[tuple[bytes, int]] = []  # cid, seq
    chains: dict[tuple[int, int, bool], list[tuple[bytes, int]]] = defaultdict(list)
    for number, (kind, who, key, moment, label, channel, parent, odd) in enumerate(steps):
        wallet, node = WALLETS[who % 2], NODES[who % 3]
        session = SESSIONS[who % 2][key % 4][moment % MOMENTS]
        owner = address_of(wallet)
        if kind % 16 == 11:
            record = make_domain(
                wallet,
                session,
                name=("a.example", "b.example")[channel % 2],
                seq=1 + parent % 4,
                label=LABELS[label % 2],
                created=T0 + 100,
            )
        elif kind % 16 < 11:
            chain = chains[(who % 2, label % 2, channel % 8 == 0)]
            earlier = versions if odd % 16 == 15 else chain
            prev, seq = (None, 1)
            if parent % 8 and earlier:
                # Mostly one of the last, so that chains get long.
                prev, above = earlier[-1 - min(parent // 16, len(earlier) - 1)]
                seq = above + 1 if odd % 8 else 2 + odd // 16
            elif parent % 16 == 8:
                prev, seq = cids.make(cids.DAG_CBOR, bytes([parent])), 2 + odd % 4
            record = make_site(
                wallet,
                session,
                label=LABELS[label % 2],
                channel=CHANNELS[channel % 8 == 0],
                seq=seq,
                prev=prev,
                root=cids.make(cids.RAW, str(number).encode()),
                created=T0 + 100,
            )
            versions.append((codec.record_cid(record), seq))
            chain.append(versions[-1])
        elif kind % 16 < 14:
            site = [None, site_id(owner, LABELS[0]), site_id(owner, LABELS[1])][label % 3]
            record = make_revocation(
                wallet,
                session,
                KEYS[odd % 4],
                site=site,
                after=parent % 5 if site else 0,
                created=T0 + 100,
            )
        elif kind % 2:
            record = make_announcement(node, seq=1 + moment % 3, name=str(parent % 4), created=T0 + 100)
        else:
            root = cids.make(cids.RAW, str(parent % 2).encode())
            record = make_receipt(
                node,
                root=root,
                channel=("production", "pr-1")[odd % 2],
                seq=1 + label % 4,
                held=bool(parent % 3),
                created=T0 + moment % 3,
            )
        envelopes.append(take(record, node, NOW))
    return envelopes


def expected(envelopes: list[bytes]) -> Heads:
    """By the rules of state.py, from the records alone."""
    chains: dict[tuple[str, str], dict[bytes, Version]] = defaultdict(dict)
    revocations: dict[bytes, list[Revoked]] = defaultdict(list)
    newest: dict[tuple[str, bytes, bytes], tuple[int, bytes]] = {}
    links: dict[tuple[str, bytes], list[Link]] = defaultdict(list)
    for envelope in envelopes:
        record = verify(codec.decode_envelope(envelope).record, RULES)
        body = record.body
        if isinstance(body, SiteManifest):
            version = Version(record.cid, body.seq, body.prev, record.key, record.issued_at, record.owner)
            chains[(body.site_id, body.channel)][record.cid] = version
        elif isinstance(body, Revocation):
            revocations[body.owner].append(
                Revoked(body.key, record.key, record.issued_at, body.site, body.after)
            )
        elif isinstance(body, DomainLink):
            links[body.name, body.owner].append(link_of(record.cid, record.key, record.issued_at, body))
        else:
            about, rank = (b"", (body.seq,))
            if isinstance(body, Receipt):
                about = f"{body.site}/{body.channel}".encode()
                rank = (body.created, body.seq, not body.held)
            where, candidate = (record.kind, record.key, about), (tuple(-part for part in rank), record.cid)
            newest[where] = min(candidate, newest.get(where, candidate))
    return Heads(
        {
            (site, channel): resolve_site(list(known.values()), revocations, site)
            for (site, channel), known in chains.items()
        },
        frozenset(cid for _, cid in newest.values()),
        {where: kept(found) for where, found in links.items()},
        revocations,
    )


def check(store: RecordStore, envelopes: list[bytes]) -> None:
    """The store says what follows from these records, and holds them and no others."""
    right = expected(envelopes)
    for (site, channel), state in right.states.items():
        head = store.head(site, channel)
        assert (head.cid if head else None) == state.head
        history = store.history(site, channel)
        assert {version.cid for version in history if version.refused is None} == state.valid
        assert {version.cid: version.refused for version in history if version.refused} == state.refused
    for site in {site for site, _ in right.states}:
        pairs = [
            pair
            for (other, _), state in right.states.items()
            if other == site
            for pair in state.equivocations
        ]
        assert store.equivocations(site) == sorted(pairs)
    heads = {(where, state.head) for where, state in right.states.items() if state.head}
    assert {((head.site_id, head.channel), head.cid) for head in store.all_heads()} == heads
    held = set(right.statements)
    for (name, wallet), links in right.links.items():
        owned = {link.site: Ownership(epochs(wallet, ())) for link in links if link.site}
        assert store.linked(name, wallet) == resolve(links, right.revocations[wallet], owned)
        held |= {link.cid for link in links}
    for envelope in envelopes:
        record = verify(codec.decode_envelope(envelope).record, RULES)
        if isinstance(record.body, SiteManifest | Revocation):
            held.add(record.cid)
    assert store.ids() == sorted(held)
    assert sum(store.counts().values()) == len(held)


def open_store(path: Path, **config: Any) -> RecordStore:
    """With quotas that no world of a test uses up, unless told otherwise."""
    return RecordStore(
        path, RULES, RecordsConfig(**{"sponsor_records": 10**9, "sponsor_bytes": 2**40, **config})
    )
