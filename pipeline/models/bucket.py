"""Models in a folder on object storage, copied once to each machine."""

import os
import shutil
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

from pipeline.errors import BadModelError, MissingError, ModelError, SpecError
from pipeline.models import weights
from pipeline.models.config import CONFIG, digest
from pipeline.storage import Entry, Folder, public

#: A folder with more is taken for an archive that was given as a model by mistake.
MAX_OBJECTS = 1000


def cache_folder() -> Path:
    """`$NIGHTLABEL_CACHE`, else `nightlabel` in the XDG cache folder (`~/.cache`)."""
    if named := os.environ.get("NIGHTLABEL_CACHE"):
        return Path(named)
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "nightlabel"


def copy(uri: str) -> Path:
    """The model at `uri` as a local folder, in the cache under the objects' etags.

    One process a machine copies while the others wait; one that is killed leaves only a
    scratch folder, which the next removes. Raises BadModelError: nothing there, no safetensors;
    ModelError: no room; DeniedError, StoreError.
    """
    from filelock import FileLock

    try:
        source = Folder(uri)
    except SpecError:
        raise BadModelError(
            f"{public(uri)}: a model is read from a local folder, s3://, gs://, az:// or the hub"
        ) from None
    entries = _model_files(source)
    target = cache_folder() / "models" / _key(source, entries)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / f"{target.name}.lock"):
            if not target.is_dir():
                _fill(target, source, entries)
    except OSError as error:
        raise ModelError(
            f"{public(uri)} could not be copied to this machine: {error}; "
            "let NIGHTLABEL_CACHE name a folder with room"
        ) from error
    return target


def _model_files(source: Folder) -> dict[str, Entry]:
    """What transformers needs, by name; nothing from folders below."""
    name = public(source.uri)
    try:
        found = list(islice(source.list(), MAX_OBJECTS + 1))
    except MissingError as error:
        raise BadModelError(f"no model there: {error}") from None
    if not found:
        raise BadModelError(f"{name} holds no model: the folder is empty or not there")
    if len(found) > MAX_OBJECTS:
        raise BadModelError(f"{name} holds over {MAX_OBJECTS:,} objects: not the folder of a model")
    entries = {source.relative(entry.uri): entry for entry in found}
    wanted = {n: e for n, e in sorted(entries.items()) if "/" not in n and _is_wanted(n)}
    if weights.ADAPTER in wanted and CONFIG not in wanted:
        raise weights.adapter(name, beside=False)
    if not any(file.endswith(".safetensors") for file in wanted):
        raise weights.no_safetensors(name, entries)
    return wanted


def _is_wanted(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in weights.PATTERNS)


def _key(source: Folder, entries: dict[str, Entry]) -> str:
    """The folder's name and a digest of what lies there now."""
    content = [[e.uri, e.etag or e.modified.isoformat(), e.size] for e in entries.values()]
    return f"{source.uri.rpartition('/')[2]}-{digest(content)[:16]}"


def _fill(target: Path, source: Folder, entries: dict[str, Entry]) -> None:
    scratch = target.parent / f"{target.name}.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for name in entries:
        (scratch / name).write_bytes(source.read(name))
    scratch.rename(target)
