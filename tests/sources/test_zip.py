"""Members of zip files: each is one outcome, whatever the zip file says."""

import io
import random
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from pipeline.errors import ImageError
from pipeline.schema import object_id
from pipeline.sources import wants_of
from pipeline.sources.containers import zip as zips
from pipeline.sources.containers import zip_directory
from pipeline.sources.members import Choice
from pipeline.storage import read_many
from tests.parts.archives.zips import Forged, zip_of
from tests.parts.models.tiny import archive
from tests.sources.listed import excluded, refs, source

IMAGES = archive(6)


def outcomes(path: Path, data: bytes | None = None, **fields: object) -> dict[str | None, object]:
    """By member: its bytes, or the error code. Every ref is another object."""
    if data is not None:
        path.write_bytes(data)
    rows = refs(source(str(path), **fields))
    assert len(set(rows["object_id"].to_pylist())) == rows.num_rows
    found = dict(read_many(wants_of(rows), max_bytes=10**6))
    names = rows["member"].to_pylist()
    told = {n: str(one.code) if not isinstance(one, bytes) else one for n, one in found.items()}
    return {names[n]: told[n] for n in range(rows.num_rows)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "photos.zip"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_members_come_out_as_they_went_in(path: Path, method: int) -> None:
    assert outcomes(path, zip_of(IMAGES, method)) == IMAGES


def test_a_ref_of_a_member_says_what_it_is(path: Path) -> None:
    path.write_bytes(zip_of(IMAGES))
    uri = path.as_uri()
    rows = refs(source(str(path))).to_pylist()
    for row, (name, data) in zip(rows, IMAGES.items(), strict=True):
        assert (row["uri"], row["member"], row["size"]) == (uri, name, len(data))
        assert row["object_id"] == object_id(uri, name)
        assert row["etag"] == f"crc32-{zipfile.crc32(data):08x}-{len(data)}"


def test_a_version_is_the_content_not_the_archive(path: Path) -> None:
    path.write_bytes(zip_of(IMAGES))
    before = refs(source(str(path))).select(["object_id", "version"]).to_pylist()
    path.write_bytes(zip_of(dict(reversed(IMAGES.items())), zipfile.ZIP_DEFLATED))
    after = refs(source(str(path))).select(["object_id", "version"]).to_pylist()
    assert after == before[::-1]


def test_written_while_it_streamed(path: Path) -> None:
    """Sizes come after the data then, and the local header has none."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as written:
        for name, data in IMAGES.items():
            with written.open(name, "w") as member:
                member.write(data)
    assert outcomes(path, pipe.getvalue()) == IMAGES


def test_zip64_a_comment_and_bytes_before_the_zip(path: Path) -> None:
    sink = io.BytesIO(b"#!/bin/sh\n" * 100)
    sink.seek(0, io.SEEK_END)
    with zipfile.ZipFile(sink, "a") as written:
        for name, data in IMAGES.items():
            with written.open(name, "w", force_zip64=True) as member:
                member.write(data)
        written.comment = b"PK\5\6 and more" * 1000
    assert outcomes(path, sink.getvalue()) == IMAGES


def test_a_directory_of_zip64(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    assert outcomes(path, zip_of(IMAGES)) == IMAGES
    assert outcomes(path, b"before" + path.read_bytes()) == IMAGES


def test_what_is_taken_is_chosen_as_in_a_folder(path: Path) -> None:
    others = {
        "notes.txt": b"x", "folder/": b"", "__MACOSX/a/._x.jpg": b"x", "a/._y.jpg": b"x",
        "B/UPPER.JPG": b"y",
    }  # fmt: skip
    path.write_bytes(zip_of(IMAGES | others))
    made = source(str(path))
    assert outcomes(path) == IMAGES | {"B/UPPER.JPG": b"y"}
    assert excluded(made) == 1
    pages = [page for shard in made.shards() for page in made.refs(shard)]
    assert dict(pages[0].left_out) == {"__MACOSX": 1, "._*": 1}
    every = outcomes(path, default_excludes=False, exclude=("a/",))
    assert sorted(every) == ["B/UPPER.JPG", "__MACOSX/a/._x.jpg", *sorted(IMAGES)[3:]]
    assert list(outcomes(path, include=("*.txt",))) == ["notes.txt"]
    assert len(outcomes(path, limit=2)) == 2


def test_names_of_all_kinds_are_told_apart(path: Path) -> None:
    forged = Forged()
    names = [b"../../etc/x.jpg", b"/abs.jpg", b"a\\b.jpg", b"nul\0.jpg", b"\xff\xfe.jpg",
             "ü.jpg".encode(), b"new\nline.jpg", b"esc\x1b[2J.jpg"]  # fmt: skip
    for number, name in enumerate(names):
        forged.add(name, b"%d" % number)
    found = outcomes(path, forged.whole())
    assert list(found) == ["../../etc/x.jpg", "/abs.jpg", "a\\b.jpg", "nul%00.jpg", "\xa0■.jpg",
                           "ü.jpg", "new\nline.jpg", "esc\x1b[2J.jpg"]  # fmt: skip
    assert list(found.values()) == [b"%d" % number for number in range(len(names))]


def test_equal_names_get_a_number_that_no_other_has(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    forged = Forged()
    for number, name in enumerate([b"a/x.jpg", b"a/x.jpg", b"a/x#2.jpg", b"a/x.jpg", b"y.jpg"]):
        forged.add(name, b"%d" % number)
    zips._warn_of_doubles.cache_clear()
    found = outcomes(path, forged.whole())
    assert found == {
        "a/x.jpg": b"0", "a/x#3.jpg": b"1", "a/x#2.jpg": b"2", "a/x#4.jpg": b"3", "y.jpg": b"4"
    }  # fmt: skip
    assert caplog.text.count("2 members have the name of another one") == 1


def test_what_is_not_read_is_one_row_that_says_why(path: Path) -> None:
    forged = Forged()
    forged.add(b"good.jpg", b"good")
    forged.add(b"secret.jpg", b"x", flags=1)
    forged.add(b"strong.jpg", b"x", method=99)
    forged.add(b"lzma.jpg", b"x", method=14)
    forged.add(b"crc.jpg", b"x", crc=1)
    forged.add(b"longer.jpg", b"xyz", size=2)
    forged.add(b"shorter.jpg", b"xyz", size=4)
    forged.add(b"inner.ZIP", b"PK")
    forged.add(b"empty.jpg", b"")
    forged.add(b"disk.jpg", b"x", disk=3)
    at = forged.add(b"broken.jpg", b"not deflate")
    forged.body[at + 40 : at + 50] = b"\xff" * 10
    forged.add(b"beyond.jpg", b"x", offset=2**31)
    forged.add(b"huge.jpg", b"x", size=2**31)
    forged.add(b"big.jpg", bytes(2 * 10**6))
    forged.entry(b"z64.jpg", size=2**32 - 1, packed=2**32 - 1, offset=2**32 - 1,
                 extra=struct.pack("<HHQQQ", 1, 24, 2**63, 2**64 - 1, 2**62))  # fmt: skip
    assert outcomes(path, forged.whole()) == {
        "good.jpg": b"good", "secret.jpg": "unsupported", "strong.jpg": "unsupported",
        "lzma.jpg": "unsupported", "crc.jpg": "undecodable", "longer.jpg": "undecodable",
        "shorter.jpg": "undecodable", "inner.ZIP": "unsupported", "empty.jpg": "empty",
        "disk.jpg": "unsupported", "broken.jpg": "undecodable", "beyond.jpg": "truncated",
        "huge.jpg": "too_large", "big.jpg": "too_large", "z64.jpg": "truncated",
    }  # fmt: skip


def test_members_that_overlap_are_refused_as_bombs_do(path: Path) -> None:
    """Fifield's: one kernel of zeros that many members share, each around the next one's header."""
    forged = Forged()
    forged.add(b"good.jpg", b"good")
    kernel = forged.add(b"kernel.jpg", bytes(10**5))
    for number in range(100):
        forged.entry(b"%d.jpg" % number, packed=150, size=10**5, offset=kernel)
    first = forged.add(b"outer.jpg", b"x" * 100, method=0, packed=300, size=300)
    forged.add(b"inside.jpg", b"y" * 10, method=0)
    found = outcomes(path, forged.whole())
    assert found.pop("good.jpg") == b"good"
    assert found.pop("inside.jpg") == b"y" * 10
    assert set(found.values()) == {"unsupported"}
    assert len(found) == 102
    assert first > kernel


def test_a_bomb_is_not_unpacked_further_than_it_says(path: Path) -> None:
    forged = Forged()
    forged.add(b"lies.jpg", bytes(50 * 2**20), size=1000)
    forged.add(b"ratio.jpg", bytes(2**20), size=2**27)
    path.write_bytes(forged.whole())
    rows = refs(source(str(path)))
    wants = wants_of(rows)
    tracemalloc.start()
    found = dict(read_many(wants, max_bytes=2**28))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [str(found[n].code) for n in (0, 1)] == ["undecodable", "too_large"]  # type: ignore[union-attr]
    assert peak < 2**20


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"no zip at all", "unsupported"),
        (zip_of(IMAGES)[:-30], "truncated"),
        (zip_of(IMAGES)[:100], "truncated"),
        (Forged().whole(disk=1), "unsupported"),
        (Forged().whole(size=999), "truncated"),
        (Forged().whole(count=0xFFFF, size=0xFFFFFFFF, offset=0xFFFFFFFF), "truncated"),
    ],
)
def test_a_zip_that_is_none_is_one_row_of_its_own(path: Path, data: bytes, code: str) -> None:
    assert outcomes(path, data) == {None: code}
    made = source(str(path))
    if data:
        made.check()
    [page] = [page for shard in made.shards() for page in made.refs(shard)]
    assert list(page.unreadable) == [path.as_uri()]
    assert page.refs["object_id"].to_pylist() == [object_id(path.as_uri())]


def test_a_directory_that_breaks_off_gives_its_good_members(path: Path) -> None:
    forged = Forged()
    for name, data in IMAGES.items():
        forged.add(name.encode(), data)
    forged._entries.append(b"PK\1\2 and then nothing")
    assert outcomes(path, forged.whole()) == IMAGES | {None: "truncated"}


def test_a_directory_that_would_fill_the_memory_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zip_directory, "DIRECTORY_BYTES", 100)
    assert outcomes(path, zip_of(IMAGES)) == {None: "too_large"}


def test_a_million_claims_are_not_believed(path: Path) -> None:
    assert outcomes(path, Forged().whole(count=0xFFFE)) == {}


def test_pieces_of_a_large_one_are_disjoint_and_complete(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.sources.archive.MEMBERS_A_SHARD", 4)
    path.write_bytes(zip_of(archive(10)))
    made = source(str(path))
    pieces = [
        [name for page in made.refs(one) for name in page.refs["member"].to_pylist()]
        for one in made.shards()
    ]
    assert [len(piece) for piece in pieces] == [4, 4, 2]
    assert sorted(name for piece in pieces for name in piece) == sorted(archive(10))


def test_a_large_one_that_breaks_off_has_one_row_of_its_own(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.sources.archive.MEMBERS_A_SHARD", 2)
    forged = Forged()
    for name, data in IMAGES.items():
        forged.add(name.encode(), data)
    forged._entries.append(b"PK\1\2" + bytes(20))
    assert outcomes(path, forged.whole()) == IMAGES | {None: "truncated"}
    assert len(list(source(str(path)).shards())) > 2


def test_mutants_of_a_zip_are_rows_and_no_exception(path: Path) -> None:
    """Whatever byte is wrong or missing: each ref has an outcome, and memory is bounded."""
    draw = random.Random(7)
    good = zip_of(IMAGES, zipfile.ZIP_DEFLATED)
    directory = good.index(b"PK\1\2")
    mended = 0
    for number in range(400):
        data = bytearray(good)
        if number % 4 == 0:
            del data[draw.randrange(len(data)) :]
        for _ in range(draw.choice([1, 1, 3, 30])):
            low = directory if number % 2 else 0
            if low < len(data):
                data[draw.randrange(low, len(data))] = draw.choice([0, 1, 0x7F, 0x80, 0xFF])
        found = outcomes(path, bytes(data))
        assert None in found or len(found) <= len(IMAGES)
        mended += sum(isinstance(one, bytes) for one in found.values())
    assert mended > 200


def test_a_choice_by_name_has_a_row_for_what_is_missing() -> None:
    verdict = Choice(named=frozenset({"a.txt", "b.zip"})).verdicts()
    assert [verdict(name) for name in ("a.txt", "b.zip", "c.jpg")] == [True, True, None]


def test_unpacking_is_held_to_the_checksum() -> None:
    place = {"method": 0, "crc32": 1}
    with pytest.raises(ImageError, match="damaged in its archive"):
        zips.Zip.unpack(place, 1, b"short")
