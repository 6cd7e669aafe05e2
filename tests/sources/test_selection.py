"""What a prefix takes: no litter of systems, nothing old, nothing from behind closed doors."""

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from pipeline.errors import SpecError, StoreError
from pipeline.sources import names
from pipeline.sources.default_excludes import FOLDERS, left_out_as
from pipeline.spec import make_spec
from tests.parts.processes.unprivileged import as_nobody, shared_folder
from tests.parts.servers.s3 import S3Server
from tests.sources.listed import excluded, source, uris

LITTER = {
    "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg": "@eaDir",
    "x/@eadir/b.jpg": "@eaDir",
    "x/._c.jpg": "._*",
    "._d.jpg": "._*",
    "__MACOSX/x/e.jpg": "__MACOSX",
    "$Recycle.Bin/S-1-5/f.jpg": "$RECYCLE.BIN",
    "x/y/.thumbnails/g.png": ".thumbnails",
    ".Trash-1000/files/h.jpg": ".Trash-*",
    "lost+found/i.jpg": "lost+found",
}
KEPT = ("a.jpg", "x/._/b.jpg", "x/eaDir/c.jpg", "x/@eaDirs/d.jpg", "x/y/_.e.jpg", ".Trash-.jpg")


def put(folder: Path, *paths: str) -> None:
    for name in paths:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def told(found) -> tuple[Counter[str], dict[str, str]]:
    """What was left out by default, by pattern, and what could not be read."""
    left_out, unreadable = Counter(), {}
    for shard in found.shards():
        for page in found.refs(shard):
            left_out.update(page.left_out)
            unreadable |= page.unreadable
    return left_out, unreadable


def test_every_name_says_why_it_is_left_out() -> None:
    assert {name: left_out_as(name) for name in LITTER} == LITTER
    assert [left_out_as(name) for name in KEPT] == [None] * len(KEPT)
    for folder in FOLDERS:
        assert left_out_as(f"a/{folder}/b.jpg") == left_out_as(f"{folder}/") == folder


def test_litter_is_left_out_of_a_folder_counted_and_named(tmp_path: Path) -> None:
    put(tmp_path, *LITTER, *KEPT, "x/@eaDir/notes.txt")
    made = source(str(tmp_path))
    made.check()
    assert uris(made) == sorted(f"file://{tmp_path}/{name}" for name in KEPT)
    # A folder is not opened, so it counts as one; here each has one image. `x/@eaDir` and
    # `x/@eadir` are two.
    assert told(made)[0] == Counter(LITTER.values()) + Counter({"@eaDir": 1})
    assert excluded(made) == 0
    assert [made.contains(f"file://{tmp_path}/{name}") for name in LITTER] == [False] * len(LITTER)


def test_a_word_brings_them_back(tmp_path: Path) -> None:
    put(tmp_path, *LITTER, *KEPT)
    made = source(str(tmp_path), default_excludes=False)
    assert uris(made) == sorted(f"file://{tmp_path}/{name}" for name in (*LITTER, *KEPT))
    assert told(made)[0] == {}
    plain = source(str(tmp_path)).scope
    assert made.scope == plain | {"default_excludes": False}
    assert plain.keys() == {"kind", "src", "include", "exclude", "limit"}


def test_what_is_named_in_full_is_taken(tmp_path: Path) -> None:
    put(tmp_path, "._a.jpg", "@eaDir/b.jpg")
    assert uris(source(f"{tmp_path}/._a.jpg")) == [f"file://{tmp_path}/._a.jpg"]
    assert uris(source(f"{tmp_path}/@eaDir")) == [f"file://{tmp_path}/@eaDir/b.jpg"]
    with pytest.raises(SpecError, match="all 2 are left out by default; --no-default-excludes"):
        source(str(tmp_path)).check()


