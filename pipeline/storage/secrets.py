"""Addresses that carry a credential: what of them names an object, and what only opens it.

A signed url is a new one each night, and the object behind it the same. So its identity, which
stands in the table, is the url without its credentials; the whole url is for fetching alone.
"""

import re
from typing import Final
from urllib.parse import quote, unquote, unquote_plus

from pipeline.storage.uris import USER, USER_AND_PASSWORD

_SECRET: Final = re.compile(
    r"x-(amz|goog|oss|obs|cos|tos)-.*"
    r"|(aws|oss)?-?access-?key(-?id)?|google-?access-?id|key-pair-id"
    r"|signature|sig|sign|hmac|q-(sign-algorithm|ak|sign-time|key-time|header-list"
    r"|url-param-list|signature)"
    r"|(.*-)?(token|secret|password|passwd)|--token--|hdnts|hdnea|hdntl|jwt"
    r"|api-?key|credentials?|auth|authorization"
)
#: What signatures sign along; without one it may be anything.
_SIGNED_ALONG: Final = frozenset({"expires", "expiry", "exp", "policy"})
#: The same for Azure, whose signature is `sig`, with a version `sv`.
_AZURE: Final = frozenset(
    {"sv", "ss", "srt", "sr", "si", "st", "se", "sp", "spr", "sip", "sdd", "ses", "scid"}
    | {"saoid", "suoid", "skoid", "sktid", "skt", "ske", "sks", "skv"}
)


def identity(uri: str) -> str:
    """A canonical uri without user, password and the parameters of a signature.

    What remains is kept letter by letter, so that a url without credentials is its own
    identity. Two urls that differ in nothing else name one object.
    """
    if "\0" in uri:
        # No object has such a name; a table's reader may choke on it, and ids are made with it.
        uri = uri.replace("\0", "%00")
    if uri.startswith("file://") or ("?" not in uri and "@" not in uri and "#" not in uri):
        return uri
    if not uri.startswith(("http://", "https://")):
        return USER_AND_PASSWORD.sub("", uri)
    whole, hash_sign, fragment = USER.sub("", uri).partition("#")
    path, mark, query = whole.partition("?")
    kept = _without_secrets(query)
    fragment = _without_secrets(fragment)
    return (
        path
        + (mark if kept or not query else "")
        + kept
        + (hash_sign if fragment else "")
        + fragment
    )


def identities(uris: list[str]) -> list[str]:
    """The identity of each; at once where none of them holds what it would leave out."""
    text = "".join(uris)
    if not any(mark in text for mark in "?@#\0"):
        return uris
    return [identity(uri) for uri in uris]


def _without_secrets(query: str) -> str:
    given = [(_name(one), one) for one in query.split("&")]
    names = {name for name, _ in given}
    along: frozenset[str] = frozenset()
    if any(map(_SECRET.fullmatch, names)):
        along = _SIGNED_ALONG | (_AZURE if {"sig", "sv"} <= names else frozenset())
    return "&".join(
        _nested(one) for name, one in given if not (_SECRET.fullmatch(name) or name in along)
    )


def _name(parameter: str) -> str:
    return unquote_plus(parameter.partition("=")[0]).strip().lower().replace("_", "-")


def _nested(parameter: str) -> str:
    """A parameter whose value may be an address too, as those of image proxies are."""
    name, equals, value = parameter.partition("=")
    inner = unquote(value)
    clean = identity(inner) if "://" in inner else inner
    return parameter if clean == inner else f"{name}{equals}{quote(clean, safe='')}"


def redacted(text: str) -> str:
    """`text` with no query, user or password in any address that stands in it."""
    text = re.sub(r"(://[^\s'\"<>?#]*)[?#][^\s'\"<>]*", r"\1?…", text)
    return re.sub(r"(?<=://)[^/\s'\"<>?#]*@", "", text)
