"""Whether one run listed all that another did."""

from typing import Any

import pytest

from pipeline.runs.scopes import covers, uncovered, widest, words
from pipeline.sources import open_source
from pipeline.spec import make_spec


def prefix(src: str = "s3://b/photos/", **more: Any) -> dict[str, Any]:
    return {"kind": "prefix", "src": src, "include": [], "exclude": [], "limit": None, **more}


def manifest(src: str = "s3://b/list.csv", **more: Any) -> dict[str, Any]:
    return prefix(src, **more) | {"kind": "manifest"}


ALL = prefix()


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        (ALL, ALL, True),
        (ALL, prefix(limit=10), True),
        (prefix(limit=10), ALL, False),
        (prefix(limit=10), prefix(limit=10), False),
        (ALL, prefix(modified_since="7d"), True),
        (prefix(modified_since="7d"), ALL, False),
        (prefix(modified_since="7d"), prefix(modified_since="7d"), False),
        # Filters of later versions: in doubt not.
        (prefix(colour="red"), ALL, False),
        (ALL, prefix(colour="red"), False),
        (prefix(colour="red"), prefix(colour="red"), True),
        (prefix(colour=None, shape=[]), ALL, True),
        # --exclude
        (prefix(exclude=["*/thumbs/*"]), ALL, False),
        (ALL, prefix(exclude=["*/thumbs/*"]), True),
        (prefix(exclude=["a", "b"]), prefix(exclude=["a"]), False),
        (prefix(exclude=["a"]), prefix(exclude=["b", "a"]), True),
        # --include
        (prefix(include=["*.jpg"]), ALL, False),
        (ALL, prefix(include=["*.jpg", "*.PNG"]), True),
        (ALL, prefix(include=["*.raw"]), False),  # without --include images alone are taken
        (manifest(), manifest(include=["*.raw"]), True),
        (prefix(include=["*.raw"]), prefix(include=["*.raw"]), True),
        (prefix(include=["a", "b"]), prefix(include=["b"]), True),
        (prefix(include=["a"]), prefix(include=["a", "b"]), False),
        # SRC
        (ALL, prefix("s3://b/photos/2024/"), True),
        (prefix("s3://b/photos/2024/"), ALL, False),
        (ALL, prefix("s3://b/photos2/"), False),
        (ALL, prefix("s3://b/photos/x.jpg"), True),
        (ALL, prefix("s3://b/photos/**/*.jpg"), True),
        (ALL, prefix("s3://b/photos/x.raw"), False),
        (prefix("s3://b/photos/*.jpg"), prefix("s3://b/photos/a.jpg"), False),
        (prefix("s3://b/photos/*.jpg"), prefix("s3://b/photos/*.jpg"), True),
        (manifest(), manifest("s3://b/list.csv/more/"), False),
        (ALL, manifest("s3://b/photos/list.jpg"), False),
        # Globs with a slash count from SRC, and SRC is another.
        (prefix(exclude=["a/*"]), prefix("s3://b/photos/2024/", exclude=["a/*"]), False),
        (prefix(exclude=["a*"]), prefix("s3://b/photos/2024/", exclude=["a*"]), True),
        (prefix(include=["a/*"]), prefix("s3://b/photos/2024/", include=["a/*"]), False),
        (prefix(include=["a*"]), prefix("s3://b/photos/2024/", include=["a*"]), True),
    ],
)
def test_covers(wide: dict[str, Any], narrow: dict[str, Any], expected: bool) -> None:
    assert covers(wide, narrow) is expected


def test_scopes_are_those_that_sources_record() -> None:
    def scope(src: str, **options: Any) -> dict[str, Any]:
        return dict(open_source(make_spec(src=src, dst="x", **options)).scope)

    assert covers(scope("/a/photos"), scope("/a/photos/2024", include=("*.jpg",)))
    assert not covers(scope("/a/photos", exclude=("b",)), scope("/a/photos"))
    assert scope("/a/photos").keys() == ALL.keys(), "a new key: does it only take away?"


def test_many() -> None:
    one, other = prefix("s3://b/one/"), prefix("s3://b/other/")
    above = prefix("s3://b/")
    assert uncovered([one, other, one], by=[one]) == [other]
    assert uncovered([one, other], by=[above]) == []
    assert widest([one, prefix("s3://b/one/", limit=3), other]) == [one, other]
    assert widest([one, other, above, one]) == [above]


def test_words() -> None:
    scope = prefix(include=["*.jpg", "*.png"], limit=3)
    assert words(scope) == "s3://b/photos/ --include *.jpg --include *.png --limit 3"
