"""Access tokens: the operator's is read from a file of its owner alone; none is ever shown."""

from __future__ import annotations

import os
import re
import stat

from decentraspace.errors import ConfigError

_TOKEN = re.compile(r"[\x21-\x7e]{8,512}")
_FILE_MOST = 4096


class Token:
    """What it is shows nowhere: not in its repr, nor in errors. `own`: the operator's."""

    __slots__ = ("_text", "own")

    def __init__(self, text: str, own: bool) -> None:
        self._text, self.own = text, own

    def __repr__(self) -> str:
        return "Token(…)"

    def __reduce__(self) -> str:
        raise TypeError("a token is not for copying")

    @property
    def authorization(self) -> str:
        return f"Bearer {self._text}"

    def without(self, words: str) -> str:
        """`words`, should the token have got into them, without it."""
        return words.replace(self._text, "…")


def read(path: str) -> Token:
    """Blocking. ConfigError for a file that is not there, or that others may read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(
            f"The registrar's token cannot be read: {error.strerror}",
            hint="Look at plugin.dns_registrar.key_file.",
        ) from None
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise ConfigError("plugin.dns_registrar.key_file is no file")
        if about.st_mode & 0o077:
            raise ConfigError(
                "plugin.dns_registrar.key_file can be read by others", hint="chmod 600 the file."
            )
        raw = os.read(descriptor, _FILE_MOST)
    finally:
        os.close(descriptor)
    try:
        return checked(raw.decode("ascii", "replace").partition("\n")[0], own=True)
    except ValueError:
        raise ConfigError(
            "plugin.dns_registrar.key_file holds no token", hint="It stands in the first line."
        ) from None


def checked(text: str, *, own: bool = False) -> Token:
    """ValueError, which does not say what was given."""
    if not _TOKEN.fullmatch(text.strip()):
        raise ValueError("no token")
    return Token(text.strip(), own)
