"""What an operator asks for: integer credits per unit of a service, and how much of it is given away.

storage   byte-hours; priced per GiB-month (730 hours)
egress    bytes of bodies sent to visitors; per GiB
requests  answered by the gateway; per million
builds    seconds; per minute
names     and all others: by the piece, or charged in credits by whoever sells them
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from decentraspace.config import BillingConfig, LimitsConfig
from decentraspace.identity.ethereum import keccak256

STORAGE, EGRESS, REQUESTS, BUILDS, NAMES = "storage", "egress", "requests", "builds", "names"
SERVED = (EGRESS, REQUESTS)
"""What visitors cause: without credit for it a site is paused."""
HOURS_A_MONTH = 730
UNITS: Mapping[str, int] = MappingProxyType(
    {STORAGE: HOURS_A_MONTH * 2**30, EGRESS: 2**30, REQUESTS: 1_000_000, BUILDS: 60, NAMES: 1}
)
"""Of how much a price is: byte-hours, bytes, requests, seconds, pieces."""


def unit(service: str) -> int:
    return UNITS.get(service, 1)


@dataclass(frozen=True)
class PriceList:
    """Credits per unit by service; a service that is not listed costs nothing but what is asked explicitly."""

    credits: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_config(cls, billing: BillingConfig) -> PriceList:
        return cls(
            {
                STORAGE: billing.storage_price,
                EGRESS: billing.egress_price,
                REQUESTS: billing.requests_price,
                BUILDS: billing.builds_price,
            }
        )

    def of(self, service: str) -> int:
        return self.credits.get(service, 0)

    @property
    def hash(self) -> bytes:
        return price_list_hash(self.credits)


def price_list_hash(prices: Mapping[str, int]) -> bytes:
    """keccak256 of the prices as JSON, its keys in order, without spaces: what OperatorRegistry has, and what
    anybody gets from the prices in the node's announcement."""
    return keccak256(json.dumps(dict(prices), sort_keys=True, separators=(",", ":")).encode())


@dataclass(frozen=True)
class Allowance:
    """What an owner of a tier has free in a calendar month (UTC), by service, in its quantities."""

    quantities: Mapping[str, int]

    @classmethod
    def of_tier(cls, tier: str, limits: LimitsConfig) -> Allowance:
        paid = tier == "paid"
        return cls(
            {
                # A whole month of it, also of one of 31 days.
                STORAGE: (limits.paid_free_storage if paid else limits.free_storage) * 31 * 24,
                EGRESS: limits.paid_free_egress if paid else limits.free_egress,
                REQUESTS: limits.paid_free_requests if paid else limits.free_requests,
            }
        )
