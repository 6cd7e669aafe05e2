"""Prefixes and globs, on local files, memory:// and a real S3 server."""

import os
import pickle
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline import schema
from pipeline.errors import DeniedError, MissingError, SpecError
from pipeline.sources import kind_of, prefix
from pipeline.spec import make_spec
from tests.parts.servers.s3 import S3Server
from tests.sources.listed import excluded, refs, source, uris

IMAGES = ("a.jpg", "b.PNG", "x/c.webp", "x/y/d.jpg", "x2/f.jpg")
NAMES = ("a.jpg", "b.PNG", "notes.txt", "x/c.webp", "x/y/d.jpg", "x/y/e.dat", "x2/f.jpg")


@pytest.fixture
def photos(tmp_path: Path) -> str:
    for name in NAMES:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(name.encode())
    return f"{tmp_path}/photos"


def names(src: str, root: str, **fields) -> list[str]:
    return [uri.removeprefix(f"file://{root}/") for uri in uris(source(src, **fields))]


def test_a_folder(photos: str, monkeypatch) -> None:
    monkeypatch.chdir(photos)
    for src in (photos, f"{photos}/", f"file://{photos}", ".", "../photos"):
        assert names(src, photos) == list(IMAGES)
        assert excluded(source(src)) == 2


def test_refs_carry_what_was_listed(photos: str) -> None:
    [row] = refs(source(photos, include=("a.jpg",))).to_pylist()
    path = Path(photos) / "a.jpg"
    uri, modified = f"file://{path}", path.stat().st_mtime_ns // 1000
    assert row == {
        "uri": uri,
        "member": None,
        "etag": None,
        "size": 5,
        "modified": datetime.fromtimestamp(modified // 10**6, UTC).replace(
            microsecond=modified % 10**6
        ),
        "object_id": schema.object_id(uri),
        "version": schema.version(None, 5, modified),
        "replaces": None,
        "address": None,
        "place": None,
        "data": None,
    }


@pytest.mark.parametrize(
    ("glob", "want"),
    [
        ("*", ["a.jpg", "b.PNG"]),
        ("**", ["a.jpg", "b.PNG", "x/c.webp", "x/y/d.jpg", "x2/f.jpg"]),
        ("x*/*.jpg", ["x2/f.jpg"]),
        ("x/**/*.jpg", ["x/y/d.jpg"]),
        ("x/y/*.dat", ["x/y/e.dat"]),
        ("[ab].*", ["a.jpg", "b.PNG"]),
        ("x/y/*", ["x/y/d.jpg"]),
    ],
)
def test_globs(photos: str, glob: str, want: list[str]) -> None:
    assert names(f"{photos}/{glob}", photos) == want
    made = source(f"{photos}/{glob}")
    assert all(made.contains(f"file://{photos}/{name}") == (name in want) for name in NAMES)


def test_one_image(photos: str) -> None:
    assert names(f"{photos}/a.jpg", photos) == ["a.jpg"]


def test_a_folder_with_wildcards_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "[2024] *"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"x")
    assert names(str(folder), str(folder)) == ["a.jpg"]


def test_include_and_exclude_count_what_they_leave_out(photos: str) -> None:
    made = source(photos, include=("*.dat", "*.jpg"), exclude=("x/y/",))
    assert uris(made) == [f"file://{photos}/a.jpg", f"file://{photos}/x2/f.jpg"]
    assert excluded(made) == 4  # of x/y/ only the folder: it was not opened


def test_limit_takes_the_first_ones_in_key_order(photos: str) -> None:
    assert names(photos, photos, limit=3) == ["a.jpg", "b.PNG", "x/c.webp"]
    made = source(photos, limit=3)
    assert len(list(made.shards())) == 1
    assert made.contains(f"file://{photos}/a.jpg") is None
    assert made.contains(f"file://{photos}/notes.txt") is False


def test_a_name_that_is_no_text_is_left_out_and_counted(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).write_bytes(b"x")
    (tmp_path / "a.jpg").write_bytes(b"x")
    made = source(str(tmp_path))
    assert (uris(made), excluded(made)) == ([f"file://{tmp_path}/a.jpg"], 1)


def test_scope_and_contains(photos: str) -> None:
    made = source(f"{photos}/./", exclude=("x/y/",))
    assert made.scope == {
        "kind": "prefix",
        "src": f"file://{photos}/",
        "include": [],
        "exclude": ["x/y/"],
        "limit": None,
    }
    for name, inside in {"a.jpg": 1, "gone.jpg": 1, "a.txt": 0, "x/y/d.jpg": 0}.items():
        assert made.contains(f"file://{photos}/{name}") is bool(inside)
    assert made.contains(f"file://{photos}2/a.jpg") is False


