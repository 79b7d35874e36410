"""The secret key: read from a file of its owner alone, never shown, used for two things."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat

from decentraspace.errors import ConfigError

_KEY = re.compile(r"sk_(test|live)_[A-Za-z0-9]{16,200}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")
_FILE_MOST = 4096
_KEYS_MOST = 4


class SecretKey:
    """`domain`: "test" or "live". What it is shows nowhere: not in its repr, nor in errors."""

    __slots__ = ("_keys", "domain")

    def __init__(self, keys: tuple[str, ...]) -> None:
        if not keys or len(keys) > _KEYS_MOST or not all(_KEY.fullmatch(key) for key in keys):
            raise ConfigError(
                "plugin.billing_paystack.key_file holds no secret key of Paystack",
                hint="It begins with sk_live_ (or sk_test_) and stands alone in a line.",
            )
        self._keys = keys
        self.domain = keys[0][3:7]

    @classmethod
    def read(cls, path: str) -> SecretKey:
        """Blocking. ConfigError for a file that is not there, or that others may read."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise ConfigError(
                f"The secret key cannot be read: {error.strerror}",
                hint="Look at plugin.billing_paystack.key_file.",
            ) from None
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise ConfigError("plugin.billing_paystack.key_file is no file")
            if about.st_mode & 0o077:
                raise ConfigError(
                    "plugin.billing_paystack.key_file can be read by others", hint="chmod 600 the file."
                )
            raw = os.read(descriptor, _FILE_MOST)
        finally:
            os.close(descriptor)
        return cls(
            tuple(line.strip() for line in raw.decode("ascii", "replace").splitlines() if line.strip())
        )

    def __repr__(self) -> str:
        return f"SecretKey({self.domain})"

    def __reduce__(self) -> str:
        raise TypeError("a secret key is not for copying")

    @property
    def authorization(self) -> str:
        """The header that Paystack wants."""
        return f"Bearer {self._keys[0]}"

    def signed(self, body: bytes, signature: str) -> bool:
        """Whether `signature` is the HMAC-SHA512 of the body, in hex, by one of the keys; in constant time."""
        given = signature if _SIGNATURE.fullmatch(signature) else "0" * 128
        found = False
        for key in self._keys:
            made = hmac.new(key.encode(), body, hashlib.sha512).hexdigest()
            found |= hmac.compare_digest(made, given)
        return found

    def without(self, words: str) -> str:
        """`words`, should a key have got into them, without it."""
        for key in self._keys:
            words = words.replace(key, "sk_…")
        return words
