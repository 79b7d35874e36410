"""A page of HTML for people, complete in itself: no scripts, nothing from elsewhere."""

from __future__ import annotations

from html import escape


def page(title: str, style: str, body: str) -> bytes:
    """UTF-8. `title` is text; `style` and `body` are markup, escaped by whoever made them."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{style}</style></head>'
        f"<body>{body}</body></html>\n"
    ).encode()
