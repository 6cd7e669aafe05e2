"""Whatever a night does, credentials stay where they are: in memory and on the wire."""

import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.storage import recorded
from tests.integration.conftest import Ran, command, nightlabel
from tests.parts.clusters.cluster import LocalCluster, local_cluster
from tests.parts.images.forge import png
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


@pytest.mark.ray
def test_no_secret_is_written_or_said(tiny_model: Path, tmp_path: Path, ray_folder: Path) -> None:
    names = [f"{n}.png" for n in range(6)]
    files = {f"/signed/{name}": png(n) for n, name in enumerate(names)}
    files["/signed/text.png"] = b"no image"
    files[f"/coded.png;jsessionid={CANARY}"] = png(7)
    env = os.environ | SECRETS | {"RAY_TMPDIR": str(ray_folder)}
    dst = tmp_path / "labels"
    with web_server(files) as url:

        def list_of(night: int, *more: str) -> None:
            listed = [signed(url, name, night) for name in [*names, "text.png", "gone.png"]]
            listed.append(f"{url}/hidden/x.png?token={CANARY}")
            # One that nobody could know for a secret, and one in the path.
            listed.append(f"{url}/coded.png;jsessionid={CANARY}?code={CANARY}-code")
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
        assert "a list from the web may contain only web addresses" in bad.err

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
        expected[recorded(f"{url}/coded.png?code={CANARY}-code")] = None
        assert {row["uri"]: row["error_code"] for row in rows} == expected

        list_of(3)
        spec = pipeline.make_spec(
            src=f"{url}/list.txt?sig={CANARY}",
            dst=str(dst),
            model=str(tiny_model),
            allow_private=True,
        )
        again = pipeline.plan(spec, probe=False)
        assert (again.counts.todo, again.counts.done, again.counts.failed_before) == (0, 7, 3)
        assert CANARY not in again.model_dump_json()
        proof = pipeline.verify(spec, sample=16)
        assert proof.problems == []
        assert proof.sample is not None
        assert (proof.sample.agree, proof.sample.unreadable) == (7, 0)
        assert CANARY not in proof.model_dump_json()


#: What the dashboard shows, and what its pages are filled from.
PAGES = (
    "/api/v0/tasks?detail=true&limit=9999",
    "/api/v0/tasks/summarize",
    "/api/v0/tasks/timeline",
    "/api/v0/actors?detail=true",
    "/api/v0/actors/summarize",
    "/api/v0/objects?detail=true",
    "/api/v0/objects/summarize",
    "/api/v0/jobs?detail=true",
    "/api/v0/workers?detail=true",
    "/api/v0/nodes?detail=true",
    "/api/v0/placement_groups?detail=true",
    "/api/v0/runtime_envs?detail=true",
    "/api/v0/cluster_events?detail=true",
    "/api/v0/cluster_metadata",
    "/api/jobs/",
    "/api/cluster_status",
    "/api/component_activities",
    "/api/prometheus/sd",
    "/logical/actors",
    "/nodes?view=summary",
    "/events",
)


@dataclass
class Seen:
    """All that was read of a cluster's pages, and which of them it has."""

    text: str = ""
    answered: set[str] = field(default_factory=set)

    def read(self, url: str, page: str) -> str:
        try:
            with urllib.request.urlopen(f"{url}{page}", timeout=60) as answer:
                found = answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            found = error.read().decode("utf-8", "replace")
        else:
            self.answered.add(page)
        self.text += f"\n{page}\n{found}"
        return found

    def look(self, cluster: LocalCluster) -> None:
        """Every page, those of single jobs, actors and nodes, and every node's metrics."""
        for page in PAGES:
            self.read(cluster.url, page)
        for job in json.loads(self.read(cluster.url, "/api/jobs/")):
            for name in filter(None, (job["job_id"], job["submission_id"])):
                self.read(cluster.url, f"/api/data/datasets/{name}")
                self.read(cluster.url, f"/api/jobs/{name}")
                self.read(cluster.url, f"/api/jobs/{name}/logs")
        actors = json.loads(self.read(cluster.url, "/logical/actors"))["data"]["actors"]
        for name in actors:
            self.read(cluster.url, f"/logical/actors/{name}")
        for node in cluster.ray.list_all_nodes():
            self.read(f"http://127.0.0.1:{node.metrics_export_port}", "/metrics")
            self.read(cluster.url, f"/nodes/{node.node_id}")


def watched(cluster: LocalCluster, seen: Seen, words: list[object], env: Mapping[str, str]) -> Ran:
    """Run a command to its end, and look at the cluster meanwhile and afterwards."""
    with subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    ) as process:
        try:
            until = time.monotonic() + 150
            while process.poll() is None and time.monotonic() < until:
                seen.look(cluster)
                time.sleep(0.2)
        finally:
            process.kill()
        out, err = process.communicate()
    seen.look(cluster)
    return Ran(process.returncode, out, err)


@pytest.mark.ray
@pytest.mark.slow
def test_no_page_of_a_cluster_shows_one(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Ray and Ray Data tell of a run: pages, metrics, and files of exported events."""
    monkeypatch.setenv("RAY_enable_export_api_write", "1")
    names = [f"{n}.png" for n in range(40)]
    files = {f"/signed/{name}": png(n) for n, name in enumerate(names)}
    seen = Seen()
    with web_server(files) as url, local_cluster() as cluster:
        cluster.add(num_cpus=2)
        listed = "\n".join(signed(url, name, 1) for name in [*names, "gone.png"])
        files["/list.txt"] = listed.replace("?", f"?rlkey={CANARY}-rl&").encode()
        # A short address, of which Ray Data would show all.
        src = f"{url}/list.txt?sig={CANARY}"
        hook = f"http://127.0.0.1:9/{CANARY}-hook"
        options = ("--model", tiny_model, "--allow-private", "--notify", hook, "--debug")
        options += ("--max-errors", "1")
        env = os.environ | SECRETS
        to_ray = ["label", src, tmp_path / "a", *options, "--address", cluster.address]
        to_jobs = ["submit", src, tmp_path / "b", *options, "--address", cluster.url]
        for words in (to_ray, to_jobs):
            ran = watched(cluster, seen, words, env)
            assert ran.code == 0, ran.err
            assert CANARY not in ran.out + ran.err
        exported = cluster.folder / "session_latest" / "logs" / "export_events"
        told = "".join(path.read_text() for path in exported.iterdir())
        assert "EXPORT_DATASET_METADATA" in told
        assert "MapBatches(Label)" in told
        assert len(list((tmp_path / "a").glob("recipe=*/*.parquet"))) == 1
        # The options of a submitted job lie in a file of it, as docs/cluster.md says.
        places = [name for name in where_canaries_are(cluster.folder) if "/spec.json" not in name]
        assert places == []
    assert set(PAGES) - seen.answered == set()
    assert any(page.startswith("/api/data/datasets/") for page in seen.answered)
    assert "ray_nightlabel_images_total" in seen.text
    assert '"entrypoint"' in seen.text
    lines = [line for line in seen.text.splitlines() if CANARY in line]
    assert [line[max(0, line.index(CANARY) - 200) :][:300] for line in lines] == []


def test_the_search_finds_what_is_packed(tmp_path: Path) -> None:
    pq.write_table(pa.table({"uri": [f"https://h/?sig={CANARY}"] * 999}), tmp_path / "a.parquet")
    (tmp_path / "b.log").write_text(CANARY)
    (tmp_path / "c.log").write_text("quiet")
    assert where_canaries_are(tmp_path) == ["a.parquet", "b.log"]
