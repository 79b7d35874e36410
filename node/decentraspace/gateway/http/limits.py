"""What clients may take: bytes, places and time."""

from __future__ import annotations

from typing import NamedTuple

PIECE = 4096  # bytes that are parsed at once, and so what bounds the requests that wait for their turn


class Limits(NamedTuple):
    """`head`: bytes of a request up to its empty line, of which one `PIECE` more may pass; `fields`: its header
    fields; `body`: bytes of a request's body, and as many again of what frames it.

    Seconds: `reading` from the first byte of a request to the last of its head, from there to the end of its body
    (so a body comes at `body / reading` bytes a second or faster), and between requests. `stalled`: in which a
    client that does not take all at once must take `trickle` bytes. `lingering`: for a client to see why its
    connection ends before it does. `ahead`: bytes of further requests that are taken while one is being answered.
    `full`: bytes of answers on their way from which on nothing more is made, until only `emptied` are left.
    """

    connections: int = 1024
    head: int = 64 * 1024
    fields: int = 100
    body: int = 64 * 1024
    reading: float = 15.0
    stalled: float = 60.0
    trickle: int = 4096
    lingering: float = 2.0
    ahead: int = 64 * 1024
    full: int = 256 * 1024
    emptied: int = 64 * 1024
