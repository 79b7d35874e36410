"""What real records cost here: their bytes, the processor's time to check and store them, room on disk."""

from __future__ import annotations

import hashlib
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.records.factory import (
    RULES,
    address_of,
    make_announcement,
    make_receipt,
    make_session,
    make_site,
    make_wallet,
    take,
)

from bench.nodes import workspace
from decentraspace import placement
from decentraspace.config import RecordsConfig
from decentraspace.content import cid as cids
from decentraspace.identity.keys import NodeKey
from decentraspace.network.reconcile import tree_of
from decentraspace.records import codec
from decentraspace.records.schema import site_id
from decentraspace.records.store import RecordStore
from decentraspace.records.verdict import verify

_T0 = 1_700_000_000
_NODES = 4  # that hold a site; the first is its sponsor


@dataclass(frozen=True)
class Sizes:
    """Bytes of an envelope; the same in every run."""

    site: int
    receipt: int
    announcement: int


@dataclass(frozen=True)
class Costs:
    """Seconds of the processor, unless they are said to be on the clock; of one record each.

    `verify_site` with a delegation that was not seen before, `verify_again` with one that was; `add_site` and
    `add_receipt` verify, too. `*_disk`: bytes that the records' database grows by. `hash`: one node's score
    for one site. `look`: who took a site and who holds it, as shares.py asks. `name_memory`: bytes of a
    record in the tree that reconciliation compares. `read_node`: one announcement, whenever the list of
    nodes is read again.
    """

    verify_site: float
    verify_again: float
    verify_receipt: float
    add_site: float
    add_receipt: float
    add_clock: float
    site_disk: float
    receipt_disk: float
    hash: float
    look: float
    name_memory: float
    read_node: float


class Sample:
    """Real records: `wallets` owners with `labels` sites each, and the receipts of those who hold them."""

    def __init__(self, wallets: int, labels: int) -> None:
        self.nodes = [NodeKey.generate() for _ in range(_NODES)]
        self.sites: list[bytes] = []
        self.receipts: list[bytes] = []
        home, others = self.nodes[0], tuple(node.public for node in self.nodes[1:])
        for _ in range(wallets):
            wallet = make_wallet()
            session = make_session(wallet, issued_at=_T0)
            for number in range(labels):
                label = f"site-{number:04}"
                name = site_id(address_of(wallet), label)
                root = cids.make(cids.RAW, name.encode())
                about = {"root": root, "size": 2_652_000, "created": _T0 + 60}
                record = make_site(wallet, session, label=label, **about)
                self.sites.append(take(record, home, _T0 + 60))
                for node in self.nodes:
                    holders = others if node is home else ()
                    receipt = make_receipt(node, site=name, holders=holders, **about)
                    self.receipts.append(take(receipt, node, _T0 + 60))

    def sizes(self) -> Sizes:
        node = self.nodes[0]
        announcement = make_announcement(
            node, http="https://node.example", addrs=("/dns4/node.example/tcp/4001",) * 2, created=_T0
        )
        receipts = [len(receipt) for receipt in self.receipts[:_NODES]]
        return Sizes(
            len(self.sites[0]), round(sum(receipts) / len(receipts)), len(take(announcement, node, _T0))
        )


def sizes() -> Sizes:
    return Sample(1, 1).sizes()


def measure(quick: bool = False) -> Costs:
    """Takes a few seconds."""
    wallets, labels = (20, 5) if quick else (60, 10)
    sample = Sample(wallets, labels)
    records = [codec.decode_envelope(envelope).record for envelope in sample.sites]
    first = records[::labels]  # one of each wallet
    receipts = [codec.decode_envelope(envelope).record for envelope in sample.receipts]
    verify_site = _each(first, lambda record: verify(record, RULES))
    verify_again = _each(records, lambda record: verify(record, RULES))
    verify_receipt = _each(receipts, lambda record: verify(record, RULES))
    with workspace() as folder:
        path = folder / "records.sqlite"
        config = RecordsConfig(sponsor_records=10**9, sponsor_bytes=2**50)
        with _Store(path, config) as store:
            empty = path.stat().st_size
            add_again, clock = _both(sample.sites, lambda e: store.add(e, now=_T0 + 60))
        with_sites = path.stat().st_size
        with _Store(path, config) as store:
            add_receipt, _ = _both(sample.receipts, lambda e: store.add(e, now=_T0 + 60))
            heads = store.all_heads()
            look, _ = _both(heads, lambda h: (store.sponsor(h.cid), store.receipts(h.root)))
        with_receipts = path.stat().st_size
        read_node = _announcements(folder / "nodes.sqlite", config, 100 if quick else 300)
    nodes = [number.to_bytes(32, "big") for number in range(1000)]
    began = time.process_time()
    for number in range(20):
        placement.rank(f"{number:016}", nodes, nodes[0])
    per_hash = (time.process_time() - began) / 20 / len(nodes)
    return Costs(
        verify_site=verify_site,
        verify_again=verify_again,
        verify_receipt=verify_receipt,
        # Most owners publish seldom, so their delegation is read anew.
        add_site=add_again + verify_site - verify_again,
        add_receipt=add_receipt,
        add_clock=clock,
        site_disk=(with_sites - empty) / len(sample.sites),
        receipt_disk=(with_receipts - with_sites) / len(sample.receipts),
        hash=per_hash,
        look=look,
        name_memory=_tree(20_000),
        read_node=read_node,
    )


class _Store(RecordStore):
    def __init__(self, path: Path, config: RecordsConfig) -> None:
        super().__init__(path, RULES, config)

    def __enter__(self) -> _Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _tree(count: int) -> float:
    names = sorted(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(count))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tree = tree_of(names)
    _ = tree.fingerprint  # worked out, and kept, when first asked for
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return taken / count


def _announcements(path: Path, config: RecordsConfig, count: int) -> float:
    with _Store(path, config) as store:
        for _ in range(count):
            node = NodeKey.generate()
            store.add(take(make_announcement(node, created=_T0), node, _T0), now=_T0)
        began = time.process_time()
        if len(store.nodes(_T0)) != count:
            raise RuntimeError("the store lacks announcements")
        return (time.process_time() - began) / count


def _each(records: Sequence[bytes], check: Callable[[bytes], object]) -> float:
    return _both(records, check)[0]


def _both(records: Sequence[Any], take_in: Callable[[Any], object]) -> tuple[float, float]:
    """(seconds of the processor, seconds on the clock) for each."""
    began, clock = time.process_time(), time.perf_counter()
    for record in records:
        take_in(record)
    return (time.process_time() - began) / len(records), (time.perf_counter() - clock) / len(records)
