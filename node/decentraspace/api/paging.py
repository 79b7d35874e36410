"""Lists that are given page by page, by the number of the last entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from decentraspace.api.schemas import attr

_PAGE = 100


@dataclass(frozen=True)
class PageQuery:
    limit: int = attr("Entries at most.", _PAGE, least=1, most=1000)
    cursor: str = attr("From `next` of the page before.", "", pattern="[0-9]{0,18}")


def next_page(found: list[Any], page: list[Any], name: str) -> str | None:
    """The cursor behind `page`, or None. `found`: the page's entries, and one more if there is one; `name`: the
    attribute with an entry's number."""
    return str(getattr(page[-1], name)) if len(found) > len(page) else None
