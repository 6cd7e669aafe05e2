"""What needs a Ray of its own: logical GPUs, the Python API, the job's entry point."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import nightlabel
from tests.parts.models.tiny import archive, make_model

pytestmark = pytest.mark.ray

LOGICAL_GPUS = """
import json, os, sys, ray, pipeline
from pipeline.engine import batch_rows
from tests.parts.processes.process_tree import below, title
batch_rows.GPU_BATCH_RANGE = (64, 64)
ray.init("local", num_cpus=3, num_gpus=2, include_dashboard=False, log_to_driver=False)
src, dst, model = sys.argv[1:]
free, working = [], set()
def look(progress):
    if progress.labelled:
        free.append(ray.available_resources().get("GPU", 0.0))
    for pid in below(os.getpid()):
        if title(pid) == "ray::MapWorker(MapBatches(Predict)).submit":
            working.add(pid)
summary = pipeline.label(
    pipeline.make_spec(src=src, dst=dst, model=model, batch_size=8, commit_seconds=0.5), look
)
print(json.dumps({"hardware": summary.hardware, "counts": summary.counts.model_dump(),
                  "free": min(free), "working": len(working),
                  "device_seconds": summary.device_seconds, "seconds": summary.seconds}))
"""


GROWING = """
import json, os, sys, ray, pipeline
from tests.parts.processes.process_tree import below, title
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
src, dst, model = sys.argv[1:]
there, working = [], set()
def look(progress):
    names = {pid: title(pid) for pid in below(os.getpid())}
    there.append(sum("MapWorker(MapBatches(Label))" in name for name in names.values()))
    working.update(pid for pid, name in names.items() if name.endswith("(Label)).submit"))
summary = pipeline.label(
    pipeline.make_spec(src=src, dst=dst, model=model, predictors="1:2", commit_seconds=0.5), look
)
print(json.dumps({"hardware": summary.hardware, "counts": summary.counts.model_dump(),
                  "there": there, "working": len(working)}))
"""


def _folder(path: Path, count: int) -> Path:
    for name, data in archive(count).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def _python(*arguments: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=240,
        cwd=Path(__file__).parent.parent.parent,
    )


def test_two_logical_gpus_get_a_predictor_each(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", layers=4, width=384)
    src = _folder(tmp_path / "photos", 3000)  # 47 batches, of which one predictor holds eight
    ran = _python("-c", LOGICAL_GPUS, src, tmp_path / "labels", model)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["hardware"]["predictors"] == [2, 2]
    assert found["hardware"]["gpus_per_predictor"] == 1.0
    assert found["counts"]["labelled"] == 3000
    assert found["free"] == 0.0  # each took its GPU
    assert found["working"] == 2  # and each was seen at a batch
    did, took = found["device_seconds"], found["seconds"]
    assert 0 < did["works"] < sum(did.values()) < 2 * (took["label"] - took["start"])


@pytest.mark.slow
def test_on_cpus_a_range_of_predictors_grows_with_the_work(
    tmp_path: Path, slow_model: Path
) -> None:
    src = _folder(tmp_path / "photos", 1500)
    ran = _python("-c", GROWING, src, tmp_path / "labels", slow_model)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert (found["hardware"]["predictors"], found["hardware"]["decode_slots"]) == ([1, 2], 0)
    assert found["counts"]["labelled"] == 1500
    assert next(filter(None, found["there"])) == 1
    assert found["working"] == 2


def test_the_job_takes_a_spec_and_gives_an_exit_code(tmp_path: Path, tiny_model: Path) -> None:
    src = _folder(tmp_path / "photos", 5)
    spec = {"src": str(src), "dst": str(tmp_path / "labels"), "model": str(tiny_model)}
    first = _python("-m", "jobs.label", "-", stdin=json.dumps(spec))
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["counts"]["labelled"] == 5
    config = tmp_path / "job.toml"
    config.write_text("".join(f'{key} = "{value}"\n' for key, value in spec.items()))
    again = _python("-m", "jobs.label", config)
    assert json.loads(again.stdout)["counts"]["done"] == 5
    wrong = _python("-m", "jobs.label", "-", stdin='{"src": "a"}')
    assert wrong.returncode == 2
    assert "dst" in wrong.stderr


def test_a_model_that_does_not_load_is_named(tmp_path: Path, tiny_model: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    src = _folder(tmp_path / "photos", 5)
    shutil.copytree(tiny_model, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    ran = nightlabel("label", src, tmp_path / "labels", "--model", tmp_path / "model")
    assert ran.code == 2
    assert "Loading weights" not in ran.err
    [line] = [line for line in ran.err.splitlines() if line.startswith("nightlabel: ")]
    assert "classifier.weight" in line
    assert "Traceback" not in ran.err
    job = {"src": str(src), "dst": str(tmp_path / "labels"), "model": str(tmp_path / "model")}
    same = _python("-m", "jobs.label", "-", stdin=json.dumps(job))
    assert same.returncode == 2
    assert line in same.stderr.splitlines()


@pytest.mark.parametrize("predictors", ["9"])
def test_a_graph_that_cannot_be_placed_is_refused(
    tmp_path: Path, tiny_model: Path, predictors: str
) -> None:
    src = _folder(tmp_path / "photos", 5)
    spec = {"src": str(src), "dst": str(tmp_path / "labels"), "model": str(tiny_model)}
    ran = _python("-m", "jobs.label", "-", stdin=json.dumps(spec | {"predictors": predictors}))
    assert ran.returncode == 1
    assert "--predictors 9 is more than" in ran.stderr
