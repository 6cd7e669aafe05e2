import pytest

from pipeline.errors import SpecError
from pipeline.sources.names import name_filter


@pytest.mark.parametrize(
    ("pattern", "taken", "left"),
    [
        ("*.jpg", ["a.jpg", "x/y/a.jpg", ".jpg"], ["a.JPG", "a.jpg.bak", "a.jpg/b"]),
        ("thumb_?.png", ["thumb_1.png", "x/thumb_é.png"], ["thumb_12.png", "thumb_/.png"]),
        ("x/*.jpg", ["x/a.jpg"], ["y/x/a.jpg", "x/y/a.jpg", "a.jpg"]),
        ("**/x/*.jpg", ["x/a.jpg", "y/x/a.jpg"], ["x/y/a.jpg", "yx/a.jpg"]),
        ("x/**", ["x/a", "x/y/z"], ["x", "xy/a"]),
        ("x/", ["x/a", "x/y/z"], ["x", "xy/a"]),
        ("/x/*", ["x/a"], ["y/x/a"]),
        ("x/**/z.jpg", ["x/z.jpg", "x/y/z.jpg", "x/1/2/z.jpg"], ["xz.jpg"]),
        ("[a-c][!0-9].jpg", ["ax.jpg", "c-.jpg"], ["dx.jpg", "a1.jpg", "a/.jpg"]),
        ("[[]x].jpg", ["[x].jpg"], ["x.jpg", "[.jpg"]),
        ("a+(b)|c.$", ["a+(b)|c.$"], ["aab", "c.$"]),
        ("a\\d[\\d]", ["a\\dd", "a\\d\\"], ["a1", "a\\d1"]),
    ],
)
def test_globs(pattern: str, taken: list[str], left: list[str]) -> None:
    include = name_filter((pattern,), (), suffixes=True)
    exclude = name_filter((), (pattern,), suffixes=False)
    assert [name for name in taken + left if include(name)] == taken
    assert [name for name in taken + left if not exclude(name)] == taken


def test_the_default_takes_image_suffixes_in_any_case() -> None:
    wanted = name_filter((), (), suffixes=True)
    assert wanted("x/A.JpEg")
    assert wanted("b.heic")
    assert not wanted("readme.txt")
    assert not wanted("jpg")


def test_exclude_wins_over_include() -> None:
    wanted = name_filter(("*.dat", "*.jpg"), ("tmp/", "*_old.*"), suffixes=True)
    names = ["a.dat", "a.jpg", "a.png", "tmp/a.jpg", "a_old.jpg"]
    assert [name for name in names if wanted(name)] == ["a.dat", "a.jpg"]


def test_a_bad_glob_names_its_field() -> None:
    with pytest.raises(SpecError, match="exclude="):
        name_filter((), ("[z-a]",), suffixes=True)
