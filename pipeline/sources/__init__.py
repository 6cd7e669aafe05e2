"""Registry of sources: where images come from; one file for each kind.

To add an input kind, write one file in this folder with an `open_…(spec)` that returns a
`Source`, and one line in `REGISTRY`. Archives of many images are containers, also one file per
kind: see `containers/base.py`.

Another package adds a source by an entry point of the group `nightlabel.sources` that
names such a function: `album = "my_package.album:open_album"`. Its name is the scheme of SRC:
`album://summer`.
"""

import os
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from pipeline.errors import SpecError
from pipeline.sources.base import Page, Shard, Source, refs_of, rules_of, with_data
from pipeline.sources.containers import kind_by_name
from pipeline.sources.reads import wants_of
from pipeline.spec import IMAGE_SUFFIXES, LabelSpec
from pipeline.storage import BUCKETS, local_path

Opener = Callable[[LabelSpec], Source]

#: Kind → the module and its function that opens such a source.
REGISTRY: Final[Mapping[str, tuple[str, str]]] = {
    "archive": ("pipeline.sources.archive", "open_archive"),
    "manifest": ("pipeline.sources.manifest", "open_manifest"),
    "prefix": ("pipeline.sources.prefix", "open_prefix"),
}
GROUP: Final = "nightlabel.sources"
_OURS: Final = {*BUCKETS, "file", "http", "https", "s3a", "s3n", "gcs", "azure"}

__all__ = [
    "REGISTRY",
    "Page",
    "Shard",
    "Source",
    "kind_of",
    "open_source",
    "refs_of",
    "rules_of",
    "wants_of",
    "with_data",
]


def open_source(spec: LabelSpec) -> Source:
    """The source that `spec` names; reads nothing yet. Raises SpecError for a bad SRC or glob."""
    kind = kind_of(spec)
    if kind in REGISTRY:
        module, function = REGISTRY[kind]
        opener: Opener = getattr(import_module(module), function)
        return opener(spec)
    return _open_from_outside(spec, kind)


def _open_from_outside(spec: LabelSpec, kind: str) -> Source:
    found = _from_outside(kind)
    assert found is not None  # noqa: S101 - kind_of found it
    try:
        opener: Opener = found.load()
    except (ImportError, AttributeError) as error:
        raise SpecError("src", spec.src, f"its package cannot be loaded: {error}") from error
    return opener(spec)


def _from_outside(kind: str) -> EntryPoint | None:
    return next(iter(entry_points(group=GROUP, name=kind)), None)


def kind_of(spec: LabelSpec) -> str:
    """`manifest` if the spec says so or SRC has the name of one, `archive` if it has the name of a
    container, the name of an external source that is the scheme of SRC, else `prefix`.

    Raises SpecError for a file whose name fits none of these and no image.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", spec.src)
    if scheme and scheme[1] not in _OURS and _from_outside(scheme[1]):
        return scheme[1]
    from pipeline.sources.lists.files import LISTS
    from pipeline.sources.manifest import holds_lists, is_manifest

    if spec.manifest:
        return "manifest"
    archive = _is_archive(spec.src)
    if spec.manifest is not None and not archive:
        return "prefix"
    listed = is_manifest(spec.src)
    if spec.check_changes and not listed:
        raise SpecError(
            "check_changes",
            True,
            "is for lists of images; the listing of a folder already shows changes",
        )
    if archive:
        return "archive"
    path = local_path(spec.src)
    # os.path's functions return False for a name that is too long, where pathlib's raise.
    if path is not None and os.path.isdir(path):  # noqa: PTH112
        return "manifest" if listed and holds_lists(path) else "prefix"
    named = listed or spec.src.lower().endswith(IMAGE_SUFFIXES)
    if path is not None and os.path.isfile(path) and not named:  # noqa: PTH113
        problem = f"a file with the extension of neither an image nor a list ({' '.join(LISTS)})"
        fix = "--manifest reads it as a list, --no-manifest --include '*' labels it as an image"
        raise SpecError("src", spec.src, f"{problem}; {fix}")
    return "manifest" if listed else "prefix"


def _is_archive(src: str) -> bool:
    """Whether SRC has the name of a container; a folder or a glob may have one too."""
    if src.endswith("/") or kind_by_name(src) is None:
        return False
    path = local_path(src)
    if path is not None:
        return not os.path.isdir(path) and (os.path.exists(path) or not _is_glob(src))  # noqa: PTH110, PTH112
    return src.startswith(("http://", "https://")) or not _is_glob(src)


def _is_glob(src: str) -> bool:
    return re.search(r"[*?\[]", src) is not None
