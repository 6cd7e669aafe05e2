"""Manifests of every format; doubles, filters, facts, and what is malformed."""

import csv
import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from pipeline import schema
from pipeline.errors import MissingError, SpecError
from pipeline.sources import Source, manifest
from pipeline.sources.lists import gathering
from tests.parts.models.pickles import forged
from tests.parts.servers.s3 import S3Server
from tests.sources.listed import excluded, refs, source, uris
from tests.storage.servers import web_server

ROWS = [
    ("s3://b/a b%41.jpg", "e1", 10, "2024-01-02T03:04:05.678901Z"),
    ("https://h/x.jpg?sig=1", None, None, None),
    ("rel/ü.jpg", 'W/"2"', None, None),
]
TIME = datetime(2024, 1, 2, 3, 4, 5, 678901, UTC)


def write(tmp_path: Path, name: str) -> str:
    """ROWS as a manifest of the format that `name` says."""
    path, kind = tmp_path / name, name.removesuffix(".gz").rpartition(".")[2]
    columns = ["URI", "etag", "size", "modified"]
    if kind == "parquet":
        times = [TIME, None, None]
        table = {
            c: list(v) for c, v in zip(columns[:3], list(zip(*ROWS, strict=True)), strict=False)
        }
        parquet.write_table(
            pa.table(table | {"modified": pa.array(times, pa.timestamp("ms", "UTC"))}), path
        )
        return str(path)
    opener = gzip.open if name.endswith(".gz") else open
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        if kind in {"csv", "tsv"}:
            writer = csv.writer(file, delimiter="\t" if kind == "tsv" else ",")
            writer.writerows([["note", *columns], *(["x,\n\ty", *row] for row in ROWS)])
        else:
            lines = [
                json.dumps(dict(zip(map(str.lower, columns), row, strict=True))) for row in ROWS
            ]
            file.write("\n\n".join(lines))
    return str(path)


@pytest.mark.parametrize(
    "name", ["m.csv", "m.tsv", "m.jsonl", "m.ndjson.gz", "m.csv.gz", "m.parquet"]
)
def test_formats_carry_facts(tmp_path: Path, name: str) -> None:
    rows = refs(source(write(tmp_path, name))).to_pylist()
    time = TIME.replace(microsecond=678000) if name == "m.parquet" else TIME
    assert [(r["uri"], r["etag"], r["size"], r["modified"]) for r in rows] == [
        ("s3://b/a b%41.jpg", "e1", 10, time),
        ("https://h/x.jpg", None, None, None),
        (f"file://{tmp_path}/rel/ü.jpg", 'W/"2"', None, None),
    ]
    assert rows[0]["version"] == schema.version("e1", 10, 0)
    assert rows[1]["version"] == 0
    assert all(row["object_id"] == schema.object_id(row["uri"]) for row in rows)
    assert [row["address"] for row in rows] == [None, "https://h/x.jpg?sig=1", None]


