"""A container as SRC, or named by a list: on disk, in a bucket, behind a web address."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipeline.errors import DeniedError, MissingError, SpecError, StoreError
from pipeline.runs.scopes import covers
from pipeline.schema import object_id
from pipeline.sources import kind_of, wants_of
from pipeline.sources.containers.zip_directory import TAIL_BYTES
from pipeline.spec import make_spec
from pipeline.storage import Rules, read_many
from tests.parts.archives.zips import range_server, zip_of
from tests.parts.models.tiny import archive
from tests.parts.servers.http import serving
from tests.parts.servers.s3 import S3Server
from tests.sources.listed import checked, refs, source
from tests.storage.servers import Handler

IMAGES = archive(6)
ZIP = zip_of(IMAGES)
HERE = Rules(allow_private=True)


def read(made: Any) -> dict[tuple[str, str | None], Any]:
    """By (uri, member): bytes, or the error code."""
    rows = refs(made)
    found = dict(read_many(wants_of(rows), max_bytes=10**6, rules=HERE))
    pairs = zip(rows["uri"].to_pylist(), rows["member"].to_pylist(), strict=True)
    told = {n: one if isinstance(one, bytes) else str(one.code) for n, one in found.items()}
    return {pair: told[n] for n, pair in enumerate(pairs)}


def members_of(uri: str) -> dict[tuple[str, str], bytes]:
    return {(uri, name): data for name, data in IMAGES.items()}


def test_which_src_is_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.zip").mkdir()
    (tmp_path / "[1].zip").write_bytes(ZIP)
    kinds = {
        "photos.zip": "archive", "s3://b/p/PHOTOS.Zip": "archive", "[1].zip": "archive",
        "https://h/a.zip?X-Amz-Signature=1": "archive", "https://h/get?f=a.zip": "prefix",
        "folder.zip": "prefix", "s3://b/photos.zip/": "prefix", "s3://b/*.zip": "prefix",
        "s3://b/zip": "prefix", "list.csv": "manifest",
    }  # fmt: skip
    assert {src: kind_of(make_spec(src=src, dst="d")) for src in kinds} == kinds
    assert kind_of(make_spec(src="a.zip", dst="d", manifest=False)) == "archive"
    assert kind_of(make_spec(src="a.zip", dst="d", manifest=True)) == "manifest"
    with pytest.raises(SpecError, match="is for lists of images"):
        kind_of(make_spec(src="a.zip", dst="d", check_changes=True))


def test_what_is_in_the_scope_of_a_container(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(ZIP)
    made, uri = checked(path, exclude=("b/",)), path.as_uri()
    assert made.contains(uri, "a/x.jpg") is True
    assert made.contains(uri) is True
    assert [made.contains(uri, name) for name in ("b/x.jpg", "a/x.txt", "a/._x.jpg")] == [False] * 3
    assert made.contains(f"{uri}2", "a/x.jpg") is False
    assert checked(path, limit=1).contains(uri, "a/x.jpg") is None
    folder = source(f"{tmp_path}/", include=("*",))
    assert folder.contains(uri) is True
    assert folder.contains(uri, "a/x.jpg") is False
    whole, narrow = source(str(path)).scope, made.scope
    assert covers(whole, narrow)
    assert not covers(narrow, whole)
    assert not covers(folder.scope, whole)


def test_a_container_without_images_is_refused_with_a_fix(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    for members, fields, problem in (
        ({"a.txt": b""}, {}, "no image among 1 members; name them with --include"),
        ({"a.txt": b""}, {"include": ("*.png",)}, "--include leaves out all 1 members"),
        ({"__MACOSX/a.jpg": b""}, {}, "--no-default-excludes"),
        ({}, {}, "an empty archive"),
    ):
        path.write_bytes(zip_of(members))
        with pytest.raises(SpecError, match=problem):
            checked(path, **fields)
    with pytest.raises(MissingError):
        checked(tmp_path / "none.zip")


def test_replaced_between_listing_and_reading_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(ZIP)
    rows = refs(source(str(path)))
    path.write_bytes(zip_of(archive(6, first=50)))
    found = dict(read_many(wants_of(rows), max_bytes=10**6))
    assert {str(one.code) for one in found.values()} == {"changed"}  # type: ignore[union-attr]


@pytest.mark.s3
def test_on_s3(s3: S3Server) -> None:
    bucket = s3.bucket()
    for key in ("photos.zip", "in//odd.zip"):
        s3.put(f"{bucket}/{key}", ZIP)
        assert read(checked(f"{bucket}/{key}")) == members_of(f"{bucket}/{key}")
    s3.put(f"{bucket}/empty.zip", b"")
    assert read(source(f"{bucket}/empty.zip")) == {(f"{bucket}/empty.zip", None): "empty"}
    rows = refs(source(f"{bucket}/photos.zip"))
    s3.put(f"{bucket}/photos.zip", zip_of(archive(6, first=50)))
    found = dict(read_many(wants_of(rows), max_bytes=10**6))
    assert {str(one.code) for one in found.values()} == {"changed"}  # type: ignore[union-attr]


def test_on_any_other_protocol() -> None:
    fsspec.filesystem("memory").pipe("/shelf/photos.zip", ZIP)
    uri = "memory://shelf/photos.zip"
    assert read(checked(uri, allow_private=True)) == members_of(uri)


def test_behind_a_web_address_by_ranges_alone() -> None:
    big = zip_of(IMAGES | {f"pad/{n}.bin": bytes(10**5) for n in range(5)})
    with range_server({"a.zip": big}) as (url, asked):
        made = checked(f"{url}/a.zip", allow_private=True)
        rows = refs(made)
        asked.clear()
        found = read(made)
        assert found == members_of(f"{url}/a.zip")
        taken = sum(last + 1 - first for _, first, last in asked)
        assert taken < 2 * 2**17 + sum(map(len, IMAGES.values())) + 100 * len(IMAGES)
        assert len(asked) == 2 + len(IMAGES)
        assert rows["modified"].null_count == rows.num_rows


def test_a_version_s_directory_is_read_once() -> None:
    """By all listings of a process; its end is read each time, and says which version it is."""
    count = 2_000  # a directory that is longer than what is read of the end
    files = {"a.zip": zip_of({f"a/{number:040}.jpg": b"" for number in range(count)})}
    with range_server(files) as (url, asked):
        for _ in range(3):
            made = checked(f"{url}/a.zip", allow_private=True)
            assert refs(made).num_rows == count
        ends = [first for _, first, _ in asked if first == len(files["a.zip"]) - TAIL_BYTES]
        assert len(asked) == len(ends) + 1
        files["a.zip"] = zip_of({f"a/{number:040}.jpg": b"new" for number in range(count)})
        assert refs(made).num_rows == count
        assert len(asked) == len(ends) + 4


def test_a_signature_is_no_part_of_a_member(tmp_path: Path) -> None:
    with range_server({"a.zip": ZIP}) as (url, _):
        nights = [
            refs(checked(f"{url}/signed/a.zip?sig={night}", allow_private=True))
            for night in ("one", "two")
        ]
        assert nights[0].drop_columns("address") == nights[1].drop_columns("address")
        assert set(nights[0]["uri"].to_pylist()) == {f"{url}/signed/a.zip"}
        assert nights[0]["object_id"][0].as_py() == object_id(
            f"{url}/signed/a.zip", next(iter(IMAGES))
        )
        found = read(source(f"{url}/signed/a.zip?sig=three", allow_private=True))
        assert found == members_of(f"{url}/signed/a.zip")
        listed = tmp_path / "list.txt"
        listed.write_text(f"{url}/signed/a.zip?sig=4\n{url}/signed/a.zip?sig=5\n")
        assert read(source(str(listed), allow_private=True)) == found


def test_a_server_without_ranges_is_refused_with_a_fix() -> None:
    with range_server({"a.zip": ZIP}) as (url, _):
        with pytest.raises(
            SpecError, match="not support range requests; copy the archive to a disk"
        ):
            checked(f"{url}/plain/a.zip", allow_private=True)
        with pytest.raises(SpecError, match="no public address; --allow-private"):
            checked(f"{url}/a.zip")


def test_a_list_may_name_containers_among_images(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(ZIP)
    (tmp_path / "b.ZIP").write_bytes(zip_of({"x.jpg": b"x", "x.txt": b"t"}))
    (tmp_path / "c.zip").write_bytes(b"PK no more")
    (tmp_path / "loose.jpg").write_bytes(b"loose")
    listed = tmp_path / "list.txt"
    listed.write_text("a.zip\nloose.jpg\nb.ZIP\na.zip\nc.zip\ngone.zip\n")
    at = tmp_path.as_uri()
    made = checked(listed)
    assert read(made) == members_of(f"{at}/a.zip") | {
        (f"{at}/loose.jpg", None): b"loose",
        (f"{at}/b.ZIP", "x.jpg"): b"x",
        (f"{at}/c.zip", None): "truncated",
        (f"{at}/gone.zip", None): "missing",
    }
    unreadable = [dict(page.unreadable) for one in made.shards() for page in made.refs(one)]
    assert [list(told) for told in unreadable if told] == [[f"{at}/c.zip"]]
    assert len(read(source(str(listed), exclude=("b/*",)))) == len(read(made)) - 3
    assert len(read(source(str(listed), limit=3))) == 3


def test_many_archives_are_listed_side_by_side(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.zip").write_bytes(zip_of({"a.jpg": b"%d" % number}))
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{number}.zip\n" for number in range(40)))
    made = checked(listed)
    pieces = [sum(page.refs.num_rows for page in made.refs(one)) for one in made.shards()]
    assert (len(pieces), sum(pieces)) == (3, 40)
    assert all(pieces)
    assert len(read(made)) == 40


def test_a_list_may_name_members(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(ZIP)
    (tmp_path / "x.jpg").write_bytes(b"x")
    first, second = list(IMAGES)[:2]
    listed, at = tmp_path / "list.csv", tmp_path.as_uri()
    with listed.open("w", newline="") as file:
        rows = [
            ("a.zip", second),
            ("x.jpg", "meaningless"),
            ("a.zip", first),
            ("a.zip", "no.jpg"),
        ]
        csv.writer(file).writerows([("uri", "member"), *rows])
    assert read(checked(listed)) == {
        (f"{at}/x.jpg", None): b"x",
        (f"{at}/a.zip", first): IMAGES[first],
        (f"{at}/a.zip", second): IMAGES[second],
        (f"{at}/a.zip", "no.jpg"): "missing",
    }
    lines = tmp_path / "list.jsonl"
    lines.write_text(f'{{"uri": "a.zip", "member": "{first}"}}\n"a.zip"\n')
    assert read(checked(lines)) == members_of(f"{at}/a.zip")


def test_web_archives_of_a_list_fail_one_by_one(tmp_path: Path) -> None:
    with range_server({"a.zip": ZIP}) as (url, _):
        listed = tmp_path / "list.txt"
        listed.write_text(f"{url}/a.zip\n{url}/none.zip\n{url}/plain/a.zip\n{url}/signed/a.zip\n")
        assert read(checked(listed, allow_private=True)) == members_of(f"{url}/a.zip") | {
            (f"{url}/none.zip", None): "missing",
            (f"{url}/plain/a.zip", None): "unsupported",
            (f"{url}/signed/a.zip", None): "denied",
        }


def test_a_folder_opens_no_containers(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(ZIP)
    (tmp_path / "x.jpg").write_bytes(b"x")
    made = checked(tmp_path)
    assert refs(made)["uri"].to_pylist() == [f"{tmp_path.as_uri()}/x.jpg"]
    assert [page.excluded for one in made.shards() for page in made.refs(one)] == [1]


class _Faults(Handler):
    def on_fails(self, path: str) -> None:
        self.answer(503, b"")

    def on_away(self, path: str) -> None:
        self.answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")


def test_what_a_bucket_refuses_is_hidden_and_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the credentials' fault; a bucket that fails ends the run."""
    faults = {"seen": Counter(), "files": {}}
    with serving(type("Faults", (_Faults,), faults)) as url:
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        listed = tmp_path / "list.txt"
        listed.write_text("s3://bucket/hidden/a.zip\ns3://bucket/none.zip\n")
        made = checked(listed)
        pages = [page for one in made.shards() for page in made.refs(one)]
        hidden = {uri: why for page in pages for uri, why in page.unreadable.items()}
        assert list(hidden) == ["s3://bucket/hidden/a.zip"]
        assert read(made) == {("s3://bucket/none.zip", None): "missing"}
        with pytest.raises(DeniedError):
            checked("s3://bucket/hidden/a.zip")
        monkeypatch.setattr("pipeline.storage.translate.TRIES", 1)
        for name, problem in (("fails", "no answer"), ("away", "no such bucket")):
            listed.write_text(f"s3://bucket/{name}/a.zip\n{tmp_path}/loose.jpg\n")
            with pytest.raises(StoreError, match=problem):
                refs(source(str(listed)))
