"""What is asked of a registrar, whichever it is. Another one is a class with these methods, and a name in `open`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from decentraspace.errors import DecentraSpaceError, Unavailable

if TYPE_CHECKING:
    from decentraspace_dns_registrar.settings import Settings

Process = Literal["create", "renew"]


class Refused(DecentraSpaceError):
    """The registrar understood, and said no: nothing was bought."""

    slug, status, title = "registrar-refused", 422, "The registrar does not take this"


class Lost(Unavailable):
    """The registrar was asked to buy, and gave no answer: it may have."""


@dataclass(frozen=True)
class Offer:
    """`hundredths` of the currency, taxes included, for all the years. `detail`: why it is not available."""

    available: bool
    hundredths: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Holding:
    """A name that is in the operator's account. `ends`: Unix seconds."""

    name: str
    ends: int


class Entry(NamedTuple):
    """A record of a name in the account. `host`: "@" for the name itself, or what stands before it."""

    host: str
    kind: str
    values: tuple[str, ...]


class Registrar(Protocol):
    """All may raise Unavailable, when nothing has come of it."""

    name: str

    async def offer(self, name: str, years: int, process: Process) -> Offer: ...

    async def holding(self, name: str) -> Holding | None:
        """None for a name that is not in the account."""

    async def buy(self, name: str, years: int, contact: Mapping[str, str], *, rehearse: bool) -> None:
        """Refused; Lost. `rehearse`: check all, and buy nothing."""

    async def renew(self, name: str, years: int, *, rehearse: bool) -> None:
        """As above."""

    async def enter(self, name: str, entries: Sequence[Entry]) -> None:
        """Replace records of a name in the account. Refused. Repeatable."""

    async def aclose(self) -> None: ...


def open_registrar(settings: Settings) -> Registrar:
    """Blocking: reads the token, and certificates. ConfigError."""
    from decentraspace_dns_registrar.gandi import Gandi
    from decentraspace_dns_registrar.token import read

    return Gandi(settings, read(settings.key_file))
