"""Parameters of web addresses, by their names: which open an object, and which name it.

Three kinds. A *secret* opens, and may be another one each night: it is no part of an identity. A
*naming* one says which object is meant, or how it is made, in so many services that its value is
taken for no secret. Of all others nothing is known, so they distinguish objects, and their values
are written nowhere.
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
#: What signatures sign along; without one it may be anything.
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
#: Facebook signs by these two, among others that begin with `_nc_`.
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

#: So many times percent-encoded a text is still read; no honest one is beyond three.
_ROUNDS: Final = 8


def decoded(text: str) -> str:
    """`text` without percent-encoding, which it may have several times over."""
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
    """Whether a parameter of this plain name is one, whatever else is there."""
    return _SECRET.fullmatch(name) is not None


def is_naming(name: str) -> bool:
    return name in _NAMING


def secrets_among(names: Collection[str]) -> frozenset[str]:
    """Those of an address' plain names that are secrets, with what is signed along."""
    found = frozenset(filter(is_secret, names))
    if found:
        found |= _SIGNED_ALONG.intersection(names)
        if "sig" in found and "sv" in names:
            found |= _AZURE.intersection(names)
    if _FACEBOOK.issubset(names):
        found |= _FACEBOOK | {name for name in names if name.startswith(_OF_FACEBOOK)}
    return found
