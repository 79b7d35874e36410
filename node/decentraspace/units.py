"""Amounts as people read them."""

from __future__ import annotations


def size_of(size: int) -> str:
    """Bytes with a decimal unit: 999 B, 1.5 MB."""
    amount, units = float(size), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while amount >= 1000 and unit != "TB":
        amount, unit = amount / 1000, next(units)
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
