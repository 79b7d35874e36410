"""The page people come to from a blocked page: a form, without scripts, and nothing from elsewhere."""

from __future__ import annotations

from html import escape

from decentraspace import markup
from decentraspace.moderation.reports import CATEGORIES, CONTACT_MOST, TARGET_MOST, TEXT_MOST

POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem;color:#222;"
    "background:#fff}label{display:block;margin-top:1rem}input,select,textarea{font:inherit;width:100%;"
    "box-sizing:border-box;padding:.3rem}textarea{height:10rem}button{font:inherit;margin-top:1rem;"
    "padding:.3rem 1rem}@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}a{color:#8ab4f8}}"
)
_WORDS = {
    "copyright": "Copyright",
    "malware": "Malware",
    "phishing": "Phishing",
    "child-abuse": "Sexual abuse of children",
    "illegal": "Illegal for another reason",
    "privacy": "Privacy",
    "spam": "Spam",
    "objection": "Objection to a decision of this operator",
    "other": "Other",
}


def form(name: str, contact: str) -> bytes:
    """`name` and `contact` of the node, both may be empty."""
    options = "".join(f'<option value="{key}">{escape(_WORDS[key])}</option>' for key in CATEGORIES)
    reach = f"<p>The operator can also be reached at {escape(contact)}.</p>" if contact else ""
    return _page(
        "Report content",
        f"<h1>Report content, or object{': ' + escape(name) if name else ''}</h1>"
        "<p>This goes to the operator of this node, who decides what this node serves, and only that. What was "
        'decided so far is in the <a href="/moderation/log/">signed log</a>.</p>'
        '<form method="post" action="/moderation/reports/">'
        f'<label>Address or CID<input name="where" required maxlength="{TARGET_MOST}"></label>'
        f'<label>What it is about<select name="category">{options}</select></label>'
        f'<label>What is wrong<textarea name="text" maxlength="{TEXT_MOST}"></textarea></label>'
        f'<label>How to answer you (optional)<input name="contact" maxlength="{CONTACT_MOST}"></label>'
        f"<button>Send</button></form>{reach}",
    )


def thanks(number: int) -> bytes:
    return _page(
        "Received", f"<h1>Received</h1><p>Your report has the number {number}. The operator decides.</p>"
    )


def _page(title: str, body: str) -> bytes:
    return markup.page(title, _STYLE, body)
