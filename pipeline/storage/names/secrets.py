"""Addresses that carry a credential: which part names an object, and which part may be written.

A signed url changes each night, and the object behind it stays the same. So an object's identity is
the url without its credentials; the whole url is used only for fetching. Unknown parameters
may name an object or give access to it. They stay in the identity, of which only a hash is kept. In
the table each of their values is a digest: objects stay apart, and possible secrets are not
written.
"""

import re
from base64 import urlsafe_b64encode
from hashlib import blake2b
from typing import Final
from urllib.parse import quote

from pipeline.storage.names.parameters import (
    decoded,
    is_naming,
    is_secret,
    plain_name,
    secrets_among,
)
from pipeline.storage.names.uris import ENCODED, USER, USER_AND_PASSWORD

#: What an address must contain, plain or encoded, if there is anything to leave out.
_MARKS: Final = ("?", "@", "#", ";", "\0")
_WEB: Final = ("http://", "https://")
#: `&amp;` is HTML for `&`, and a `;` may replace it.
_SEPARATOR: Final = re.compile(r"(&(?:amp;)*|;)", re.IGNORECASE)
_SIMPLE: Final = re.compile(r"[A-Za-z0-9_.,:/+-]*")
_PATH_PARAMETER: Final = re.compile(r";([^;/=]*)=[^;/]*")
_PATH_QUERY: Final = re.compile(ENCODED["?"], re.IGNORECASE)
_PATH_ADDRESS: Final = re.compile(f"https?(?:{ENCODED['://']})", re.IGNORECASE)

#: Depth of addresses inside addresses, as image proxies have them; deeper ones are not parsed.
_DEPTH: Final = 6

_DIGEST_BYTES: Final = 12
_DIGEST: Final = re.compile(r"~[A-Za-z0-9_-]{16}")
#: Names that are shown. A longer one may itself be a secret, and so may one without a value.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-\[\]]{0,31}")


def identity(uri: str) -> str:
    """A canonical uri without user, password and the parameters of a signature.

    The rest is kept unchanged, so that a url without credentials is its own
    identity. Two urls that differ in nothing else name one object. An identity may still hold a
    secret that cannot be recognised, so it must not be written: see `recorded`.
    """
    return _Reading(record=False, again=False).address(uri)


def recorded(uri: str, *, again: bool = False) -> str:
    """A canonical uri as it is written: its identity, with digests for unknown values.

    `?foo=17` becomes `?foo=~…`, 96 bits of a hash, so that two identities are two texts. With
    `again`, existing digests stay, for texts that may have been recorded before.
    """
    return _Reading(record=True, again=again).address(uri)


def identities(uris: list[str]) -> list[str]:
    """The identity of each; fast if none of them contains anything to leave out."""
    return [identity(uri) for uri in uris] if _have_marks(uris) else uris


def all_recorded(uris: list[str]) -> list[str]:
    """Each as it is recorded; fast if they are written as they are."""
    return [recorded(uri) for uri in uris] if _have_marks(uris) else uris


def _have_marks(uris: list[str]) -> bool:
    return not _is_bare("".join(uris))


