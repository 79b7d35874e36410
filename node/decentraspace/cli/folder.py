"""What of a folder is published: hidden files are left out, secrets and unfit folders refused, links looked at.

A deploy cannot be taken back: other nodes have copied it within a second. So everything that can be known
beforehand is said before the first byte is sent.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from decentraspace.content.importer import MAX_DEPTH
from decentraspace.errors import BadInput, Forbidden, TooLarge
from decentraspace.gateway import rulefiles, rules

SHOWN = frozenset({".well-known"})  # hidden by its name, and made to be published (RFC 8615)
_LISTED = 5  # names in a message
_LOOK = 64 * 1024  # bytes of a file that are looked at for a private key

# Names that hold secrets whatever is in them. docs/reference/cli.md lists the same.
_SECRET = re.compile(
    r"\.env(?!\.(?:example|sample|template)$).*"
    r"|\.(?:ssh|git|hg|svn|gnupg|aws|azure|kube|docker|vault-token|npmrc|pypirc|pgpass|my\.cnf|htpasswd"
    r"|git-credentials|.*_history)"
    r"|[._]netrc|id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?|node\.key|.*\.(?:p12|pfx|kdbx)",
    re.IGNORECASE,
)
_SECRET_FOLDERS = frozenset({".ssh", ".git", ".gnupg", ".aws", ".kube", ".docker"})
# Names that may hold one: the content decides.
_DOUBTFUL = re.compile(
    r".*\.(?:pem|key|ppk)|session\.json|tokens\.json|utc--.*|.*(?:wallet|keystore).*\.json", re.I
)
_MARKS = re.compile(
    rb"PRIVATE KEY-----|PuTTY-User-Key-File"
    rb'|"siwe_domain".*"key"|"token".*"expires"|"ciphertext".*"kdf"|"kdf".*"ciphertext"',
    re.DOTALL,
)


@dataclass
class Survey:
    """Paths are relative to the folder. `bytes`: of regular files; `left_out`: hidden, folders named once;
    `links`: a sentence about each symlink that visitors could not follow; `ignored`: one about each line of the
    rule files that has no effect."""

    files: int = 0
    bytes: int = 0
    left_out: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


def survey(folder: Path, *, hidden: bool) -> Survey:
    """Look at every name that would be published. Errors: BadInput, TooLarge."""
    found = Survey()
    try:
        for entry, path in _walk(folder, "", hidden, found, 0):
            _judge(folder, entry, path, hidden, found)
    except OSError as error:
        raise BadInput(f"{error.filename or folder} cannot be read: {error.strerror or error}") from error
    return found


def _walk(
    folder: Path, below: str, hidden: bool, found: Survey, depth: int
) -> Iterator[tuple[os.DirEntry[str], str]]:
    if depth > MAX_DEPTH:
        raise TooLarge(f"{folder / below} lies more than {MAX_DEPTH} folders deep")
    with os.scandir(folder / below) as entries:
        inside = sorted(entries, key=lambda entry: entry.name)
    for entry in inside:
        path = f"{below}/{entry.name}" if below else entry.name
        if not hidden and is_hidden(entry.name):
            found.left_out.append(path)
            continue
        yield entry, path
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder, path, hidden, found, depth + 1)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is left out unless asked for."""
    return name.startswith(".") and name not in SHOWN


def _judge(folder: Path, entry: os.DirEntry[str], path: str, hidden: bool, found: Survey) -> None:
    if entry.is_symlink():
        found.files += 1
        if complaint := _complaint(folder, path, hidden):
            found.links.append(complaint)
    elif entry.is_file(follow_symlinks=False):
        found.files += 1
        found.bytes += entry.stat(follow_symlinks=False).st_size
        if _SECRET.fullmatch(entry.name) or (_DOUBTFUL.fullmatch(entry.name) and _holds_key(entry.path)):
            found.secrets.append(path)
    elif _SECRET.fullmatch(entry.name):
        found.secrets.append(path + "/")


def _holds_key(path: str) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        return _MARKS.search(file.read(_LOOK)) is not None


def _complaint(folder: Path, path: str, hidden: bool) -> str:
    """Why visitors cannot follow a symlink, or ""."""
    target = os.readlink(folder / path)
    words = f"{path!r} is a symlink to {target!r}, which "
    if target.startswith("/"):
        return words + "leads out of the folder"
    inside = os.path.normpath(os.path.join(os.path.dirname(path), target))
    if inside.split("/")[0] == "..":
        return words + "leads out of the folder"
    if not os.path.exists(folder / path):
        return words + "does not exist"
    if not hidden and any(is_hidden(part) for part in inside.split("/") if part != "."):
        return words + "is hidden, so left out"
    return ""


def refuse_unfit(folder: Path) -> None:
    """Forbidden for folders that nobody means to publish: the home folder, what holds it, key folders."""
    real = folder.resolve()
    try:
        home = Path.home().resolve()
    except RuntimeError:  # a user without one
        home = Path("/")
    if real == home or real in home.parents or real == Path("/"):
        raise Forbidden(f"{folder} is your home folder, or holds it.", hint="Name the folder with the site.")
    if parts := _SECRET_FOLDERS.intersection(real.parts):
        raise Forbidden(f"{folder} lies in {min(parts)}, which is not for publishing.")


def refuse_secrets(folder: Path, found: Survey) -> None:
    """Forbidden, naming them."""
    if found.secrets:
        raise Forbidden(
            f"{folder} holds what looks like secrets: {named(found.secrets)}.",
            hint="Move them away. What is published cannot be taken back. "
            "--include-secrets publishes them all the same.",
        )


def named(paths: list[str]) -> str:
    """Some of them, in words."""
    more = len(paths) - _LISTED
    return ", ".join(paths[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def check_rules(folder: Path) -> list[str]:
    """What has no effect of `_redirects` and `_headers`; Unprocessable, naming the line, for a fault that every
    node would refuse."""

    def read(name: str) -> bytes | None:
        path = folder / name
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                return None
            with path.open("rb") as file:
                return file.read(rules.MAX_FILE + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {error.strerror}") from error

    return rulefiles.examine(read)
