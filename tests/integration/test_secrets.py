"""Whatever a night does, credentials stay where they are: in memory and on the wire."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from tests.integration.conftest import nightlabel
from tests.parts.forge import png
from tests.storage.servers import web_server

CANARY = "c4n4ry"
SECRETS = {
    name: f"{CANARY}-{name.lower().replace('_', '-')}"
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AZURE_STORAGE_ACCOUNT_KEY",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "HF_TOKEN",
        "DATABASE_PASSWORD",
    )
}


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Where Ray keeps its session; the paths of its sockets must be short."""
    with tempfile.TemporaryDirectory(prefix="nl-") as folder:
        yield Path(folder)


def signed(url: str, name: str, night: int) -> str:
    query = f"X-Amz-Credential={CANARY}-key&X-Amz-Signature={CANARY}-{night}&sig=right"
    return f"{url.replace('//', f'//me:{CANARY}@')}/signed/{name}?{query}"


def where_canaries_are(folder: Path) -> list[str]:
    """Files below `folder` that hold one, Parquet also unpacked."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if path.suffix == ".parquet":
            data += str(pq.read_table(path, partitioning=None).to_pylist()).encode()
        if CANARY.encode() in data:
            found.append(str(path.relative_to(folder)))
    return found


def test_no_secret_is_written_or_said(tiny_model: Path, tmp_path: Path, ray_folder: Path) -> None:
    names = [f"{n}.png" for n in range(6)]
    files = {f"/signed/{name}": png(n) for n, name in enumerate(names)}
    files["/signed/text.png"] = b"no image"
    env = os.environ | SECRETS | {"RAY_TMPDIR": str(ray_folder)}
    dst = tmp_path / "labels"
    with web_server(files) as url:

        def list_of(night: int, *more: str) -> None:
            listed = [signed(url, name, night) for name in [*names, "text.png", "gone.png"]]
            listed.append(f"{url}/hidden/x.png?token={CANARY}")
            files["/list.txt"] = "\n".join([*listed, *more]).encode()

        def label(folder: Path) -> object:
            src = f"{url}/list.txt?X-Amz-Signature={CANARY}-list"
            options = ("--model", tiny_model, "--allow-private", "--debug", "--max-errors", "100%")
            return nightlabel("label", src, folder, *options, env=env)

        list_of(1)
        good = label(dst)
        assert good.code == 0, good.err
        list_of(2, f"ftp://me:{CANARY}@h/x.png?sig={CANARY}")
        bad = label(tmp_path / "refused")
        assert bad.code == 2
        assert "a manifest from the web may name web addresses only" in bad.err

        said = good.out + good.err + bad.out + bad.err
        assert CANARY not in said
        assert where_canaries_are(tmp_path) == []
        logs = [path for path in ray_folder.rglob("*") if path.suffix in {".log", ".out", ".err"}]
        assert len(logs) > 10
        assert where_canaries_are(ray_folder) == []

        rows = pipeline.LabelStore(str(dst)).to_table(["uri", "error_code"]).to_pylist()
        errors = {"text.png": "not_an_image", "gone.png": "missing", "x.png": "denied"}
        expected = {f"{url}/signed/{name}": errors.get(name) for name in [*names, *errors]}
        expected[f"{url}/hidden/x.png"] = expected.pop(f"{url}/signed/x.png")
        assert {row["uri"]: row["error_code"] for row in rows} == expected

        list_of(3)
        spec = pipeline.make_spec(
            src=f"{url}/list.txt?sig={CANARY}",
            dst=str(dst),
            model=str(tiny_model),
            allow_private=True,
        )
        again = pipeline.plan(spec, probe=False)
        assert (again.counts.todo, again.counts.done, again.counts.failed_before) == (0, 6, 3)
        assert CANARY not in again.model_dump_json()
        proof = pipeline.verify(spec, sample=16)
        assert proof.problems == []
        assert proof.sample is not None
        assert (proof.sample.agree, proof.sample.unreadable) == (6, 0)
        assert CANARY not in proof.model_dump_json()


def test_the_search_finds_what_is_packed(tmp_path: Path) -> None:
    pq.write_table(pa.table({"uri": [f"https://h/?sig={CANARY}"] * 999}), tmp_path / "a.parquet")
    (tmp_path / "b.log").write_text(CANARY)
    (tmp_path / "c.log").write_text("quiet")
    assert where_canaries_are(tmp_path) == ["a.parquet", "b.log"]
