"""Reading UnixFS: paths to nodes, byte ranges of files, listings, and walks over whole DAGs.

All functions take `get`, which gives a block's bytes or raises `BlockMissing`; blocks are expected to be
verified by whoever stored them. Everything is iterative and bounded, whatever the DAG's author did.
Source: https://specs.ipfs.tech/unixfs/, https://specs.ipfs.tech/http-gateways/path-gateway/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from decentraspace.content import cid as cids
from decentraspace.content import dagpb, hamt, ipld, unixfs
from decentraspace.errors import BadInput, NotFound, Unavailable, Unprocessable

GetBlock = Callable[[bytes], bytes]

MAX_TREE_DEPTH = 64  # levels of one file's tree or one HAMT
MAX_SYMLINKS = 16
MAX_PATH = 256  # segments, in a request and in a symlink's target
MAX_STEPS = 1024  # segments walked for one request, those of symlinks included
MAX_PENDING = 1_000_000  # links that are still to be followed
MAX_FILE = 1 << 53  # bytes; what every client can count


class BlockMissing(Unavailable):
    """A block is not in the store. `.cid` says which."""

    slug, title = "block-missing", "A block of the content is not here"

    def __init__(self, cid: bytes) -> None:
        super().__init__(f"Block {cids.to_text(cid)} is not in this node's store")
        self.cid = cid


class Stat(NamedTuple):
    """`kind`: file, directory, symlink or node (not UnixFS). `size`: content bytes of a file, else 0."""

    cid: bytes
    kind: str
    size: int
    target: str = ""


class Resolved(NamedTuple):
    """What a path names; `visited`: CIDs of all blocks read on the way, the last one excluded; `trail`: CIDs of
    the root and of what each segment names."""

    stat: Stat
    visited: tuple[bytes, ...]
    trail: tuple[bytes, ...] = ()


class Inside(Unprocessable):
    """A path ends within a document, at what is no block of its own."""


class DirEntry(NamedTuple):
    """`tsize`: bytes of the whole DAG below, as the directory claims."""

    name: str
    cid: bytes
    tsize: int


def _load(get: GetBlock, cid: bytes) -> bytes:
    inlined = cids.identity_data(cid)
    return get(cid) if inlined is None else inlined


def _unixfs(get: GetBlock, cid: bytes) -> tuple[dagpb.Node, unixfs.UnixFS]:
    if cids.codec(cid) != cids.DAG_PB:
        raise Unprocessable("The content is not a UnixFS directory or file")
    node = dagpb.decode(_load(get, cid))
    return node, unixfs.decode(node.data)


def stat(get: GetBlock, cid: bytes) -> Stat:
    """What `cid` is. Reads one block."""
    codec = cids.codec(cid)
    if codec == cids.RAW:
        return Stat(cid, "file", len(_load(get, cid)))
    if codec != cids.DAG_PB:
        _load(get, cid)
        return Stat(cid, "node", 0)
    data = dagpb.data_of(_load(get, cid))
    if data is None:
        return Stat(cid, "node", 0)
    meaning = unixfs.decode(data)
    if meaning.type in (unixfs.TYPE_DIRECTORY, unixfs.TYPE_SHARD):
        return Stat(cid, "directory", 0)
    if meaning.type == unixfs.TYPE_SYMLINK:
        return Stat(cid, "symlink", 0, meaning.data.decode("utf-8", "replace"))
    if meaning.type in (unixfs.TYPE_FILE, unixfs.TYPE_RAW):
        return Stat(cid, "file", _file_size(meaning))
    raise Unprocessable("UnixFS metadata blocks are not served")


def _file_size(meaning: unixfs.UnixFS) -> int:
    size = len(meaning.data) + sum(meaning.blocksizes)
    if size > MAX_FILE:
        raise Unprocessable("A file claims to be larger than any file can be")
    return size


def lookup(get: GetBlock, directory: bytes, name: str) -> tuple[bytes | None, tuple[bytes, ...]]:
    """(CID of the entry or None, CIDs of the blocks read, the directory's own first)."""
    way: hamt.Path | None = None
    visited: list[bytes] = []
    cid = directory
    while True:
        if cids.codec(cid) != cids.DAG_PB:
            raise Unprocessable("The content is not a UnixFS directory or file")
        block = _load(get, cid)
        meaning = unixfs.decode(dagpb.data_of(block))
        visited.append(cid)
        if meaning.type == unixfs.TYPE_DIRECTORY and way is None:
            return dagpb.find(block, name), tuple(visited)
        if meaning.type != unixfs.TYPE_SHARD:
            raise NotFound("A path leads through something that is not a directory")
        fanout = hamt.check_fanout(meaning.fanout, meaning.hash_type)
        way = way or hamt.Path(name)
        slot = way.next(fanout)
        if slot is None:
            raise Unprocessable("A sharded directory is deeper than its hash")
        inside = dagpb.find(block, hamt.slot_name(slot, name, fanout))
        if inside is not None:
            return inside, tuple(visited)
        below = dagpb.find(block, hamt.slot_name(slot, "", fanout))
        if below is None:
            return None, tuple(visited)
        cid = below


def list_directory(get: GetBlock, directory: bytes) -> Iterator[DirEntry]:
    """Entries in the order stored: by name, or by hash where sharded. NotFound if not a directory."""
    node, meaning = _unixfs(get, directory)
    if meaning.type == unixfs.TYPE_DIRECTORY:
        yield from (DirEntry(link.name, link.cid, link.tsize) for link in node.links)
        return
    if meaning.type != unixfs.TYPE_SHARD:
        raise NotFound("Not a directory")
    # A name has one place, so a node met twice is a trick to make a small DAG list without end.
    seen = {directory}
    fanout = hamt.check_fanout(meaning.fanout, meaning.hash_type)
    stack = [(iter(node.links), hamt.slot_width(fanout), hamt.HASH_BITS - fanout.bit_length() + 1)]
    while stack:
        rest, width, bits = stack[-1]
        link = next(rest, None)
        if link is None:
            stack.pop()
        elif len(link.name) > width:
            yield DirEntry(link.name[width:], link.cid, link.tsize)
        else:
            inner, inner_meaning = _unixfs(get, link.cid)
            if inner_meaning.type != unixfs.TYPE_SHARD or len(link.name) < width or link.cid in seen:
                raise Unprocessable("A sharded directory does not hold together")
            seen.add(link.cid)
            fanout = hamt.check_fanout(inner_meaning.fanout, inner_meaning.hash_type)
            bits -= fanout.bit_length() - 1
            if bits < 0:
                raise Unprocessable("A sharded directory is deeper than its hash")
            stack.append((iter(inner.links), hamt.slot_width(fanout), bits))


def resolve(get: GetBlock, root: bytes, path: Sequence[str]) -> Resolved:
    """Follow `path` (decoded segments) below `root`, through symlinks that stay inside `root`.

    NotFound where there is nothing; the last segment's symlink is followed too.
    """
    if len(path) > MAX_PATH:
        raise BadInput(f"A path has more than {MAX_PATH} segments")
    todo = [segment for segment in reversed(path) if segment]
    here: list[bytes] = [root]  # the directories we are in, to go back to by ".." in a symlink
    visited: list[bytes] = []
    links = steps = 0
    found = stat(get, root)
    while True:
        if found.kind == "symlink":
            links += 1
            if links > MAX_SYMLINKS or found.target.startswith("/"):
                raise NotFound("A symlink leads out of the content, or in circles")
            visited.append(found.cid)
            here.pop()
            parts = [part for part in found.target.split("/", MAX_STEPS) if part not in {"", "."}]
            if len(parts) > MAX_PATH:
                raise NotFound(f"A symlink's target has more than {MAX_PATH} segments")
            todo.extend(reversed(parts))
            if not here:
                raise NotFound("A symlink leads out of the content")
            found = stat(get, here[-1])
            continue
        if not todo:
            return Resolved(found, tuple(dict.fromkeys(c for c in visited if c != found.cid)), tuple(here))
        segment = todo.pop()
        steps += 1
        if steps > MAX_STEPS:
            raise NotFound("The path leads through too many symlinks")
        if segment == ".." and links:
            here.pop()
            if not here:
                raise NotFound("A symlink leads out of the content")
            found = stat(get, here[-1])
            continue
        if found.kind == "node" and cids.codec(found.cid) in (cids.DAG_CBOR, cids.DAG_JSON):
            visited.append(found.cid)
            here.append(_linked(get, found.cid, segment, todo))
            found = stat(get, here[-1])
            continue
        if found.kind != "directory":
            raise NotFound(f"{segment!r} is not there: what comes before it is no directory")
        child, read = lookup(get, found.cid, segment)
        visited.extend(read)
        if child is None:
            raise NotFound(f"There is no {segment!r}")
        here.append(child)
        found = stat(get, child)


def _linked(get: GetBlock, cid: bytes, segment: str, todo: list[str]) -> bytes:
    """The first link on a path through a document; the segments up to it are taken off `todo`. NotFound, Inside."""
    value = ipld.step(ipld.decode(cids.codec(cid), _load(get, cid)), segment)
    while not isinstance(value, ipld.Link):
        if not todo:
            raise Inside("What is at that path is a part of a document, and no block")
        value = ipld.step(value, todo.pop())
    return value.cid


def iter_file(get: GetBlock, cid: bytes, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Bytes `start` to `end` (exclusive) of a file, about one leaf at a time; blocks outside are not read.

    Unprocessable when the tree contradicts itself (sizes that do not add up, too deep).
    """
    for _, piece in file_blocks(get, cid, start, end):
        if piece:
            yield piece


def file_blocks(
    get: GetBlock, cid: bytes, start: int = 0, end: int | None = None, *, once: bool = False
) -> Iterator[tuple[bytes, bytes]]:
    """(CID of each block in order, its bytes that fall into the range). `once`: a part that comes again is not
    walked again, but for the two edges of the range: a few blocks that link twice to the next make 2^40 leaves."""
    stop = end if end is not None else 1 << 62
    walked: dict[bytes, int] = {}  # parts that lie wholly inside the range, and their sizes
    stack: list[tuple[bytes, int, int | None, int]] = [(cid, 0, None, 0)]  # cid, offset, expected, depth
    while stack:
        here, offset, expected, depth = stack.pop()
        if depth > MAX_TREE_DEPTH:
            raise Unprocessable("A file's tree is too deep")
        if once and expected is not None and start <= offset and offset + expected <= stop:
            # What is below a part comes before what is beside it, so it is walked when it is met again.
            known = walked.get(here)
            if known == expected:
                continue
            if known is not None:
                raise Unprocessable("A part of a file has another size than its parent says")
            walked[here] = expected
        block = _load(get, here)
        if cids.codec(here) == cids.RAW:
            size, own = len(block), block
            children: tuple[tuple[bytes, int], ...] = ()
        else:
            if cids.codec(here) != cids.DAG_PB:
                raise Unprocessable("A file has a part that is not UnixFS")
            node = dagpb.decode(block)
            meaning = unixfs.decode(node.data)
            if meaning.type not in (unixfs.TYPE_FILE, unixfs.TYPE_RAW) or len(node.links) != len(
                meaning.blocksizes
            ):
                raise Unprocessable("A file has a part that is not a file")
            size, own = _file_size(meaning), meaning.data
            children = tuple(zip((link.cid for link in node.links), meaning.blocksizes, strict=True))
        if expected is not None and size != expected:
            raise Unprocessable("A part of a file has another size than its parent says")
        yield here, own[max(start - offset, 0) : max(stop - offset, 0)]
        position = offset + len(own)
        below: list[tuple[bytes, int, int | None, int]] = []
        for child, length in children:
            if position < stop and position + length > start and length:
                below.append((child, position, length, depth + 1))
            position += length
        stack.extend(reversed(below))


def walk_all(get: GetBlock, root: bytes) -> Iterator[tuple[bytes, bytes]]:
    """As `walk`, but each block as often as it is linked to. Unprocessable where that would fill the memory."""
    stack = [root]
    while stack:
        if len(stack) > MAX_PENDING:
            raise Unprocessable(f"The content has more than {MAX_PENDING} blocks side by side")
        cid = stack.pop()
        block = _load(get, cid)
        if cids.identity_data(cid) is None:
            yield cid, block
        if cids.codec(cid) != cids.RAW:
            stack.extend(reversed(dagpb.links_of(cid, block)))


def walk(get: GetBlock, root: bytes, *, max_blocks: int | None = None) -> Iterator[tuple[bytes, bytes]]:
    """(CID, block) of the whole DAG, depth first, each block once; not those that their CID carries."""
    seen: set[bytes] = set()
    stack = [root]
    while stack:
        cid = stack.pop()
        if cid in seen:
            continue
        seen.add(cid)
        if max_blocks is not None and len(seen) > max_blocks:
            raise Unprocessable(f"The content has more than {max_blocks} blocks")
        block = _load(get, cid)
        if cids.identity_data(cid) is None:
            yield cid, block
        if cids.codec(cid) != cids.RAW:
            stack.extend(reversed(dagpb.links_of(cid, block)))