def test_litter_counts_once_however_the_listing_is_cut(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.storage.listing.pages.PAGE", 3)
    monkeypatch.setattr("pipeline.sources.prefix.SHARDS", 8)
    for number in range(12):
        put(tmp_path, *(f"d{number:02}/{name}" for name in ("@eaDir/a.jpg", "b.jpg", "no/c.jpg")))
    made = source(str(tmp_path), exclude=("**/no/",))
    assert len(list(made.shards())) > 4
    assert (len(uris(made)), told(made)[0], excluded(made)) == (12, {"@eaDir": 12}, 12)


def test_litter_in_a_store_that_is_no_disk() -> None:
    import fsspec

    system = fsspec.filesystem("memory")
    for name in (*LITTER, "a.jpg", "@eaDir/notes.txt"):
        system.pipe_file(f"/litter/{name}", b"x")
    made = source("memory://litter")
    assert uris(made) == ["memory://litter/a.jpg"]
    assert (told(made)[0], excluded(made)) == (Counter(LITTER.values()), 1)


@pytest.mark.s3
def test_litter_on_s3(s3: S3Server) -> None:
    bucket = s3.bucket()
    s3.put_many((f"{bucket}/in/{name}", b"x") for name in (*LITTER, *KEPT))
    made = source(f"{bucket}/in")
    assert uris(made) == sorted(f"{bucket}/in/{name}" for name in KEPT)
    assert told(made)[0] == Counter(LITTER.values())


def test_folders_that_may_not_be_read() -> None:
    with shared_folder() as folder:
        put(folder, "a.jpg", "closed/b.jpg", "x/closed/c.jpg", "@eaDir/d.jpg", "z/e.jpg")
        for name in ("closed", "x/closed", "@eaDir"):
            (folder / name).chmod(0)

        def looked(**fields) -> tuple[list[str], list[str]]:
            made = source(str(folder), **fields)
            made.check()
            skip = len(f"file://{folder}/")
            return [u[skip:] for u in uris(made)], sorted(u[skip:] for u in told(made)[1])

        looked()  # imports
        all_of_it = ["a.jpg", "z/e.jpg"]
        assert as_nobody(looked) == (all_of_it, ["closed/", "x/closed/"])
        for exclude, left in {
            ("closed/",): ["x/closed/"],
            ("closed/**",): ["x/closed/"],
            ("**/closed/",): [],
            ("closed/", "x/"): [],
            ("closed/*.jpg",): ["closed/", "x/closed/"],
        }.items():
            assert as_nobody(lambda: looked(exclude=exclude)) == (all_of_it, left)  # noqa: B023
        closed = ["@eaDir/", "closed/", "x/closed/"]
        assert as_nobody(lambda: looked(default_excludes=False)) == (all_of_it, closed)

        def globbed(glob: str) -> list[str]:
            return sorted(told(source(f"{folder}/{glob}"))[1])

        assert as_nobody(lambda: globbed("*.jpg")) == []
        assert as_nobody(lambda: globbed("z*/*.jpg")) == []
        assert as_nobody(lambda: globbed("*/*.jpg")) == [f"file://{folder}/closed/"]
        for name in ("closed", "x/closed", "@eaDir"):
            (folder / name).chmod(0o755)


def test_a_source_of_which_nothing_can_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "in").symlink_to("x" * 300)
    with pytest.raises(StoreError, match=r"no image; .*/in cannot be read: file name too long"):
        source(str(tmp_path)).check()
    put(tmp_path, "a.jpg")
    for exclude in ("in/", "in"):
        unread = told(source(str(tmp_path), exclude=(exclude,)))[1]
        assert unread == ({} if exclude == "in/" else {f"file://{tmp_path}/in": LONG})


LONG = "file name too long"


def test_no_folder_is_passed_over_that_holds_what_a_glob_matches() -> None:
    draw = random.Random(0)
    parts = ["a", "b", "ab", "*", "**", "a*", "?", "[ab]", "[!a]", "**a", "[[]", "[a/]"]
    for _ in range(3000):
        pattern = "/".join(draw.choices(parts, k=draw.randint(1, 4)))
        name = "/".join(draw.choices(["a", "b", "ab", "ba", "["], k=draw.randint(1, 5)))
        matches = names.compiled(pattern, "src").fullmatch(name)
        above = [name[: at + 1] for at, sign in enumerate(name) if sign == "/"]
        if matches:
            assert all(names.may_hold(pattern)(folder) for folder in above), (pattern, name)
        exclude = pattern + draw.choice(["", "/", "/**"])
        wanted = names.name_filter((), (exclude,), suffixes=False)
        if any(names.covers((exclude,))(folder) for folder in above):
            assert not wanted(name), (exclude, name)
    assert not names.may_hold("*.jpg")("a/")
    assert not names.may_hold("a*/b/*")("b/")


