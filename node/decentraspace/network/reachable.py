"""Whether others can connect to this node: it asks peers to try (AutoNAT v1), and tries for those that ask.

    Reachability.run       while a libp2p host runs: ask a few peers, now and then
    Reachability.verdict   what most of them said

A node tries only addresses whose IP address is the one that it sees its asker at, as the specification
demands, or anybody could have it knock at doors of third parties; and it tries by a handshake, not over the
connection there is. Peers may lie; one alone decides nothing.
Source: https://github.com/libp2p/specs/blob/master/autonat/autonat-v1.md.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import structlog
import trio
from libp2p.custom_types import TProtocol
from libp2p.host.autonat.pb.autonat_pb2 import Message
from libp2p.peer.id import ID
from libp2p.utils.varint import encode_varint_prefixed, read_varint_prefixed_bytes_limited
from multiaddr import Multiaddr

from decentraspace.network.dht.wire import address_of
from decentraspace.network.guests import protocols
from decentraspace.network.swarm import connections, remote_address

log = structlog.get_logger(__name__)

PROTOCOL = TProtocol("/libp2p/autonat/1.0.0")
_MESSAGE_MOST = 8192  # bytes
_SOON, _EVERY = 2.0, 900.0  # seconds between rounds of questions, doubled each time
_ASKED_MOST, _ANSWERS_MOST = 4, 8  # peers asked in a round; answers that count, the newest
_QUESTION = 30.0  # seconds
_TRY, _TRIES_MOST = 5.0, 4  # seconds for one address; addresses tried for one question
_AT_ONCE, _OF_PEER = 4, 30.0  # tried at once for others; seconds between two questions of one peer
_REMEMBERED = 1000  # peers that have asked

Verdict = Literal["yes", "no", "unknown"]


class Reachability:
    """`addresses()` gives this node's, each ending in /p2p/PEERID. `allow_private`: try those of local
    networks for others, too."""

    def __init__(self, peer_id: str, addresses: Callable[[], list[str]], allow_private: bool) -> None:
        self._own, self._addresses, self._allow_private = ID.from_string(peer_id), addresses, allow_private
        self._answers: OrderedDict[ID, bool] = OrderedDict()
        self._asked_by: OrderedDict[ID, float] = OrderedDict()
        self._trying = 0
        self._host: Any = None

    # -- asking

    def answers(self) -> tuple[int, int]:
        """How many of the peers asked last (could, could not) connect to this node."""
        found = list(self._answers.values())
        return sum(found), len(found) - sum(found)

    @property
    def verdict(self) -> Verdict:
        """`yes` or `no` where two peers more say so than the other; with one peer in all, what it says."""
        yes, no = self.answers()
        least = 2 if len(self._answers) > 1 else 1
        return "yes" if yes - no >= least else "no" if no - yes >= least else "unknown"

    def register(self, host: Any) -> None:
        """Before the host listens, so that nobody is told that it does not speak this."""
        host.set_stream_handler(PROTOCOL, self._on_stream)
        self._host = host

    async def run(self, host: Any) -> None:
        """Until cancelled."""
        before: Verdict = "unknown"
        delay = _SOON
        while True:
            speaking = [p for p in host.get_connected_peers() if PROTOCOL in protocols(host, p)]
            # Who has not said anything yet comes first.
            chosen = sorted(random.sample(speaking, len(speaking)), key=lambda p: p in self._answers)
            async with trio.open_nursery() as nursery:
                for peer in chosen[:_ASKED_MOST]:
                    nursery.start_soon(self._ask, host, peer)
            if self.verdict != before:
                before = self.verdict
                say = log.warning if before == "no" else log.info
                say("reachable" if before == "yes" else "not_reachable", verdict=before, asked=self.answers())
            await trio.sleep(delay)
            delay = min(delay * 2, _EVERY)

    async def _ask(self, host: Any, peer: ID) -> None:
        answer = await self._answer(host, peer)
        if answer is not None:
            self._answers[peer] = answer
            self._answers.move_to_end(peer)
            if len(self._answers) > _ANSWERS_MOST:
                self._answers.popitem(last=False)

    async def _answer(self, host: Any, peer: ID) -> bool | None:
        """None where it does not say."""
        message = Message(type=Message.DIAL)
        message.dial.peer.id = self._own.to_bytes()
        bare = [a.partition("/p2p/")[0] for a in self._addresses()]
        message.dial.peer.addrs.extend(Multiaddr(a).to_bytes() for a in bare[:_TRIES_MOST])
        try:
            with trio.fail_after(_QUESTION):
                stream = await host.new_stream(peer, [PROTOCOL])
                try:
                    await stream.write(encode_varint_prefixed(message.SerializeToString()))
                    answer = Message()
                    answer.ParseFromString(await read_varint_prefixed_bytes_limited(stream, _MESSAGE_MOST))
                finally:
                    await _end(stream)
        except Exception as error:  # noqa: BLE001 - whatever libp2p and protobuf raise: it does not say
            log.debug("reachability_not_said", peer=str(peer), reason=repr(error))
            return None
        if answer.type != Message.DIAL_RESPONSE:
            return None
        status = answer.dialResponse.status
        return True if status == Message.OK else False if status == Message.E_DIAL_ERROR else None

    # -- trying for others

    async def _on_stream(self, stream: Any) -> None:
        try:
            with trio.fail_after(_QUESTION):
                message = Message()
                message.ParseFromString(await read_varint_prefixed_bytes_limited(stream, _MESSAGE_MOST))
                answer = Message(type=Message.DIAL_RESPONSE)
                peer: ID = stream.muxed_conn.peer_id
                status: Any = await self._status(peer, message)
                answer.dialResponse.status = status
                await stream.write(encode_varint_prefixed(answer.SerializeToString()))
        except Exception as error:  # noqa: BLE001 - it has gone, or sends what is no question
            log.debug("reachability_not_tried", reason=repr(error))
        finally:
            await _end(stream)

    async def _status(self, peer: ID, message: Any) -> int:
        asked = message.dial.peer
        if message.type != Message.DIAL or bytes(asked.id) != peer.to_bytes():
            return int(Message.E_BAD_REQUEST)
        now = trio.current_time()
        if self._trying >= _AT_ONCE or now - self._asked_by.get(peer, -_OF_PEER) < _OF_PEER:
            return int(Message.E_DIAL_REFUSED)
        self._asked_by[peer] = now
        self._asked_by.move_to_end(peer)
        if len(self._asked_by) > _REMEMBERED:
            self._asked_by.popitem(last=False)
        seen = {
            remote_address(c).rpartition(":")[0].strip("[]")
            for c in connections(self._host)
            if c.muxed_conn.peer_id == peer
        }
        named = [_address(bytes(a), peer, self._allow_private) for a in asked.addrs[: 4 * _TRIES_MOST]]
        tried = [a for a in dict.fromkeys(named) if a and a.split("/")[2] in seen][:_TRIES_MOST]
        if not tried:
            return int(Message.E_DIAL_REFUSED)
        self._trying += 1
        try:
            for address in tried:
                if await self._reaches(peer, address):
                    return int(Message.OK)
            return int(Message.E_DIAL_ERROR)
        finally:
            self._trying -= 1

    async def _reaches(self, peer: ID, address: str) -> bool:
        """Whether that peer, and no other, answers there: by the handshake of a connection of its own."""
        swarm, maddr = self._host.get_network(), Multiaddr(address)
        raw: Any = None
        try:
            with trio.fail_after(_TRY):
                raw = await swarm.transport_manager.transport_for_dialing(maddr).dial(maddr)
                await swarm.upgrader.upgrade_security(raw, True, peer)
        except Exception as error:  # noqa: BLE001 - whatever libp2p raises: it does not
            log.debug("peer_not_reachable", peer=str(peer), address=address, reason=repr(error))
            return False
        finally:
            if raw is not None:
                await _close(raw)
        return True


def _address(raw: bytes, peer: ID, allow_private: bool) -> str:
    """As text, "" for what is not tried."""
    found = address_of(raw, peer.to_bytes(), "wan")
    return found or (address_of(raw, peer.to_bytes(), "lan") if allow_private else "")


async def _end(stream: Any) -> None:
    with trio.CancelScope(deadline=trio.current_time() + 1, shield=True):
        try:
            await stream.close()
        except Exception as error:  # noqa: BLE001 - it is gone either way
            log.debug("stream_close_failed", reason=repr(error))


async def _close(raw: Any) -> None:
    with trio.CancelScope(deadline=trio.current_time() + 1, shield=True):
        try:
            await raw.close()
        except Exception as error:  # noqa: BLE001 - it is gone either way
            log.debug("close_failed", reason=repr(error))
