"""Traditional domains: who may link one, which records to enter, entering them, and buying one.

[plugin.dns_registrar]
resolvers = ["1.1.1.1", "8.8.8.8", "9.9.9.9"]   # asked for proofs; more than half must agree

Every setting is in the plugin's README.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from decentraspace import hookimpl
from decentraspace.public import NodeAPI

if TYPE_CHECKING:
    from decentraspace_dns_registrar.selling import Shop
    from decentraspace_dns_registrar.settings import Settings
    from decentraspace_dns_registrar.verifying import Verifier


@hookimpl
async def node_started(node: NodeAPI) -> None:
    shop = await _shop(node)  # wrong settings are said at the start
    if shop is not None:
        node.start_soon(shop.run)


@hookimpl
async def name_verify(name: str, owner: str, site: str, gateway: str, node: NodeAPI) -> dict[str, Any] | None:
    from decentraspace_dns_registrar import domains

    return await _verifier(node).verify(domains.checked(name), owner, gateway)


@hookimpl
def name_instructions(
    name: str, site: str, owner: str, gateway: str, node: NodeAPI
) -> list[dict[str, str]] | None:
    from decentraspace_dns_registrar import domains
    from decentraspace_dns_registrar.instructing import instructions

    return instructions(domains.checked(name), owner, gateway, _settings(node))


@hookimpl
async def name_update(
    name: str, records: list[dict[str, str]], credentials: dict[str, str], node: NodeAPI
) -> dict[str, Any] | None:
    from decentraspace.errors import in_words
    from decentraspace_dns_registrar import domains, registrars, updating

    try:
        detail = await updating.update(domains.checked(name), records, credentials, _settings(node))
    except (updating.Refused, registrars.Refused) as error:
        return {"status": "refused", "detail": in_words(error)}
    return {"status": "done", "detail": detail}


@hookimpl
async def name_quote(name: str, years: int, node: NodeAPI) -> dict[str, Any] | None:
    from decentraspace_dns_registrar import domains

    shop = await _shop(node)
    return None if shop is None else await shop.quote(domains.checked(name), years)


@hookimpl
async def name_purchase(
    name: str, years: int, owner: str, key: str, contact: dict[str, str] | None, node: NodeAPI
) -> dict[str, Any] | None:
    from decentraspace_dns_registrar import domains

    shop = await _shop(node)
    return None if shop is None else await shop.purchase(domains.checked(name), years, owner, key, contact)


async def _shop(node: NodeAPI) -> Shop | None:
    """This node's, made once; None where no domains are sold. ConfigError for wrong settings."""
    lock: trio.Lock = node.state.setdefault("lock", trio.Lock())
    async with lock:
        if "shop" not in node.state:
            settings = _settings(node)
            node.state["shop"] = (
                await trio.to_thread.run_sync(_open, node, settings) if settings.registrar else None
            )
        shop: Shop | None = node.state["shop"]
        return shop


def _open(node: NodeAPI, settings: Settings) -> Shop:
    # Only now: httpx takes 0.2 s to import, and its certificates as long to read.
    from decentraspace_dns_registrar.purchases import Purchases
    from decentraspace_dns_registrar.registrars import open_registrar
    from decentraspace_dns_registrar.selling import Shop

    registrar = open_registrar(settings)
    return Shop(node, settings, registrar, Purchases(node.data_dir / "purchases.json"))


def _verifier(node: NodeAPI) -> Verifier:
    from decentraspace_dns_registrar.verifying import Verifier

    if "verifier" not in node.state:
        node.state["verifier"] = Verifier(_settings(node))
    found: Verifier = node.state["verifier"]
    return found


def _settings(node: NodeAPI) -> Settings:
    """ConfigError for wrong ones."""
    from decentraspace_dns_registrar.settings import read

    if "settings" not in node.state:
        node.state["settings"] = read(node.config)
    found: Settings = node.state["settings"]
    return found
