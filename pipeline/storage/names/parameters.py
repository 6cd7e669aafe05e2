"""Parameters of web addresses, by their names: which give access to an object, and which name it.

There are three kinds. A *secret* gives access, and may change each night: it is not part of an
identity. A *naming* parameter says which object is meant, or how it is made, in so many services
that its value does not count as a secret. All others are unknown, so they distinguish objects, and
their values are never written.
"""

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

_SECRET: Final = re.compile(
    r"x-(amz|goog|oss|obs|cos|tos)-.*"
    r"|(aws|oss)?-?access-?key(-?id)?|google-?access-?id|key-pair-id"
    r"|(.*-)?(signature|sig|hmac)|(x-)?sign|q-(sign-algorithm|ak|sign-time|key-time|header-list"
    r"|url-param-list)"
    r"|(.*-)?(token|secret|password|passwd)|--token--|--gda--|hdnts|hdnea|hdntl|jwt|sas|verify"
    r"|api-?key|credentials?|auth|authorization|auth-key|passphrase|passcode|pwd"
    r"|(j|php)?sess(ion)?-?id"
)
#: What signatures cover in addition; without a signature it may be anything.
_SIGNED_ALONG: Final = frozenset({"expires", "expiry", "exp", "policy"}) | {
    f"{prefix}-{name}"
    for prefix in ("x", "temp-url")
    for name in ("expires", "expiry", "timestamp", "nonce", "ip-range", "prefix")
}
#: The same for Azure, whose signature is `sig`, with a version `sv`.
_AZURE: Final = frozenset(
    {"sv", "ss", "srt", "sr", "si", "st", "se", "sp", "spr", "sip", "sdd", "ses", "scid"}
    | {"saoid", "suoid", "skoid", "sktid", "skt", "ske", "sks", "skv"}
)
#: Facebook signs with these two, among others that begin with `_nc_`.
_FACEBOOK: Final = frozenset({"oh", "oe"})
_OF_FACEBOOK: Final = "-nc-"

#: Which object; which version, page or time of it; how it is made; how it is sent.
_NAMES: Final = """
    id ids pid imageid image-id photoid photo-id fileid file-id assetid asset-id mediaid media-id
    itemid item-id objectid object-id productid product-id docid doc-id sku
    name filename file-name file path dir folder image img photo picture pic media asset object
    url uri src

    v ver version versionid version-id rev revision generation
    page p n no num number part partnumber frame index idx i year month day date

    w h width height size sz dpr q quality fit crop fm fmt format ext type mode scale zoom rotate
    angle bg background blur sharp lossless strip thumb thumbnail preview original auto op
    lang locale x y z lat lon lng bbox layer layers style styles service request crs srs srsname
    tilematrix tilematrixset tilerow tilecol transparent xywh

    alt dl raw download export x-id response-content-type response-content-disposition
"""
_NAMING: Final = frozenset(_NAMES.split())

#: A text is decoded at most this many times; no honest one needs more than three.
_ROUNDS: Final = 8


def decoded(text: str) -> str:
    """`text` without percent-encoding, which may be applied several times."""
    for _ in range(_ROUNDS):
        if "%" not in text or (plain := unquote(text)) == text:
            break
        text = plain
    return text


@lru_cache(maxsize=4096)
def plain_name(name: str) -> str:
    """One spelling for a parameter's name: `%58_Amz-Date` is `x-amz-date`."""
    return decoded(name.replace("+", " ")).strip().lower().replace("_", "-")


@lru_cache(maxsize=4096)
def is_secret(name: str) -> bool:
    """Whether a parameter of this plain name is a secret, whatever else the address holds."""
    return _SECRET.fullmatch(name) is not None


def is_naming(name: str) -> bool:
    return name in _NAMING


def secrets_among(names: Collection[str]) -> frozenset[str]:
    """The plain names of an address that are secrets, with what a signature covers in addition."""
    found = frozenset(filter(is_secret, names))
    if found:
        found |= _SIGNED_ALONG.intersection(names)
        if "sig" in found and "sv" in names:
            found |= _AZURE.intersection(names)
    if _FACEBOOK.issubset(names):
        found |= _FACEBOOK | {name for name in names if name.startswith(_OF_FACEBOOK)}
    return found
