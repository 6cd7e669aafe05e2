"""Where images come from: one file a kind.

To add an input kind, write one file in this folder with an `open_…(spec)` that returns a
`Source`, and one line in `REGISTRY`.
"""

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final

from pipeline.errors import SpecError
from pipeline.sources.base import Page, Shard, Source, rules_of, wants_of
from pipeline.spec import IMAGE_SUFFIXES, LabelSpec
from pipeline.storage import local_path

#: Kind → the module and the function in it that opens such a source.
REGISTRY: Final[Mapping[str, tuple[str, str]]] = {
    "prefix": ("pipeline.sources.prefix", "open_prefix"),
    "manifest": ("pipeline.sources.manifest", "open_manifest"),
}

__all__ = ["REGISTRY", "Page", "Shard", "Source", "kind_of", "open_source", "rules_of", "wants_of"]


def open_source(spec: LabelSpec) -> Source:
    """The source that `spec` names; reads nothing yet. Raises SpecError for a bad SRC or glob."""
    module, function = REGISTRY[kind_of(spec)]
    opener: Callable[[LabelSpec], Source] = getattr(import_module(module), function)
    return opener(spec)


def kind_of(spec: LabelSpec) -> str:
    """`manifest` if the spec says so or SRC is called like one, else `prefix`.

    Raises SpecError for a file that is called like neither a list nor an image.
    """
    from pipeline.sources.list_files import LISTS
    from pipeline.sources.manifest import holds_lists, is_manifest

    if spec.manifest is not None:
        return "manifest" if spec.manifest else "prefix"
    listed = is_manifest(spec.src)
    if spec.check_changes and not listed:
        raise SpecError("check_changes", True, "is for manifests; a listing shows changes itself")
    path = local_path(spec.src)
    # os.path's answer False for a name that is too long, where pathlib's raise.
    if path is not None and os.path.isdir(path):  # noqa: PTH112
        return "manifest" if listed and holds_lists(path) else "prefix"
    named = listed or spec.src.lower().endswith(IMAGE_SUFFIXES)
    if path is not None and os.path.isfile(path) and not named:  # noqa: PTH113
        problem = f"a file that is called like no image and like no list ({' '.join(LISTS)})"
        mend = "--manifest reads it as a list, --no-manifest --include '*' labels it as an image"
        raise SpecError("src", spec.src, f"{problem}; {mend}")
    return "manifest" if listed else "prefix"
