"""One odd entry of a list is one row, whatever it is, and the others are read all the same."""

import json
import os
import random
import socket
from collections import Counter
from pathlib import Path

import pytest

from pipeline.errors import ErrorCode, ImageError, TransientError
from pipeline.sources import open_source, wants_of
from pipeline.spec import make_spec
from pipeline.storage import Canaries, Rules, read_steadily, translate
from tests.sources.listed import excluded, refs, source

#: Entry → the code of its row. `{dir}` is the folder of the list.
ODD = {
    "a\0b.jpg": "missing",
    "s3://b/a\0b.jpg": "missing",
    "https://h/a\0b.jpg": "missing",
    "s3://arch /x.jpg": "missing",
    "gs://a b/x": "missing",
    "az://c d/x.jpg": "missing",
    "gs://[/x": "missing",
    "s3://ü/x": "missing",
    "s3://bucket": "missing",
    "s3://bucket/": "missing",
    "s3://": "missing",
    "S3:///": "missing",
    "s3:///x.jpg": "missing",
    "gs://": "missing",
    "az://container": "missing",
    "s3://b/" + "k" * 2_000: "missing",
    "http://": "missing",
    "http://[::1": "missing",
    "http://h:99999/x.jpg": "missing",
    "http://a..b/x.jpg": "missing",
    "https://exa mple/x.jpg": "missing",
    "http://\x7f/x": "missing",
    "file://host/x": "missing",
    "file://": "missing",
    "FILE://other/x": "missing",
    "nope.jpg": "missing",
    "../nope/../nope.jpg": "missing",
    "C:\\photos\\a.jpg": "missing",
    "s3:/b/x.jpg": "missing",
    " s3://b/x.jpg": "missing",
    "data:image/png;base64,AAAA": "missing",
    "{dir}/loop.jpg": "missing",
    "{dir}/a.jpg/below": "missing",
    "n" * 300 + ".jpg": "missing",
    "d/" * 3_000 + "a.jpg": "missing",
    "x" * 1_000_000: "missing",
    "s3://b/" + "x" * 1_000_000: "missing",
    "http://127.0.0.1/" + "x" * 100_000: "missing",
    "wasbs://c@account/x.jpg": "unsupported",
    "foo://x": "unsupported",
    "foo://": "unsupported",
    "x.y-z+1://q": "unsupported",
    "sftp://h/x.jpg": "unsupported",
    "ftp://127.0.0.1/x.jpg": "denied",
    "zip://x::file:///etc/passwd": "denied",
    "http://127.0.0.1/x.jpg": "denied",
    "http://169.254.169.254/latest/meta-data": "denied",
    "http://€:x@127.0.0.1/y.jpg": "denied",
    "memory://nothing/there": "missing",
    ".": "not_an_image",
    "/": "not_an_image",
    "sub/": "not_an_image",
    "{dir}/socket": "not_an_image",
    "/dev/null": "not_an_image",
    "empty.jpg": "empty",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-a-test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-a-test")
    monkeypatch.chdir(tmp_path)  # a socket's name must be short
    (tmp_path / "sub").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"jpeg")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind("socket")
    return tmp_path


def outcomes(src: Path | str) -> tuple[list[str], list[bytes | str]]:
    """(uris, what came of each), by a run's own way but for Ray."""
    found = open_source(make_spec(src=str(src), dst="/tmp/labels"))
    found.check()
    rows = refs(found)
    wants = wants_of(rows)
    read: dict[int, list[bytes | str]] = {n: [] for n in range(len(wants))}
    reads = read_steadily(wants, Canaries(), max_bytes=10_000, rules=Rules(seconds=5))
    for index, got in reads:
        if isinstance(got, ImageError | TransientError):
            assert got.code in set(ErrorCode)
            assert "Traceback" not in got.message
        read[index].append(got if isinstance(got, bytes) else str(got.code))
    assert all(len(one) == 1 for one in read.values()), "one outcome each"
    return rows["uri"].to_pylist(), [one for [one] in read.values()]


def as_json(path: Path, entries: list[str]) -> Path:
    path.write_text("\n".join(json.dumps({"uri": entry}) for entry in entries))
    return path


@pytest.mark.parametrize("entry", ODD, ids=lambda entry: repr(entry[:40]))
def test_an_odd_entry_is_one_row(folder: Path, entry: str) -> None:
    """Alone, and among others."""
    given = entry.replace("{dir}", str(folder))
    uris, found = outcomes(as_json(folder / "m.jsonl", [given]))
    assert found == [ODD[entry]]
    uris, found = outcomes(as_json(folder / "m.jsonl", ["a.jpg", given, "b.jpg", given]))
    assert found == [b"jpeg", ODD[entry], b"jpeg"]
    assert len(uris[1]) < 10_000
    assert "\0" not in uris[1]


