"""What of a person stands in code: addresses, numbers and names. Addresses that the standards set apart for examples,
private networks and this machine are nobody's, and stay."""

from __future__ import annotations

import ipaddress
import re

from homespun_indexer.credentials import Rule, rule

_TOP_LEVEL = (
    "com|org|net|edu|gov|mil|info|biz|name|dev|app|cloud|tech|online|site|xyz|email|software|company|agency|systems"
    "|digital|[a-z]{2}"
)
_NOBODY = re.compile(
    r"(?:^|[@.])(?:example|test|invalid|localhost|local)(?:\.(?:com|org|net|edu|[a-z]{2}))?$"
    r"|^(?:git|hg|svn|user|username|you|your\.?(?:name|email)|me|foo|bar|name|noreply|no-reply|root)@",
    re.IGNORECASE,
)
_IPV6_PEOPLE = ipaddress.ip_network("2000::/3")
_IPV6_EXAMPLES = tuple(map(ipaddress.ip_network, ("2001:db8::/32", "3fff::/20")))
_RESOLVERS = frozenset(
    ("8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "149.112.112.112", "208.67.222.222", "208.67.220.220")
)
_ORGANISATION = re.compile(
    r"(?i)\b(?:inc|ltd|llc|gmbh|ag|corp|co|company|corporation|foundation|authors?|contributors?|project|team|group"
    r"|software|systems|labs?|technologies|solutions|university|institute|community|developers?|limited|all|rights)\b"
)
_NAME = r"[^\W\d_a-z][\w.'’-]{0,29}(?:[ \t](?:(?:van|von|de|der|den|la|le|di|da)[ \t])?[^\W\d_a-z][\w.'’-]{0,29}){1,3}"
_PERSON_TAG = (
    r"(?:[@\\]author\s|__(?:author|maintainer)__\s?=\s?[\"']|\b[Aa]uthors?:\s|\b[Mm]aintainers?:\s"
    r"|\b(?:Signed-off|Co-authored|Reviewed|Reported)-by:\s|\b(?:[Ww]ritten|[Cc]reated|[Cc]ontributed)\sby\s"
    r"|(?i:\bcopyright)\s(?:(?:\([cC]\)|©)\s?)?(?:\d{4}(?:\s?[-,–]\s?\d{2,4}){0,5},?\s)?(?:by\s)?)"
)


def _is_somebody(address: str) -> bool:
    return not _NOBODY.search(address)


def _is_public_ipv4(text: str) -> bool:
    """Not where every part is below 10: versions and OIDs look like that, and one address in 400,000."""
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        return False
    is_version = all(int(part) < 10 for part in text.split("."))
    return address.is_global and not address.is_multicast and not is_version and text not in _RESOLVERS


def _is_public_ipv6(text: str) -> bool:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return False
    is_example = any(address in network for network in _IPV6_EXAMPLES)
    return address in _IPV6_PEOPLE and not is_example and len([*filter(None, text.split(":"))]) >= 3


def _is_phone(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return 8 <= len(digits) <= 15 and len(set(digits)) > 3


def _is_person(text: str) -> bool:
    """Licences shout: COPYRIGHT HOLDERS BE LIABLE."""
    return not text.isupper() and not _ORGANISATION.search(text)


PERSONAL: tuple[Rule, ...] = (
    rule(
        "EMAIL",
        "@",
        r"(?<![A-Za-z0-9._%+-])(?P<secret>[A-Za-z0-9_][A-Za-z0-9._%+-]{0,63}+@(?:[A-Za-z0-9-]{1,63}+\.){1,8}"
        rf"(?:{_TOP_LEVEL}))(?![\w(-]|\.\w)",
        _is_somebody,
    ),
    rule(
        "PHONE",
        "+",
        r"(?<![\w+.)\]])(?P<secret>\+[1-9]\d{0,2}(?:[ .-]?\(\d{1,5}\)|[ .-]\d{1,5})(?:[ .-]?\d{2,8}){1,5}"
        r"|\+[1-9]\d{9,14})(?![\w.]*\w)",
        _is_phone,
    ),
    rule("PHONE", "-", r"(?<![\w.-])(?P<secret>\(\d{3}\) ?\d{3}-\d{4}|\d{3}-\d{3}-\d{4})(?![\w-])", _is_phone),
    rule(
        "PHONE",
        "phone tel mobile fax",
        r"(?i)(?<![a-z])(?:phone|tel|telephone|mobile|fax)(?:[_ ]?(?:no|num|number))?[\"']?\s{0,4}[:=]\s{0,4}[\"']?"
        r"(?P<secret>[+(]?\d[\d ()/-]{6,20}\d)(?![\w.])",
        _is_phone,
    ),
    rule(
        "IPV4",
        ".",
        r"(?<![\w.-])(?<!==)(?<![~<>^]=)(?P<secret>\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})(?![\w-]|\.\d)",
        _is_public_ipv4,
    ),
    rule("IPV6", ":", r"(?<![\w:.])(?P<secret>[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{3,35})(?![\w:])", _is_public_ipv6),
    rule("PERSON", "author maintainer -by: by copyright", rf"{_PERSON_TAG}(?P<secret>{_NAME})(?!\w)", _is_person),
    rule(
        "PERSON",
        "todo( fixme( xxx( hack( note(",
        r"\b(?:TODO|FIXME|XXX|HACK|NOTE)\((?P<secret>@?[a-z][a-z._-]{1,29})\)",
    ),
)
