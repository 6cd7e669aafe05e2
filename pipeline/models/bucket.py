"""Models in a folder on object storage, copied once to each machine."""

import logging
from itertools import islice
from pathlib import Path

from pipeline.errors import BadModelError, MissingError, ModelError, SpecError, printable
from pipeline.models import digests, weights
from pipeline.models.cache import cache_folder
from pipeline.models.config import CONFIG, digest
from pipeline.models.digests import DamagedError, Digests
from pipeline.storage import Entry, Folder, public

#: A folder with more objects is probably an archive that was given as a model by mistake.
MAX_OBJECTS = 1000


def copy(uri: str) -> tuple[Path, Digests]:
    """The model at `uri` as a local folder, in the cache under the objects' etags, and its digests.

    One process per machine copies while the others wait. A process that is killed leaves only a
    scratch folder, which the next one removes. A copy that has changed is made again. Raises
    BadModelError: nothing there, no safetensors; ModelError: no room; UnsafeFolderError;
    DeniedError, StoreError.
    """
    try:
        source = Folder(uri)
    except SpecError:
        raise BadModelError(
            f"{public(uri)}: a model is read from a local folder, s3://, gs://, az:// or the hub"
        ) from None
    entries = _model_files(source)
    try:
        target = cache_folder("models") / _key(source, entries)
        return target, _kept(target) or _filled(target, source, entries)
    except OSError as error:
        raise ModelError(
            f"{public(uri)} could not be copied to this machine: {error}; "
            "set NIGHTLABEL_CACHE to a folder with free space"
        ) from error


def _kept(target: Path) -> Digests | None:
    try:
        return digests.check(target)
    except (FileNotFoundError, DamagedError):
        return None


def _filled(target: Path, source: Folder, entries: dict[str, Entry]) -> Digests:
    from filelock import FileLock

    with FileLock(target.parent / f"{target.name}.lock"):
        try:
            return digests.check(target)  # another process was first
        except FileNotFoundError:
            pass
        except DamagedError as damage:
            logging.getLogger("nightlabel").warning(
                "nightlabel: the copy of %s on this machine is damaged (%s): copying it again",
                public(source.uri),
                printable(str(damage)),
            )
        return _fill(target, source, entries)


def _model_files(source: Folder) -> dict[str, Entry]:
    """The files that transformers needs, by name; nothing from folders below."""
    name = public(source.uri)
    try:
        found = list(islice(source.list(), MAX_OBJECTS + 1))
    except MissingError as error:
        raise BadModelError(f"no model there: {error}") from None
    if not found:
        raise BadModelError(f"{name} holds no model: the folder is empty or does not exist")
    if len(found) > MAX_OBJECTS:
        raise BadModelError(
            f"{name} holds over {MAX_OBJECTS:,} objects: so it is not a model's folder"
        )
    entries = {source.relative(entry.uri): entry for entry in found}
    wanted = {n: e for n, e in sorted(entries.items()) if "/" not in n and weights.matches(n)}
    if weights.ADAPTER in wanted and CONFIG not in wanted:
        raise weights.adapter(name, beside=False)
    if not any(file.endswith(".safetensors") for file in wanted):
        raise weights.no_safetensors(name, entries)
    return wanted


def _key(source: Folder, entries: dict[str, Entry]) -> str:
    """The folder's name and a digest of its current content."""
    content = [[e.uri, e.etag or e.modified.isoformat(), e.size] for e in entries.values()]
    return f"{source.uri.rpartition('/')[2]}-{digest(content)[:16]}"


def _fill(target: Path, source: Folder, entries: dict[str, Entry]) -> Digests:
    scratch = target.parent / f"{target.name}.partial"
    digests.remove(scratch)
    scratch.mkdir()
    for name in entries:
        (scratch / name).write_bytes(source.read(name))
    return digests.keep(scratch, target)
