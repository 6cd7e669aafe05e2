"""Globs over names: `--include`, `--exclude` and wildcards in SRC.

`*` and `?` stay within a folder, `**` crosses folders, `[a-z]` and `[!a-z]` are one character.
A pattern without `/` is matched with the last part of a name, one that ends in `/` with
everything below that folder. Upper and lower case differ (`*.jpg` does not match `A.JPG`).
`[*]`, `[?]` and `[[]` are these characters themselves.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import takewhile

from pipeline.errors import SpecError
from pipeline.spec import IMAGE_SUFFIXES

WILDCARD = re.compile(r"[*?\[]")
_TOKEN = re.compile(r"(?P<any>\*\*/?)|(?P<star>\*)|(?P<one>\?)|\[(?P<set>!?\]?[^\]]*)\]", re.DOTALL)


def regex(pattern: str) -> str:
    """A glob as a regular expression for `fullmatch`."""
    out, at = [], 0
    for found in _TOKEN.finditer(pattern):
        out += [re.escape(pattern[at : found.start()]), _translated(found)]
        at = found.end()
    return "".join(out) + re.escape(pattern[at:])


def _translated(found: re.Match[str]) -> str:
    if found["any"]:
        return "(?:.*/)?" if found["any"].endswith("/") else ".*"
    if found["star"]:
        return "[^/]*"
    if found["one"]:
        return "[^/]"
    letters = found["set"].replace("\\", r"\\").replace("[", r"\[")
    return f"[^/{letters[1:]}]" if letters.startswith("!") else f"[{letters}]"


def compiled(pattern: str, field: str) -> re.Pattern[str]:
    try:
        return re.compile(regex(pattern), re.DOTALL)
    except re.error as error:
        raise SpecError(field, pattern, f"no glob: {error}") from None


def may_hold(pattern: str) -> Callable[[str], bool]:
    """Whether a folder may contain, at any depth, a name that `pattern` matches.

    Both are relative to one folder; the folder's name ends in `/`.
    """
    if any("/" in (found["set"] or "") for found in _TOKEN.finditer(pattern)):
        return lambda folder: True  # noqa: ARG005
    parts = pattern.split("/")
    fixed = [re.compile(regex(part), re.DOTALL) for part in takewhile(_in_one_folder, parts)]
    endless = len(fixed) < len(parts)

    def may(folder: str) -> bool:
        names = folder.split("/")[:-1]
        if not endless and len(names) >= len(fixed):
            return False
        return all(part.fullmatch(name) for part, name in zip(fixed, names, strict=False))

    return may


def _in_one_folder(part: str) -> bool:
    return "**" not in part


def covers(exclude: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether `exclude` leaves out everything below a folder, whose name ends in `/`."""
    whole = tuple(pattern for p in exclude if (pattern := _whole(p)).endswith("**"))
    left = _any_of(whole, "exclude")
    return lambda folder: bool(left and left.fullmatch(folder))


def name_filter(
    include: tuple[str, ...], exclude: tuple[str, ...], *, suffixes: bool
) -> Callable[[str], bool]:
    """A function that says whether a name relative to SRC is taken.

    Without `include`: everything, or with `suffixes` names that end like an image, in any case.
    """
    taken, left = _any_of(include, "include"), _any_of(exclude, "exclude")
    ends = IMAGE_SUFFIXES if suffixes else ("",)

    def wanted(name: str) -> bool:
        took = taken.fullmatch(name) if taken else name.lower().endswith(ends)
        return bool(took) and not (left and left.fullmatch(name))

    return wanted


@lru_cache(maxsize=32)
def _any_of(patterns: tuple[str, ...], field: str) -> re.Pattern[str] | None:
    if not patterns:
        return None
    return re.compile("|".join(compiled(_whole(p), field).pattern for p in patterns), re.DOTALL)


def _whole(pattern: str) -> str:
    pattern = pattern + "**" if pattern.endswith("/") else pattern
    return pattern.removeprefix("/") if "/" in pattern else f"**/{pattern}"
