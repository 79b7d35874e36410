"""A site's two rule files looked at before it is published: faults are refused, what has no effect is told."""

from __future__ import annotations

from collections.abc import Callable

from decentraspace.content import reader
from decentraspace.content.reader import GetBlock
from decentraspace.errors import BadInput, NotFound, Unprocessable
from decentraspace.gateway import rules

_PARSERS = (("_redirects", rules.parse_redirects), ("_headers", rules.parse_headers))


def examine(read: Callable[[str], bytes | None]) -> list[str]:
    """What of the files has no effect, a sentence each.

    `read(name)` gives the beginning of that file, a byte more than it may have, or None where there is none.
    Unprocessable, naming the line, for a fault: each visitor would be answered with an error.
    """
    ignored = rules.Ignored()
    for name, parse in _PARSERS:
        text = read(name)
        try:
            if text is not None:
                parse(text, ignored)
        except BadInput as error:
            raise Unprocessable(error.detail, hint="Correct the file and deploy again.") from error
    return list(ignored)


def examine_stored(get: GetBlock, root: bytes) -> list[str]:
    """`examine` of a site that is in the store. Blocking."""

    def read(name: str) -> bytes | None:
        try:
            found = reader.resolve(get, root, [name]).stat
        except NotFound:
            return None
        if found.kind != "file":
            return None
        return b"".join(reader.iter_file(get, found.cid, 0, rules.MAX_FILE + 1))

    try:
        return examine(read)
    except BadInput as error:  # of the content itself
        raise Unprocessable(error.detail, hint="Correct the file and deploy again.") from error


def warnings(get: GetBlock, root: bytes) -> list[str]:
    """What to tell the owner of a site that is published: of one that came by another node, its fault."""
    try:
        return examine_stored(get, root)
    except Unprocessable as error:
        return [error.detail]
