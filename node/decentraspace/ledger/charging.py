"""What an hour of use costs its owner, and who bears it: pure functions, in whole credits.

Rounding. The value of a use is what all use of its service at its site is worth by now, rounded down, less
what was counted before: `carry` keeps what is left over, so it does not matter into how many parts a use is cut,
nor when the price changed.

Who bears it, in this order: the allowance of the owner's tier; for storage, the stream of an allocation; an
allocation, or several, as far as their caps, the site's monthly cap and the owner's exposure reach; else the
operator, who has waived it. Nothing is charged that the owner did not grant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from decentraspace.ledger.prices import SERVED, STORAGE, PriceList, unit

CREDITS_MOST = 2**53
"""Of one use: nine thousand million USD. Sums of a thousand such still fit SQLite's integers."""


class Carry(NamedTuple):
    """What is left over below one credit: quantity × price, less than one unit. `seconds`: byte-seconds below
    one byte-hour, of storage."""

    paid: int = 0
    free: int = 0
    seconds: int = 0


class Use(NamedTuple):
    """`quantity` is priced by the list; `fixed` credits were asked for explicitly. `site` may be ""."""

    site: str
    service: str
    quantity: int
    fixed: int = 0
    carry: Carry = Carry()


class Leaf(NamedTuple):
    """One service at one site in one hour, or what one of several allocations pays of it. `free`: how much of
    `quantity` was in the allowance; `given`: what that was worth; `credits`: metered under `allocation`;
    `streamed`: paid by its stream; `waived`: nobody's."""

    site: str
    service: str
    quantity: int
    free: int
    given: int
    credits: int
    streamed: int
    waived: int
    allocation: int | None


class Fund(NamedTuple):
    """What an allocation still has: `number` names it; `room` for metered charges, `stream` for storage."""

    number: int
    room: int
    stream: int = 0


@dataclass(frozen=True)
class Standing:
    """What an owner has left here. `allowance`: quantity by service; `funds`: live allocations, those that end
    first first; `exposure`: credits that may still be owed before a settlement; `caps`: credits by site that this
    month may still cost (a site that is missing has no cap)."""

    allowance: Mapping[str, int] = field(default_factory=dict)
    funds: tuple[Fund, ...] = ()
    exposure: int = CREDITS_MOST
    caps: Mapping[str, int] = field(default_factory=dict)

    def room(self, site: str = "") -> int:
        """Credits that one charge at `site` may have now."""
        most = max((fund.room for fund in self.funds), default=0)
        return max(0, min(most, self.exposure, self.caps.get(site, CREDITS_MOST)))


@dataclass(frozen=True)
class Charged:
    """What became of an owner's uses, and how the owner stands after them. `carries`: by (site, service)."""

    leaves: tuple[Leaf, ...]
    carries: Mapping[tuple[str, str], Carry]
    after: Standing


def value(quantity: int, price: int, per: int, remainder: int) -> tuple[int, int]:
    """(credits, new remainder) of more use: all that is whole, and the rest kept."""
    return divmod(remainder + quantity * price, per)


def charge(uses: Iterable[Use], standing: Standing, prices: PriceList) -> Charged:
    """Uses of one owner in one hour, in their order."""
    allowance, caps = dict(standing.allowance), dict(standing.caps)
    funds, exposure = list(standing.funds), standing.exposure
    leaves: list[Leaf] = []
    carries: dict[tuple[str, str], Carry] = {}
    for use in uses:
        per, price = unit(use.service), prices.of(use.service)
        free = min(use.quantity, allowance.get(use.service, 0))
        if free:
            allowance[use.service] -= free
        worth, paid_rest = value(use.quantity - free, price, per, use.carry.paid)
        given, free_rest = value(free, price, per, use.carry.free)
        carries[use.site, use.service] = Carry(paid_rest, free_rest, use.carry.seconds)
        worth, given = min(worth + use.fixed, CREDITS_MOST), min(given, CREDITS_MOST)
        parts = []
        if worth and funds:
            most = max(0, min(exposure, caps.get(use.site, CREDITS_MOST)))
            parts = _bear(worth, funds, most, use.service == STORAGE)
            credits = sum(part.credits for part in parts)
            exposure -= credits
            if use.site in caps:
                caps[use.site] -= credits
        leaves += _leaves(use, worth, free, given, parts or [_NOBODY])
    return Charged(tuple(leaves), carries, Standing(allowance, tuple(funds), exposure, caps))


class _Part(NamedTuple):
    """What the allocation `number` pays of a use."""

    number: int | None
    credits: int
    streamed: int


_NOBODY = _Part(None, 0, 0)


def _bear(worth: int, funds: list[Fund], most: int, storage: bool) -> list[_Part]:
    """Who pays for a use, and takes that off `funds`. `most`: that may be metered in all.

    The first that has enough pays all of it, so that it is in one statement; where none has, those that have most
    give what they have: what was granted pays before anything is waived.
    """
    parts = []
    while worth:
        place = _choose(funds, worth, most, storage)
        number, room, stream = funds[place]
        streamed = min(worth, stream) if storage else 0
        credits = min(worth - streamed, room, most)
        if not credits and not streamed:
            break
        funds[place] = Fund(number, room - credits, stream - streamed)
        parts.append(_Part(number, credits, streamed))
        worth -= credits + streamed
        most -= credits
    return parts


def _choose(funds: Sequence[Fund], worth: int, most: int, storage: bool) -> int:
    """The first that has enough, or else the one that has most."""
    has = [min(fund.room, most) + fund.stream * storage for fund in funds]
    for place, credits in enumerate(has):
        if credits >= worth:
            return place
    return max(range(len(has)), key=has.__getitem__)


def _leaves(use: Use, worth: int, free: int, given: int, parts: Sequence[_Part]) -> Iterator[Leaf]:
    """One for each that pays. The first has what was free and what is waived; of the quantity, the others have as
    much as they pay for, rounded down."""
    waived = worth - sum(part.credits + part.streamed for part in parts)
    others = [(use.quantity - free) * (part.credits + part.streamed) // worth for part in parts[1:]]
    first, *more = parts
    yield Leaf(
        use.site, use.service, use.quantity - sum(others), free, given,
        first.credits, first.streamed, waived, first.number,
    )  # fmt: skip
    for quantity, part in zip(others, more, strict=True):
        yield Leaf(use.site, use.service, quantity, 0, 0, part.credits, part.streamed, 0, part.number)


# -- what is paused

CREDIT, CAP, EXPOSURE = "credit", "cap", "exposure"


def lacking(site: str, service: str, standing: Standing, prices: PriceList) -> str | None:
    """Why more use of `service` at `site` is not covered; None when it is."""
    if prices.of(service) == 0 or standing.allowance.get(service, 0) > 0 or standing.room(site) > 0:
        return None
    if service == STORAGE and any(fund.stream > 0 for fund in standing.funds):
        return None
    if max((fund.room for fund in standing.funds), default=0) <= 0:
        return CREDIT
    return EXPOSURE if standing.exposure <= 0 else CAP


def paused_services(site: str, standing: Standing, prices: PriceList) -> dict[str, str]:
    """Service -> why, of those that are not covered at a site."""
    found = {service: lacking(site, service, standing, prices) for service in (*SERVED, STORAGE)}
    return {service: why for service, why in found.items() if why is not None}
