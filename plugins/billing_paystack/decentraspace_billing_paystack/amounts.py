"""Credits into what a card is charged, and money that went back into credits: whole numbers throughout."""

from __future__ import annotations

BASIS = 10_000  # basis points in one


def price(credits: int, rate: tuple[int, int], fee_bps: int, fee_fixed: int) -> int:
    """Subunits (kobo, cents, …) to charge for `credits`; `rate`: subunits for so many credits.

    Rounded once, up: the payer pays less than one subunit more than the exact amount, and never less.
    """
    subunits, of_credits = rate
    return -(-credits * subunits * (BASIS + fee_bps) // (of_credits * BASIS)) + fee_fixed


def fixed_in_credits(fee_fixed: int, rate: tuple[int, int]) -> int:
    """The fixed fee in credits, rounded up."""
    subunits, of_credits = rate
    return -(-fee_fixed * of_credits // subunits)


def called_back(credits: int, amount: int, back: int) -> int:
    """How many of the `credits` that cost `amount` are to be returned when `back` of it went back; up, at most all."""
    return min(credits, -(-credits * max(0, back) // amount))