def test_text(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(
        b"\xef\xbb\xbfa.jpg\r\n\n# a note\n  \n./b//c.jpg\n../d.jpg\nfile:///e%20f.jpg\n"
        b"/abs/g.jpg\ns3a://b//k.jpg\nb/c.jpg\nS3://b//k.jpg\n\xff.jpg\nlast.jpg"
    )
    made = source(str(path))
    assert uris(made) == [
        f"file://{tmp_path}/a.jpg",
        f"file://{tmp_path}/b/c.jpg",
        f"file://{tmp_path.parent}/d.jpg",
        "file:///e%20f.jpg",
        "file:///abs/g.jpg",
        "s3://b//k.jpg",
        f"file://{tmp_path}/last.jpg",
    ]
    assert excluded(made) == 1
    assert refs(made)["version"].to_pylist() == [0] * 7
    assert made.contains("s3://b//k.jpg") is None


def test_a_manifest_by_its_option_alone(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("a.dat\n")
    assert uris(source(f"{tmp_path}/list", manifest=True)) == [f"file://{tmp_path}/a.dat"]


def test_filters_count(tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_text("s3://b/x/a.jpg\ns3://b/y/b.jpg\ns3://b/x/c.png\n")
    made = source(f"{tmp_path}/m.txt", include=("*.jpg",), exclude=("s3://b/y/**",))
    assert (uris(made), excluded(made)) == (["s3://b/x/a.jpg"], 2)


def test_limit_counts_each_object_once(tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_text("a.jpg\na.jpg\n./a.jpg\nb.jpg\nc.jpg\nd.jpg\n")
    assert uris(source(f"{tmp_path}/m.txt", limit=3)) == [
        f"file://{tmp_path}/{name}.jpg" for name in "abc"
    ]


@pytest.mark.parametrize("shard_rows", [2, 1000])
def test_each_object_keeps_the_facts_of_its_first_row(
    tmp_path: Path, monkeypatch, shard_rows: int
) -> None:
    monkeypatch.setattr(gathering, "BATCH", 4)
    monkeypatch.setattr(manifest, "ROWS_A_SHARD", shard_rows)
    names = [f"s3://b/{name}" for name in "abacb.dae.bf.gaaha"]
    names[5] = ""
    lines = [f'{name},"e{n}",{n + 1}' for n, name in enumerate(names)]
    (tmp_path / "m.csv").write_text("\n".join(["uri,etag,size", *lines]))
    made = source(f"{tmp_path}/m.csv", exclude=("s3://b/.",))
    firsts = {name: n for n, name in reversed(list(enumerate(names)))}
    del firsts[""], firsts["s3://b/."]
    pages = [page for shard in made.shards() for page in made.refs(shard)]
    seen = [row for page in pages for row in page.refs.to_pylist()]
    assert {r["uri"]: (r["etag"], r["size"]) for r in seen} == {
        name: (f"e{n}", n + 1) for name, n in firsts.items()
    }
    assert len(seen) == len(firsts)


@pytest.mark.parametrize("kind", ["txt", "txt.gz", "parquet"])
def test_a_large_manifest_is_cut_by_hashes(tmp_path: Path, monkeypatch, kind: str) -> None:
    monkeypatch.setattr(manifest, "ROWS_A_SHARD", 3_000)
    names = [f"s3://b/{n % 12_000:08d}.jpg" for n in range(16_000)] + ["s3://b/only.txt"]
    path = tmp_path / f"m.{kind}"
    if kind == "parquet":
        parquet.write_table(pa.table({"uri": names}), path)
    else:
        opener = gzip.open if kind.endswith("gz") else open
        with opener(path, "wt") as file:
            file.write("\n".join(names))
    made = source(str(path), exclude=("*.txt",))
    shards = list(made.shards())
    assert len(shards) in ({6} if kind != "txt.gz" else range(2, 20))
    pieces = [[u for page in made.refs(s) for u in page.refs["uri"].to_pylist()] for s in shards]
    assert sorted(uri for piece in pieces for uri in piece) == sorted(set(names[:-1]))
    assert min(map(len, pieces)) > 12_000 / len(shards) * 0.8
    assert excluded(made) == 1


def test_an_s3_inventory(tmp_path: Path) -> None:
    columns = {
        "bucket": ["b"] * 5,
        "key": ["x/a+b%20.jpg", "x/", "old.jpg", "gone.jpg", "n.jpg"],
        "version_id": ["1"] * 5,
        "is_latest": [True, True, False, True, True],
        "is_delete_marker": [False, False, False, True, False],
        "size": [5, 0, 6, None, 7],
        "last_modified_date": pa.array([TIME] * 5, pa.timestamp("ms")),
        "e_tag": ["e1", "e2", "e3", None, "e5"],
    }
    parquet.write_table(pa.table(columns), tmp_path / "inventory.parquet")
    rows = refs(source(f"{tmp_path}/inventory.parquet")).to_pylist()
    assert [(row["uri"], row["etag"], row["size"]) for row in rows] == [
        ("s3://b/x/a+b%20.jpg", "e1", 5),
        ("s3://b/n.jpg", "e5", 7),
    ]
    assert rows[0]["modified"] == TIME.replace(microsecond=678000)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("m.csv", "uri,size\na.jpg,1\nb.jpg\n", "line 3: 1 fields where the header has 2"),
        ("m.csv", "uri,size\na.jpg,1\nb.jpg,big\n", "line 3: size is not a number"),
        ("m.csv", "uri,modified\na.jpg,yesterday\n", "line 2: modified is not an ISO 8601"),
        ("m.csv", "name,size\na.jpg,1\n", "no column for the uri; call it one of uri, url"),
        ("m.jsonl", '{"uri": "a.jpg"}\n\n{"uri": \n', "line 3: no JSON"),
        ("m.jsonl", '{"uri": "a.jpg"}\n[1]\n', "line 2: not a JSON object"),
        ("m.jsonl", '{"uri": 5}\n', "line 1: uri is not text"),
        (
            "m.csv",
            f"uri,note\na.jpg,{'x' * 5_000_000}\n",
            "line 2: longer than 4,194,304 characters",
        ),
        ("m.csv", 'uri,note\na.jpg,"' + "x\n" * 99_000, "line 2: a quote that is never closed"),
        ("m.csv", 'uri,note\na,"' + "x\n" * 2_500_000, "line .*: field larger than field limit"),
        ("m.csv", f"uri,size\na.jpg,{2**63}\n", "line 2: size is not a number"),
        ("m.jsonl", '{"uri": "a.jpg", "size": 1e999}', "line 1: size is not a number"),
        ("m.jsonl", f'{{"uri": "a.jpg", "modified": {2**63}}}', "line 1: modified is not an ISO"),
        ("m.jsonl", '{"uri": "a.jpg", "etag": 5}', "line 1: etag is not one line of text"),
        (
            "m.jsonl",
            '{"uri": "a.jpg", "etag": "x\\r\\nY: z"}',
            "line 1: etag is not one line of text",
        ),
        ("m.jsonl", "[" * 60_000, "line 1: no JSON"),
        ("m.txt", "\n# nothing\n", "an empty manifest"),
        ("m.csv", "", "an empty manifest"),
        ("m.txt.gz", "\x1f\udc8b\x08 no gzip", "not a complete gzip file"),
        ("m.parquet", "no parquet", "magic bytes|footer|too small|smaller"),
    ],
)
def test_what_is_malformed_is_named_with_its_line(tmp_path, name, text, problem) -> None:
    (tmp_path / name).write_text(text, "utf-8", "surrogateescape")
    made = source(f"{tmp_path}/{name}")
    with pytest.raises(SpecError, match=f"src=.*{problem}"):
        _check_and_read(made)


def _check_and_read(made: Source) -> None:
    made.check()
    refs(made)


def test_a_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"nope\.csv: no such file"):
        source(f"{tmp_path}/nope.csv").check()


def test_scope_shows_no_signature() -> None:
    made = source("https://h/list.csv?sig=secret", include=("*.jpg",))
    assert made.scope["src"] == "https://h/list.csv"
    assert made.scope["include"] == ["*.jpg"]


def test_a_signature_that_changes_each_night_is_no_other_object(tmp_path: Path) -> None:
    monday, tuesday = (
        f"https://h/{{}}.jpg?v=1&X-Amz-Date={day}&X-Amz-Signature={day}" for day in ("mon", "tue")
    )
    path = tmp_path / "m.txt"
    path.write_text("\n".join([monday.format("a"), monday.format("b"), tuesday.format("a")]))
    before = refs(source(str(path), include=("*.jpg?v=1",)))
    assert before["uri"].to_pylist() == ["https://h/a.jpg?v=1", "https://h/b.jpg?v=1"]
    assert before["address"].to_pylist() == [monday.format("a"), monday.format("b")]
    path.write_text("\n".join([tuesday.format("a"), tuesday.format("b")]))
    after = refs(source(str(path)))
    assert after["object_id"] == before["object_id"]
    assert after["version"] == before["version"]
    assert after["address"].to_pylist() == [tuesday.format("a"), tuesday.format("b")]


def test_facts_are_asked_for_with_the_signature(tmp_path: Path) -> None:
    with web_server({"/signed/a.jpg": b"abc"}) as url:
        (tmp_path / "m.txt").write_text(f"{url}/signed/a.jpg?sig=right\n{url}/signed/a.jpg?id=2\n")
        made = source(f"{tmp_path}/m.txt", check_changes=True, allow_private=True)
        assert refs(made)["size"].to_pylist() == [3, None]


def test_check_changes_asks_the_store(tmp_path: Path) -> None:
    (tmp_path / "local.jpg").write_bytes(b"four")
    with web_server({"/a.jpg": b"abc"}) as url:
        lines = [f"{url}/a.jpg,", f"{url}/ok/b.jpg,given", f"{url}/gone.jpg,", "local.jpg,"]
        (tmp_path / "m.csv").write_text("uri,etag\n" + "\n".join(lines))
        rows = refs(source(f"{tmp_path}/m.csv", check_changes=True, allow_private=True)).to_pylist()
    assert [row["size"] for row in rows] == [3, None, None, 4]
    assert rows[1]["etag"] == "given"
    assert rows[0]["version"] == schema.version(rows[0]["etag"], None, None)
    assert rows[2]["version"] == 0
    assert rows[3]["modified"] is not None


def test_over_http_relative_entries_start_at_its_folder() -> None:
    with web_server({"/in/list.txt": b"a.jpg\nsub/b.jpg\n"}) as url:
        made = source(f"{url}/in/list.txt?sig=a/b.csv", allow_private=True)
        made.check()
        assert uris(made) == [f"{url}/in/a.jpg", f"{url}/in/sub/b.jpg"]


@pytest.mark.parametrize(
    "entry",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "s3://private/a.jpg",
        "S3A://private/a.jpg",
        " https://h/a.jpg",
        "simplecache::file:///etc/passwd",
        "memory://a.jpg",
    ],
)
def test_a_manifest_from_the_web_names_the_web_alone(entry: str) -> None:
    with web_server({"/list.txt": f"HTTPS://h/a.jpg\nb.jpg\n{entry}\n".encode()}) as url:
        made = source(f"{url}/list.txt", allow_private=True)
        with pytest.raises(SpecError, match="line 3: a list from the web may contain only web add"):
            refs(made)


