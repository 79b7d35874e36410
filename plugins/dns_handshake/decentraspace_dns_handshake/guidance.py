"""How a name of Handshake is got and kept, and where its auction stands, in words. Pure.

An auction has four parts: opening, bidding (sealed bids with a lockup), reveal, and then the winner registers the
name at the price of the second bid. Source: https://hsd-dev.org/protocol/summary.html, lib/covenants of hsd.
"""

from __future__ import annotations

from collections.abc import Callable

from decentraspace_dns_handshake.chain import NameState

_COIN = 10**6  # dollarydoos in an HNS
_BLOCK = 600  # seconds, about


def availability(name: str, state: NameState) -> tuple[bool, str]:
    """(whether somebody can get the name now by an auction, what to do in words)."""
    label = state.name
    if not state.possible:
        return False, f"{label} cannot be a name of Handshake: it is not well formed, or never given away."
    if "." in name:
        return False, _below(name, state)
    if state.state is None:
        return _unopened(label, state)
    by, stats = _within(state), state.stats
    if state.state == "OPENING":
        return True, (
            f"The auction of {label} has been opened; bids are taken {by('blocksUntilBidding', 'hoursUntilBidding')} "
            f"from now, for some days. Bid then from a Handshake wallet (`sendbid {label} BID LOCKUP`)."
        )
    if state.state == "BIDDING":
        return True, (
            f"Bids for {label} are taken for another {by('blocksUntilReveal', 'hoursUntilReveal')}. Bid from a "
            f"Handshake wallet (`sendbid {label} BID LOCKUP`; LOCKUP hides how much BID is), and reveal afterwards."
        )
    if state.state == "REVEAL":
        return False, (
            f"The auction of {label} is over for new bids. Who has bid must reveal within "
            f"{by('blocksUntilClose', 'hoursUntilClose')} (`sendreveal {label}`), or loses the lockup. The highest bid "
            f"so far is {_coins(state.highest)}."
        )
    if state.state == "LOCKED":
        return False, (
            f"{label} was claimed by the holder of the same name in DNS and is theirs to register in "
            f"{by('blocksUntilClosed', 'hoursUntilClosed')}."
        )
    if state.state == "REVOKED":
        return False, (
            f"{label} was revoked by its owner. It can be auctioned again in "
            f"{by('blocksUntilReopen', 'hoursUntilReopen')}."
        )
    if not state.registered:
        return False, (
            f"The auction of {label} is over, and its winner (highest bid {_coins(state.highest)}) has yet to register "
            f"it (`sendupdate {label} RECORDS`)."
        )
    days = stats.get("daysUntilExpire")
    end = "" if days is None else f" until it has to be renewed, in {days:.0f} days"
    moving = " It is being transferred to another owner just now." if state.transfer else ""
    return False, f"{label} has an owner{end}; only they can sell it.{moving}"


def expires(state: NameState, now: float) -> int | None:
    """About when the name ends unless it is renewed; Unix seconds."""
    blocks = state.stats.get("blocksUntilExpire")
    return None if blocks is None or blocks < 0 else int(now + blocks * _BLOCK)


def buying(name: str) -> str:
    """Why a node cannot do it."""
    return (
        f"Names of Handshake such as {name} are auctioned: bids are made, revealed and paid from the bidder's own "
        "Handshake wallet in HNS, over about two weeks. This node cannot do that with credits."
    )


def _unopened(label: str, state: NameState) -> tuple[bool, str]:
    if state.reserved or state.locked:
        return False, (
            f"{label} is kept for whoever holds the same name in DNS, who can claim it with a DNSSEC proof "
            f"(`sendclaim {label}`)."
        )
    if state.height < state.opens:
        blocks = state.opens - state.height
        return False, (
            f"An auction of {label} can be opened from block {state.opens} on, in {blocks} blocks "
            f"({_days(blocks * _BLOCK / 3600)})."
        )
    return True, (
        f"Nobody owns {label}. Open its auction from a Handshake wallet (`sendopen {label}`); bids are taken some "
        "hours later, for about five days, and revealed for about ten."
    )


def _below(name: str, state: NameState) -> str:
    if not state.held:
        return f"{name} is below {state.name}, which nobody owns now. " + availability(state.name, state)[1]
    return f"{name} is below {state.name}: names below it are given by its owner, not by auction."


def _within(state: NameState) -> Callable[[str, str], str]:
    """How long something takes, from what hsd reckons under these names."""

    def words(blocks: str, hours: str) -> str:
        number, time = state.stats.get(blocks), state.stats.get(hours)
        if number is None or time is None:
            return "some time"
        return f"{number:.0f} block{'s' if number != 1 else ''} ({_days(time)})"

    return words


def _days(hours: float) -> str:
    if hours >= 48:
        return f"about {hours / 24:.0f} days"
    if hours >= 1.5:
        return f"about {hours:.0f} hours"
    return f"about {max(1, round(hours * 60))} minutes"


def _coins(amount: int) -> str:
    whole, part = divmod(amount, _COIN)
    return f"{whole}.{part:06d}".rstrip("0").rstrip(".") + " HNS"
