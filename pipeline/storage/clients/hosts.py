"""Hosts that are known to be private before their names are resolved.

Most resolvers take `127.1`, `0x7f000001` and `2130706433` as addresses. They differ on
`0177.0.0.1`, and a proxy may decode more than we do. So a host that ends in a
number must be a plain dotted address, and a host for a proxy must be a plain name.
"""

import re
import unicodedata
from ipaddress import ip_address
from typing import Final
from urllib.parse import unquote

#: Other dots in host names, which IDNA treats as dots.
_DOTS: Final = str.maketrans("\u3002\uff0e\uff61", "...")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PLAIN: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+")
#: No public name ends like this (RFC 6761, 6762, 8375, and ICANN's choice for private use).
_INSIDE: Final = (".localdomain", ".local", ".internal", ".home.arpa")


def plain_address(host: str) -> str | None:
    """The IP address that `host` is; None if it is none or is written in an unusual form."""
    text = _folded(host)
    try:
        ip_address(text)
    except ValueError:
        return None
    return text


def named_inside(host: str, *, by_proxy: bool) -> bool:
    """Whether `host`, which is no plain address, is known to be private.

    That is the name of loopback, or an address in an unusual form. With `by_proxy` the proxy
    resolves the name and nobody checks the result, so names that only a private network knows, and
    hosts that are no plain name, count as private too.
    """
    name = _folded(host)
    if not name:
        return False  # not an address at all; reported later
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