class _Reading:
    """One way to read an address and its contents."""

    def __init__(self, *, record: bool, again: bool, depth: int = 0) -> None:
        self._record, self._again, self._depth = record, again, depth

    def address(self, uri: str) -> str:
        if "\0" in uri:
            # No object has such a name; it may break a table's reader, and it separates the parts
            # of ids.
            uri = uri.replace("\0", "%00")
        if not uri.startswith(_WEB):
            return uri if uri.startswith("file://") else USER_AND_PASSWORD.sub("", uri)
        if _is_bare(uri):
            return uri
        if "@" in uri:
            uri = USER.sub("", uri)
        whole, hash_sign, fragment = uri.partition("#")
        path, mark, query = whole.partition("?")
        kept, fragment = self._parameters(query), self._parameters(fragment)
        return (
            self._path(path)
            + (mark if kept or not query else "")
            + kept
            + (hash_sign if fragment else "")
            + fragment
        )

    def _path(self, path: str) -> str:
        """A path names its object, so only certain secrets are removed from it."""
        if ";" in path:
            path = _PATH_PARAMETER.sub(
                lambda found: "" if is_secret(plain_name(found[1])) else found[0], path
            )
        if "%" not in path:
            return path
        if inner := _PATH_ADDRESS.search(path):
            return path[: inner.start()] + self._inner(path[inner.start() :])
        head, mark, query = _divided(path)
        plain = decoded(query)
        kept = _Reading(record=False, again=False)._parameters(plain)
        return path if kept == plain else head + (mark + quote(kept, safe="") if kept else "")

    def _parameters(self, query: str) -> str:
        if _all_naming(query):
            return query
        parts = _SEPARATOR.split(query)
        pieces, separators = parts[::2], ["", *parts[1::2]]
        names = [plain_name(piece.partition("=")[0]) for piece in pieces]
        secrets = secrets_among(set(names))
        kept = ""
        first = True
        for name, piece, separator in zip(names, pieces, separators, strict=True):
            if name not in secrets:
                kept += ("" if first else separator) + self._parameter(name, piece)
                first = False
        return kept

    def _parameter(self, name: str, piece: str) -> str:
        written, equals, value = piece.partition("=")
        if not self._record:
            clean = self._inner(value)
            return piece if clean == value else written + equals + clean
        if not piece or (is_naming(name) and _is_plain(value)):
            return piece
        if is_naming(name) and "://" in decoded(value) and self._depth < _DEPTH:
            return written + equals + self._inner(value)
        return self._digested(written, equals, value)

    def _digested(self, name: str, equals: str, value: str) -> str:
        """`name=value` with a digest of the value; a digest of both if the name may be a secret
        too."""
        if not value.strip("=") or not _NAME.fullmatch(name):
            name, equals, value = "", "", name + equals + value
        if self._again and _DIGEST.fullmatch(value):
            return name + equals + value
        clean = _Reading(record=False, again=False, depth=self._depth)._inner(value)
        found = blake2b(clean.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES)
        return f"{name}{equals}~{urlsafe_b64encode(found.digest()).decode()}"

    def _inner(self, value: str) -> str:
        """A value that may itself be an address, encoded or not."""
        plain = decoded(value)
        if "://" not in plain or self._depth == _DEPTH:
            return value
        deeper = _Reading(record=self._record, again=self._again, depth=self._depth + 1)
        clean = deeper.address(plain)
        return value if clean == plain else quote(clean, safe="")


def _is_bare(uri: str) -> bool:
    """Quick check: whether an address, or many in one text, contain nothing to leave out."""
    if any(mark in uri for mark in _MARKS):
        return False
    return "%" not in uri or ("%3" not in uri and "%25" not in uri)


def _all_naming(query: str) -> bool:
    """Quick check: whether nothing in a query is left out or changed; it runs for each image."""
    pieces = (piece.partition("=") for piece in query.split("&"))
    return not query or all(is_naming(n) and _SIMPLE.fullmatch(value) for n, _, value in pieces)


def _divided(path: str) -> tuple[str, str, str]:
    """A path before and after a percent-encoded `?`."""
    found = _PATH_QUERY.search(path)
    return (path[: found.start()], found[0], path[found.end() :]) if found else (path, "", "")


def _is_plain(value: str) -> bool:
    """Whether a value has no parameters of its own. `=` at its end is base64 padding."""
    plain = decoded(value)
    return "://" not in plain and not set("?=#&;").intersection(plain.rstrip("="))


def redacted(text: str, *, foreign: bool = False) -> str:
    """`text` without the parameters, user and password of any address in it.

    HTTP libraries name an address by only its path and query; so may `foreign` text.
    """
    text = _ADDRESS_IN_TEXT.sub(r"\1?…", text)
    if foreign:
        text = _PATH_IN_TEXT.sub(r"\1?…", text)
    return re.sub(r"(?<=://)[^/\s'\"<>?#]*@", "", text)


#: Where the parameters of an address begin, encoded or not, and where they end.
_BEGIN: Final = rf"[?#]|;(?=[^\s;/'\"<>]*=)|{ENCODED['?']}|{ENCODED['://']}"
_BEFORE: Final = rf"(?:(?!{_BEGIN})[^\s'\"<>])*"
_ADDRESS_IN_TEXT: Final = re.compile(rf"(://{_BEFORE})(?:{_BEGIN})[^\s'\"<>]*", re.IGNORECASE)
_PATH_IN_TEXT: Final = re.compile(
    rf"(?<![^\s'\"(=])(/{_BEFORE})(?:{_BEGIN})[^\s'\"<>]*", re.IGNORECASE
)
