"""What needs a Ray of its own: logical GPUs, the Python API, the job's entry point."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts.tiny import archive

LOGICAL_GPUS = """
import sys, json, ray, pipeline
from ray.util.state import list_actors
ray.init("local", num_cpus=3, num_gpus=2, include_dashboard=True, log_to_driver=False)
src, dst, model = sys.argv[1:]
seen = set()
def look(progress):
    for actor in list_actors(filters=[("state", "=", "ALIVE")], detail=True):
        if "Predict" in actor.class_name and actor.required_resources:
            seen.add((actor.actor_id, actor.required_resources.get("GPU")))
summary = pipeline.label(
    pipeline.make_spec(src=src, dst=dst, model=model, batch_size=8, commit_seconds=0.5), look
)
print(json.dumps({"hardware": summary.hardware, "counts": summary.counts.model_dump(),
                  "actors": sorted(seen)}))
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


def test_two_logical_gpus_get_a_predictor_each(tmp_path: Path, slow_model: Path) -> None:
    src = _folder(tmp_path / "photos", 1200)
    ran = _python("-c", LOGICAL_GPUS, src, tmp_path / "labels", slow_model)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["hardware"]["predictors"] == [2, 2]
    assert found["hardware"]["gpus_per_predictor"] == 1.0
    assert found["counts"]["labelled"] == 1200
    assert [gpus for _, gpus in found["actors"]] == [1.0, 1.0]


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
    spec = {"src": str(src), "dst": str(tmp_path / "labels"), "model": str(tmp_path / "model")}
    ran = _python("-m", "jobs.label", "-", stdin=json.dumps(spec))
    assert ran.returncode == 1
    assert "classifier.weight" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("predictors", ["9"])
def test_a_graph_that_cannot_be_placed_is_refused(
    tmp_path: Path, tiny_model: Path, predictors: str
) -> None:
    src = _folder(tmp_path / "photos", 5)
    spec = {"src": str(src), "dst": str(tmp_path / "labels"), "model": str(tiny_model)}
    ran = _python("-m", "jobs.label", "-", stdin=json.dumps(spec | {"predictors": predictors}))
    assert ran.returncode == 1
    assert "--predictors 9 leaves none" in ran.stderr
