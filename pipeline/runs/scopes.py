"""Compares the recorded scopes of two runs: did one list everything that the other did?

In doubt the answer is no: then readers keep what they have, and a person may choose.
"""

from collections.abc import Iterable
from typing import Any, Final

from pipeline.sources.names import WILDCARD
from pipeline.spec import IMAGE_SUFFIXES

Scope = dict[str, Any]

#: Filters that can only remove objects, and not the same ones every night.
NARROWING: Final = frozenset({"limit", "modified_since"})
_COMPARED: Final = frozenset({"src", "include", "exclude"})


def uncovered(scopes: Iterable[Scope], by: Iterable[Scope]) -> list[Scope]:
    """Those of `scopes` that no scope in `by` covers, without duplicates."""
    by, left = list(by), list[Scope]()
    for scope in scopes:
        if scope not in left and not any(covers(wide, scope) for wide in by):
            left.append(scope)
    return left


def widest(scopes: Iterable[Scope]) -> list[Scope]:
    """The scopes that no other of them covers."""
    kept = list[Scope]()
    for scope in scopes:
        if not any(covers(wide, scope) for wide in kept):
            kept = [*(other for other in kept if not covers(scope, other)), scope]
    return kept


def covers(wide: Scope, narrow: Scope) -> bool:
    """Whether a run over `wide` takes every object that one over `narrow` takes."""
    if any(wide.get(name) for name in NARROWING):
        return False
    others = (wide.keys() | narrow.keys()) - NARROWING - _COMPARED  # kind, future fields
    if any((wide.get(name) or None) != (narrow.get(name) or None) for name in others):
        return False
    same_src = wide.get("src") == narrow.get("src")
    return (same_src or _lies_below(wide, narrow)) and _globs_cover(wide, narrow, same_src=same_src)


def words(scope: Scope) -> str:
    """A scope as one would type it."""
    options = [
        f"--{name.replace('_', '-')} {value}"
        for name, values in scope.items()
        if name not in {"kind", "src"} and values
        for value in (values if isinstance(values, list) else [values])
    ]
    return " ".join([str(scope.get("src")), *options])


def _lies_below(wide: Scope, narrow: Scope) -> bool:
    """Whether `narrow` is a folder, image or glob of images in the folder `wide`."""
    outer, inner = str(wide.get("src")), str(narrow.get("src"))
    if wide.get("kind") != "prefix" or WILDCARD.search(outer) or not outer.endswith("/"):
        return False
    return inner.startswith(outer) and (inner.endswith("/") or _of_images(inner))


def _globs_cover(wide: Scope, narrow: Scope, *, same_src: bool) -> bool:
    taken, wanted = set(wide.get("include") or ()), set(narrow.get("include") or ())
    left, unwanted = set(wide.get("exclude") or ()), set(narrow.get("exclude") or ())
    if taken:
        # Globs with a slash are relative to SRC.
        movable = same_src or not any("/" in glob for glob in wanted)
        included = bool(wanted) and wanted <= taken and movable
    else:
        included = wide.get("kind") == "manifest" or all(map(_of_images, wanted))
    return included and left <= unwanted and (same_src or not any("/" in glob for glob in left))


def _of_images(glob: str) -> bool:
    """Whether every match is also taken without --include."""
    return glob.lower().endswith(IMAGE_SUFFIXES)
