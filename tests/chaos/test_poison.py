"""Whatever an image does to the process that works on it, it costs one row."""

import io
import re
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from PIL import Image

from tests.chaos.scores import Scores
from tests.integration.conftest import Ran, nightlabel
from tests.parts.clusters.cluster import logical_gpus
from tests.parts.images.poison import poison, poisoned
from tests.parts.models.tiny import archive, make_model


class Folder:
    """Images and labels on local disk."""

    def __init__(self, root: Path, objects: dict[str, bytes]) -> None:
        self.photos, self.labels = root / "photos", root / "labels"
        self._model = make_model(root / "model")
        for name, data in objects.items():
            path = self.photos / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def label(self, env: dict[str, str], *options: object) -> Ran:
        arguments = [self.photos, self.labels, "--model", self._model, "--json", *options]
        return nightlabel("label", *arguments, env=env)

    def rows(self) -> dict[str, dict[str, Any]]:
        columns = ["uri", "label", "error_code", "error_message"]
        rows = DeltaTable(self.labels).to_pyarrow_table(columns=columns).to_pylist()
        found = {row["uri"].removeprefix(f"{self.photos.as_uri()}/"): row for row in rows}
        assert len(found) == len(rows)
        return found


def grey(shade: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (40, 40), (shade,) * 3).save(sink, "png")
    return sink.getvalue()


def test_the_engines_of_both_runtimes_are_poisoned(tmp_path: Path) -> None:
    """Before a night tells it: importing one fails if what runs its batches has another name."""
    engines = [f"pipeline.models.backends.{name}_engine" for name in ("torch", "openvino")]
    program = "; ".join(f"import {engine}" for engine in engines)
    env = poisoned(tmp_path / "site", {60: "exit"})
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.ray
@pytest.mark.parametrize(
    "gpus", [0, pytest.param(1, marks=pytest.mark.chaos)], ids=["one stage", "two stages"]
)
def test_every_kind_of_poison_costs_one_row(tmp_path: Path, scores: Scores, gpus: int) -> None:
    """In decoders and in predictors, in one run, among images that are well."""
    decoders = {
        "a/00050.jpg": ("segfault", "decoding this image ended its process (signal 11)"),
        "b/00151.jpg": ("exit", "decoding this image ended its process (exit 1)"),
        "a/00120.jpg": ("hang", "decoding this image took longer than 10 s"),
        "b/00199.jpg": ("allocate", "decoding this image ran out of memory"),
    }
    predictors = {
        "a/00010.jpg": (60, "segfault", "predicting this image ended its process (signal 11)"),
        "b/00171.jpg": (120, "exit", "predicting this image ended its process (exit 1)"),
    }
    if gpus:
        words = "CUDA error: an illegal memory access was encountered"
        lost = f"predicting this image lost its device (cpu: {words})"
        predictors["a/00090.jpg"] = (180, "lose", lost)
    objects = archive(300)
    objects |= {name: poison(deed) for name, (deed, _) in decoders.items()}
    objects |= {name: grey(shade) for name, (shade, _, _) in predictors.items()}
    folder = Folder(tmp_path, objects)
    env = poisoned(tmp_path / "site", {shade: deed for shade, deed, _ in predictors.values()})
    options = ["--max-seconds", 10, "--max-pixels", 20_000_000]
    with logical_gpus(gpus, env) if gpus else nullcontext() as address:
        ran = folder.label(env, *options, *(["--address", address] if gpus else []))
    assert ran.code == 0, ran.err
    assert ran.json["counts"]["errors"] == {"crashed": len(decoders) + len(predictors)}
    rows = folder.rows()
    assert sorted(rows) == sorted(objects)
    expected = {name: message for name, (_, message) in decoders.items()}
    expected |= {name: message for name, (_, _, message) in predictors.items()}
    failed = {name: row for name, row in rows.items() if row["error_code"] is not None}
    assert {name: row["error_message"] for name, row in failed.items()} == expected
    assert {row["error_code"] for row in failed.values()} == {"crashed"}
    assert all(row["label"] for name, row in rows.items() if name not in failed)
    scores.count("images that end, stall or fill a process", len(failed))


