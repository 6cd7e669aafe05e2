"""A small model, archives on disk and on S3, and `nightlabel` as people run it."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from pipeline.cli import cli
from pipeline.cli.failures import exit_code_of
from pipeline.storage import Folder
from pipeline.store.parts import read_part
from tests.parts.clusters.ray import own_ray
from tests.parts.models.tiny import archive, make_model
from tests.parts.servers.s3 import S3Server


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of ten images, and one file that is none."""
    folder = tmp_path / "photos"
    for name, data in archive(10).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "a" / "none.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes some 15 ms an image, so that a run lasts long enough to be interrupted."""
    return make_model(tmp_path_factory.mktemp("slow"), layers=16, width=384)


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("other"), seed=1)


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def command(*arguments: object) -> list[str]:
    return [str(Path(sys.executable).with_name("nightlabel")), *map(str, arguments)]


def nightlabel(
    *arguments: object, env: Mapping[str, str] | None = None, seconds: float = 300
) -> Ran:
    """Run the console command to its end."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=seconds, env=env or os.environ
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def here() -> Iterator[Callable[..., Ran]]:
    """`nightlabel` in this process, on one Ray for all runs of the module: each starts sooner."""
    with own_ray():
        yield _run_here


def _run_here(*arguments: object) -> Ran:
    words = list(map(str, arguments))
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["nightlabel", *words]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = exit_code_of(cli, words)
    return Ran(int(code), out.getvalue(), err.getvalue())


class Archive:
    """Images at SRC and labels at DST, on S3."""

    def __init__(self, server: S3Server, objects: Mapping[str, bytes]) -> None:
        self.server = server
        self.src = f"{server.bucket()}/photos"
        self.dst = f"{server.bucket()}/labels"
        self.put(objects)

    def put(self, objects: Mapping[str, bytes]) -> None:
        self.server.put_many((f"{self.src}/{name}", data) for name, data in objects.items())

    @property
    def folder(self) -> Folder:
        return Folder(self.dst)

    def delta(self, columns: Iterable[str] = ("uri",)) -> pa.Table:
        """What a Delta reader sees; no rows where there is no table yet."""
        names = list(columns)
        if not any(self.folder.list("_delta_log/")):
            return pa.table({name: pa.array([], pa.string()) for name in names})
        table = DeltaTable(self.folder.delta_url, storage_options=self.folder.delta_options)
        return table.to_pyarrow_table(columns=names)

    def plain(self, columns: Iterable[str] = ("uri",)) -> pa.Table:
        """What any reader of `recipe=*/*.parquet` sees."""
        paths = [self.folder.relative(entry.uri) for entry in self.folder.list("recipe=")]
        names = list(columns)
        tables = [read_part(self.folder, path, names) for path in paths]
        return pa.concat_tables(tables) if tables else pa.table({n: [] for n in names})

    def uris(self) -> list[str]:
        return sorted(self.server.uris(self.src))


def label(found: Archive, model: Path, *more: object) -> list[object]:
    """The arguments of a night over the whole archive."""
    return ["label", found.src, found.dst, "--model", model, "--json", *more]


def measure(found: Archive, *more: object) -> list[object]:
    """The same without a model, for what any task does alike."""
    return ["fingerprint", found.src, found.dst, "--json", *more]


def uris_of(table: pa.Table) -> list[str]:
    return sorted(table["uri"].to_pylist())
