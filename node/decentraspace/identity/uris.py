"""What a URI and an authority are, as regular expressions. Source: RFC 3986, appendix A."""

from __future__ import annotations

_UNRESERVED = r"A-Za-z0-9\-._~"
_SUB_DELIMS = r"!$&'()*+,;="
_ESCAPED = r"%[0-9A-Fa-f]{2}"

_H16 = r"[0-9A-Fa-f]{1,4}"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_LAST_32_BITS = rf"(?:{_H16}:{_H16}|{_IPV4})"


def _ipv6() -> str:
    """Eight groups; or one `::` with at most seven groups around it, of which it stands for the rest."""
    forms = [rf"(?:{_H16}:){{6}}{_LAST_32_BITS}"]
    for after in range(5, -1, -1):
        before = rf"(?:(?:{_H16}:){{0,{4 - after}}}{_H16})?" if after < 5 else ""
        forms.append(rf"{before}::(?:{_H16}:){{{after}}}{_LAST_32_BITS}")
    forms.append(rf"(?:(?:{_H16}:){{0,5}}{_H16})?::{_H16}")
    forms.append(rf"(?:(?:{_H16}:){{0,6}}{_H16})?::")
    return "(?:" + "|".join(forms) + ")"


_IP_LITERAL = rf"\[(?:{_ipv6()}|[Vv][0-9A-Fa-f]+\.[{_UNRESERVED}{_SUB_DELIMS}:]+)\]"
_NAME = rf"(?:[{_UNRESERVED}{_SUB_DELIMS}]|{_ESCAPED})"
_USER = rf"(?:(?:[{_UNRESERVED}{_SUB_DELIMS}:]|{_ESCAPED})*@)?"

SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]*"
AUTHORITY = rf"{_USER}(?:{_IP_LITERAL}|{_NAME}+)(?::[0-9]*)?"
"""With a host: RFC 3986 would take an empty one."""
PCHAR = rf"(?:[{_UNRESERVED}{_SUB_DELIMS}:@]|{_ESCAPED})"
_PATH = rf"(?:/{PCHAR}*)*"
_HIERARCHY = (
    rf"(?://{_USER}(?:{_IP_LITERAL}|{_NAME}*)(?::[0-9]*)?{_PATH}|/(?:{PCHAR}+{_PATH})?|{PCHAR}+{_PATH}|)"
)
URI = rf"{SCHEME}:{_HIERARCHY}(?:\?(?:{PCHAR}|[/?])*)?(?:\#(?:{PCHAR}|[/?])*)?"
