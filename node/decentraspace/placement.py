"""Which nodes hold which sites: rendezvous hashing, the same answer on every node that knows the same nodes.

Each node has a score for each site; the R nodes of highest score hold it. When a node comes or goes only its
own share moves, and nobody has to agree on anything but who is there.
Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

_DOMAIN = b"decentraspace-placement-v1\0"


def score(site: str, node: bytes) -> bytes:
    """32 bytes, to be compared as they are. `site`: site id; `node`: a node's key (32 bytes).

    Every node counts alike, whatever capacity it claims: a claim costs nothing.
    """
    return hashlib.sha256(_DOMAIN + node + site.encode()).digest()


def ranked(site: str, nodes: Iterable[bytes]) -> list[bytes]:
    """The nodes' keys, highest score first."""
    return sorted(set(nodes), key=lambda node: score(site, node), reverse=True)


def rank(site: str, nodes: Iterable[bytes], node: bytes) -> int:
    """How many of `nodes` come before `node`, without sorting them."""
    own = score(site, node)
    return sum(score(site, other) > own for other in set(nodes) if other != node)
