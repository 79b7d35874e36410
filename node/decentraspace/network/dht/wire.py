"""Messages of the Kademlia DHT, and what is taken from an answer: bounded, and only what can be dialled.

Peers are named by strangers, so an address is taken only if it is one of the network that is meant: of the
open internet for the public DHT, of a local network for that of a local network. Names are not taken: what
they mean may change between the check and the connection.
Source: https://github.com/libp2p/specs/blob/master/kad-dht/README.md.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from google.protobuf.message import DecodeError
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput
from decentraspace.network.source import is_public

Mode = Literal["wan", "lan"]
PROTOCOLS: dict[Mode, str] = {"wan": "/ipfs/kad/1.0.0", "lan": "/ipfs/lan/kad/1.0.0"}
MAX_ANSWER = 1024 * 1024  # bytes; twenty peers with a few addresses each are 20 KB
K = 20  # peers of an answer, and peers that are told of a provider

_PROVIDERS_MOST = 100  # of an answer
_ADDRESSES_MOST, _ADDRESS_MOST = 8, 64  # of a peer; bytes of one
_ID_MOST = 64  # bytes of a peer id
_IP = {4: 4, 41: 16}  # code of the protocol: bytes of an address
_TCP = b"\x06"
_P2P = b"\xa5\x03"


class Known(NamedTuple):
    """A peer, and where somebody says it is: IP addresses and TCP ports, /ip4/…/tcp/…"""

    id: ID
    addresses: tuple[str, ...]


class Answer(NamedTuple):
    """`closer`: peers nearer to the key. `providers`: peers said to have it, also without an address; `ids`
    of all of them."""

    closer: list[Known]
    providers: list[Known]
    ids: set[bytes]


def position(key: bytes) -> int:
    """Where a key, or a peer id, is in the DHT: distances are XORs of positions."""
    return int.from_bytes(hashlib.sha256(key).digest(), "big")


def find_node(key: bytes) -> bytes:
    return _framed(Message(type=Message.FIND_NODE, key=key))


def get_providers(key: bytes) -> bytes:
    return _framed(Message(type=Message.GET_PROVIDERS, key=key))


def add_provider(key: bytes, own: bytes, addresses: Iterable[str]) -> bytes:
    """`own`: the peer id that speaks, for which alone others take it. `addresses` without /p2p/."""
    message = Message(type=Message.ADD_PROVIDER, key=key)
    message.providerPeers.add(id=own, addrs=[Multiaddr(a).to_bytes() for a in addresses])
    return _framed(message)


def name_key(name: bytes) -> bytes:
    """Of the record of an IPNS name (CIDv1, libp2p-key). Source: https://specs.ipfs.tech/ipns/ipns-record/."""
    return b"/ipns/" + cids.multihash(name)


def put_value(key: bytes, value: bytes) -> bytes:
    message = Message(type=Message.PUT_VALUE, key=key)
    message.record.key, message.record.value = key, value
    return _framed(message)


def taken(data: bytes, key: bytes, value: bytes) -> bool:
    """Whether an answer to `put_value` says that the value was stored. BadInput."""
    message = _parsed(data, Message.PUT_VALUE)
    return bool(message.key == key and message.record.value == value)


def decode(data: bytes, kind: int, mode: Mode) -> Answer:
    """An answer to a question of that `kind` (a type of Message). BadInput."""
    message = _parsed(data, kind)
    closer = [k for peer in message.closerPeers[:K] if (k := _known(peer, mode)) and k.addresses]
    providers = [k for peer in message.providerPeers[:_PROVIDERS_MOST] if (k := _known(peer, mode))]
    return Answer(closer, providers, {bytes(peer.id) for peer in message.providerPeers})


def _parsed(data: bytes, kind: int) -> Message:
    message = Message()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise BadInput("its answer is no message of the DHT") from error
    if message.type != kind:
        raise BadInput("it answers something else than it was asked")
    return message


def _known(peer: Message.Peer, mode: Mode) -> Known | None:
    """None for what is no peer id."""
    raw = bytes(peer.id)
    # An inlined Ed25519 (or secp256k1) key, or the hash of a longer one.
    if not (raw[:2] in (b"\x00\x24", b"\x00\x25") or raw[:2] == b"\x12\x20") or len(raw) != raw[1] + 2:
        return None
    found = (address_of(bytes(a), raw, mode) for a in peer.addrs[: 4 * _ADDRESSES_MOST])
    return Known(ID(raw), tuple(dict.fromkeys(a for a in found if a))[:_ADDRESSES_MOST])


def address_of(raw: bytes, peer: bytes, mode: Mode) -> str:
    """The text of a binary multiaddress, "" unless it is an IP address of that network and a TCP port."""
    length = _IP.get(raw[0], 0) if 0 < len(raw) <= _ADDRESS_MOST else 0
    if not length or raw[1 + length : 2 + length] != _TCP or len(raw) < 4 + length:
        return ""
    rest = raw[4 + length :]
    if rest not in (b"", _P2P + cids.varint(len(peer)) + peer):
        return ""  # another transport, or by way of another peer
    port = int.from_bytes(raw[2 + length : 4 + length], "big")
    ip = ipaddress.ip_address(raw[1 : 1 + length])
    if not port or ip.is_multicast or ip.is_unspecified or is_public(str(ip)) != (mode == "wan"):
        return ""
    return f"/ip{ip.version}/{ip}/tcp/{port}"


def announced(addresses: Sequence[str], mode: Mode) -> list[str]:
    """Of this node's addresses those to tell others in that network, without /p2p/; names as they are."""
    result: list[str] = []
    for address in addresses:
        bare = address.partition("/p2p/")[0]
        parts = bare.split("/")
        if len(parts) < 5:
            continue
        if parts[1].startswith("dns"):
            usable = mode == "wan"
        else:
            usable = is_public(parts[2]) == (mode == "wan")
        if usable:
            result.append(bare)
    return result


def _framed(message: Message) -> bytes:
    data = bytes(message.SerializeToString())
    return cids.varint(len(data)) + data
