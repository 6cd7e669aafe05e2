"""Folders stored with the digests of their files, and used only while both agree.

The digests of folder F are beside it in F.sha256, as `sha256sum` writes them. They are written
first, so a folder without them was not stored by us.
"""

import re
import shutil
from hashlib import file_digest, md5, sha1, sha256
from pathlib import Path
from typing import Final

_LINE: Final = re.compile(r"([0-9a-f]{64})  (.+)")
_HEX: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}")

Digests = dict[str, str]


class DamagedError(Exception):
    """A stored folder that has changed; says why."""


def keep(made: Path, target: Path) -> Digests:
    """Move a finished folder to `target`, which is replaced, and write its digests. Raises OSError.

    Only regular files are kept.
    """
    kept = {str(file.relative_to(made)): _sha256(file) for file in _files(made)}
    lines = [f"{digest}  {name}\n" for name, digest in sorted(kept.items())]
    written = _beside(made)
    written.write_text("".join(lines))
    remove(target)
    written.replace(_beside(target))
    made.rename(target)
    return kept


def check(folder: Path) -> Digests:
    """The digests in hex of a stored folder's files, after a check that the files match them.

    Raises DamagedError: a file is missing, changed, or was not stored by us;
    FileNotFoundError if nothing was stored; OSError.
    """
    kept = _read(folder)
    everything = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    found = {str(path.relative_to(folder)) for path in everything}
    if strange := sorted(found ^ kept.keys()):
        raise DamagedError(f"{strange[0]} is {'new' if strange[0] in found else 'missing'}")
    for name, digest in kept.items():
        if (folder / name).is_symlink() or _sha256(folder / name) != digest:
            raise DamagedError(f"{name} has changed")
    return kept


def copy(folder: Path, into: Path) -> None:
    """Copy a stored folder's files, and nothing else, so that what was checked is what is used.

    Raises as `check` does.
    """
    for name, digest in _read(folder).items():
        try:
            data = (folder / name).read_bytes()
        except FileNotFoundError:
            raise DamagedError(f"{name} is missing") from None
        if sha256(data).hexdigest() != digest:
            raise DamagedError(f"{name} has changed")
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        (into / name).write_bytes(data)


def hub_digest(file: Path) -> str | None:
    """sha256 in hex of a file of the hub's cache, or None if the file has changed.

    The content is stored under the name that the server gave it: sha256 of a large file, git's
    SHA-1 of a small one, SHA-1 or MD5 of one from a mirror. Under any other name it is accepted
    unchecked.
    """
    try:
        found, name = _sha256(file), file.resolve().name
    except OSError:
        return None
    if not _HEX.fullmatch(name) or name == found:
        return found
    data = file.read_bytes() if len(name) < len(found) else b""
    git = b"blob %d\0" % len(data) + data
    known = (sha1(git), sha1(data), md5(data))  # noqa: S324 - as the hub does
    return found if name in {one.hexdigest() for one in known} else None


def remove(path: Path) -> None:
    """Remove a folder, or anything in its place, if it exists. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _read(folder: Path) -> Digests:
    folder.lstat()
    if folder.is_symlink() or not folder.is_dir():
        raise DamagedError("it is not a folder")
    try:
        lines = _beside(folder).read_text().splitlines()
    except FileNotFoundError:
        raise DamagedError("it has no digests") from None
    except UnicodeDecodeError:
        raise DamagedError("its digests cannot be read") from None
    found = [_LINE.fullmatch(line) for line in lines]
    kept = {match[2]: match[1] for match in found if match}
    if len(kept) < len(lines) or any(map(_leads_out, kept)):
        raise DamagedError("its digests cannot be read")
    return kept


def _leads_out(name: str) -> bool:
    return Path(name).is_absolute() or ".." in Path(name).parts


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def _beside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.sha256")
