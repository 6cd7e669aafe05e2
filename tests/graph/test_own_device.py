"""A worker uses the GPU that Ray gives it, or the run ends and says what to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.graph.stages.own_device import LOGICAL
from tests.parts.models.tiny import archive, make_model

pytestmark = pytest.mark.ray

WORKERS = """
import json, os, ray
os.environ["CUDA_VISIBLE_DEVICES"] = os.environ["HIP_VISIBLE_DEVICES"] = "0"
ray.init("local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)

def seen(device):
    from pipeline.errors import ModelError
    from pipeline.graph.stages.own_device import check_device, keep_to_own_device
    keep_to_own_device()
    said = ""
    try:
        check_device(device)
    except ModelError as error:
        said = str(error)
    return os.environ["CUDA_VISIBLE_DEVICES"], said

def on(gpus, device):
    return ray.get(ray.remote(num_gpus=gpus, max_calls=1)(seen).remote(device))

print(json.dumps([on(0, "cpu"), on(1, "cpu"), on(1, "cuda:a GPU")]))
"""

RUN = """
import os, sys, ray, pipeline
from pathlib import Path
from pipeline.engine import session
from pipeline.errors import NightlabelError
driver, src, dst, model = sys.argv[1:]
session.GPU_DRIVERS = (Path(driver),)
ray.init("local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
try:
    pipeline.label(pipeline.make_spec(src=src, dst=dst, model=model))
except NightlabelError as error:
    print(type(error).__name__, error)
"""


def run(program: str, *arguments: object, logical: bool = False) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {LOGICAL: "1" if logical else ""},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("logical", [False, True])
def test_without_a_gpu_of_ray_all_are_hidden_and_with_one_it_must_be_used(logical: bool) -> None:
    (hidden, free), (given, refusal), (_, used) = json.loads(run(WORKERS, logical=logical))
    assert (hidden, free) == ("-1", "")
    assert (given, used) == ("0", "")
    if logical:
        assert not refusal
    else:
        assert "Ray counts a GPU on the node" in refusal
        assert "PyTorch" in refusal
        assert "start Ray there with --num-gpus 0" in refusal


@pytest.mark.torch
@pytest.mark.parametrize("driver", [True, False], ids=["by the driver", "by the predictor"])
def test_a_gpu_that_torch_cannot_use_ends_the_run(tmp_path: Path, driver: bool) -> None:
    """With a driver of a GPU here, no predictor starts; without, as for Apple's, one finds out."""
    model = make_model(tmp_path / "model")
    src = tmp_path / "photos"
    for name, image in archive(3).items():
        (src / name).parent.mkdir(parents=True, exist_ok=True)
        (src / name).write_bytes(image)
    there = tmp_path if driver else tmp_path / "none"
    said = run(RUN, there, src, tmp_path / "labels", model)
    if driver:
        assert said.startswith("PlacementError this machine has a GPU, but PyTorch")
        assert "set CUDA_VISIBLE_DEVICES=" in said
    else:
        assert "ModelError Ray counts a GPU on the node" in said
