"""A network for CPUs: made once by a process of its own, or in words why torch runs it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import Exit, ModelError
from pipeline.graph.job import Job
from pipeline.graph.result_queue import Stop
from pipeline.isolation.model_process import ModelProcess
from pipeline.models.backends.graph import Graph
from pipeline.models.backends.openvino_engine import OpenVinoEngine, runtime_name
from pipeline.runs.network_graph import PendingGraph, runtime_of
from pipeline.runs.prepare import prepare
from pipeline.spec import LabelSpec, make_spec
from pipeline.tasks.graph_cache import kept_graph, name_of
from tests.models import tiny

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIGHTLABEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "graphs"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_vit(tmp_path_factory.mktemp("model") / "vit")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose logits are no numbers, which no graph can equal."""
    import torch
    from transformers import AutoModelForImageClassification

    folder = tiny.save_vit(tmp_path_factory.mktemp("broken") / "vit")
    model = AutoModelForImageClassification.from_pretrained(folder)
    torch.nn.init.constant_(model.classifier.bias, float("nan"))
    model.save_pretrained(folder)
    return folder


def spec_of(folder: Path, model: Path, **fields: Any) -> LabelSpec:
    (folder / "photos").mkdir(exist_ok=True)
    Image.new("RGB", (40, 40)).save(folder / "photos" / "black.png")
    where = {"src": str(folder / "photos"), "dst": str(folder / "labels")}
    return make_spec(**where | {"model": str(model)} | fields)


def job_of(folder: Path, model: Path, **fields: Any) -> Job:
    return prepare(spec_of(folder, model, **fields))


class Here(ModelProcess):
    """Does the work in this process, as often as `calls` says."""

    def __init__(self, before: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.calls, self._before = 0, before

    def __call__(self, work: Callable[[], Any]) -> Any:
        self.calls += 1
        self._before()
        return work()


WITHOUT_TORCH = """
import sys
from pathlib import Path
from pipeline.graph.result_queue import Stop
from pipeline.isolation.model_process import ModelProcess
from pipeline.runs.network_graph import PendingGraph, runtime_of
from tests.runs.test_network_graph import job_in

folder, model = map(Path, sys.argv[1:])
with ModelProcess() as process:
    found = PendingGraph(job_in(folder, model, process), process).result(Stop())
    started = process._child is not None
heavy = {"torch", "transformers", "openvino"} & set(sys.modules)
print(runtime_of(found), started, sorted(heavy), sep="|")
"""


def job_in(folder: Path, model: Path, process: ModelProcess) -> Job:
    return prepare(spec_of(folder, model), process=process)


def test_the_process_of_a_run_loads_neither_torch_nor_openvino(tmp_path: Path, model: Path) -> None:
    """Nor does any other, the second time."""
    told = [
        subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path), str(model)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for _ in range(2)
    ]
    assert told == [f"{runtime_name()}|False|[]"] * 2  # it was ended as soon as it had answered


def test_a_graph_is_made_once_and_read_from_then_on(tmp_path: Path, model: Path) -> None:
    job, here = job_of(tmp_path, model), Here()
    first, again = (PendingGraph(job, here).result(Stop()) for _ in range(2))
    assert isinstance(first, Graph)
    assert again == first
    assert here.calls == 1
    (_, scores) = OpenVinoEngine(first, top_k=5).predict(tiny.images(3))
    assert np.isfinite(scores).all()


def test_two_at_once_make_it_once(tmp_path: Path, model: Path) -> None:
    entered, go_on = Event(), Event()

    def wait() -> None:
        entered.set()
        assert go_on.wait(60)

    job, first, second = job_of(tmp_path, model), Here(wait), Here()
    making = PendingGraph(job, first)
    making.begin()
    assert entered.wait(60)
    waiting = PendingGraph(job, second).begin()
    with pytest.raises(TimeoutError):
        waiting.result(0.5)
    go_on.set()
    assert making.result(Stop()) == waiting.result(60)
    assert (first.calls, second.calls) == (1, 0)


def test_a_cache_that_cannot_be_written_costs_only_time(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, here = job_of(tmp_path, model), Here()
    (tmp_path / "file").touch()
    monkeypatch.setenv("NIGHTLABEL_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        assert isinstance(PendingGraph(job, here).result(Stop()), Graph)
    assert here.calls == 2


def child_of(process: ModelProcess) -> int:
    """The pid of its child, as soon as that has its work."""
    until = time.monotonic() + 60
    while process._child is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    return process._child._process.pid


def test_a_child_that_is_killed_is_a_reason_for_this_run_alone(tmp_path: Path, model: Path) -> None:
    job = job_of(tmp_path, model)
    with ModelProcess() as process:
        pending = PendingGraph(job, process)
        pending.begin()
        os.kill(child_of(process), signal.SIGKILL)
        found = pending.result(Stop())
    assert found == "making its graph ended its process (signal 9)"
    assert runtime_of(found) == f"torch: {found}"
    assert isinstance(PendingGraph(job, Here()).result(Stop()), Graph), "it is tried again"


def test_a_run_that_is_stopped_waits_for_nothing_and_leaves_no_process(
    tmp_path: Path, model: Path
) -> None:
    job, stop = job_of(tmp_path, model), Stop()
    with ModelProcess() as process:
        pending = PendingGraph(job, process)
        made = pending.begin()
        child = child_of(process)
        stop.now("deadline")
        assert pending.result(stop) == "the run was stopped"
        assert not made.done()
    assert not Path(f"/proc/{child}").exists()
    made.result(60)
    assert isinstance(PendingGraph(job, Here()).result(Stop()), Graph), "nothing was kept of it"


def test_without_openvino_nobody_is_asked(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, here = job_of(tmp_path, model), Here()
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "openvino", None)
        assert PendingGraph(job, here).result(Stop()) == "OpenVINO is not installed"
    assert here.calls == 0
    assert isinstance(PendingGraph(job, here).result(Stop()), Graph), "once it is installed"


def test_a_reason_is_kept_too(tmp_path: Path, broken: Path) -> None:
    job, here = job_of(tmp_path, broken), Here()
    found = PendingGraph(job, here).result(Stop())
    assert isinstance(found, str)
    assert "away from torch" in found
    again = PendingGraph(job, here)
    assert again.result(Stop()) == found
    assert here.calls == 1
    assert not isinstance(again._asked, str)
    assert kept_graph(name_of(again._asked)) == found


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"precision": "fp16"}, "--precision fp16 is torch's"),
        ({"compile": True}, "--compile is torch's"),
    ],
)
def test_what_is_torchs_needs_no_graph(
    tmp_path: Path, model: Path, fields: dict[str, Any], reason: str
) -> None:
    here = Here()
    assert PendingGraph(job_of(tmp_path, model, **fields), here).result(Stop()) == reason
    assert here.calls == 0


def test_int8_of_a_network_without_linear_layers_is_refused(tmp_path: Path) -> None:
    job = job_of(tmp_path, tiny.save_resnet(tmp_path / "resnet"), precision="int8")
    with ModelProcess() as process, pytest.raises(ModelError, match="no linear layers") as told:
        PendingGraph(job, process).result(Stop())
    assert told.value.exit_code == Exit.USAGE


def test_int8_without_openvino_is_refused(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path, model, precision="int8")
    monkeypatch.setitem(sys.modules, "openvino", None)
    why = "--precision int8 does not work with this model: OpenVINO is not installed; use fp32"
    with pytest.raises(ModelError, match=why):
        PendingGraph(job, Here()).result(Stop())
