"""A gateway as ENS's offchain resolver publishes its protocol, on loopback: it signs what its table says.

GET /{sender}/{data}.json, where `data` is a call of `resolve(bytes name, bytes data)`; the answer is
`abi.encode(bytes result, uint64 expires, bytes signature)`, signed over
0x1900 ‖ resolver ‖ expires ‖ keccak256(call) ‖ keccak256(result) (EIP-191, version 0).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

from eth_abi.abi import decode, encode
from eth_keys import keys

from decentraspace_dns_ens import naming
from decentraspace_dns_ens.lookup import call

_CONTENTHASH = call("contenthash(bytes32)", bytes(32))[:4]


@dataclass
class Gateway:
    """`records`: contenthash by name. `valid`: seconds that an answer is."""

    records: dict[str, bytes] = field(default_factory=dict)
    valid: int = 3600
    key: keys.PrivateKey = field(default_factory=lambda: keys.PrivateKey(b"\x42" * 32))

    @property
    def signer(self) -> str:
        return str(self.key.public_key.to_checksum_address())

    def __call__(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if method == "GET":
            _, sender, data = path.split("/")
            question = bytes.fromhex(data.removesuffix(".json").removeprefix("0x"))
        else:
            asked = json.loads(body)
            sender, question = asked["sender"], bytes.fromhex(asked["data"][2:])
        raw_name, inner = decode(["bytes", "bytes"], question[4:])
        name = _text(raw_name)
        if inner[:4] != _CONTENTHASH or inner[4:] != naming.namehash(name):
            return 404, b'{"message": "not a question of this gateway"}'
        if name not in self.records:
            return 404, b'{"message": "no such name"}'
        result = encode(["bytes"], [self.records[name]])
        expires = int(time.time()) + self.valid
        signed = naming.keccak256(
            b"\x19\x00"
            + bytes.fromhex(sender[2:])
            + expires.to_bytes(8, "big")
            + naming.keccak256(question)
            + naming.keccak256(result)
        )
        made = self.key.sign_msg_hash(signed)
        signature = made.r.to_bytes(32, "big") + made.s.to_bytes(32, "big") + bytes([27 + made.v])
        data = encode(["bytes", "uint64", "bytes"], [result, expires, signature])
        return 200, json.dumps({"data": "0x" + data.hex()}).encode()


def _text(raw: bytes) -> str:
    labels, at = [], 0
    while raw[at]:
        labels.append(raw[at + 1 : at + 1 + raw[at]].decode())
        at += raw[at] + 1
    return ".".join(labels)
