"""Resolves the entries of a manifest to canonical uris."""

import re
from collections.abc import Callable
from typing import Final

from pipeline.errors import SpecError
from pipeline.storage import canonical, join, scheme

WEB: Final = frozenset({"http", "https"})
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def resolver(src: str) -> Callable[[str], str]:
    """Entries as canonical uris; a relative one starts at the manifest's folder.

    A manifest from the web is not trusted, so it may not name anything that only we can read.
    """
    from_web = scheme(src) in WEB
    parent = (src.partition("?")[0] if from_web else src).rstrip("/").rpartition("/")[0]

    def resolve(text: str) -> str:
        if text.startswith(("s3://", "https://", "http://", "gs://")):
            return text  # canonical already
        if text.startswith("/"):
            return canonical(text)
        if not _SCHEME.match(text):
            return canonical(join(parent, text))
        try:
            return canonical(text)
        except SpecError:  # a file of another host: a row that says so when it is read
            return f"file://{text[len('file://') :]}"

    def resolve_of_web(text: str) -> str:
        uri = resolve(text)
        hidden = "://" in text and not _SCHEME.match(text)  # an address inside another address
        if scheme(uri) not in WEB or hidden:
            raise SpecError("uri", text, "a list from the web may contain only web addresses")
        return uri

    return resolve_of_web if from_web else resolve
