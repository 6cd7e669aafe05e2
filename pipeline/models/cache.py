"""The cache of this machine: models, compiled kernels and check results, for this user only."""

import os
from hashlib import sha256
from pathlib import Path
from typing import Final
from uuid import uuid4

from pipeline.storage import guarded_folder, private_folder

#: The kinds of content, each in a folder of its own.
_KINDS: Final = frozenset({"models", "compiled", "preprocess", "fits", "graphs"})
_INSTEAD: Final = "set NIGHTLABEL_CACHE to a folder of your own"


def cache_folder(kind: str) -> Path:
    """The cache folder for one kind of content, of mode 0700; created if missing.

    The cache is `$NIGHTLABEL_CACHE`, else `nightlabel` in the XDG cache folder (`~/.cache`). Raises
    UnsafeFolderError if another user could change its content; OSError.
    """
    root = _root()
    # A folder that holds other things, as ~ or /var/cache does, keeps its mode.
    root = (guarded_folder if _holds_more(root) else private_folder)(root, _INSTEAD)
    return private_folder(root / kind, _INSTEAD)


def kept(kind: str, name: str) -> bytes:
    """What `keep` was given. Raises OSError, of which FileNotFoundError if there is nothing, or if
    it was damaged since."""
    path = cache_folder(kind) / name
    digest, _, data = path.read_bytes().partition(b"\n")
    if sha256(data).hexdigest().encode() != digest:
        raise FileNotFoundError(f"{path} is damaged")
    return data


def keep(kind: str, name: str, data: bytes) -> None:
    """Keep bytes under a name, whole or not at all. Raises OSError."""
    folder = cache_folder(kind)
    new = folder / f".{uuid4().hex}"
    try:
        new.write_bytes(sha256(data).hexdigest().encode() + b"\n" + data)
        new.replace(folder / name)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _root() -> Path:
    if named := os.environ.get("NIGHTLABEL_CACHE"):
        return Path(named)
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "nightlabel"


def _holds_more(root: Path) -> bool:
    try:
        return not {entry.name for entry in root.iterdir()} <= _KINDS
    except (FileNotFoundError, PermissionError):
        return False
