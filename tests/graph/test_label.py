"""One process that reads, decodes and predicts: which rows come of it, and what it waits for."""

import resource
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
import ray

from pipeline.errors import NightlabelError
from pipeline.graph.batches import pack, unpack
from pipeline.graph.coordinator import Coordinator
from pipeline.graph.job import Job, Sealed
from pipeline.graph.metrics import Meters, Watch
from pipeline.graph.stages import image_loader, network
from pipeline.graph.stages.failures import TASK_RETRIES
from pipeline.graph.stages.image_loader import READS_IN_FLIGHT
from pipeline.graph.stages.label import CALLS, Label, rows_at_once
from pipeline.graph.stages.own_device import HIDDEN
from pipeline.sources import open_source
from pipeline.spec import make_spec
from tests.parts.clusters.ray import own_ray
from tests.parts.images.decode_trial import SHAPE
from tests.parts.images.poison import PLUGIN, poison
from tests.parts.models.tiny import image_bytes
from tests.parts.servers.http import serving

pytestmark = pytest.mark.ray

ROWS = 80
READ_SECONDS = 0.05
PREDICT_SECONDS = 0.01


@pytest.fixture(scope="module", autouse=True)
def a_ray() -> Iterator[None]:
    with own_ray(cpus=1):
        yield


class Means:
    """A task whose network says how light an image is."""

    network = True
    #: What was done to make a process ready.
    order: ClassVar[list[str]] = []

    def load(self, job: Job) -> "Light":
        self.order.append("network")
        return Light(float(job.model or 0.0))


class Light:
    """It takes `seconds` an image, and notes what it was called with, and under which limits."""

    device = "cpu"
    calls: ClassVar[list[int]] = []

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self, pixels: pa.Table) -> pa.Table:
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        self.calls.append(pixels.num_rows)
        time.sleep(self._seconds * pixels.num_rows)
        light = [sum(one) if one is not None else None for one in pixels["pixels"].to_pylist()]
        return pixels.select(["uri", "error_code"]).append_column("light", pa.array(light))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker without a GPU hides all from its process, which is pytest's here."""
    for name in HIDDEN:
        monkeypatch.setenv(name, "-1")


@pytest.fixture(autouse=True)
def calls() -> list[int]:
    Light.calls.clear()
    return Light.calls


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What that is worth, tests/test_heap.py shows; here it would change the tests' own heap."""
    Means.order.clear()
    keep = "pipeline.graph.stages.label.keep_photographs"
    monkeypatch.setattr(keep, lambda: Means.order.append("heap"))
    return Means.order


def _job(src: str, seconds: float = 0.0, **fields: Any) -> Job:
    spec = make_spec(src=src, dst="s3://labels", allow_private=True, **fields)
    empty: dict[str, Any] = dict.fromkeys(Job.__dataclass_fields__)
    empty |= {"run_id": "run", "spec": spec, "source": open_source(spec), "task": Means()}
    return Job(**empty | {"preprocess": SHAPE, "model": str(seconds), "weights": 0})


def _refs(job: Job) -> pa.Table:
    shards = job.source.shards()
    return pa.concat_tables([page.refs for one in shards for page in job.source.refs(one)])


def _label(job: Job) -> Label:
    return Label(Sealed(job), ray.remote(Coordinator).remote())


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(ROWS):
        data = b"no image" if number % 7 == 3 else image_bytes(number)
        (folder / f"{number:03}.jpg").write_bytes(data)
    return folder


def test_forward_passes_are_whole_and_as_many_as_are_read_at_once() -> None:
    for size in (None, 1, 8, 16, 32):
        assert rows_at_once(size) == READS_IN_FLIGHT
    assert [rows_at_once(size) for size in (5, 20, 33, 1000)] == [35, 40, 33, 1000]


def test_a_batch_is_predicted_in_parts_and_its_rows_are_in_order(
    photos: Path, calls: list[int], kept: list[str]
) -> None:
    job = _job(str(photos))
    refs = _refs(job)
    rows = unpack(_label(job)(pack(refs)))
    assert (calls, kept) == ([32, 32, 16], ["network", "heap"])
    assert rows["uri"] == refs["uri"]
    assert [row["light"] is None for row in rows.to_pylist()] == [n % 7 == 3 for n in range(ROWS)]
    whole = unpack(_label(_job(str(photos), batch_size=ROWS))(pack(refs)))
    assert calls[3:] == [ROWS]
    assert whole.equals(rows.combine_chunks())


def test_a_retry_gives_the_same_rows_each_image_isolated(
    photos: Path, tmp_path: Path, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Children have a decoder that ends its process; this process would not survive it."""
    (tmp_path / "sitecustomize.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted(photos.iterdir())[:40]:
        (folder / path.name).write_bytes(path.read_bytes())
    job = _job(str(folder))
    refs = _refs(job)
    before = unpack(_label(job)(pack(refs)))
    assert calls == [32, 8]
    (folder / "005.jpg").write_bytes(poison("segfault"))
    refs = _refs(job)
    for module in (image_loader, network):
        monkeypatch.setattr(module, "attempt_number", lambda: 1)
    monkeypatch.setattr("pipeline.graph.stages.label.attempt_number", lambda: 1)
    label = _label(job)
    after = unpack(label(pack(refs)))
    assert calls == [32, 8]  # nothing more was predicted in this process
    expected = before.to_pylist()
    expected[5] |= {"error_code": "crashed", "light": None}
    assert after.to_pylist() == expected
    for _ in range(TASK_RETRIES - 1):
        label(pack(refs.slice(0, 1)))
    with pytest.raises(NightlabelError, match="a block of images has ended 4 predictors"):
        label(pack(refs.slice(0, 1)))


class _Slow(BaseHTTPRequestHandler):
    """Answers each request after as long as a bucket in another region takes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        if self.path == "/list.txt":
            data = "\n".join(f"http://{self.headers['Host']}/{n}.jpg" for n in range(320)).encode()
        else:
            time.sleep(READ_SECONDS)
            data = image_bytes(int(self.path.strip("/").partition(".")[0]) % 40)
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None: ...


def test_it_hardly_waits_for_a_slow_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 32, of which each predicts as long as its own first read takes six times over."""
    spent: Counter[str] = Counter()

    def took(_: Meters, watch: Watch) -> None:
        spent.update(watch.laps)
        watch.laps.clear()

    monkeypatch.setattr(Meters, "took", took)
    with serving(_Slow) as url:
        job = _job(f"{url}/list.txt", PREDICT_SECONDS)
        refs = _refs(job)
        label = _label(job)
        batches = [pack(refs.slice(start, 32)) for start in range(0, 320, 32)]
        first = unpack(label(batches[0]))  # nothing was read ahead of it
        spent.clear()
        with ThreadPoolExecutor(CALLS) as ray_threads:
            rows = [first, *map(unpack, ray_threads.map(label, batches[1:]))]
    assert pa.concat_tables(rows)["uri"] == refs["uri"]
    assert pa.concat_tables(rows)["error_code"].null_count == 320
    waited = spent["wait"] + spent["read"]
    # One batch after another would wait some 0.05 of 0.37 s.
    assert waited < 0.06 * (waited + spent["predict"]), spent
