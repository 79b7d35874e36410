"""What TXT records say to this network, and what an owner signs. Pure.

dnslink=/ipfs/…  /ipns/…       where the name leads (https://dnslink.dev/)
decentraspace-site=SITE        the same, for a site of this network: its id, or its host label
decentraspace-owner=0x…        whose wallet may link the name
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_LINK = re.compile(r"/(ip[fn]s)/([^/\s\x00-\x1f\x7f]{1,253})((?:/[^\s\x00-\x1f\x7f]*)?)")
_SITE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_OWNER = re.compile(r"0x[0-9a-fA-F]{40}")
_PATH_MOST = 1000  # characters


class Target(NamedTuple):
    """`kind`: "site", "ipfs" or "ipns"; as the hook `name_resolve` gives them."""

    kind: str
    value: str
    path: str = ""


def target(texts: Iterable[str]) -> Target | None:
    """Where records lead: a site first, as it is always the newest version; of several the first in the order of the
    alphabet, so that everybody who asks sees the same."""
    texts = list(texts)
    sites = [value for value in _values(texts, "decentraspace-site=") if _SITE.fullmatch(value)]
    if sites:
        return Target("site", min(sites))
    links = (_LINK.fullmatch(value) for value in sorted(_values(texts, "dnslink=")))
    for link in links:
        if link is not None and len(link[3]) <= _PATH_MOST:
            return Target(link[1], link[2], link[3])
    return None


def owners(texts: Iterable[str]) -> set[str]:
    """Wallets that records name, in lower case."""
    return {value.lower() for value in _values(texts, "decentraspace-owner=") if _OWNER.fullmatch(value)}


def statement(name: str, owner: str) -> str:
    """What the name's owner address signs for a wallet. Always the same for both, so that it can be shown again."""
    return f"DecentraSpace: the wallet {owner.lower()} may say what the Handshake name {name} shows"


def _values(texts: Iterable[str], key: str) -> list[str]:
    return [text[len(key) :].strip() for text in texts if text.startswith(key)]
