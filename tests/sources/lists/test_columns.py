"""What of a list is looked at: columns, sizes, arrays, and the lines that messages name."""

import gzip
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from pipeline.errors import SpecError
from pipeline.sources.lists import gathering
from pipeline.sources.lists import json as json_lists
from tests.sources.listed import checked, refs, source, uris
from tests.sources.lists.test_files import LISTS, NAMES

# ── columns ─────────────────────────────────────────────────────────────────────────────────

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def columns(at: Path, /, **given: pa.Array) -> Path:
    parquet.write_table(pa.table(given), at)
    return at


def test_only_used_columns_are_looked_at(tmp_path: Path) -> None:
    image = pa.array([{"bytes": b"x", "path": "p"}], STRUCT)
    path = columns(
        tmp_path / "m.parquet",
        image=image,
        key=pa.array([b"\xff"], pa.binary()),
        path=pa.nulls(1),
        size=pa.array([[640, 480]], pa.list_(pa.int64())),
        last_modified=pa.array([image[0]], STRUCT),
        mtime=pa.array(["2024-01-02"]),
        file=pa.array(["s3://b/a.jpg"]),
        label=pa.array([{}], pa.map_(pa.string(), pa.string())),
    )
    [row] = refs(checked(path)).to_pylist()
    assert (row["uri"], row["size"]) == ("s3://b/a.jpg", None)
    assert row["modified"].isoformat() == "2024-01-02T00:00:00+00:00"