def test_a_manifest_on_a_private_server_is_refused_in_one_line() -> None:
    with web_server({"/list.txt": b"a.jpg\n"}) as url, pytest.raises(SpecError) as caught:
        source(f"{url}/list.txt?sig=secret").check()
    assert str(caught.value) == (
        f"src='{url}/list.txt': 127.0.0.1 is no public address; --allow-private reads it all the "
        "same"
    )


def test_a_parquet_file_that_brings_code_runs_none(tmp_path: Path) -> None:
    """Ray registers a type with Arrow that unpickles whatever a file holds."""
    path = forged(tmp_path / "m.parquet", "uri", tmp_path / "code-was-run")
    for source_of in (source, lambda src: source(src, limit=1)):
        with pytest.raises(SpecError, match="the column uri is of type"):
            refs(source_of(str(path)))
    assert not (tmp_path / "code-was-run").exists()


@pytest.mark.s3
def test_on_s3(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.bucket()
    etag = s3.put(f"{bucket}/in/a.jpg", b"abc")
    s3.put(f"{bucket}/in/list.txt", b"a.jpg\n")
    s3.put(f"{bucket}/in/list.parquet", Path(write(tmp_path, "m.parquet")).read_bytes())
    [row] = refs(source(f"{bucket}/in/list.txt", check_changes=True)).to_pylist()
    assert (row["uri"], row["etag"], row["size"]) == (f"{bucket}/in/a.jpg", etag, 3)
    assert uris(source(f"{bucket}/in/list.parquet"))[2] == f"{bucket}/in/rel/ü.jpg"
    with pytest.raises(MissingError, match="s3://no-such-bucket-at-all"):
        source("s3://no-such-bucket-at-all/list.csv").check()
