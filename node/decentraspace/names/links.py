"""Names of DNS and the links that they carry: what is well formed, and what is worth asking anybody for. Pure.

Source: https://dnslink.dev/, RFC 1035 section 2.3.4, RFC 6761 (names that are nobody's to look up).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from decentraspace.errors import Unavailable

PATH_MOST = 1024  # characters of a content path
SITE = "/site/"
"""What an answer begins with that leads to a site, before its host label. No record of a name can say so."""
_NAME_MOST = 253 - len("_dnslink.")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_PLAIN = re.compile(r"(?=.{1,63}$)[a-z0-9]+(?:-[a-z0-9]+)*")
_PATH = re.compile(r"/ip[fn]s/[^/\s\x00-\x1f\x7f]+(?:/[^\s\x00-\x1f\x7f]*)?")
_PREFIX = "dnslink="
# Of one machine or one network: no name server that others ask knows them, and it need not hear of them.
_LOCAL = frozenset({"localhost", "local", "localdomain", "internal", "lan", "home", "corp", "invalid", "onion", "alt",
                    "arpa"})  # fmt: skip


class Answer(NamedTuple):
    """What a name stands for: a content path, or SITE and a host label; None where it stands for nothing. `ttl`:
    seconds that holds."""

    path: str | None
    ttl: float


class NotResolved(Unavailable):
    """Nobody could say in time what a name stands for."""

    slug, status, title = "name-not-resolved", 502, "The name could not be looked up"


def normal(name: str, least: int = 2) -> str | None:
    """A name of DNS in its one spelling; None for what no link can be asked for: addresses, names of fewer than `least`
    labels, too long ones, and those of one machine or network."""
    name = name.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > _NAME_MOST or len(labels) < least or labels[-1] in _LOCAL or labels[-1].isdigit():
        return None
    return name if all(_LABEL.fullmatch(label) for label in labels) else None


def outlined(label: str) -> str:
    """The name that such a label stands for: `my--shop-eth` for my-shop.eth."""
    return re.sub("--|-", lambda found: "-" if found[0] == "--" else ".", label)


def below(label: str, domains: Collection[str], plain: str = "") -> str | None:
    """The name of another system that a host `label`.GATEWAY stands for: `name.eth` or, in one label, `name-eth`; or a
    top-level name that is itself had. `domains`: top-level ones, of such systems; `plain`: the one of them for which
    `name` is enough."""
    name = label if "." in label or label in domains else outlined(label)
    if name.rpartition(".")[2] in domains:
        return name
    # Hosts of sites and of their previews have "--".
    return f"{label}.{plain}" if plain in domains and _PLAIN.fullmatch(label) else None


def read(texts: Iterable[str]) -> str | None:
    """The content path that the TXT records of a name give. Of several, the first in the order of the alphabet, so
    that everybody who asks sees the same one."""
    paths = (text[len(_PREFIX) :].strip() for text in texts if text.startswith(_PREFIX))
    return min((path for path in paths if len(path) <= PATH_MOST and _PATH.fullmatch(path)), default=None)