def test_all_of_them_at_once_in_every_format(folder: Path) -> None:
    """Each the same object whichever list names it."""
    entries = [entry.replace("{dir}", str(folder)) for entry in ODD]
    expected = dict(zip(entries, ODD.values(), strict=True))
    by_json = outcomes(as_json(folder / "m.jsonl", entries))
    assert Counter(by_json[1]) == Counter(expected.values())
    assert len(set(by_json[0])) == len(entries)

    lines = [entry for entry in entries if not entry.startswith("#")]
    (folder / "m.txt").write_text("\n".join(lines))
    assert outcomes(folder / "m.txt") == by_json
    (folder / "m.csv").write_text("uri\n" + "\n".join(f'"{entry}"' for entry in entries))
    assert outcomes(folder / "m.csv") == by_json
    (folder / "m.json").write_text(json.dumps(entries, indent=1))
    assert outcomes(folder / "m.json") == by_json


def test_thousands_of_random_entries(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translate, "TRIES", 1)
    generator = random.Random(25)
    entries = [_random_entry(generator) for _ in range(4_000)]
    made = source(str(as_json(folder / "m.jsonl", ["a.jpg", *entries, "b.jpg"])))
    uris, found = outcomes(folder / "m.jsonl")
    named = {entry for entry in entries if entry.strip()}
    assert len(uris) == len(set(uris))
    assert len(uris) > 0.8 * len(named)
    assert found[0] == b"jpeg"
    assert Counter(found)["missing"] > 1_000
    assert set(found) <= {b"jpeg", *map(str, ErrorCode)}
    again = outcomes(folder / "m.jsonl")
    assert again == (uris, found), "stable"
    assert excluded(made) == sum(not _is_utf8(entry) for entry in entries) > 100


#: What random entries are made of; all that could be asked of a network leads nowhere.
_STARTS = (
    *(
        "",
        "/",
        "./",
        "../",
        " ",
        "#",
        "file://",
        "file:///",
        "FILE:///",
        "s3://",
        "s3a://",
        "gs://",
    ),
    *("az://", "http://", "https://", "HTTP://", "http://[", "http://127.0.0.1:9/", "foo://"),
    *("wasbs://", "ftp://", "memory://", "s3:", "://", "C:\\", "data:", "sftp://h/", "hf://"),
)
_LETTERS = "ab/ .:?#@%&=\\\"'<>[]{}|^`~$,;*!\t\0\x01\x1b\x7f\x85\u200b\u2028üß中🏷"
_BUCKETS = ("s3", "s3a", "gs", "az")


def _random_entry(generator: random.Random) -> str:
    start = generator.choice(_STARTS)
    length = generator.choice((0, 1, 3, 10, 60, 300))
    letters = _LETTERS + ("\ud800\udcff" if generator.random() < 0.1 else "")
    rest = "".join(generator.choices(letters, k=length))
    if start.partition(":")[0] in _BUCKETS:
        rest = generator.choice((" ", "ü", "[", "\x01")) + rest  # no bucket, so nobody is asked
    if start.lower().startswith("http") and "127" not in start:
        rest = generator.choice(("[", "a..b/", ":99999/", "\x7f/")) + rest
    return start + rest


def _is_utf8(entry: str) -> bool:
    try:
        entry.encode()
    except UnicodeEncodeError:
        return False
    return True


def test_a_long_entry_keeps_its_identity(folder: Path) -> None:
    """By all its letters, not by those that are kept."""
    one, other = "s3://b/" + "x" * 90_000 + "1", "s3://b/" + "x" * 90_000 + "2"
    (folder / "m.txt").write_bytes(f"{one}\r\n{other}\r\n{one}".encode())
    by_text, found = outcomes(folder / "m.txt")
    assert found == ["missing"] * 2
    assert outcomes(as_json(folder / "m.jsonl", [one, other]))[0] == by_text
    assert all("(90,008 letters, " in uri for uri in by_text)


def test_a_relative_entry_does_not_hang_on_where_one_stands(folder: Path, monkeypatch) -> None:
    as_json(folder / "m.jsonl", [" https://h/a.jpg", "x/://y", "a.jpg"])
    here = outcomes(folder / "m.jsonl")
    monkeypatch.chdir("/")
    assert outcomes(folder / "m.jsonl") == here
    assert os.fspath(folder) in here[0][0]


def test_facts_are_asked_of_odd_entries_too(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(translate, "TRIES", 1)
    entries = [entry.replace("{dir}", str(folder)) for entry in ODD]
    made = source(str(as_json(folder / "m.jsonl", [*entries, "a.jpg"])), check_changes=True)
    found = refs(made).to_pylist()
    assert len(found) == len(entries) + 1
    assert found[-1]["size"] == 4
