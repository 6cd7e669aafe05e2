"""Hosts that are known not to be public before anyone resolves them.

`127.1`, `0x7f000001` and `2130706433` are addresses to most resolvers, `0177.0.0.1` is one to
some and another to others, and a proxy may decode what we would not. So a host that ends in a
number must be a plain dotted address, and what a proxy is asked for a plain name.
"""

import re
import unicodedata
from ipaddress import ip_address
from typing import Final
from urllib.parse import unquote

#: Other dots that names are written with, which IDNA takes for dots.
_DOTS: Final = str.maketrans("\u3002\uff0e\uff61", "...")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PLAIN: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+")
#: No public name ends so (RFC 6761, 6762, 8375, and ICANN's choice for private use).
_INSIDE: Final = (".localdomain", ".local", ".internal", ".home.arpa")


def plain_address(host: str) -> str | None:
    """The IP address that `host` is, None for one that is no address or written in an odd way."""
    text = _folded(host)
    try:
        ip_address(text)
    except ValueError:
        return None
    return text


def named_inside(host: str, *, by_proxy: bool) -> bool:
    """Whether `host`, no plain address, is none that the whole internet knows.

    It is loopback's name, or an address in an odd way. `by_proxy`: others will resolve it and
    nobody looks at what they find, so names that only a private network knows, and what is no
    plain name, are taken for inside too.
    """
    name = _folded(host)
    if not name:
        return False  # no address at all, as will be said
    if name == "localhost" or name.endswith(".localhost"):
        return True
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        return True
    return by_proxy and (_PLAIN.fullmatch(name) is None or name.endswith(_INSIDE))


def _folded(host: str) -> str:
    """`host` as the most lenient resolver would read it."""
    if host.startswith("[") or ":" in host:
        return unquote(host.strip("[]"))
    text = unicodedata.normalize("NFKC", unquote(host)).translate(_DOTS)
    return text.casefold().rstrip(".")
