"""The few things asked of Kubo, over its RPC, by ipfshttpclient. Blocking: call them in threads.

Content goes to Kubo as a CAR (`dag/import`), never as "pin this CID": that would make Kubo look for it in the
network, when all of it is here. It comes back as a CAR, too, of which every block is verified.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import ipfshttpclient
import ipfshttpclient.exceptions as client_errors

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput, ConfigError, Unavailable, Unprocessable

_CHUNK = 256 * 1024

# ipfshttpclient 0.7 passes urllib3 2 an argument of urllib3 1, at every connection.
warnings.filterwarnings("ignore", "The 'strict' parameter", FutureWarning)


class KuboError(Unprocessable):
    """Kubo answered that it cannot do it; asking again soon will not help."""

    title = "Kubo refused"


class Kubo:
    """`api`: multiaddr of the RPC, such as /ip4/127.0.0.1/tcp/5001. `timeout`: seconds Kubo may be silent."""

    def __init__(self, api: str, timeout: float) -> None:
        self.api = api
        try:
            # Not `connect`, which refuses every Kubo newer than 0.7; the calls made here have not changed.
            self._client = ipfshttpclient.Client(api, timeout=timeout)
        except (client_errors.Error, ValueError) as error:
            raise ConfigError(
                f"plugin.storage_ipfs.api is {api!r}: {error}",
                hint="Give the multiaddr of Kubo's RPC, for example /ip4/127.0.0.1/tcp/5001.",
            ) from error
        self._client.chunk_size = _CHUNK

    def version(self) -> str:
        answer = self._ask(self._client.version)
        return str(_get(answer, "Version"))[:60]

    def import_dag(self, cid: str, chunks: Iterable[bytes], deadline: float) -> None:
        """Send a DAG as a CAR and have its root pinned. `deadline`: value of time.monotonic().

        Whatever reading `chunks` raises, this raises. Kubo then pins nothing.
        """
        source = _Source(chunks, deadline)
        try:
            answer = self._ask(self._client.dag.imprt, source, opts={"pin-roots": "true"})
        except Exception:
            if source.error is not None:
                raise source.error from None
            raise
        root = _get(answer, "Root")
        if problem := _get(root, "PinErrorMsg", ""):
            raise KuboError(f"Kubo did not pin {cid}: {str(problem)[:300]}")
        if not _same(_get(_get(root, "Cid"), "/"), cid) or not self.is_pinned(cid):
            raise KuboError(f"Kubo says it imported {cid}, but has not pinned it")

    def is_pinned(self, cid: str) -> bool:
        """Whether `cid` itself is pinned recursively (not only as a part of something that is)."""
        try:
            answer = self._ask(self._client.pin.ls, cid, type="recursive")
        except KuboError as error:
            if "not pinned" in error.detail:
                return False
            raise
        keys = _get(answer, "Keys")
        return isinstance(keys, dict) and any(
            _same(key, cid) and _get(value, "Type") == "recursive" for key, value in keys.items()
        )

    def unpin(self, cid: str) -> bool:
        """Whether it had been pinned."""
        try:
            self._ask(self._client.pin.rm, cid)
        except KuboError as error:
            if "not pinned" in error.detail:
                return False
            raise
        return True

    def export_dag(self, cid: str, deadline: float) -> Iterator[bytes]:
        """The DAG as chunks of a CAR, as Kubo sends them: verify them, and that nothing is missing."""
        try:
            with self._client.dag.export(cid, stream=True) as chunks:
                for chunk in chunks:
                    if time.monotonic() > deadline:
                        raise Unavailable(f"Kubo took too long to send {cid}")
                    yield chunk
        except client_errors.Error as error:
            raise _translate(error, self.api) from error

    def _ask(self, function: Any, *args: Any, **options: Any) -> Any:
        try:
            answer = function(*args, **options)
            return answer.as_json() if hasattr(answer, "as_json") else answer
        except client_errors.Error as error:
            raise _translate(error, self.api) from error
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            # ipfshttpclient lets these escape when an answer is not what it expects
            raise Unavailable(f"What answers at {self.api} is not Kubo", hint="Check the address.") from error


class _Source(io.RawIOBase):
    """Chunks as a file to read from, until the deadline. Keeps what reading them raised."""

    name = "dag.car"

    def __init__(self, chunks: Iterable[bytes], deadline: float) -> None:
        super().__init__()
        self._chunks, self._deadline = iter(chunks), deadline
        self._rest = b""
        self.error: Exception | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts, length = [self._rest], len(self._rest)
        while size < 0 or length < size:
            chunk = self._next()
            if not chunk:
                break
            parts.append(chunk)
            length += len(chunk)
        joined = b"".join(parts)
        if size < 0:
            self._rest = b""
            return joined
        self._rest = joined[size:]
        return joined[:size]

    def _next(self) -> bytes:
        try:
            if time.monotonic() > self._deadline:
                raise Unavailable("Kubo took too long to take the content")
            return next(self._chunks, b"")
        except Exception as error:
            self.error = error  # urllib3 and requests wrap what a body raises beyond recognition
            raise


def _translate(error: Exception, api: str) -> Exception:
    if isinstance(error, client_errors.ErrorResponse):
        return KuboError(f"Kubo: {str(error)[:300]}")
    if isinstance(error, client_errors.TimeoutError):
        return Unavailable(f"Kubo at {api} does not answer in time")
    if isinstance(error, client_errors.ConnectionError):
        return Unavailable(f"Kubo at {api} cannot be reached", hint="Is it running?")
    return Unavailable(f"What answers at {api} is not Kubo: {str(error)[:300]}", hint="Check the address.")


def _get(table: Any, key: str, default: Any = None) -> Any:
    try:
        return table[key]
    except (KeyError, TypeError, IndexError):
        if default is not None:
            return default
        raise Unavailable(f"The answer lacks {key}", hint="Is it Kubo that answers?") from None


def _same(left: Any, right: str) -> bool:
    try:
        return cids.parse(str(left)) == cids.parse(right)
    except BadInput:
        return False
