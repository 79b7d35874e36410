"""`POST /blockchain/listener/`: RPC providers push what happened on chain. Only a hint to look at the chain sooner:
nothing of what they say is used.

    X-Alchemy-Signature   hex HMAC-SHA256 of the body
    X-QN-Signature        QuickNode: hex HMAC-SHA256 of X-QN-Nonce, X-QN-Timestamp (Unix seconds) and the body
    X-Signature           Moralis: 0x and hex Keccak-256 of the body and the secret
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping

import trio
from eth_utils import keccak

from decentraspace.errors import Forbidden, NotFound, TooLarge
from decentraspace_billing_polygon.forms import Block

BODY_MOST = 1024 * 1024
WINDOW = 300
"""Seconds that a push with a time may be old, or ahead."""
_REMEMBERED = 10_000  # signatures that have been seen
_WAIT = 30.0  # seconds that a look at the chain is put off in the hope of a push
_AFTER_HINT = 20.0  # seconds in which what was pushed is expected to become final
_LOOK = 1.0


class Listener:
    """For one trio loop. `keys`: secrets of the providers; without any, nobody may push."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = [key.encode() for key in keys]
        self._hint = trio.Event()
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def push(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Take a push; False for one that came before. `headers` have lower-case names. NotFound without keys,
        TooLarge, Forbidden for a wrong signature or time."""
        if not self._keys:
            raise NotFound(
                "This node takes no pushes", hint="plugin.billing_polygon.webhook_keys has them taken."
            )
        if len(body) > BODY_MOST:
            raise TooLarge(f"A push has {BODY_MOST} bytes at most")
        signature = self._signature(headers, body)
        digest = hashlib.sha256(signature + body).digest()
        if digest in self._seen:
            return False
        self._seen[digest] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        self._hint.set()
        return True

    def _signature(self, headers: Mapping[str, str], body: bytes) -> bytes:
        """The signature, which is right."""
        if given := headers.get("x-alchemy-signature"):
            wanted = [_hmac(key, body) for key in self._keys]
        elif given := headers.get("x-qn-signature"):
            nonce, at = headers.get("x-qn-nonce", ""), headers.get("x-qn-timestamp", "")
            if not (at.isascii() and at.isdigit() and len(at) < 15 and abs(int(at) - time.time()) <= WINDOW):
                raise Forbidden("X-QN-Timestamp is missing, or too far from now")
            signed = nonce.encode() + at.encode() + body
            wanted = [_hmac(key, signed) for key in self._keys]
        elif given := headers.get("x-signature"):
            wanted = ["0x" + keccak(body + key).hex() for key in self._keys]
        else:
            raise Forbidden("No signature of a provider that is known")
        sent = given.strip().lower().encode()
        # All of them, so that the time does not tell which is nearly right.
        if not any([hmac.compare_digest(one.encode(), sent) for one in wanted]):  # noqa: C419
            raise Forbidden(
                "The signature is wrong", hint="plugin.billing_polygon.webhook_keys has the secrets."
            )
        return sent

    async def newer(self, known: Block, look: Callable[[], Awaitable[Block]]) -> Block:
        """The newest final block: as soon as there is one after `known` once a push came, or after a while."""
        if not self._keys:
            return known
        with trio.move_on_after(_WAIT):
            await self._hint.wait()
        hinted, self._hint = self._hint.is_set(), trio.Event()
        found = await look()
        with trio.move_on_after(_AFTER_HINT):
            while hinted and found.number <= known.number:
                await trio.sleep(_LOOK)
                found = await look()
        return found


def _hmac(key: bytes, message: bytes) -> str:
    return hmac.new(key, message, hashlib.sha256).hexdigest()
