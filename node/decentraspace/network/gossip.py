"""Gossip of records on one topic: gossipsub of py-libp2p, with bounds on what a peer can make it do.

A record carries its own signatures, so messages carry none, and a message's id is the hash of its data:
equal records are one message, whoever sends them. From there on the library's checks by sender and
sequence number (`equivocation`, spam scores) would let anyone forge a number and so silence another; they
are replaced by an allowance for each peer. Own records go to all peers at once, those of others to the
mesh; what is lost comes by set exchange (sync.py).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import trio
from google.protobuf.message import DecodeError
from libp2p.exceptions import ParseError
from libp2p.io.exceptions import IOException, MessageTooLarge
from libp2p.network.connection.exceptions import RawConnError
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID, PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.mcache import CacheEntry, MessageCache
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.utils import maybe_consume_signed_record
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from decentraspace.records.codec import MAX_ENVELOPE

log = structlog.get_logger(__name__)

_MAX_RPC = 1 << 20  # bytes; other nodes split what is larger
_SEEN_MOST = 20_000  # message ids
_QUEUE_MOST = 256  # messages waiting for one peer
_IDS_MOST = 200  # message ids in one request
_RATE, _BURST = 50.0, 1000.0  # messages a second of one peer, and at once
_FAULT = 50.0  # a message that no honest node would pass on counts as so many
_PEERS_MOST = 1000  # whose allowance is remembered

Validate = Callable[[ID, bytes], Awaitable[bool]]
Abuse = Callable[[ID, str], None]


def message_id(message: Any) -> bytes:
    return hashlib.sha256(message.data).digest()


class Allowance:
    """How much each peer may still send. `spend` says whether it may."""

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self._clock = clock
        self._left: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def spend(self, peer: bytes, cost: float = 1.0) -> bool:
        now = self._clock()
        left, since = self._left.pop(peer, (_BURST, now))
        left = min(_BURST, left + (now - since) * _RATE)
        enough = left >= cost
        self._left[peer] = (left - cost if enough else left, now)
        if len(self._left) > _PEERS_MOST:
            self._left.popitem(last=False)
        return enough


class _Seen:
    """Ids of messages that were handled. In place of the library's, which keeps a thread."""

    def __init__(self) -> None:
        self._ids: OrderedDict[bytes, None] = OrderedDict()

    def has(self, key: bytes) -> bool:
        return key in self._ids

    def add(self, key: bytes) -> bool:
        new = key not in self._ids
        self._ids[key] = None
        if len(self._ids) > _SEEN_MOST:
            self._ids.popitem(last=False)
        return new


class _RecentMessages(MessageCache):  # type: ignore[misc]
    """Keyed by the same ids as everything else."""

    def put(self, msg: Any) -> None:
        key = message_id(msg)
        if key not in self.msgs:
            self.msgs[key] = msg
            self.history[0].append(CacheEntry(key, msg.topicIDs))


class RecordRouter(GossipSub):  # type: ignore[misc]
    """Sends own messages to all peers of the topic, others' to the mesh."""

    def __init__(self) -> None:
        super().__init__(
            protocols=[PROTOCOL_ID_V11, PROTOCOL_ID],
            degree=6,
            degree_low=4,
            degree_high=12,
            heartbeat_interval=1,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,
            # Several nodes behind one address are usual in a small network.
            eclipse_protection_enabled=False,
        )
        self.mcache = _RecentMessages(3, 5)

    async def publish(self, msg_forwarder: ID, pubsub_msg: Any) -> None:
        self.mcache.put(pubsub_msg)
        pubsub: Any = self.pubsub
        rpc = rpc_pb2.RPC(publish=[pubsub_msg])
        for topic in pubsub_msg.topicIDs:
            subscribed = pubsub.peer_topics.get(topic, set())
            chosen = subscribed if msg_forwarder == pubsub.my_id else self.mesh.get(topic) or subscribed
            for peer in set(chosen) - {msg_forwarder}:
                self.send_rpc(peer, rpc)


