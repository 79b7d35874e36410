"""Sign-In with Ethereum messages: parsed strictly, written back byte for byte. Source: EIP-4361."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from decentraspace.errors import BadInput
from decentraspace.identity import uris
from decentraspace.identity.ethereum import checksum_address, parse_address

MAX_MESSAGE = 4096  # bytes

_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
_STATEMENT = r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;= ]+"
_MESSAGE = re.compile(
    rf"(?:(?P<scheme>{uris.SCHEME})://)?(?P<domain>{uris.AUTHORITY})"
    r" wants you to sign in with your Ethereum account:\n"
    r"(?P<address>0x[0-9A-Fa-f]{40})\n"
    rf"\n(?:(?P<statement>{_STATEMENT})\n)?"
    rf"\nURI: (?P<uri>{uris.URI})\n"
    r"Version: (?P<version>1)\n"
    r"Chain ID: (?P<chain_id>0|[1-9][0-9]{0,19})\n"
    r"Nonce: (?P<nonce>[A-Za-z0-9]{8,})\n"
    rf"Issued At: (?P<issued_at>{_TIME})"
    rf"(?:\nExpiration Time: (?P<expiration_time>{_TIME}))?"
    rf"(?:\nNot Before: (?P<not_before>{_TIME}))?"
    rf"(?:\nRequest ID: (?P<request_id>{uris.PCHAR}*))?"
    rf"(?P<resources>\nResources:(?:\n- {uris.URI})*)?"
)
_MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]+)?"
    r"(?:Z|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)


@dataclass(frozen=True)
class SiweMessage:
    """The fields of EIP-4361, as written (times are RFC 3339 text; see `seconds`)."""

    domain: str
    address: str
    uri: str
    chain_id: int
    nonce: str
    issued_at: str
    scheme: str | None = None
    statement: str | None = None
    expiration_time: str | None = None
    not_before: str | None = None
    request_id: str | None = None
    resources: tuple[str, ...] | None = None

    def format(self) -> str:
        """The exact text a wallet shows and signs."""
        lines = [
            f"{self.scheme + '://' if self.scheme else ''}{self.domain}"
            " wants you to sign in with your Ethereum account:",
            self.address,
            "",
        ]
        if self.statement is not None:
            lines += [self.statement]
        lines += [""]
        lines += [
            f"URI: {self.uri}",
            "Version: 1",
            f"Chain ID: {self.chain_id}",
            f"Nonce: {self.nonce}",
            f"Issued At: {self.issued_at}",
        ]
        for name, value in (
            ("Expiration Time", self.expiration_time),
            ("Not Before", self.not_before),
            ("Request ID", self.request_id),
        ):
            if value is not None:
                lines.append(f"{name}: {value}")
        if self.resources is not None:
            lines += ["Resources:", *(f"- {resource}" for resource in self.resources)]
        return "\n".join(lines)


def parse(text: str) -> SiweMessage:
    """BadInput (slug `malformed-message`) unless `text` is exactly one message of EIP-4361."""
    if len(text.encode("utf-8", "replace")) > MAX_MESSAGE:
        raise BadInput(f"The message has more than {MAX_MESSAGE} bytes", slug="too-large")
    match = _MESSAGE.fullmatch(text)
    if match is None:
        raise BadInput("The message does not follow EIP-4361", slug="malformed-message")
    found = match.groupdict()
    try:
        parse_address(found["address"])
        if checksum_address(bytes.fromhex(found["address"][2:])) != found["address"]:
            raise BadInput("the address is not in its EIP-55 form")
        for name in ("issued_at", "expiration_time", "not_before"):
            if found[name] is not None:
                seconds(found[name])
    except BadInput as error:
        raise BadInput(f"The message does not follow EIP-4361: {error}", slug="malformed-message") from error
    resources = found["resources"]
    return SiweMessage(
        domain=found["domain"],
        address=found["address"],
        uri=found["uri"],
        chain_id=int(found["chain_id"]),
        nonce=found["nonce"],
        issued_at=found["issued_at"],
        scheme=found["scheme"],
        statement=found["statement"],
        expiration_time=found["expiration_time"],
        not_before=found["not_before"],
        request_id=found["request_id"],
        resources=tuple(line[2:] for line in resources.split("\n")[2:]) if resources is not None else None,
    )


def seconds(time: str) -> int:
    """Unix seconds, rounded down, of an RFC 3339 time. BadInput for days and hours that do not exist."""
    # Not datetime.fromisoformat: what it takes for a time differs between versions of Python.
    match = _MOMENT.fullmatch(time.upper())
    try:
        if match is None:
            raise ValueError
        year, month, day, hour, minute, second = map(int, match.groups()[:6])
        local = int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())
    except ValueError as error:
        raise BadInput(f"{time[:80]} is not a time (RFC 3339)") from error
    sign, hours, minutes = match.groups()[6:]
    offset = int(hours) * 3600 + int(minutes) * 60 if sign else 0
    return local + offset if sign == "-" else local - offset


def rfc3339(unix: int) -> str:
    """RFC 3339 in UTC of Unix seconds."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
