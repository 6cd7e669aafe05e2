"""`doctor --model` loads the weights and labels a picture, and tells what they lack."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.runs.doctor import Finding, examine
from tests.models import tiny


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTLABEL_CACHE", str(tmp_path / "cache"))


def of_model(folder: Path) -> Finding:
    (found,) = [one for one in examine(None, None, str(folder), None) if "model" in one.check]
    assert "\n" not in found.found
    return found


def test_a_sound_model_labels_a_picture(tmp_path: Path) -> None:
    found = of_model(tiny.save_vit(tmp_path / "vit"))
    assert found.ok
    assert "a classifier of 32 by 32 pixels into 7 classes" in found.found
    assert "a made picture is 'thing " in found.found
    assert "lack" not in found.found
    assert "beyond" not in found.found


def test_keys_too_few_and_too_many_are_told(tmp_path: Path) -> None:
    folder = tiny.save_resnet(tmp_path / "resnet")
    path = folder / "model.safetensors"
    weights = {name: w for name, w in load_file(path).items() if "num_batches" not in name}
    save_file(weights | {"old.head": torch.zeros(2)}, path, metadata={"format": "pt"})
    found = of_model(folder)
    assert found.ok
    assert "num_batches_tracked" in found.found
    assert "and 3 more, which no label depends on" in found.found
    assert "its files hold old.head beyond the network" in found.found


def test_weights_that_are_no_numbers_are_wrong(tmp_path: Path) -> None:
    folder = tiny.save_vit(tmp_path / "vit")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    assert not of_model(folder).ok


def test_a_class_head_that_is_missing_is_wrong(tmp_path: Path) -> None:
    folder = tiny.save_vit(tmp_path / "vit")
    path = folder / "model.safetensors"
    weights = {name: w for name, w in load_file(path).items() if "classifier" not in name}
    save_file(weights, path, metadata={"format": "pt"})
    found = of_model(folder)
    assert not found.ok
    assert "the weights lack classifier.bias, classifier.weight" in found.found
