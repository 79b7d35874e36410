"""Card payments through Paystack: the payer pays on Paystack's page, and the node credits what Paystack confirms.

[plugin.billing_paystack]
key_file = "/etc/decentraspace/paystack.key"   # without it the plugin does nothing
email = "cards+{owner}@your.domain"
currency = "NGN"
rate = [160000, 1000000]                       # kobo for so many credits

Every setting is in the plugin's README.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from decentraspace import hookimpl
from decentraspace.errors import ConfigError
from decentraspace.public import NodeAPI

if TYPE_CHECKING:
    from decentraspace_billing_paystack.desk import Desk
    from decentraspace_billing_paystack.settings import Settings

METHOD = "paystack"


@hookimpl
async def node_started(node: NodeAPI) -> None:
    desk = await _desk(node)
    if desk is not None:
        node.start_soon(desk.run)


@hookimpl
def payment_methods(node: NodeAPI) -> list[dict[str, Any]] | None:
    from decentraspace_billing_paystack.amounts import fixed_in_credits

    settings = _settings(node)
    if not settings.key_file:
        return None
    days = settings.hold // 86_400
    return [
        {
            "id": METHOD,
            "title": f"Card by Paystack (reversible for {days} days)",
            "currency": settings.currency,
            "fee_credits": fixed_in_credits(settings.fee_fixed, settings.rate),
            "detail": f"{settings.least} to {settings.most} credits a payment; {settings.rate[0]} subunits of "
            f"{settings.currency} for {settings.rate[1]} credits, and {settings.fee_bps} basis points",
        }
    ]


@hookimpl
async def payment_recharge(
    method: str, owner: str, credits: int, key: str, node: NodeAPI
) -> dict[str, Any] | None:
    desk = await _desk(node) if method == METHOD else None
    return None if desk is None else await desk.recharge(owner, credits, key)


@hookimpl
async def payment_webhook(
    method: str, headers: dict[str, str], body: bytes, source: str, node: NodeAPI
) -> dict[str, Any] | None:
    desk = await _desk(node) if method == METHOD else None
    return None if desk is None else await desk.webhook(headers, body, source)


@hookimpl
async def payment_events(after: int, node: NodeAPI) -> dict[str, Any] | None:
    desk = await _desk(node)
    return None if desk is None else desk.events(after)


async def _desk(node: NodeAPI) -> Desk | None:
    """This node's, made once; None without `key_file`. ConfigError for wrong settings."""
    lock: trio.Lock = node.state.setdefault("lock", trio.Lock())
    async with lock:
        if "desk" not in node.state:
            settings = _settings(node)
            node.state["desk"] = (
                await trio.to_thread.run_sync(_open, node, settings) if settings.key_file else None
            )
        desk: Desk | None = node.state["desk"]
        return desk


def _settings(node: NodeAPI) -> Settings:
    from decentraspace_billing_paystack.settings import read

    return read(node.config)


def _open(node: NodeAPI, settings: Settings) -> Desk:
    # Only now: httpx takes 0.2 s to import, and its certificates as long to read.
    from decentraspace_billing_paystack.client import Paystack
    from decentraspace_billing_paystack.desk import Desk
    from decentraspace_billing_paystack.payments import Payments
    from decentraspace_billing_paystack.secret import SecretKey

    key = SecretKey.read(settings.key_file)
    if key.domain == "test" and not settings.test:
        raise ConfigError(
            "plugin.billing_paystack.key_file holds a key of Paystack's test mode, where no money moves",
            hint="Use the live key; or set plugin.billing_paystack.test = true, on a test network only.",
        )
    return Desk(
        node,
        settings,
        key,
        Paystack(settings.api, key, settings.timeout),
        Payments(node.data_dir / "payments.json"),
    )
