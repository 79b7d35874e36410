"""Denylists from files into the block store's environment, again whenever a file changes.

A list that cannot be read, or is none, leaves the rules it gave before in force: a slip of an editor must not
unblock everything. A list that only grew, as one does by `echo /ipfs/CID >> list`, is read from where it
grew. A list taken out of the settings is forgotten.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import structlog

from decentraspace.content import denylist
from decentraspace.content.denied import LISTS_MOST, DenyRules, ListState
from decentraspace.errors import DecentraSpaceError, QuotaExceeded, TooLarge

log = structlog.get_logger(__name__)

_CHUNK = 1024 * 1024
MOST = 4 * 1024**3  # bytes of a list


class Loaded(NamedTuple):
    """`path` as it is in the settings, or found in a folder there; `error`: why the file as it is now is not
    in force, empty where it is; `state`: what is in force of it."""

    path: str
    error: str
    state: ListState | None


class Lists:
    """`update` looks at the files. One thread at a time; blocking."""

    def __init__(self, rules: DenyRules, paths: tuple[str, ...]) -> None:
        self._rules, self._paths = rules, paths
        self._refused: dict[str, tuple[tuple[int, int, int], str]] = {}
        self.loaded: list[Loaded] = [Loaded(one.path, "", one) for one in rules.state.lists]

    def update(self) -> bool:
        """Have the rules follow the files; whether any rule changed. QuotaExceeded, and nothing changed."""
        before = self._rules.state.lists
        known = {one.path: one for one in before}
        taken: set[int] = set()
        found = []
        for path in self._files():
            state, error = self._look(path, known.get(str(path)), taken)
            found.append(Loaded(str(path), error, state))
            if state is not None:
                taken.add(state.slot)
        wanted = tuple(one.state for one in found if one.state is not None)
        if wanted != before:
            self._rules.use(wanted)
        self.loaded = found
        return wanted != before

    def _files(self) -> list[Path]:
        """Those of the settings in their order; of a folder its `*.deny` by name."""
        found: list[Path] = []
        for text in self._paths:
            path = Path(text).expanduser()
            found += sorted(path.glob("*.deny")) if path.is_dir() else [path]
        if len(found) > LISTS_MOST:
            log.error("too_many_denylists", files=len(found), most=LISTS_MOST)
        return list(dict.fromkeys(found))[:LISTS_MOST]

    def _look(self, path: Path, old: ListState | None, taken: set[int]) -> tuple[ListState | None, str]:
        """(what is in force, why the file as it is now is not)."""
        mark = (0, 0, 0)
        try:
            with open(_regular(path), "rb") as file:
                facts = os.fstat(file.fileno())
                mark = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
                if old is not None and (old.mtime, old.whole) == mark[:2]:
                    self._refused.pop(str(path), None)
                    return old, ""
                before, reason = self._refused.get(str(path), ((0, 0, 0), ""))
                if before == mark:
                    return old, reason
                made = self._load(path, file, facts, old, taken)
        except QuotaExceeded:
            raise
        except (OSError, DecentraSpaceError) as error:
            reason = getattr(error, "strerror", "") or str(error)
            if self._refused.get(str(path)) != (mark, reason):
                self._refused[str(path)] = mark, reason
                log.error("denylist_refused", path=str(path), reason=reason, kept=old is not None)
            return old, reason
        self._refused.pop(str(path), None)
        log.info("denylist_loaded", path=str(path), rules=made.rules, faults=made.faults, first=made.samples)
        return made, ""

    def _load(
        self, path: Path, file: BinaryIO, facts: os.stat_result, old: ListState | None, taken: set[int]
    ) -> ListState:
        if facts.st_size > MOST:
            raise TooLarge(f"It has {facts.st_size} bytes; {MOST} are allowed")
        header, lines = denylist.read_header(file)
        begin = file.tell()
        digest = _digest(file, old.size) if old is not None and 0 < old.size <= facts.st_size else None
        faults = denylist.Faults()
        if old is not None and digest is not None and digest.digest() == old.digest:
            lines, slot, base = old.lines, old.slot, old
            faults = denylist.Faults(old.faults, list(old.samples))
        else:
            digest, slot, base = _digest(file, begin), self._rules.free_slot(taken), None
        noting = _Noting(file, digest, lines)
        count, kinds = self._rules.load(
            slot, denylist.read_rules(cast(BinaryIO, noting), header, lines, faults)
        )
        # A last line without its end may go on: then all is read again.
        return ListState(
            slot=slot,
            path=str(path),
            name=header.name[:200] or path.stem,
            size=file.tell() if noting.ended else 0,
            digest=digest.digest(),
            mtime=facts.st_mtime_ns,
            lines=noting.lines,
            rules=count + (base.rules if base else 0),
            kinds=kinds | (base.kinds if base else 0),
            faults=faults.count,
            samples=faults.samples,
            loaded=int(time.time()),
            whole=facts.st_size,
        )


class _Noting:
    """Lines of a file, hashed and counted as they are read."""

    def __init__(self, file: BinaryIO, digest: Any, lines: int) -> None:
        self._file, self._digest, self.lines, self.ended = file, digest, lines, True

    def readline(self, most: int) -> bytes:
        line = self._file.readline(most)
        if line:
            self._digest.update(line)
            self.lines += 1
            self.ended = line.endswith(b"\n")
        return line


def _digest(file: BinaryIO, size: int) -> Any:
    """SHA-256 of the first bytes of a file, which is left behind them."""
    digest = hashlib.sha256()
    file.seek(0)
    while size > 0 and (piece := file.read(min(size, _CHUNK))):
        digest.update(piece)
        size -= len(piece)
    return digest


def _regular(path: Path) -> int:
    """Opening a pipe would wait for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a file")
    return descriptor