@pytest.mark.parametrize("name", ["shoot [2024]", "a*b", "what?", "[[x]", "**"])
def test_a_pattern_that_is_a_real_name_is_taken_for_it(name: str, tmp_path: Path) -> None:
    import fsspec

    put(tmp_path, f"{name}/in/a.jpg", "aXb/b.jpg", f"{name}.jpg")
    system = fsspec.filesystem("memory")
    root = f"/literal-{os.urandom(4).hex()}"
    for path in (f"{name}/in/a.jpg", "aXb/b.jpg", f"{name}.jpg"):
        system.pipe_file(f"{root}/{path}", b"x")
    for base in (str(tmp_path), f"memory:/{root}"):
        uri = base if "://" in base else f"file://{base}"
        for slash in ("", "/"):
            assert uris(source(f"{base}/{name}{slash}")) == [f"{uri}/{name}/in/a.jpg"]
        assert uris(source(f"{base}/{name}.jpg")) == [f"{uri}/{name}.jpg"]


@pytest.mark.s3
def test_a_pattern_that_is_a_real_key_on_s3(s3: S3Server) -> None:
    bucket = s3.bucket()
    for name in ("shoot [2024]/a.jpg", "shoot 2/b.jpg", "a*b/c.jpg", "aXb/d.jpg", "e[1].jpg"):
        s3.put(f"{bucket}/{name}", b"x")
    for src, want in {
        "shoot [2024]": "shoot [2024]/a.jpg",
        "shoot [2024]/": "shoot [2024]/a.jpg",
        "a*b/": "a*b/c.jpg",
        "e[1].jpg": "e[1].jpg",
        "shoot [2024]/*": "shoot 2/b.jpg",
        "shoot [[]2024]/*": "shoot [2024]/a.jpg",
        "a[*]b/*": "a*b/c.jpg",
    }.items():
        assert uris(source(f"{bucket}/{src}")) == [f"{bucket}/{want}"], src
    assert len(uris(source(f"{bucket}/a*b/*"))) == 2
    with pytest.raises(SpecError, match=r"nothing matches; .* write \[\*\] \[\?\] \[\[\]"):
        source(f"{bucket}/shoot [3456]/*.jpg").check()


def test_a_name_longer_than_any_is_no_traceback(tmp_path: Path) -> None:
    for src in (f"{tmp_path}/{'x' * 300}", f"{tmp_path}/{'x' * 300}*", f"{tmp_path}/{'x/' * 4000}"):
        with pytest.raises((SpecError, StoreError)):
            source(src).check()


def test_only_what_is_as_new(tmp_path: Path) -> None:
    put(tmp_path, "new.jpg", "old.jpg", "edge.jpg")
    for name, time in {"new": 1_800_000_000, "old": 1_700_000_000, "edge": 1_767_225_600}.items():
        os.utime(tmp_path / f"{name}.jpg", (0, time))
    made = source(str(tmp_path), modified_since="2026-01-01T00:00Z")
    assert uris(made) == [f"file://{tmp_path}/{name}.jpg" for name in ("edge", "new")]
    assert excluded(made) == 1
    assert made.scope["modified_since"] == "2026-01-01T00:00Z"
    assert made.contains(f"file://{tmp_path}/old.jpg") is None
    assert made.contains("file:///elsewhere/old.jpg") is False
    assert "modified_since" not in source(str(tmp_path)).scope
    limited = source(str(tmp_path), modified_since="2026-01-01T00:00Z", limit=2)
    assert len(uris(limited)) == 2
    quiet = source(str(tmp_path), modified_since="2999-01-01")
    quiet.check()
    assert (uris(quiet), excluded(quiet)) == ([], 3)


def test_what_tells_no_time_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(
        "uri,modified\ns3://b/new.jpg,2026-05-01T00:00:00Z\ns3://b/none.jpg,\n"
        "s3://b/old.jpg,2025-05-01T00:00:00Z\n"
    )
    made = source(str(path), modified_since="2026-01-01T00:00Z")
    assert uris(made) == ["s3://b/new.jpg", "s3://b/none.jpg"]
    assert excluded(made) == 1
    assert made.scope["modified_since"] == "2026-01-01T00:00Z"
    path = tmp_path / "list.txt"
    path.write_text("s3://b/a.jpg\ns3://b/b.jpg\n")
    assert len(uris(source(str(path), modified_since="1d"))) == 2


def test_delete_needs_all_of_the_listing() -> None:
    with pytest.raises(SpecError, match="--modified-since cuts"):
        make_spec(src="a", dst="b", delete=True, modified_since="1d")
