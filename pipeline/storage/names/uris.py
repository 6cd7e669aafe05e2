"""Uris: one spelling for each object.

Identities are made of canonical uris, so this spelling must never change:
`./x`, `/abs/x` and `file:///abs/x` are `file:///abs/x`, never percent-encoded, symlinks kept;
a bucket store's key is kept exactly (`//`, `%`, spaces and all); http(s) is kept as it is.
"""

import os
import re
from pathlib import Path
from typing import Final

from pipeline.errors import SpecError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "azure": "az"}
_UNTIDY = re.compile(r"//|/\.\.?(/|$)|/$")

USER: Final = re.compile(r"(?<=://)[^/?#]*@")
#: Elsewhere a user name alone is no secret: an Azure container is written like one.
USER_AND_PASSWORD: Final = re.compile(r"(?<=://)[^/?#@:]*:[^/?#]*@")

#: Signs in percent-encoding, once or more, as in the paths of image proxies.
ENCODED: Final = {"?": r"%(?:25)*3f", "://": r"%(?:25)*3a(?:%(?:25)*2f){2}"}
_PARAMETERS: Final = re.compile(
    rf";[^;/]*=[^;/]*|(?:{ENCODED['?']}|{ENCODED['://']}|[?#]).*", re.IGNORECASE | re.DOTALL
)

#: Object stores that are accessed through obstore.
BUCKETS = frozenset({"s3", "gs", "az", "abfs", "abfss"})


def canonical(uri: str) -> str:
    """The one spelling of `uri`. Raises SpecError for a `file://` uri that is not absolute."""
    found = _SCHEME.match(uri)
    if found is None:
        return f"file://{_tidy(os.path.abspath(uri))}"  # noqa: PTH100 - keeps symlinks
    name, rest = found[1].lower(), uri[found.end() :]
    if name == "file":
        if not rest.startswith("/"):
            raise SpecError("uri", uri, "write file:///absolute/path or a plain path")
        return f"file://{_tidy(rest)}"
    return f"{_ALIASES.get(name, name)}://{rest}"


def _tidy(path: str) -> str:
    if path == "/" or not _UNTIDY.search(path):
        return path
    # POSIX allows another meaning for two leading slashes, so normpath keeps them.
    return os.path.normpath(path).replace("//", "/", 1)


def scheme(uri: str) -> str:
    """`s3` of `s3://bucket/key`; `uri` must be canonical."""
    return uri.partition("://")[0]


def split(uri: str) -> tuple[str, str]:
    """(`s3://bucket`, `key`) of a canonical uri; (`file://`, `/abs/x`) of a local one."""
    start = uri.index("://") + 3
    end = uri.find("/", start)
    if end < 0:
        return uri, ""
    return (uri[:end], uri[end:]) if end == start else (uri[:end], uri[end + 1 :])


def as_folder(uri: str) -> str:
    """`uri` with exactly the final slash that makes it a prefix of the objects below it."""
    return uri if uri.endswith("/") else f"{uri}/"


def join(uri: str, name: str) -> str:
    """`name` below the folder `uri`."""
    return as_folder(uri) + name


def relative(uri: str, base: str) -> str:
    """`uri` relative to the folder `base`; ValueError if it is not below it."""
    prefix = as_folder(base)
    if not uri.startswith(prefix):
        raise ValueError(f"{public(uri)} is not below {public(base)}")
    return uri[len(prefix) :]


def local_path(uri: str) -> Path | None:
    """The path of a local uri (canonical or not), None for any other."""
    uri = canonical(uri)
    return Path(uri.removeprefix("file://")) if uri.startswith("file://") else None


#: Separates an archive and its member in text for people.
MEMBER_MARK: Final = "!/"


def member_name(uri: str, member: str | None) -> str:
    """An object's name for people: `photos.zip!/a/b.jpg` for a member of an archive."""
    return uri if member is None else f"{uri}{MEMBER_MARK}{member}"


def public(uri: str) -> str:
    """`uri` without what may hold a secret (parameters, a user's name and password)."""
    if uri.startswith("file://"):
        return uri.removeprefix("file://").encode("utf-8", "replace").decode()
    if uri.startswith(("http://", "https://")):
        return _PARAMETERS.sub("", USER.sub("", uri))
    return USER_AND_PASSWORD.sub("", uri)
