"""No model runs code: real pickles and real modules that would leave a mark, and leave none."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ModelError
from pipeline.images import Preprocess
from pipeline.models.backends.loading import load_classifier, pick_device
from pipeline.models.fetch import fetch
from tests.models import minihub, tiny
from tests.parts.models.pickles import marking


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "code-was-run"


@pytest.fixture
def pickled(mark: Path) -> bytes:
    return marking(mark)


def module(mark: Path) -> str:
    return f"""
from pathlib import Path
Path({str(mark)!r}).touch()
from transformers import ViTConfig as Own, ViTForImageClassification as OwnForImageClassification
from transformers import ViTImageProcessorPil as OwnProcessor
"""


def edit_processor(folder: Path, **changes: Any) -> None:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def load(model: str | Path) -> None:
    """All that a run does with a model before its first image."""
    folder = fetch(str(model), None).path
    Preprocess.from_folder(folder)
    load_classifier(folder, pick_device(), "fp32")


PICKLES = ("pytorch_model.bin", "model.pt", "model.pth", "tf_model.h5", "flax_model.msgpack")


def test_a_pickle_alone_is_refused(own_vit: Path, pickled: bytes, mark: Path) -> None:
    (own_vit / "model.safetensors").unlink()
    (own_vit / "pytorch_model.bin").write_bytes(pickled)
    with pytest.raises(ModelError, match="only pickled weights"):
        load(own_vit)
    assert not mark.exists()


def test_pickles_beside_safetensors_are_left_alone(
    own_vit: Path, pickled: bytes, mark: Path
) -> None:
    for name in PICKLES:
        (own_vit / name).write_bytes(pickled)
    load(own_vit)
    assert not mark.exists()


def test_a_pickle_that_is_called_safetensors(own_vit: Path, pickled: bytes, mark: Path) -> None:
    (own_vit / "model.safetensors").write_bytes(pickled)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(own_vit)
    assert not mark.exists()


@pytest.mark.parametrize(
    "shard",
    ["pytorch_model.bin", "../pytorch_model.bin", "../model.safetensors", "a/b.safetensors"],
)
def test_an_index_names_safetensors_of_its_own_folder(
    own_vit: Path, pickled: bytes, mark: Path, shard: str
) -> None:
    (own_vit / "model.safetensors").rename(own_vit.parent / "model.safetensors")
    for folder in (own_vit, own_vit.parent):
        (folder / "pytorch_model.bin").write_bytes(pickled)
    index = {"metadata": {}, "weight_map": {"classifier.weight": shard}}
    (own_vit / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="is not an index of safetensors files"):
        load(own_vit)
    assert not mark.exists()


AUTO_MAP = {
    "AutoConfig": "own.Own",
    "AutoModelForImageClassification": "own.OwnForImageClassification",
    "AutoImageProcessor": "own.OwnProcessor",
}


@pytest.mark.parametrize("prefix", ["", "someone/else--"])
@pytest.mark.parametrize(
    ("config", "processor", "refused"),
    [
        ({}, {}, None),
        ({"architectures": ["OwnForImageClassification"]}, {}, "needs code of its own"),
        ({"model_type": "own"}, {}, "cannot be loaded"),
        ({}, {"image_processor_type": "OwnProcessor"}, "needs code of its own"),
    ],
)
def test_code_beside_a_model_is_not_run(
    own_vit: Path,
    mark: Path,
    prefix: str,
    config: dict[str, object],
    processor: dict[str, object],
    refused: str | None,
) -> None:
    auto_map = {name: prefix + where for name, where in AUTO_MAP.items()}
    tiny.edit_config(own_vit, auto_map=auto_map, **config)
    edit_processor(own_vit, auto_map=auto_map, **processor)
    (own_vit / "own.py").write_text(module(mark))
    if refused is None:
        load(own_vit)
    else:
        with pytest.raises(ModelError, match=refused):
            load(own_vit)
    assert not mark.exists()


@pytest.mark.parametrize(
    "value", ["someone/kernel", "kernels-community/flash-attn2", "paged|eager"]
)
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_kernels_of_the_hub_are_refused(own_vit: Path, key: str, value: str) -> None:
    tiny.edit_config(own_vit, **{key: value})
    with pytest.raises(ModelError, match="asks for the code of"):
        load(own_vit)
    tiny.edit_config(own_vit, **{key: "eager", "vision_config": {key: value}})
    with pytest.raises(ModelError, match="asks for the code of"):
        load(own_vit)


def test_an_adapter_is_refused(own_vit: Path) -> None:
    (own_vit / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    with pytest.raises(ModelError, match="has an adapter"):
        load(own_vit)


LOAD = """
import sys
from tests.models.test_untrusted import load
from pipeline.errors import ModelError
try:
    load(sys.argv[1])
    print("loaded")
except ModelError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("config", "said"),
    [({}, "loaded"), ({"architectures": ["OwnForImageClassification"]}, "needs code of its own")],
)
def test_a_repository_of_the_hub(
    own_vit: Path, pickled: bytes, mark: Path, tmp_path: Path, config: dict[str, object], said: str
) -> None:
    tiny.edit_config(own_vit, auto_map=AUTO_MAP, **config)
    edit_processor(own_vit, auto_map=AUTO_MAP)
    (own_vit / "own.py").write_text(module(mark))
    (own_vit / "pytorch_model.bin").write_bytes(pickled)
    with minihub.serve(own_vit) as hub:
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
        offline = {"HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "-c", LOAD, minihub.REPO],
            env=os.environ | settings | offline,
            capture_output=True,
            text=True,
            timeout=200,
        )
    assert said in done.stdout, done.stderr
    assert not mark.exists()
    assert {Path(name).suffix for name in hub.downloaded} <= {".json", ".safetensors"}
