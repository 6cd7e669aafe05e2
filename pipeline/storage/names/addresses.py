"""Finds addresses that no object can have, without a request: some clients panic on such an
address.
"""

import os
from typing import Final

from pipeline.storage.names import bucket_names
from pipeline.storage.names.uris import BUCKETS, scheme, split

#: The longest address that is requested, in characters. Servers accept some 8 KiB.
LONGEST: Final = 64 * 1024
#: The scheme that replaces a longer address until its row is made; it is stored nowhere.
TOO_LONG: Final = "too-long://"
#: Of a key, in bytes; Azure counts 1,024 characters.
_LONGEST_KEY: Final = {"s3": 1024, "gs": 1024}
_LONGEST_OTHER_KEY: Final = 4096


def impossible(uri: str) -> str | None:
    """Why no object can have this uri, None if one may."""
    if len(uri) > LONGEST or uri == TOO_LONG:
        return f"an address of over {LONGEST:,} letters"
    if "\0" in uri:
        return "a NUL in its address"
    if not _encodes(uri):
        return "its address is not UTF-8"
    kind = scheme(uri)
    if kind == "file" and not uri.startswith("file:///"):
        return "names a file of another host; write file:///absolute/path"
    return _no_key(uri) if kind in BUCKETS else None


def _no_key(uri: str) -> str | None:
    root, key = split(uri)
    if problem := bucket_names.problem_of(root):
        return problem
    if not key:
        return "is a bucket, not an object"
    longest = _LONGEST_KEY.get(scheme(uri), _LONGEST_OTHER_KEY)
    return f"a key of over {longest:,} bytes" if len(key.encode()) > longest else None


def _encodes(uri: str) -> bool:
    try:
        if uri.startswith("file:"):
            os.fsencode(uri)  # a name on a disk may be any bytes
        else:
            uri.encode()
    except UnicodeEncodeError:
        return False
    return True
