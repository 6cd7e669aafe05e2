"""Lists as people have them: packed, exported, renamed, in parts; and what is no list at all."""

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from pipeline.errors import SpecError
from pipeline.sources import kind_of, manifest
from pipeline.spec import make_spec
from tests.parts.models.tiny import image_bytes
from tests.parts.servers.s3 import S3Server
from tests.sources.listed import checked, refs, source, uris

NAMES = ["s3://b/a.jpg", "s3://b/ü 模.jpg", "s3://b/c,d;e.jpg"]


def zstd(data: bytes) -> bytes:
    return pa.compress(data, "zstd", asbytes=True)


def lz4(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "lz4") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
    "lz4": lz4,
    "": bytes,
}


def as_csv(sign: str = ",") -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=sign)
    writer.writerows([["note", "URL", "size"], *([n, name, n] for n, name in enumerate(NAMES))])
    return out.getvalue()


LISTS = {
    "txt": "\n".join(["# a list", "", *NAMES]),
    "lst": "\r\n".join(NAMES),
    "csv": as_csv(),
    "tsv": as_csv("\t"),
    "jsonl": "\n".join(json.dumps({"uri": name}) for name in NAMES),
    "ndjson": "\n".join(json.dumps(name) for name in NAMES),
    "json": json.dumps(NAMES),
}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("kind", LISTS)
def test_every_list_in_every_packing(tmp_path: Path, kind: str, packing: str) -> None:
    path = tmp_path / f"urls.{kind}.{packing}".rstrip(".")
    path.write_bytes(PACKERS[packing](LISTS[kind].encode()))
    assert uris(checked(path)) == NAMES
    misnamed = path.with_name(f"urls.{kind}")  # packed, and not called so
    path.rename(misnamed)
    assert uris(checked(misnamed)) == NAMES
    named = misnamed.rename(tmp_path / f"plain.{kind}.gz")  # called so, and packed otherwise
    assert uris(checked(named)) == NAMES


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("kind", LISTS)
def test_marks_of_encodings(tmp_path: Path, kind: str, encoding: str) -> None:
    mark = "\ufeff" if encoding[-2:] in {"le", "be"} else ""
    path = tmp_path / f"urls.{kind}"
    path.write_bytes((mark + LISTS[kind]).encode(encoding))
    assert uris(checked(path)) == NAMES
    path.write_bytes(LISTS[kind].encode("utf-16-le"))  # without a mark
    if kind != "json":
        with pytest.raises(SpecError, match=r"urls\.\w+.: not a list of images: it is not text"):
            checked(path)


