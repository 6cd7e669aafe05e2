from pathlib import Path

import pytest

from pipeline.errors import SpecError
from pipeline.storage import canonical, join, local_path, public, relative, scheme
from pipeline.storage.names.uris import split


def test_three_spellings_of_a_local_file_are_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for spelling in (
        "./x",
        "x",
        "a/../x",
        f"{tmp_path}/x",
        f"{tmp_path}//x",
        f"file://{tmp_path}/x",
    ):
        assert canonical(spelling) == f"file://{tmp_path}/x"


def test_symlinks_are_kept(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert canonical(f"{tmp_path}/link") == f"file://{tmp_path}/link"


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ("file:///a/./b/../c//d/", "file:///a/c/d"),
        ("file:///", "file:///"),
        ("//a/b", "file:///a/b"),
        ("file:///a%20b/ü #1?.jpg", "file:///a%20b/ü #1?.jpg"),
        ("file:///a/.hidden/..b", "file:///a/.hidden/..b"),
        ("S3://Bucket/a//b/./%41 ü+.jpg", "s3://Bucket/a//b/./%41 ü+.jpg"),
        ("s3a://b/k", "s3://b/k"),
        ("gcs://b/k", "gs://b/k"),
        ("https://h/a/../b?X-Amz-Signature=1#f", "https://h/a/../b?X-Amz-Signature=1#f"),
        ("memory://a/b", "memory://a/b"),
    ],
)
def test_canonical(given: str, want: str) -> None:
    assert canonical(given) == want
    assert canonical(want) == want


def test_a_relative_file_uri_is_refused() -> None:
    with pytest.raises(SpecError, match="file:///absolute/path"):
        canonical("file://x/y")


def test_join_and_relative_are_inverse() -> None:
    for base in ("s3://b", "s3://b/", "s3://b/a", "file:///", "file:///a/"):
        assert relative(join(base, "x/y z"), base) == "x/y z"
    with pytest.raises(ValueError, match="is not below"):
        relative("s3://b/ab/c", "s3://b/a")


def test_parts() -> None:
    assert split("s3://b/k/l") == ("s3://b", "k/l")
    assert split("s3://b//k") == ("s3://b", "/k")
    assert split("s3://b") == ("s3://b", "")
    assert split("file:///a/b") == ("file://", "/a/b")
    assert scheme("gs://b/k") == "gs"
    assert local_path("s3://b/k") is None
    assert local_path("file:///a//b") == Path("/a/b")


def test_secrets_do_not_show() -> None:
    assert public("https://me:pw@h/a.jpg?X-Amz-Signature=abc") == "https://h/a.jpg"
    assert public("s3://b/what?.jpg") == "s3://b/what?.jpg"
    assert public("file:///a\udcff.jpg").isprintable()
