"""What a month comes to, reckoned a second time, plainly: no ledger, no plugin, no contract.

Prices are integers per amount; what a use is worth is the value of all use of its kind by then, rounded down, less
what was counted before. Times in Unix seconds, amounts in credits.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction

HOUR, DAY = 3600, 86400
KEPT_FREE = 2 * DAY  # of its stream ahead, in an allocation's cap
WINDOW = 3 * DAY  # for settlements, after an allocation has ended
GIB = 2**30
PRICES = {"egress": 1_000_000, "requests": 1_000_000, "storage": 730_000}
WORTH = {
    "egress": Fraction(PRICES["egress"], GIB),  # a byte
    "requests": Fraction(PRICES["requests"], 10**6),  # each
    "storage": Fraction(PRICES["storage"], 730 * GIB),  # a byte for an hour
}


@dataclass
class Grant:
    """An allocation. `place`: how many there were before it on chain."""

    owner: str
    operator: int
    number: int
    cap: int
    rate: int
    start: int
    expires: int
    place: int
    metered: int = 0
    used: int = 0  # of its stream, by storage

    def earned(self, at: int) -> int:
        return self.rate * max(0, min(at, self.expires) - self.start)

    def streamed(self, at: int) -> int:
        """By its stream, when that is settled at `at`."""
        return min(self.earned(at), self.cap - self.metered)

    def room(self, at: int) -> int:
        return max(0, self.cap - self.metered - self.earned(at + KEPT_FREE))

    def stream(self, at: int) -> int:
        return max(0, self.streamed(at) - self.used)


@dataclass
class Books:
    """One operator's. `total`: of each (site, service), in bytes, requests or byte-seconds."""

    total: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    counted: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    spent: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    waived: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    income: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class Reference:
    def __init__(self, operators: int, cap: int) -> None:
        """`cap`: of a site in a month."""
        self.cap = cap
        self.books = [Books() for _ in range(operators)]
        self.grants: dict[tuple[str, int, int], Grant] = {}
        self.deposited: dict[str, int] = defaultdict(int)
        self.withdrawing: dict[str, int] = defaultdict(int)
        self.withdrawn: dict[str, int] = defaultdict(int)
        self.promised: dict[str, int] = defaultdict(int)

    def free(self, owner: str) -> int:
        """What is certainly available: nothing that was ever granted counts, though it may have come back."""
        return self.deposited[owner] - self.withdrawn[owner] - self.withdrawing[owner] - self.promised[owner]

    def hour(self, operator: int, hour: int, at: int, owner: str, uses: dict[tuple[str, str], int]) -> None:
        """What an owner used in an hour that is closed at `at`: (site, service) -> bytes, requests, byte-seconds."""
        books = self.books[operator]
        month = f"{datetime.fromtimestamp(hour * HOUR, UTC):%Y-%m}"
        live = sorted(
            (
                g
                for g in self.grants.values()
                if (g.owner, g.operator) == (owner, operator) and g.start <= at and hour * HOUR < g.expires
            ),
            key=lambda g: (g.expires, g.place),
        )
        # What streams have earned and room there is stands for the whole hour.
        room, stream = [g.room(at) for g in live], [g.stream(at) for g in live]
        for (site, service), quantity in sorted(uses.items()):
            if not quantity:
                continue
            books.total[site, service] += quantity
            total = books.total[site, service] // (HOUR if service == "storage" else 1)
            worth = int(total * WORTH[service]) - books.counted[site, service]
            books.counted[site, service] += worth
            books.income[service] += worth
            storage = service == "storage"
            while worth and live:
                most = max(0, self.cap - books.spent[site, month])
                has = [min(r, most) + (s if storage else 0) for r, s in zip(room, stream, strict=True)]
                place = next((n for n, credits in enumerate(has) if credits >= worth), None)
                if place is None:
                    place = has.index(max(has))
                if not has[place]:
                    break
                streamed = min(worth, stream[place]) if storage else 0
                credits = min(worth - streamed, room[place], most)
                live[place].used += streamed
                live[place].metered += credits
                room[place] -= credits
                stream[place] -= streamed
                books.spent[site, month] += credits
                worth -= streamed + credits
            books.waived[owner] += worth

    def balance(self, owner: str, at: int) -> int:
        """On chain, when all charges and streams are settled at `at`."""
        paid = sum(g.metered + g.streamed(at) for g in self.grants.values() if g.owner == owner)
        return self.deposited[owner] - self.withdrawn[owner] - paid

    def reserved(self, owner: str, at: int) -> int:
        """And all that is over is released."""
        return self.withdrawing[owner] + sum(
            g.cap - g.metered - g.streamed(at)
            for g in self.grants.values()
            if g.owner == owner and at <= g.expires + WINDOW
        )

    def earnings(self, operator: int, at: int) -> int:
        return sum(g.metered + g.streamed(at) for g in self.grants.values() if g.operator == operator)
