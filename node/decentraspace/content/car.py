"""CAR: blocks in a stream. Writing version 1; reading version 1, and the version-1 part of version 2.

    varint length · DAG-CBOR {version: 1, roots: [CID]}  then  varint length · CID · block  again and again

Source: https://ipld.io/specs/transport/car/carv1/, https://ipld.io/specs/transport/car/carv2/.
"""

from __future__ import annotations

import libipld

from decentraspace.content import cid as cids
from decentraspace.content.cid import varint
from decentraspace.errors import BadInput, Unprocessable

MAX_HEADER = 64 * 1024
_V2_PRAGMA = bytes.fromhex("0aa16776657273696f6e02")
_V2_HEADER = 40  # bytes


def header(roots: list[bytes]) -> bytes:
    body = bytes(libipld.encode_dag_cbor({"roots": roots, "version": 1}))
    return varint(len(body)) + body


def frame(cid: bytes, data: bytes) -> bytes:
    return frame_head(cid, len(data)) + data


def frame_head(cid: bytes, size: int) -> bytes:
    """What comes before the `size` bytes of a block."""
    return varint(len(cid) + size) + cid


class CarDecoder:
    """Feed it chunks as they come; it gives verified blocks and never holds more than one unfinished.

    `roots` is None until the header was read. BadInput for malformed input, Unprocessable for a block
    that does not match its CID.
    """

    def __init__(self) -> None:
        self.roots: list[bytes] | None = None
        self._buffer = bytearray()
        self._at = 0  # what lies before was used
        self._skip = 0
        self._awaiting_v2 = False  # the fixed 40-byte header of version 2 comes next
        self._left: int | None = None  # bytes of the version-1 part still to come, inside a version-2 file

    def feed(self, chunk: bytes) -> list[tuple[bytes, bytes]]:
        self._buffer += chunk
        blocks: list[tuple[bytes, bytes]] = []
        while self._step(blocks):
            pass
        # Cut off once for all that was used: each cut moves what remains.
        del self._buffer[: self._at]
        self._at = 0
        return blocks

    def _step(self, blocks: list[tuple[bytes, bytes]]) -> bool:
        """Use the next section; False when more must come first."""
        if self._awaiting_v2:
            return self._v2_header()
        if self._skip:
            gone = min(self._skip, len(self._buffer) - self._at)
            self._at += gone
            self._skip -= gone
            return self._skip == 0
        if self._left == 0:
            self._at = len(self._buffer)  # the index of a version-2 file: nothing we need
            return False
        length, start = self._length(MAX_HEADER if self.roots is None else cids.MAX_BLOCK + cids.MAX_CID)
        if length is None:
            return False
        stop = start + length
        if self._left is not None and stop - self._at > self._left:
            raise BadInput("The CAR's data is longer than its header says")
        if stop > len(self._buffer):
            return False
        if self._left is not None:
            self._left -= stop - self._at
        if self.roots is None:
            self._header(bytes(self._buffer[start:stop]))
        else:
            blocks.append(_block(self._buffer, start, stop))
        self._at = stop
        return True

    def _length(self, limit: int) -> tuple[int | None, int]:
        """(bytes of the next section or None, where it starts)."""
        value = shift = 0
        for position in range(self._at, min(self._at + 9, len(self._buffer))):
            byte = self._buffer[position]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value == 0 or value > limit:
                    raise BadInput(f"A section of the CAR has {value} bytes; 1 to {limit} are allowed")
                return value, position + 1
            shift += 7
        if len(self._buffer) >= self._at + 9:
            raise BadInput("The CAR has a length that is no varint")
        return None, 0

    def _header(self, body: bytes) -> None:
        if varint(len(body)) + body == _V2_PRAGMA and self._left is None:
            self._awaiting_v2 = True
            return
        try:
            document = libipld.decode_dag_cbor(body)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"The CAR's header is not DAG-CBOR: {error}") from error
        roots = document.get("roots", []) if isinstance(document, dict) else None
        if (
            not isinstance(roots, list)
            or document.get("version") != 1
            or len(roots) > 100
            or not all(isinstance(root, bytes) for root in roots)
        ):
            raise BadInput("The CAR's header is not one of version 1 or 2")
        self.roots = [cids.normal(root) for root in roots]

    def _v2_header(self) -> bool:
        """Characteristics (16 bytes), offset and size of the version-1 part, offset of the index."""
        head = self._buffer[self._at : self._at + _V2_HEADER]
        if len(head) < _V2_HEADER:
            return False
        self._skip = int.from_bytes(head[16:24], "little") - len(_V2_PRAGMA) - _V2_HEADER
        self._left = int.from_bytes(head[24:32], "little")
        if self._skip < 0:
            raise BadInput("The CAR's version-2 header is wrong")
        self._at += _V2_HEADER
        self._awaiting_v2 = False
        return True

    def close(self) -> None:
        """The stream has ended. BadInput when it ended in the middle."""
        if self.roots is None or (self._buffer and self._left != 0) or (self._left or 0) > 0:
            raise BadInput("The CAR is cut off", hint="Send it again; blocks that arrived are kept.")


def _block(buffer: bytearray, start: int, stop: int) -> tuple[bytes, bytes]:
    head = bytes(buffer[start : min(stop, start + 4 * 9 + cids.MAX_CID)])
    # CIDv0 starts with its multihash, every other CID with its version.
    if head[:2] == b"\x12\x20":
        size = 34
    else:
        size = 0
        for _ in range(3):
            _, size = cids.read_varint(head, size)
        length, size = cids.read_varint(head, size)
        size += length
    cid = cids.normal(head[:size])
    with memoryview(buffer) as view:
        data = bytes(view[start + size : stop])
    if len(data) > cids.MAX_BLOCK:
        raise BadInput(f"A block has {len(data)} bytes; {cids.MAX_BLOCK} are allowed")
    if not cids.digest_matches(cid, data):
        raise Unprocessable(f"A block does not match its CID {cids.to_text(cid)}")
    return cid, data


def encode(roots: list[bytes], blocks: list[tuple[bytes, bytes]]) -> bytes:
    """A small CAR in one piece."""
    return header(roots) + b"".join(frame(cid, data) for cid, data in blocks)
