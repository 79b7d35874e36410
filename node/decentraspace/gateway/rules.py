"""A site's `_redirects` and `_headers` files: text into rules, a path into what they say.

Sources: https://specs.ipfs.tech/http-gateways/web-redirects-file/ and the header files that static hosts
have in common (a path pattern on a line of its own, indented `Name: value` lines below it).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote

from decentraspace.errors import BadInput

MAX_FILE = 64 * 1024  # bytes
MAX_RULES = 2000
REDIRECT_STATUS = frozenset({301, 302, 303, 307, 308})
REWRITE_STATUS = frozenset({200, 404, 410, 451})
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_PATTERN_MOST = 1000  # characters
_PLACEHOLDER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_VALUE = re.compile(r":([A-Za-z_][A-Za-z0-9_]*)")
_IN_URL = "/:?#[]@!$&'()*+,;=~%-._"
# What the server decides alone: framing, encoding, connection. Besides, cookies, which sites share, and what
# orders a server in front about are no site's to set.
_FOR_THE_SERVER = frozenset(
    {
        "accept-ranges", "age", "allow", "alt-svc", "clear-site-data", "connection", "content-encoding",
        "content-length", "content-range", "date", "etag", "host", "keep-alive", "location",
        "proxy-authenticate", "proxy-connection", "server", "te", "trailer",
        "transfer-encoding", "upgrade", "vary", "x-ipfs-path", "x-ipfs-roots",
    }
)  # fmt: skip
_COOKIES = ("set-cookie", "set-cookie2")
_ORDERS = ("x-sendfile", "x-accel-")
_IGNORED_MOST = 100  # said of a file


class Pattern(NamedTuple):
    """`/a/:name/*` by segments, so that a match takes one look at each, whatever the rule's author wrote.

    `rest`: None, or how the remainder has to begin when the pattern ends in `*`.
    """

    segments: tuple[str, ...]
    rest: str | None

    def match(self, path: str) -> dict[str, str] | None:
        """What the placeholders and `splat` stand for; None when `path` (decoded) is not matched."""
        parts = path.split("/")
        count = len(self.segments)
        if len(parts) < count or (self.rest is None and len(parts) != count):
            return None
        values: dict[str, str] = {}
        for segment, part in zip(self.segments, parts, strict=False):
            if segment.startswith(":") and part:
                values[segment[1:]] = part
            elif segment != part:
                return None
        if self.rest is not None:
            # "/a/*" is also what "/a" is asked under.
            remainder = "/".join(parts[count:])
            if not remainder.startswith(self.rest):
                return None
            values["splat"] = remainder[len(self.rest) :]
        return values


_EVERYTHING = Pattern(("",), "")


class Redirect(NamedTuple):
    """`to`: a path or an absolute URL, with :placeholders and :splat; `forced`: even over a file that is there."""

    pattern: Pattern
    to: str
    status: int
    forced: bool


class Match(NamedTuple):
    to: str
    status: int
    forced: bool


class HeaderRule(NamedTuple):
    pattern: Pattern
    headers: tuple[tuple[str, str], ...]


class Ignored(list[str]):
    """What of a file has no effect, and why: a sentence each, up to a hundred. Its owner is told."""

    def say(self, file: str, line: int, what: str) -> None:
        if len(self) < _IGNORED_MOST:
            self.append(f"{file}, line {line}: {what}")


def parse_redirects(text: bytes, ignored: Ignored | None = None) -> tuple[Redirect, ...]:
    """BadInput, naming the line, for a file that is not valid: a site with one shows that error.

    `ignored`: is told what is valid, but does nothing.
    """
    rules: list[Redirect] = []
    seen: dict[Pattern, int] = {}
    everything = 0  # line of a rule that matches all paths
    for number, line in _lines(text, "_redirects"):
        words = line.split()
        if len(words) < 2 or len(words) > 3:
            raise BadInput(f"_redirects, line {number}: a rule is FROM TO [STATUS]")
        status, forced = 301, False
        if len(words) == 3:
            forced = words[2].endswith("!")
            try:
                status = int(words[2].rstrip("!"))
            except ValueError as error:
                raise BadInput(f"_redirects, line {number}: {words[2]!r} is no status") from error
        if status not in REDIRECT_STATUS | REWRITE_STATUS:
            raise BadInput(f"_redirects, line {number}: status {status} is not supported")
        if not words[0].startswith("/"):
            raise BadInput(f"_redirects, line {number}: FROM must be a path that starts with /")
        absolute = re.match(r"https?://", words[1]) is not None
        if not (words[1].startswith("/") and not words[1].startswith("//")) and not (
            absolute and status in REDIRECT_STATUS
        ):
            raise BadInput(f"_redirects, line {number}: TO must be a path, or a URL to be redirected to")
        rule = Redirect(_pattern(words[0], f"_redirects, line {number}"), words[1], status, forced)
        rules.append(rule)
        if ignored is not None:
            if before := seen.get(rule.pattern) or everything:
                ignored.say("_redirects", number, f"no path gets to this rule: line {before} matches first")
            seen.setdefault(rule.pattern, number)
            if rule.pattern == _EVERYTHING:
                everything = everything or number
            for what in _without_effect(rule):
                ignored.say("_redirects", number, what)
        if len(rules) > MAX_RULES:
            raise BadInput(f"_redirects has more than {MAX_RULES} rules")
    return tuple(rules)


def _without_effect(rule: Redirect) -> list[str]:
    known = {s[1:] for s in rule.pattern.segments if s.startswith(":")}
    if rule.pattern.rest is not None:
        known.add("splat")
    said = []
    if unknown := [name for name in _VALUE.findall(rule.to) if name not in known]:
        said.append(f":{unknown[0][:64]} stands for nothing, as FROM has no such placeholder")
    if rule.status in REWRITE_STATUS and re.search(r"[?#]", rule.to):
        said.append("what follows ? or # in TO has no effect, as the answer is a file")
    return said


def find_redirect(rules: Sequence[Redirect], path: str) -> Match | None:
    """The first rule for `path` (decoded, starts with /), its placeholders filled in."""
    for rule in rules:
        found = rule.pattern.match(path)
        if found is not None:
            return Match(_fill(rule, found), rule.status, rule.forced)
    return None


def _fill(rule: Redirect, values: dict[str, str]) -> str:
    """A path to be looked up, decoded; or what Location says, where a visitor's text must stay what it is:
    no query, no other host, no end of the header line."""
    rewrite = rule.status in REWRITE_STATUS
    to = unquote(re.split(r"[?#]", rule.to)[0]) if rewrite else quote(rule.to, safe=_IN_URL)

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            return match[0]
        return values[match[1]] if rewrite else quote(values[match[1]])

    return _VALUE.sub(value, to)


def parse_headers(text: bytes, ignored: Ignored | None = None) -> tuple[HeaderRule, ...]:
    """BadInput, naming the line, for a file that is not valid. `ignored`: is told what is left out of it."""
    rules: list[HeaderRule] = []
    pattern: Pattern | None = None
    headers: list[tuple[str, str]] = []
    for number, line in _lines(text, "_headers", keep_indent=True):
        if not line[0].isspace():
            if pattern is not None:
                rules.append(HeaderRule(pattern, tuple(headers)))
            if not line.startswith("/"):
                raise BadInput(f"_headers, line {number}: a block starts with a path")
            pattern, headers = _pattern(line.strip(), f"_headers, line {number}"), []
            continue
        name, colon, value = line.strip().partition(":")
        value = value.strip()
        if pattern is None or not colon or not _NAME.fullmatch(name) or len(value) > 4096:
            raise BadInput(f"_headers, line {number}: expected NAME: VALUE below a path")
        if not value.isascii() or not value.isprintable():
            raise BadInput(f"_headers, line {number}: a value has characters that no header may have")
        if why := _not_a_sites(name.lower()):
            if ignored is not None:
                ignored.say("_headers", number, f"{name} is left out: {why}")
        else:
            headers.append((name.lower(), value))
    if pattern is not None:
        rules.append(HeaderRule(pattern, tuple(headers)))
    if len(rules) > MAX_RULES:
        raise BadInput(f"_headers has more than {MAX_RULES} blocks")
    return tuple(rules)


def _not_a_sites(name: str) -> str:
    """Why a site may not set that header; empty if it may."""
    if name in _COOKIES:
        return "sites under one domain would share its cookies"
    if name.startswith(_ORDERS):
        return "a server in front of the gateway would obey it"
    return "the server decides it" if name in _FOR_THE_SERVER else ""


def headers_for(rules: Sequence[HeaderRule], path: str) -> list[tuple[str, str]]:
    """All headers for `path`; a later block's value replaces an earlier one's."""
    found: dict[str, str] = {}
    for rule in rules:
        if rule.pattern.match(path) is not None:
            found.update(rule.headers)
    return list(found.items())


def _lines(text: bytes, name: str, keep_indent: bool = False) -> list[tuple[int, str]]:
    if len(text) > MAX_FILE:
        raise BadInput(f"{name[1:]} file size cannot exceed {MAX_FILE} bytes")
    try:
        lines = re.split(r"\r?\n", text.decode("utf-8-sig"))  # some editors write a mark first
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not UTF-8") from error
    result = []
    for number, line in enumerate(lines, 1):
        bare = line.strip()
        if bare and not bare.startswith("#"):
            # In _redirects a comment may follow a rule.
            result.append((number, line.rstrip() if keep_indent else re.sub(r"\s#.*", "", bare)))
    return result


def _pattern(text: str, where: str) -> Pattern:
    """`/a/:name/*`: a placeholder is a whole segment, the splat is the end."""
    if len(text) > _PATTERN_MOST:
        raise BadInput(f"{where}: a path has at most {_PATTERN_MOST} characters")
    if text.count("*") > 1 or ("*" in text and not text.endswith("*")):
        raise BadInput(f"{where}: * may stand once, at the end of a path")
    segments = unquote(text).split("/")
    rest = segments.pop()[:-1] if text.endswith("*") else None
    names = [s[1:] for s in segments if s.startswith(":")] + ["splat"] * (rest is not None)
    for name in names:
        if not _PLACEHOLDER.fullmatch(name):
            raise BadInput(f"{where}: a placeholder such as :name is all of its segment")
        if names.count(name) > 1:
            raise BadInput(f"{where}: :{name} stands twice")
    return Pattern(tuple(segments), rest)
