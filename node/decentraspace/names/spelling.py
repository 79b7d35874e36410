"""Names as people write them, and as they are looked up: in lower case, other scripts in Punycode.

A name in another script is shown in Punycode, with what it says beside it and a warning: letters of several scripts
look alike (homographs), and whoever links `аpple.example`, with a Cyrillic а, should see it.
Source: RFC 5891 (IDNA 2008) after the mapping of UTS 46, as browsers do it; UTS 39 section 4 for what looks alike.
"""

from __future__ import annotations

import unicodedata

from decentraspace.errors import BadInput
from decentraspace.records.schema import check_name

# Letters of other scripts that most typefaces draw like one of a-z, or a digit.
_PAIRS = (
    "aа eе oо pр cс yу xх iі jј sѕ hһ dԁ qԛ wԝ gԍ "  # Cyrillic
    "oο aα vν iι kκ pρ tτ uυ xχ yγ wω "  # Greek
    "oօ nո uս gց hհ qզ "  # Armenian
    "aɑ gɡ iı iɩ uʋ"  # Latin
)
_ALIKE = {pair[1]: pair[0] for pair in _PAIRS.split()}


def ascii_name(text: str) -> str:
    """The one spelling of a name. BadInput (`bad-name`) for what is none, an overlong one, or an address."""
    import idna

    plain = text.strip().removesuffix(".").removesuffix("/")
    try:
        if not plain.isascii():
            plain = idna.encode(plain, uts46=True, transitional=False).decode()
        for label in plain.lower().split("."):
            # Names of other systems than DNS may say more, such as emoji; that it can be read is enough.
            if label.startswith("xn--") and label[4:].encode().decode("punycode").isascii():
                raise UnicodeError(f"{label} is the Punycode of nothing")
    except (idna.IDNAError, UnicodeError) as error:
        raise BadInput(f"{text[:80]!r} cannot be a name: {str(error)[:200]}", slug="bad-name") from error
    return check_name(plain.lower())


def shown(name: str) -> str:
    """What a name says in its own script; itself where that is the same."""
    try:
        said = ".".join(
            label[4:].encode().decode("punycode") if label.startswith("xn--") else label
            for label in name.split(".")
        )
    except UnicodeError:
        return name
    return said if said.isprintable() else name  # marks that turn the direction of writing, say


def warning(name: str) -> str:
    """What whoever links or visits a name in another script should know; "" for others."""
    said = shown(name)
    if said == name:
        return ""
    mixed = [found for label in said.split(".") if len(found := _scripts(label)) > 1]
    alike = "".join(_ALIKE.get(letter, letter) for letter in said)
    if alike.isascii():
        return f"{name} reads {said}, which looks like {alike} and is another name. Is it the one you mean?"
    if mixed:
        return f"{name} reads {said}, in letters of several scripts ({', '.join(mixed[0])}): browsers warn of it."
    return f"{name} reads {said}. Other names may look like it; compare names in this spelling: {name}."


def _scripts(label: str) -> list[str]:
    """About: a letter's name begins with that of its script. Those of Japanese are written together."""
    found = {
        unicodedata.name(letter, "").partition(" ")[0].capitalize() for letter in label if letter.isalpha()
    }
    return sorted({"Japanese" if script in ("Cjk", "Hiragana", "Katakana") else script for script in found})