@pytest.mark.chaos
@pytest.mark.parametrize("deed", ["segfault", "exit", "hang"])
def test_where_every_image_is_poison_the_run_ends(tmp_path: Path, deed: str) -> None:
    folder = Folder(tmp_path, {f"{n}.jpg": poison(deed) for n in range(200)})
    began = time.monotonic()
    ran = folder.label(poisoned(tmp_path / "site"), "--max-seconds", 2)
    assert time.monotonic() - began < 180
    assert ran.code == 1
    assert "decoding keeps ending its process" in ran.err
    assert folder.rows() == {}


#: Loading ends in an error of the device that Ray calls so.
BAD_DEVICE = """
import importlib.util, os, sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name != "pipeline.models.backends.torch_engine" or os.environ.get(
            "CUDA_VISIBLE_DEVICES") not in BAD:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        plain = spec.loader.exec_module
        def exec_module(module):
            plain(module)
            def load(*_, **__):
                raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
            module.TorchEngine.load = load
        spec.loader.exec_module = exec_module
        return spec
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.chaos
@pytest.mark.parametrize("bad", [["1"], ["0", "1"]], ids=["one", "both"])
def test_a_device_that_is_bad_from_the_start_ends_no_night_of_another(
    tmp_path: Path, bad: list[str]
) -> None:
    folder = Folder(tmp_path, archive(300))
    env = poisoned(tmp_path / "site")
    (tmp_path / "site" / "sitecustomize.py").write_text(f"BAD = {bad}\n{BAD_DEVICE}")
    with logical_gpus(2, env) as address:
        ran = folder.label(env, "--address", address)
    if len(bad) == 1:
        assert ran.code == 0, ran.err
        assert len(folder.rows()) == 300
        assert all(row["label"] for row in folder.rows().values())
    else:
        assert ran.code == 1
        assert "has ended its process 3 times" in ran.err
        assert folder.rows() == {}


@pytest.mark.chaos
def test_where_every_batch_is_poison_the_run_ends(tmp_path: Path) -> None:
    folder = Folder(tmp_path, {f"{n}.png": grey(60) for n in range(200)})
    ran = folder.label(poisoned(tmp_path / "site", {60: "segfault"}))
    assert ran.code == 1
    assert "the model keeps ending its process" in ran.err
    assert folder.rows() == {}


#: Who loads the network ends: with OpenVINO, of which the process that makes its graph is another,
#: or where that cannot be found.
ENDS_BY_OPENVINO = "name == 'openvino._pyopenvino' and 'torch' not in sys.modules"
ENDS_BY_TORCH = "name == 'pipeline.models.backends.torch_engine'"


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("ends", "hidden"),
    [(ENDS_BY_OPENVINO, ""), (ENDS_BY_TORCH, "sys.modules['openvino'] = None\n")],
    ids=["openvino", "torch"],
)
def test_where_the_model_ends_its_process_the_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str, hidden: str
) -> None:
    monkeypatch.setenv("NIGHTLABEL_CACHE", str(tmp_path / "cache"))
    folder = Folder(tmp_path, archive(50))
    env = poisoned(tmp_path / "site")
    site = tmp_path / "site" / "sitecustomize.py"
    site.write_text(
        "import os, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if {ends}: os._exit(1)\n"
        "sys.meta_path.insert(0, Finder())\n" + hidden
    )
    began = time.monotonic()
    ran = folder.label(env)
    assert time.monotonic() - began < 180
    assert ran.code == 1
    # OpenVINO is loaded with the first batch, so the batch may be blamed.
    assert re.search("ended its process 3 times|ended 4 predictors|keeps ending its", ran.err)
    assert "Traceback" not in ran.err
    assert folder.rows() == {}
