"""A small archive on disk, and the orchestrators in environments of their own."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from pipeline.storage import Folder
from pipeline.store.runs import RunSummary, load_runs
from tests.integration.conftest import nightlabel, slow_model, tiny_model
from tests.parts.clusters.cluster import LocalCluster, local_cluster
from tests.parts.models.tiny import archive

__all__ = ["slow_model", "tiny_model"]

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
JOBS = ROOT / "jobs" / "orchestrators"
NIGHTLABEL = str(Path(sys.executable).with_name("nightlabel"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.orchestrators)


def environment(**more: object) -> dict[str, str]:
    """What an orchestrator gives to what it starts; runs are always of this machine."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**inherited, "NIGHTLABEL": NIGHTLABEL} | {n: str(v) for n, v in more.items()}


@dataclass(frozen=True)
class Tool:
    """The commands and the Python of an orchestrator's environment."""

    folder: Path
    env: Mapping[str, str]

    @contextmanager
    def start(self, name: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
        """A command that is killed at the end of `with`, if it did not end by then."""
        with subprocess.Popen(
            [self.folder / "bin" / name, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.env,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, name: str, *arguments: object) -> str:
        """What a command printed, whatever its exit code; one that takes too long is killed."""
        with self.start(name, *arguments) as process:
            try:
                printed, _ = process.communicate(timeout=600)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return printed

    def json(self, *arguments: object, cwd: Path | None = None) -> Any:
        """The document that a Python of this environment prints as its last line."""
        command = [self.folder / "bin" / "python", *map(str, arguments)]
        done = subprocess.run(
            command, env=self.env, cwd=cwd, stdout=subprocess.PIPE, text=True, check=True
        )
        return json.loads(done.stdout.splitlines()[-1])


def until(words: str, process: subprocess.Popen[str]) -> str:
    """What a process prints until it prints these words."""
    log = ""
    for line in process.stdout or ():
        log += line
        if words in line:
            return log
    raise AssertionError(log)


def tool(name: str, **env: object) -> Tool:
    folder = ROOT / f".venv-{name}"
    if not folder.exists():
        pytest.skip(f"no {folder.name}; make test-orchestrators makes it")
    return Tool(folder, environment(**env))


@dataclass(frozen=True)
class Archive:
    """Images at `src`, labels at `dst`, both folders."""

    src: Path
    dst: Path

    def put(self, objects: Mapping[str, bytes]) -> None:
        for name, data in objects.items():
            path = self.src / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def rows(self) -> int:
        """How many rows are true."""
        if not (self.dst / "_delta_log").exists():
            return 0
        return DeltaTable(self.dst).to_pyarrow_table(columns=["uri"]).num_rows

    def wait_for_rows(self, seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while not self.rows():
            assert time.monotonic() < end, "nothing was labelled"
            time.sleep(0.5)

    def last_run(self) -> RunSummary:
        *_, last = load_runs(Folder(str(self.dst)))
        return last

    def codes(self) -> Counter[str | None]:
        """How many rows have which error code; None is a label. Fails if one comes twice."""
        table = DeltaTable(self.dst).to_pyarrow_table(columns=["uri", "error_code"])
        assert len(set(table["uri"].to_pylist())) == table.num_rows
        return Counter(table["error_code"].to_pylist())

    def params(self, model: Path, *options: object, address: str | None = None) -> dict[str, Any]:
        """What an orchestrator is told of this archive."""
        every: Sequence[object] = ["--model", model, *options]
        ends = {"src": str(self.src), "dst": str(self.dst)}
        return {**ends, "address": address, "options": [str(one) for one in every]}


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """A head that runs no tasks, and a node of two CPUs."""
    with local_cluster() as found:
        found.add(num_cpus=2)
        yield found


def jobs(cluster: LocalCluster, photos: Archive) -> list[dict[str, Any]]:
    """What the cluster knows of the nights of this archive."""
    known: list[dict[str, Any]] = nightlabel("list", "--address", cluster.url, "--json").json
    return [job for job in known if job["dst"] == str(photos.dst)]


@pytest.fixture
def photos(tmp_path: Path) -> Archive:
    made = Archive(tmp_path / "photos", tmp_path / "labels")
    made.put(archive(12))
    return made
