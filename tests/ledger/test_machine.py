"""Any history of use, chain, settlement, restart and restored answers ends in books that balance, and that say the
same as the chain."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from decentraspace.ledger import facts
from decentraspace.ledger.allocations import of_owner
from decentraspace.ledger.meters import Held
from decentraspace.ledger.mirror import raw
from decentraspace.ledger.rollup import address
from decentraspace.ledger.settlement import Batch
from tests.ledger.world import GIB, OPERATOR, World, owner_of, site_of

OWNERS = [owner_of(1), owner_of(2)]


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.world = World(self.folder, exposure=7_000_000, site_monthly_cap=20_000_000)
        self.real = time.time
        time.time = lambda: float(self.world.now.wall)  # type: ignore[assignment]
        self.offered: list[Batch] = []
        self.ever: dict[tuple[bytes, int], bytes] = {}
        self.numbers = iter(range(1000))

    def teardown(self) -> None:
        time.time = self.real
        self.world.ledger.close()
        shutil.rmtree(self.folder)

    @rule(owner=st.sampled_from(OWNERS), cap=st.integers(0, 9_000_000), rate=st.integers(0, 3))
    def allocate(self, owner: bytes, cap: int, rate: int) -> None:
        self.world.vault.allocate(owner, cap, rate=rate, days=400, number=next(self.numbers))

    @rule(
        owner=st.sampled_from(OWNERS),
        site=st.integers(1, 3),
        size=st.integers(0, 5 * GIB),
        n=st.integers(0, 9**9),
    )
    def use(self, owner: bytes, site: int, size: int, n: int) -> None:
        self.world.use(site_of(site * 10 + owner[-1]), owner, size=size, requests=n)

    @rule(owner=st.sampled_from(OWNERS), key=st.integers(0, 5), credits=st.integers(0, 2_000_000))
    def deduct(self, owner: bytes, key: int, credits: int) -> None:
        cover = self.world.ledger.can(owner, "names", 1, credits=credits)
        name = f"{key}:{owner.hex()}:{credits}"
        if cover.ok:
            self.world.ledger.deduct(name, owner, "names", 1, credits=credits)

    @rule(sites=st.dictionaries(st.integers(1, 3), st.integers(0, 50 * GIB), max_size=3))
    def hold(self, sites: dict[int, int]) -> None:
        held = {site_of(n * 10 + 1): Held(OWNERS[0], size) for n, size in sites.items()}
        self.world.tick(5, held)

    @rule(seconds=st.integers(0, 4000))
    def wait(self, seconds: int) -> None:
        self.world.tick(seconds)

    @rule()
    def hour(self) -> None:
        self.world.hour()

    @rule()
    def restart(self) -> None:
        self.world.reopen()

    @rule()
    def follow(self) -> None:
        self.world.follow()

    @rule()
    def offer(self) -> None:
        batch = self.world.ledger.next_batch(self.world.now.wall)
        if batch is None:
            return
        self.offered.append(batch)
        for charge in batch.charges:
            known = self.ever.setdefault((charge.allocation, charge.cumulative), charge.usage_root)
            assert known == charge.usage_root, "two usage roots for one total"

    @precondition(lambda self: self.offered)
    @rule(data=st.data(), status=st.sampled_from(["pending", "final", "refused", "later"]))
    def answer(self, data: Any, status: str) -> None:
        """The plugin says the truth; which may be that it sent the batch, and that before now."""
        batch = data.draw(st.sampled_from(self.offered))
        if status == "final":
            self.world.vault.settle(batch)
            vault = self.world.vault
            answers = [
                {
                    **answer,
                    "status": "final" if vault.paid[answer["allocation"]] >= answer["credits"] else "refused",
                }
                for answer in self.world.answers(batch, status, "0x01")
            ]
        else:
            answers = self.world.answers(batch, status)
        self.world.ledger.answered(batch.root, answers, self.world.now.wall)

    @precondition(lambda self: self.offered)
    @rule(data=st.data())
    def sent_and_forgotten(self, data: Any) -> None:
        """The transaction was mined, and nobody was there to say so."""
        self.world.vault.settle(data.draw(st.sampled_from(self.offered)))

    @invariant()
    def books_balance(self) -> None:
        assert self.world.ledger.check() == []

    @invariant()
    def nobody_pays_more_than_granted(self) -> None:
        db = self.world.ledger._db
        for owner in OWNERS:
            owed = 0
            for one in of_owner(db, owner, raw(OPERATOR)):
                assert one.charged <= one.cap
                name = "0x" + one.id.hex()
                assert self.world.balance(f"settled:{name}") == one.settled + one.stream_settled
                receivable = self.world.balance(f"receivable:{name}")
                assert receivable == max(0, one.billed - one.settled - one.lost) >= 0
                owed += one.charged - one.settled - one.lost - receivable
            assert self.world.balance(f"owner:{address(owner)}") == owed >= 0

    @invariant()
    def what_the_chain_has_paid_is_known_once_it_was_heard(self) -> None:
        db = self.world.ledger._db
        if facts.get(db, "next_block") == self.world.vault.block + 1:
            for owner in OWNERS:
                for one in of_owner(db, owner, raw(OPERATOR)):
                    assert one.settled == self.world.vault.paid["0x" + one.id.hex()]


Machine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestMachine = Machine.TestCase
