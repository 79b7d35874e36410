"""Messages of one exchange with one peer: counted, each with a deadline, their parts checked before they are used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from decentraspace.errors import BadInput
from decentraspace.network import frames, reconcile
from decentraspace.network.frames import Stream
from decentraspace.network.pace import Pace
from decentraspace.network.reconcile import FINGERPRINT, ID, Summary

_NAMES_PER_MESSAGE = 8192
_MESSAGE_DEADLINE = 20.0  # seconds
_STORING_DEADLINE = 100.0  # more, where the peer first has to store what it was sent

Spend = Callable[[int, int], None]
"""Told of each message's bytes before it goes out, and of the set's records; raises when the peer has had
enough."""


class Line:
    """Messages to and from one peer, counted."""

    def __init__(self, stream: Stream, spend: Spend | None = None, pace: Pace | None = None) -> None:
        self._stream, self._spend, self._pace = stream, spend, pace or Pace()
        self._patience = 0.0
        self.records = 0  # of this side's set
        self.bytes_out = self.bytes_in = 0

    def be_patient(self) -> None:
        """With the next message only."""
        self._patience = _STORING_DEADLINE

    async def write(self, message: dict[str, Any]) -> None:
        data = frames.encode(message)
        if self._spend is not None:
            self._spend(len(data), self.records)
        with self._pace.waiting(_MESSAGE_DEADLINE):
            await frames.send(self._stream, data)
        self._pace.moved(len(data))
        self.bytes_out += len(data)

    async def write_names(self, kind: str, names: Sequence[bytes]) -> None:
        for start in range(0, len(names), _NAMES_PER_MESSAGE):
            await self.write({kind: b"".join(names[start : start + _NAMES_PER_MESSAGE])})

    async def read(self) -> dict[str, Any]:
        # What this side sent before, the peer may still have to store.
        patience, self._patience = self._patience, 0.0
        with self._pace.waiting(_MESSAGE_DEADLINE, patience):
            message, size = await frames.receive(self._stream)
        self._pace.moved(size)
        self.bytes_in += size
        return message

    async def until_done(self) -> AsyncIterator[dict[str, Any]]:
        while (message := await self.read()) != {"done": True}:
            yield message


def summary_in(message: dict[str, Any]) -> Summary:
    root, count = message.get("root"), message.get("count")
    if (
        set(message) != {"root", "count"}
        or type(root) is not bytes
        or len(root) != FINGERPRINT
        or type(count) is not int
        or not 0 <= count < reconcile.COUNT_MOST
    ):
        raise BadInput("A peer did not say what its set is")
    return Summary(count, root)


def list_in(message: dict[str, Any], name: str) -> list[Any]:
    value = message.get(name)
    if set(message) != {"split", "names"} or not isinstance(value, list):
        raise BadInput("A peer sent a message that does not belong here")
    return value


def names_in(value: Any, *, after: bytes) -> list[bytes]:
    """Ascending names, the first beyond `after`."""
    if type(value) is not bytes or not 0 < len(value) <= ID * _NAMES_PER_MESSAGE or len(value) % ID:
        raise BadInput("A peer sent too many record names, or none where they belong")
    names = [value[at : at + ID] for at in range(0, len(value), ID)]
    last = after
    for name in names:
        if name <= last:
            raise BadInput("A peer sent record names out of order")
        last = name
    return names