def test_only_used_fields_are_looked_at(tmp_path: Path) -> None:
    lines = [
        {"image": {"bytes": None, "path": "p"}, "file": "a.jpg", "size": [640, 480], "path": None},
        {"url": "b.jpg", "key": 5, "size": {"w": 1}, "uri": ["x"]},
        {"label": "cat"},
        {},
        {"uri": None, "image": "c.jpg", "size": None},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert uris(source(f"{tmp_path}/m.jsonl")) == [f"file://{tmp_path}/{n}.jpg" for n in "abc"]
    assert refs(source(f"{tmp_path}/m.jsonl"))["size"].to_pylist() == [None] * 3


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            {"image": pa.array([{"bytes": b"x"}], STRUCT)},
            "the column image is of type struct<.*`uri`",
        ),
        ({"key": pa.array([b"x"])}, "the column key is of type binary, which is not text"),
        ({"uri": pa.array([5])}, "the column uri is of type int64, which is not text"),
        ({"uri": ["a"], "etag": pa.array([b"x"])}, "the column etag is of type binary"),
        (
            {"uri": ["a"], "mtime": pa.array([True])},
            "the column mtime is of type bool, which is no",
        ),
        ({"size": pa.array([5])}, "no column for the uri; call it one of uri, url"),
    ],
)
def test_a_used_column_that_is_of_no_use_is_named(tmp_path: Path, given, problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        checked(columns(tmp_path / "m.parquet", **given))


def test_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.table([pa.array(["s3://b/1"]), pa.array(["s3://b/2"])], ["uri", "uri"])
    parquet.write_table(table, tmp_path / "m.parquet")
    assert uris(checked(tmp_path / "m.parquet")) == ["s3://b/1"]


SIZES = {"525": 525, "525.0": 525, " 525 ": 525, "nan": None, "NaN": None, "": None, "-1": None}


def test_sizes_as_tables_write_them(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(
        "uri,size\n" + "\n".join(f"s3://b/{n},{size}" for n, size in enumerate(SIZES))
    )
    assert refs(checked(tmp_path / "m.csv"))["size"].to_pylist() == list(SIZES.values())
    values = [525, 525.0, "525", float("nan"), None, True, -1]
    (tmp_path / "m.jsonl").write_text(
        "\n".join(json.dumps({"uri": f"s3://b/{n}", "size": one}) for n, one in enumerate(values))
    )
    found = refs(checked(tmp_path / "m.jsonl"))["size"].to_pylist()
    assert found == [525, 525, 525, None, None, None, None]
    for column in (
        pa.array([525.0, float("nan")]),
        pa.array(["525", None]),
        pa.array([Decimal(525), None], pa.decimal128(38, 2)),
        pa.array([525, None], pa.uint64()),
        pa.array([525.0, None], pa.float32()),
    ):
        path = columns(tmp_path / "m.parquet", uri=pa.array(["s3://b/1", "s3://b/2"]), size=column)
        assert refs(checked(path))["size"].to_pylist() == [525, None]


@pytest.mark.parametrize(
    "size", ["525.5", "1e999", "1e99999999", "Infinity", "0x10", "1,5", "12 kB"]
)
def test_sizes_that_are_none(tmp_path: Path, size: str) -> None:
    (tmp_path / "m.csv").write_text(f'uri,size\ns3://b/1,"{size}"\n')
    with pytest.raises(SpecError, match="line 2: size is not a number of bytes"):
        checked(tmp_path / "m.csv")


# ── arrays and lines ────────────────────────────────────────────────────────────────────────


def test_arrays_of_strings_and_objects(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps([NAMES[0], {"URL": NAMES[1], "size": 5.0}, {"uri": NAMES[2]}]))
    assert uris(checked(path)) == NAMES
    for text in (" [ ]\n", "[]"):
        path.write_text(text)
        with pytest.raises(SpecError, match="an empty manifest"):
            checked(path)
    path.write_text(LISTS["jsonl"])
    assert uris(checked(path)) == NAMES


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[\n "a.jpg",\n 5\n]', "line 3: not a JSON object"),
        ('[\n "a.jpg",\n\n {"uri": }\n]', "line 4: no JSON"),
        ('[\n "a.jpg"\n "b.jpg"\n]', "line 3: not JSON: the array ends too early"),
        ('[\n "a.jpg",\n', "line 3: no JSON"),
        ('[\n "a.jpg"\n', "line 3: not JSON: the array ends too early"),
        ('[\n {"uri": "a.jpg"},\n\n {"uri": "b.jpg",\n  "size": "x"}\n]', "line 4: size"),
        ("[" * 50_000, "line 1: no JSON"),
        ('{"images": ["a.jpg"]}', "no column for the uri"),
        ('{\n "images": []\n}', "line 1: no JSON"),
    ],
)
def test_arrays_that_are_malformed(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(SpecError, match=problem):
        refs(checked(tmp_path / "m.json"))


def test_an_array_that_is_too_large_for_memory(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(json_lists, "ARRAY_SIZE", 2**20)
    (tmp_path / "m.json.gz").write_bytes(gzip.compress(b'["' + bytes(2**22) + b'"]'))
    with pytest.raises(
        SpecError, match=r"not text|an array of over 1 MiB; write one object per line"
    ):
        checked(tmp_path / "m.json.gz")
    (tmp_path / "m.json").write_text(json.dumps(["x" * 999] * 2_000))
    with pytest.raises(SpecError, match="an array of over 1 MiB; write one object per line"):
        checked(tmp_path / "m.json")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("batch", [1, 2, 8192])
def test_lines_are_those_of_the_file(tmp_path: Path, monkeypatch, batch: int, end: str) -> None:
    """As an editor counts them: with blank lines, the header, and line ends within quotes."""
    monkeypatch.setattr(gathering, "BATCH", batch)
    lines = ["", "uri,note,size", "a,,1", "", 'b,"two', "lines, or", 'three",2', "", "c,,3", "d,,x"]
    (tmp_path / "m.csv").write_bytes(end.join(lines).encode())
    with pytest.raises(SpecError, match="line 10: size is not a number"):
        refs(source(f"{tmp_path}/m.csv"))
    lines[9] = 'd,"x"'
    (tmp_path / "m.csv").write_bytes(end.join(lines).encode())
    with pytest.raises(SpecError, match="line 10: 2 fields where the header has 3"):
        refs(source(f"{tmp_path}/m.csv"))
    texts = ["", '{"uri": "a"}', "", '"b"', '{"uri": "c", "size": "x"}']
    (tmp_path / "m.jsonl").write_bytes(end.join(texts).encode())
    with pytest.raises(SpecError, match="line 5: size is not a number"):
        refs(source(f"{tmp_path}/m.jsonl"))


def test_a_header_of_several_lines_and_quotes_within_words(tmp_path: Path) -> None:
    text = 'uri,"a\nnote",size\ns3://b/a 5" pipe.jpg,"x\ny",1\ns3://b/b.jpg,"say ""hi""\n",2\n'
    (tmp_path / "m.csv").write_text(text)
    assert refs(checked(tmp_path / "m.csv"))["size"].to_pylist() == [1, 2]


def test_long_notes_are_nobody_s_business(tmp_path: Path) -> None:
    note = "x" * 1_000_000
    (tmp_path / "m.csv").write_text(f"uri,note\na.jpg,{note}\n")
    (tmp_path / "m.jsonl").write_text(json.dumps({"uri": "a.jpg", "note": note}))
    for name in ("m.csv", "m.jsonl"):
        assert uris(checked(tmp_path / name)) == [f"file://{tmp_path}/a.jpg"]