def test_a_text_that_breaks_off_in_a_letter(tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_bytes("a.jpg\n模".encode("utf-16") + b"\x00")
    with pytest.raises(SpecError, match="not text; save it in UTF-8"):
        refs(source(f"{tmp_path}/m.txt"))


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz", "zst", "lz4"])
def test_a_damaged_packing_is_named(tmp_path: Path, packing: str) -> None:
    whole = PACKERS[packing]("\n".join(f"s3://b/{n * n}.jpg" for n in range(50_000)).encode())
    path = tmp_path / f"m.txt.{packing}"
    damaged = [whole[: len(whole) // 2]]
    if packing != "zst":  # whose checksums are left out by many
        damaged.append(whole[:999] + bytes(99) + whole[1098:])
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(SpecError, match=rf"src=.*m\.txt\.{packing}.*not a complete \w+ file"):
            refs(source(str(path)))


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_dividers(tmp_path: Path, sign: str, kind: str) -> None:
    (tmp_path / f"m.{kind}").write_text(as_csv(sign))
    found = refs(checked(tmp_path / f"m.{kind}")).to_pylist()
    assert [(row["uri"], row["size"]) for row in found] == [(u, n) for n, u in enumerate(NAMES)]


# ── what is no list ─────────────────────────────────────────────────────────────────────────


def xlsx() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return out.getvalue()


STRANGERS = {
    "a spreadsheet": xlsx(),
    "a PDF": b"%PDF-1.7\n",
    "an image": image_bytes(1),
    "a database": b"SQLite format 3\0" + bytes(99),
    "an Avro file": b"Obj\x01\x04",
    "an ORC file": b"ORC\x01",
    "an Arrow file": b"ARROW1\0\0",
    "a web page": b"\n<!DOCTYPE html><html>no such file</html>",
    "no text": bytes(range(256)) * 99,
}


@pytest.mark.parametrize("what", STRANGERS)
@pytest.mark.parametrize("kind", ["csv", "txt", "json", "jsonl", "txt.gz"])
def test_what_is_no_list_is_called_by_its_name(tmp_path: Path, kind: str, what: str) -> None:
    path = tmp_path / f"m.{kind}"
    path.write_bytes(gzip.compress(STRANGERS[what]) if kind == "txt.gz" else STRANGERS[what])
    with pytest.raises(SpecError, match=rf"m\.{kind}': not a list of images: it is .*{what[2:]}"):
        checked(path)


def test_parquet_under_another_name(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"uri": NAMES}), tmp_path / "m.csv")
    assert uris(checked(tmp_path / "m.csv")) == NAMES
    (tmp_path / "m.parquet.gz").write_bytes(gzip.compress((tmp_path / "m.csv").read_bytes()))
    with pytest.raises(SpecError, match="a compressed Parquet file; decompress it"):
        checked(tmp_path / "m.parquet.gz")


@pytest.mark.parametrize("name", ["urls", "urls.dat", "urls.list", "urls.xlsx", "urls.csv.old"])
def test_a_file_of_no_known_name_is_taken_for_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("a.jpg\n")
    with pytest.raises(
        SpecError, match=r"extension of neither an image nor a list .*--manifest reads it as"
    ):
        source(str(path))
    assert uris(source(str(path), manifest=True)) == [f"file://{tmp_path}/a.jpg"]
    assert uris(source(str(path), manifest=False, include=("*",))) == [f"file://{path}"]


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_by_its_option_is_known_by_its_beginning(tmp_path: Path, kind: str) -> None:
    (tmp_path / "urls").write_text(LISTS[kind])
    assert uris(source(f"{tmp_path}/urls", manifest=True)) == NAMES


# ── in parts ────────────────────────────────────────────────────────────────────────────────


def spark_folder(folder: Path) -> Path:
    """As Spark writes it, with parts in folders of a partition, and one that is empty."""
    (folder / "day=1").mkdir(parents=True)
    (folder / "_temporary").mkdir()
    for mark in ("_SUCCESS", "._SUCCESS.crc", ".part-0.parquet.crc", "_temporary/x.parquet"):
        (folder / mark).write_bytes(b"mark")
    for place, names in {"part-0": NAMES[:1], "day=1/part-1": NAMES[1:], "part-2": []}.items():
        table = pa.table({"url": pa.array(names, pa.string())})
        parquet.write_table(table, folder / f"{place}.snappy.parquet")
    return folder


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_folder_of_parts_is_one_list(tmp_path: Path, monkeypatch, ending: str) -> None:
    folder = spark_folder(tmp_path / "list.parquet")
    monkeypatch.setattr(manifest, "ROWS_A_SHARD", 1)
    made = checked(f"{folder}{ending}")
    assert sorted(uris(made)) == sorted(NAMES)
    assert len(list(made.shards())) > 1
    (folder / "relative.txt").write_text("a.jpg\n")
    assert f"file://{tmp_path}/a.jpg" in uris(made)


def test_a_malformed_part_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "list.csv"
    folder.mkdir()
    (folder / "part-0.csv").write_text("uri,size\na.jpg,1\n")
    (folder / "part-1.csv").write_text("uri,size\n\nb.jpg,big\n")
    with pytest.raises(SpecError, match=r"src='.*list\.csv/part-1\.csv': line 3: size"):
        refs(source(str(folder)))


def test_a_folder_of_images_that_is_called_like_a_list(tmp_path: Path) -> None:
    folder = tmp_path / "photos.csv"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"x")
    assert uris(source(str(folder))) == [f"file://{folder}/a.jpg"]
    with pytest.raises(SpecError, match="a folder without lists; --no-manifest looks for images"):
        checked(folder, manifest=True)
    assert kind_of(make_spec(src="s3://b/list.parquet/", dst="d")) == "manifest"
    assert kind_of(make_spec(src="s3://b/photos/", dst="d")) == "prefix"


@pytest.mark.s3
def test_on_s3(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.bucket()
    folder = spark_folder(tmp_path / "list.parquet")
    for path in folder.rglob("*"):
        if path.is_file():
            s3.put(f"{bucket}/in/{path.relative_to(tmp_path)}", path.read_bytes())
    for name in ("list.parquet", "list.parquet/"):
        assert sorted(uris(checked(f"{bucket}/in/{name}"))) == sorted(NAMES)
    s3.put(f"{bucket}/in/urls.csv.zst", zstd(LISTS["csv"].encode()))
    assert uris(checked(f"{bucket}/in/urls.csv.zst")) == NAMES
    s3.put(f"{bucket}/in/urls", LISTS["csv"].encode())
    with pytest.raises(SpecError, match="one object, not a folder; --manifest reads it as a list"):
        checked(f"{bucket}/in/urls")
    assert uris(checked(f"{bucket}/in/urls", manifest=True)) == NAMES
