"""What the chain says of a name: its state, its records. Read from hsd's answers, of which nothing is taken for
granted.

Sources: getnameinfo, getnameresource and verifymessagewithname in lib/node/rpc.js of hsd 8, `toStats` in
lib/covenants/namestate.js, lib/dns/resource.js.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from decentraspace.errors import Unavailable
from decentraspace_dns_handshake.rpc import Answers, Call, Endpoints, Refused

LABEL = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+")
_RECORDS_MOST = 250  # a resource has 512 bytes
_INVALID_NAME = -3
_SIGNATURE = 64  # bytes
STATES = frozenset({"OPENING", "LOCKED", "BIDDING", "REVEAL", "CLOSED", "REVOKED"})


@dataclass(frozen=True)
class Server:
    """A name server. `name`: with a dot at its end, "" where only an address is known; `addresses`: where the chain
    gives them."""

    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class DS:
    """A fingerprint of a zone's key (RFC 4034 section 5)."""

    key_tag: int
    algorithm: int
    digest_type: int
    digest: bytes


@dataclass(frozen=True)
class Resource:
    """A name's records on chain. `texts`: the pieces of one TXT record joined."""

    texts: tuple[str, ...] = ()
    servers: tuple[Server, ...] = ()
    ds: tuple[DS, ...] = ()

    @property
    def delegated(self) -> bool:
        """Whether what it stands for, and all names below, are asked of name servers."""
        return bool(self.servers)


@dataclass(frozen=True)
class NameState:
    """A top-level name. `state`: None for a name that nobody has opened an auction for, or that has expired;
    `stats`: what hsd reckons, as finite numbers; `signed`: whether the name's owner signed what was asked about,
    None when that was not asked."""

    name: str
    height: int
    state: str | None = None
    registered: bool = False
    transfer: bool = False
    highest: int = 0
    reserved: bool = False
    locked: bool = False
    opens: int = 0
    stats: Mapping[str, float] = field(default_factory=dict)
    resource: Resource = Resource()
    signed: bool | None = None
    possible: bool = True

    @property
    def held(self) -> bool:
        """Whether somebody owns it now."""
        return self.state == "CLOSED" and self.registered


class Chain:
    """`safe`: as in the settings."""

    def __init__(self, endpoints: Endpoints, safe: bool) -> None:
        self._endpoints, self._safe = endpoints, safe

    async def name(self, label: str, proof: str = "", text: str = "") -> NameState:
        """One request. `proof`: a signature of `text`, in base64, to be checked against the name's owner. A name that
        cannot be is `possible=False`. Unavailable when no hsd says."""
        if LABEL.fullmatch(label) is None:
            return NameState(label, 0, possible=False)
        signature = _signature(proof)
        calls: list[Call] = [
            ("getnameinfo", (label, self._safe)),
            ("getnameresource", (label, self._safe)),
        ]
        if signature:
            # By the state of the newest block: the owner's address is found nowhere else.
            calls.append(("verifymessagewithname", (label, signature, text)))
        answers = await self._endpoints.ask(*calls)
        try:
            return self._read(label, answers, bool(proof))
        except (ValueError, TypeError, AttributeError) as error:
            raise Unavailable(f"hsd says of {label} what makes no sense: {error}") from error

    @staticmethod
    def _read(label: str, answers: Answers, asked: bool) -> NameState:
        info, resource, *signed = answers.given
        if isinstance(info, Refused):
            if info.code == _INVALID_NAME:
                return NameState(label, answers.height, possible=False)
            raise Unavailable(f"hsd: {info.detail}")
        if isinstance(resource, Refused):
            raise Unavailable(f"hsd: {resource.detail}")
        state = read_info(label, answers.height, info)
        if not state.held:
            return state
        proved: bool | None = None
        if asked:
            proved = False
        if signed:
            if isinstance(signed[0], Refused):
                raise Unavailable(f"hsd could not check the signature: {signed[0].detail}")
            proved = signed[0] is True
        return replace(state, resource=read_resource(resource), signed=proved)


def read_info(label: str, height: int, info: Any) -> NameState:
    """From getnameinfo, without records. ValueError for what is none."""
    if not isinstance(info, dict) or not isinstance(info.get("start"), dict):
        raise ValueError("no information about a name")
    start, now = info["start"], info.get("info")
    opens = start.get("start")
    common: dict[str, Any] = {
        "reserved": start.get("reserved") is True,
        "locked": start.get("locked") is True,
        "opens": opens if type(opens) is int and 0 <= opens < 2**32 else 0,
    }
    if now is None:
        return NameState(label, height, **common)
    if not isinstance(now, dict) or now.get("name") != label or _text(now.get("state")) not in STATES:
        raise ValueError("it is about another name, or in no known state")
    transfer, highest = now.get("transfer"), now.get("highest")
    stats = now.get("stats")
    return NameState(
        label,
        height,
        now["state"],
        now.get("registered") is True,
        type(transfer) is int and transfer != 0,
        highest if type(highest) is int and 0 <= highest < 2**63 else 0,
        stats=_numbers(stats if isinstance(stats, dict) else {}),
        **common,
    )


def read_resource(resource: Any) -> Resource:
    """From getnameresource. Records that make no sense, or of an unknown kind, are passed over."""
    if not isinstance(resource, dict) or not isinstance(resource.get("records"), list):
        return Resource()
    texts: list[str] = []
    servers: dict[str, list[str]] = {}
    bare: list[Server] = []
    ds: list[DS] = []
    for record in resource["records"][:_RECORDS_MOST]:
        if not isinstance(record, dict):
            continue
        kind = record.get("type")
        if kind == "TXT":
            pieces = record.get("txt")
            if isinstance(pieces, list) and all(isinstance(piece, str) for piece in pieces):
                texts.append("".join(pieces)[:4096])
        elif kind in ("NS", "GLUE4", "GLUE6"):
            name = str(record.get("ns", "")).lower()
            if len(name) <= 254 and _HOST.fullmatch(name):
                addresses = servers.setdefault(name, [])
                if kind != "NS" and (address := _address(record.get("address"))) is not None:
                    addresses.append(address)
        elif kind in ("SYNTH4", "SYNTH6"):
            if (address := _address(record.get("address"))) is not None:
                bare.append(Server("", (address,)))
        elif kind == "DS" and (found := _ds(record)) is not None:
            ds.append(found)
    named = [Server(name, tuple(addresses)) for name, addresses in servers.items()]
    return Resource(tuple(texts), (*named, *bare), tuple(ds))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _numbers(stats: dict[Any, Any]) -> dict[str, float]:
    return {
        key: value
        for key, value in stats.items()
        if isinstance(key, str)
        and type(value) in (int, float)
        and abs(value) < 2**32
        and math.isfinite(value)
    }


def _address(text: Any) -> str | None:
    try:
        return str(ipaddress.ip_address(text)) if isinstance(text, str) else None
    except ValueError:
        return None


def _ds(record: dict[str, Any]) -> DS | None:
    tag, algorithm, kind = (record.get(name) for name in ("keyTag", "algorithm", "digestType"))
    digest = record.get("digest")
    if type(tag) is not int or type(algorithm) is not int or type(kind) is not int:
        return None
    if not isinstance(digest, str):
        return None
    try:
        return DS(tag, algorithm, kind, bytes.fromhex(digest))
    except ValueError:
        return None


def _signature(proof: str) -> str:
    """The signature as hsd takes it; "" for what can be none, which hsd is not asked about."""
    try:
        data = base64.b64decode(proof, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return base64.b64encode(data).decode() if len(data) == _SIGNATURE else ""
