"""Which versions of an owner's sites a node keeps. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from decentraspace.records.store import SiteHead


def kept(
    heads: Iterable[SiteHead], others: Iterable[SiteHead], *, most_versions: int, most_bytes: int
) -> set[bytes]:
    """Manifests (record CIDs) of the versions that stay.

    Every head stays. Then the newest of the others that count, as long as a channel has no more than
    `most_versions` and all of the owner's no more than `most_bytes`: what an owner may store is for what
    is shown, and what is left of it for going back.
    """
    result: set[bytes] = set()
    roots: set[bytes] = set()
    channels: Counter[tuple[str, str]] = Counter()
    total = 0
    for head in heads:
        result.add(head.cid)
        channels[head.site_id, head.channel] += 1
        if head.root not in roots:
            roots.add(head.root)
            total += head.size
    for version in sorted(others, key=lambda v: (-v.created, -v.seq, v.cid)):
        channel = (version.site_id, version.channel)
        if version.refused is not None or version.cid in result or channels[channel] >= most_versions:
            continue
        cost = 0 if version.root in roots else version.size
        if total + cost > most_bytes:
            continue
        result.add(version.cid)
        roots.add(version.root)
        channels[channel] += 1
        total += cost
    return result