def test_local_shards_are_disjoint_and_complete(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(prefix, "SHARDS", 8)
    want = []
    for folder in range(12):
        for sub in ("", "-a/", "/b/"):
            path = tmp_path / f"d{folder}{sub}" / "i.jpg"
            path.parent.mkdir(parents=True)
            path.write_bytes(b"x")
            want.append(f"file://{path}")
    monkeypatch.setattr("pipeline.storage.listing.pages.PAGE", 5)
    made = source(str(tmp_path))
    shards = list(made.shards())
    sizes = [sum(page.refs.num_rows for page in made.refs(shard)) for shard in shards]
    assert uris(made) == sorted(want)
    assert sizes[0] == 5
    assert max(sizes) <= 12
    assert 4 <= len(shards) <= 17


def test_a_flat_local_folder_is_two_shards(tmp_path: Path) -> None:
    for number in range(1200):
        (tmp_path / f"{number:04d}.jpg").touch()
    made = source(str(tmp_path))
    assert len(list(made.shards())) == 2
    assert len(uris(made)) == 1200


def test_pickles(photos: str) -> None:
    made = source(photos)
    again = pickle.loads(pickle.dumps(made))
    shards = pickle.loads(pickle.dumps(list(again.shards())))
    assert again == made
    assert sum(page.refs.num_rows for shard in shards for page in again.refs(shard)) == 5


def test_memory_through_fsspec() -> None:
    import fsspec

    system = fsspec.filesystem("memory")
    for name in NAMES:
        system.pipe_file(f"/prefix/{name}", b"x")
    assert uris(source("memory://prefix")) == [
        f"memory://prefix/{name}"
        for name in ("a.jpg", "b.PNG", "x/c.webp", "x/y/d.jpg", "x2/f.jpg")
    ]


def test_check_passes_on_images_or_says_how_to_fix_it(photos: str, tmp_path: Path) -> None:
    source(photos).check(f"{tmp_path}/labels")
    with pytest.raises(MissingError, match="nowhere/: no such folder"):
        source(f"{tmp_path}/nowhere").check()
    with pytest.raises(SpecError, match=r"src=.*no image among 2 objects; .* --include"):
        source(f"{photos}/x/y", exclude=("*.jpg",), include=()).check()
    with pytest.raises(SpecError, match=r"src=.*--include leaves out all 7"):
        source(photos, include=("*.tif",)).check()
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpecError, match=r"src=.*nothing there"):
        source(f"{tmp_path}/empty").check()


def test_dst_and_src_must_lie_apart(photos: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(photos)
    for src, dst in (
        (photos, photos),
        (photos, f"{photos}/labels"),
        (photos, f"{tmp_path}/link/labels"),
        (f"{photos}/**/*.jpg", f"{photos}/labels"),
        (photos, str(tmp_path)),
        ("s3://b/a/", "s3://b/a/labels"),
    ):
        with pytest.raises(SpecError, match="dst="):
            source(src).check(dst)
    source(photos).check(f"{photos}-labels")


def test_kinds_by_name(tmp_path: Path) -> None:
    (tmp_path / "dir.csv").mkdir()
    for src, kind in {
        "s3://b/a": "prefix",
        "s3://b/list.TXT": "manifest",
        "list.csv.gz": "manifest",
        "https://h/l.jsonl?sig=a/b.jpg": "manifest",
        "l.parquet": "manifest",
        f"{tmp_path}/dir.csv": "prefix",
        "s3://b/a.jpg": "prefix",
    }.items():
        assert kind_of(make_spec(src=src, dst="d")) == kind
    assert kind_of(make_spec(src="list", dst="d", manifest=True)) == "manifest"
    assert kind_of(make_spec(src="l.txt", dst="d", manifest=False)) == "prefix"
    with pytest.raises(SpecError, match="check_changes"):
        kind_of(make_spec(src="s3://b/a", dst="d", check_changes=True))


@pytest.mark.s3
def test_s3(s3: S3Server) -> None:
    bucket = s3.bucket()
    s3.put_many((f"{bucket}/in/{name}", name.encode()) for name in NAMES)
    s3.put(f"{bucket}/in-not/z.jpg", b"x")
    s3.put(f"{bucket}/in/marker/", b"")
    made = source(f"{bucket}/in")
    made.check(f"{bucket}/labels")
    assert uris(made) == [f"{bucket}/in/{name}" for name in IMAGES]
    assert excluded(made) == 2
    assert uris(source(f"{bucket}/in/x*/*.jpg")) == [f"{bucket}/in/x2/f.jpg"]
    assert uris(source(f"{bucket}/in/a.jpg")) == [f"{bucket}/in/a.jpg"]
    assert uris(source(f"{bucket}/in/", limit=2)) == [f"{bucket}/in/a.jpg", f"{bucket}/in/b.PNG"]
    first = refs(made).to_pylist()[0]
    assert first["etag"] == s3.put(f"{bucket}/in/a.jpg", b"a.jpg")
    assert first["version"] == schema.version(first["etag"], 5, None)


@pytest.mark.s3
def test_s3_says_what_is_wrong(s3: S3Server, monkeypatch) -> None:
    bucket = s3.bucket()
    with pytest.raises(SpecError, match="nothing there"):
        source(f"{bucket}/in").check()
    with pytest.raises(MissingError, match="no such bucket"):
        source("s3://no-such-bucket-at-all/in").check()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    with pytest.raises(DeniedError, match="InvalidAccessKeyId"):
        source(f"{bucket}/in").check()
