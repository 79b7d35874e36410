"""Traditional domains: who may link one, which records to enter, entering them, and buying one.

[plugin.dns_registrar]
resolvers = ["1.1.1.1", "8.8.8.8", "9.9.9.9"]   # asked for proofs; more than half must agree

Every setting is in the plugin's README.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from decentraspace import hookimpl
from decentraspace.public import NodeAPI

if TYPE_CHECKING:
    from decentraspace_dns_registrar.settings import Settings
    from decentraspace_dns_registrar.verifying import Verifier


@hookimpl
async def node_started(node: NodeAPI) -> None:
    _settings(node)  # wrong ones are said at the start


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
    from decentraspace_dns_registrar import domains, updating

    try:
        detail = await updating.update(domains.checked(name), records, credentials, _settings(node))
    except updating.Refused as error:
        return {"status": "refused", "detail": in_words(error)}
    return {"status": "done", "detail": detail}


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