class RecordPubsub(Pubsub):  # type: ignore[misc]
    """One topic. `validate(peer, data)` says whether a message may be passed on; `abuse` that a peer has
    broken the rules."""

    seen_messages: Any

    def __init__(self, host: Any, topic: str, validate: Validate, abuse: Abuse) -> None:
        super().__init__(
            host,
            RecordRouter(),
            strict_signing=False,
            msg_id_constructor=message_id,
            max_inbound_rpc_size=_MAX_RPC,
            allowed_topics={topic},
            max_subscriptions_per_rpc=100,
        )
        self.seen_messages.stop()
        self.seen_messages = _Seen()
        self._topic, self._validate, self._abuse = topic, validate, abuse
        self._allowance = Allowance()
        self.dropped = 0
        self._under_way: set[bytes] = set()  # messages that are being validated

    def fault(self, peer: ID) -> None:
        """The peer sent something that no honest node would."""
        if not self._allowance.spend(peer.to_bytes(), _FAULT):
            self._abuse(peer, "it sends records that are not valid")

    async def _handle_new_peer(self, peer_id: ID) -> None:
        await super()._handle_new_peer(peer_id)
        queue = self.peer_queues.get(peer_id)
        if queue is not None:
            queue._queue.max_size = _QUEUE_MOST

    async def stream_handler(self, stream: Any) -> None:
        """Read messages until the stream ends or the peer breaks the rules."""
        peer = stream.muxed_conn.peer_id
        try:
            while True:
                data = await read_varint_prefixed_bytes_limited(stream, _MAX_RPC)
                rpc = rpc_pb2.RPC()
                rpc.ParseFromString(data)
                await self._handle(rpc, peer)
        except (MessageTooLarge, DecodeError, ParseError) as error:
            self._abuse(peer, f"its gossip is malformed: {str(error)[:200]}")
        except (StreamError, IOException, RawConnError):
            log.debug("gossip_stream_ended", peer=str(peer))
        except Exception:
            # Whatever it sent to make the library fail: it costs the peer its connection, not the node.
            log.exception("gossip_failed", peer=str(peer))
            self._abuse(peer, "its gossip made the library fail")
        finally:
            with trio.CancelScope(deadline=trio.current_time() + 1, shield=True):
                await stream.reset()

    async def _handle(self, rpc: Any, peer: ID) -> None:
        if not maybe_consume_signed_record(rpc, self.host, peer):
            raise ParseError("a signed address record that is not the peer's own")
        for message in rpc.publish:
            # One after the other: a peer that floods waits for itself.
            if list(message.topicIDs) == [self._topic]:
                await self.push_msg(peer, message)
        if len(rpc.subscriptions) > self.max_subscriptions_per_rpc:
            raise ParseError("too many subscriptions")
        for subscription in rpc.subscriptions:
            self.handle_subscription(peer, subscription)
        if rpc.HasField("control"):
            await self.router.handle_rpc(rpc_pb2.RPC(control=self._bounded(rpc.control)), peer)

    def _bounded(self, control: Any) -> Any:
        """Of a control message what concerns the topic, each id once, and no peers to connect to."""
        result = rpc_pb2.ControlMessage()
        offered = {i for ihave in control.ihave if ihave.topicID == self._topic for i in ihave.messageIDs}
        if offered:
            result.ihave.add(topicID=self._topic, messageIDs=sorted(offered)[:_IDS_MOST])
        wanted = {i for iwant in control.iwant for i in iwant.messageIDs}
        if wanted:
            result.iwant.add(messageIDs=sorted(wanted)[:_IDS_MOST])
        if any(graft.topicID == self._topic for graft in control.graft):
            result.graft.add(topicID=self._topic)
        for prune in control.prune:
            if prune.topicID == self._topic:
                result.prune.add(topicID=self._topic, backoff=min(prune.backoff, 3600))
                break
        return result

    async def push_msg(self, msg_forwarder: ID, msg: Any) -> None:
        """Validate a message that was not seen before, then pass it on."""
        key = message_id(msg)
        if self.seen_messages.has(key) or key in self._under_way:
            return
        if msg_forwarder != self.my_id:
            if not self._allowance.spend(msg_forwarder.to_bytes()):
                self.dropped += 1
                return  # set exchange brings what matters
            if len(msg.data) > MAX_ENVELOPE:
                self.fault(msg_forwarder)
                return
            self._under_way.add(key)
            try:
                if not await self._validate(msg_forwarder, bytes(msg.data)):
                    return
            finally:
                self._under_way.discard(key)
        self.seen_messages.add(key)
        # Nobody needs what a sender wrote beside the record.
        await self.router.publish(msg_forwarder, rpc_pb2.Message(data=msg.data, topicIDs=[self._topic]))
