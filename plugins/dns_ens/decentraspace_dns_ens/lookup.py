"""All that the chain says of a name, in one round: `contracts/Lookup.sol` as a call that deploys nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from decentraspace.errors import Unavailable
from decentraspace_dns_ens import naming
from decentraspace_dns_ens.rpc import Disagree, Endpoints

NOTHING, RETURNED, REVERTED, TOO_LONG, NOT_FOUND_OUT = range(5)  # as in Lookup.sol
NOBODY = "0x" + 40 * "0"
_FOUND = "(uint256,uint256,address,address,uint256,address,uint256,address,uint256,address,uint256,bool,uint8,bytes)"
_PROBED = ["uint256", "uint256", "uint8", "bytes"]
_ANSWER_MOST = 25_000  # bytes: EIP-170 has 24,576


@dataclass(frozen=True)
class Answer:
    """What a view returned, or reverted with (`outcome`), at block `number`."""

    number: int
    outcome: int
    result: bytes


@dataclass(frozen=True)
class Found:
    """Of one name. Addresses in lower case, `NOBODY` for none.

    owner       in the registry: who manages the name, or the NameWrapper
    registrant  in the registrar of the domain above, for names of two labels, while it has not run out
    expires     Unix seconds, as there; 0 where there is no registrar
    holder      in the NameWrapper, where `owner` is that
    ttl         seconds, as the registry says; mostly 0
    own         the resolver by the registry, of the name or `own_above` labels further up (ENSIP-10)
    resolver    the one that is asked, found `above` labels further up: the same, or what the Universal Resolver finds
    extended    whether the resolver was asked by `resolve(bytes,bytes)`
    said        what it answered
    """

    owner: str
    registrant: str
    expires: int
    holder: str
    ttl: int
    own: str
    own_above: int
    resolver: str
    above: int
    extended: bool
    said: Answer

    @property
    def key(self) -> tuple[Any, ...]:
        """What endpoints must agree on: all but the block that they were at."""
        said = (self.said.outcome, self.said.result)
        return (self.owner, self.registrant, self.expires, self.holder, self.ttl, self.own, self.own_above,
                self.resolver, self.above, self.extended, said)  # fmt: skip


@cache
def _code(name: str) -> str:
    text = resources.files(__package__).joinpath("questions.json").read_text()
    return str(json.loads(text)[name])


def encode(types: list[str], values: list[Any]) -> bytes:
    # Only now: eth-abi takes 0.4 s to import.
    from eth_abi.abi import encode as encoded

    return bytes(encoded(types, values))


def decode(types: list[str], raw: bytes) -> tuple[Any, ...]:
    """ValueError for bytes that are no such values."""
    from eth_abi.abi import decode as decoded
    from eth_abi.exceptions import DecodingError

    try:
        return tuple(decoded(types, raw))
    except (DecodingError, OverflowError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"no {', '.join(types)[:60]}: {type(error).__name__}") from error


def call(signature: str, *values: Any) -> bytes:
    """The data of a call: `call("owner(bytes32)", node)`."""
    inner = signature[signature.index("(") + 1 : -1]
    return naming.keccak256(signature.encode())[:4] + encode(inner.split(",") if inner else [], list(values))


class Asking:
    """What one chain says, as `endpoints` agree on it."""

    def __init__(self, endpoints: Endpoints, chain: int, registry: str, wrapper: str, universal: str) -> None:
        self._endpoints, self._chain = endpoints, chain
        self._contracts = [registry, wrapper or NOBODY, universal or NOBODY]

    async def name(self, name: str) -> Found:
        """Of a name in its one spelling. Unavailable when too few endpoints say the same."""
        arguments = encode(["address", "address", "address", "bytes"], [*self._contracts, naming.wire(name)])
        found = await self._same(
            "Lookup", arguments, self._found, lambda one: one.key, lambda o: o.said.number
        )
        assert isinstance(found, Found)
        return found

    async def view(self, to: str, data: bytes) -> Answer:
        """What one call of a view gives. Unavailable as above."""
        arguments = encode(["address", "bytes"], [to, data])
        found = await self._same(
            "Probe", arguments, self._probed, lambda one: (one.outcome, one.result), lambda one: one.number
        )
        assert isinstance(found, Answer)
        return found

    async def simulate(self, sender: str, to: str, data: bytes) -> None:
        """Refused when the transaction would revert now."""
        transaction = {"from": sender, "to": to, "data": "0x" + data.hex()}
        await self._endpoints.ask("eth_call", [transaction, "latest"], _hex, same=lambda _: True)

    async def _same(self, contract: str, arguments: bytes, form: Any, same: Any, number: Any) -> Any:
        question = {"data": _code(contract) + arguments.hex()}
        try:
            return await self._endpoints.ask("eth_call", [question, "latest"], form, same)
        except Disagree as differ:
            # They may be at different blocks: what each says of the oldest of these is to be the same.
            numbers = {number(one) for one in differ.answers}
            if len(numbers) < 2:
                raise
        return await self._endpoints.ask("eth_call", [question, hex(min(numbers))], form, same)

    def _found(self, answer: Any) -> Found:
        ((chain, number, *known, outcome, said),) = decode([_FOUND], _hex(answer))
        self._of_chain(chain)
        owner, registrant, expires, holder, ttl, own, own_above, resolver, above, extended = known
        return Found(
            owner, registrant, expires, holder, ttl, own, own_above, resolver, above, extended,
            Answer(number, outcome, said),
        )  # fmt: skip

    def _probed(self, answer: Any) -> Answer:
        chain, number, outcome, said = decode(_PROBED, _hex(answer))
        self._of_chain(chain)
        return Answer(number, outcome, said)

    def _of_chain(self, chain: int) -> None:
        if chain != self._chain:
            raise Unavailable(f"it is of chain {chain}, not {self._chain} (plugin.dns_ens.chain_id)")


def _hex(answer: Any) -> bytes:
    if not isinstance(answer, str) or answer[:2] != "0x" or len(answer) > 2 * _ANSWER_MOST:
        raise ValueError("no bytes")
    return bytes.fromhex(answer[2:])
