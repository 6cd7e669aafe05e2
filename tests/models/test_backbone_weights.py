"""Backbones that must be refused: a pooler at random, no images, nothing known of their tokens."""

import json
from pathlib import Path

import pytest
import transformers
from safetensors.torch import load_file, save_file

from pipeline.errors import BadModelError, Exit
from pipeline.models.config import ModelConfig
from pipeline.models.fetch import ModelFolder, fetch
from pipeline.models.fit import check_fit
from pipeline.models.purpose import Embedding
from tests.models import tiny
from tests.models.backbones import SIZE, save


def backbone(folder: Path) -> ModelFolder:
    return fetch(str(folder), None, classifier=False)


def without(folder: Path, part: str) -> None:
    path = folder / "model.safetensors"
    weights = {name: w for name, w in load_file(path).items() if part not in name}
    save_file(weights, path, metadata={"format": "pt"})


def test_a_pooler_that_no_file_holds_is_refused_where_it_is_read(tmp_path: Path) -> None:
    """transformers would draw its weights at random, others in each process."""
    folder = save("vit_classifier", tmp_path / "vit")
    with pytest.raises(BadModelError, match=r"lack pooler\.dense\.bias, pooler\.dense\.w") as told:
        check_fit(backbone(folder), SIZE, SIZE, Embedding("pooler"))
    assert told.value.exit_code == Exit.USAGE
    assert "vectors would be random; name another --pooling" in str(told.value)
    for pooling in ("cls", "mean"):
        found = check_fit(backbone(folder), SIZE, SIZE, Embedding(pooling))
        assert found is not None
        assert (found.pooling, found.dim) == (pooling, 32)


@pytest.mark.parametrize(
    ("family", "part", "pooling"),
    [
        ("vit", "layer.1.", "cls"),
        ("dinov2", "layernorm.weight", "mean"),
        ("clip", "visual_projection", "projection"),
        ("siglip", "head.probe", "pooler"),
    ],
)  # fmt: skip
def test_weights_that_a_vector_needs_must_be_there(
    tmp_path: Path, family: str, part: str, pooling: str
) -> None:
    folder = save(family, tmp_path / family)
    without(folder, part)
    with pytest.raises(BadModelError, match=r"the weights lack .*, so vectors would be random"):
        check_fit(backbone(folder), SIZE, SIZE, Embedding(pooling))


def test_a_text_tower_may_be_missing(tmp_path: Path) -> None:
    folder = save("clip", tmp_path / "clip")
    without(folder, "text_model")
    found = check_fit(backbone(folder), SIZE, SIZE, Embedding())
    assert found is not None
    assert (found.pooling, found.dim) == ("projection", 24)


def test_what_takes_no_images_is_refused(tmp_path: Path) -> None:
    folder = save("vit", tmp_path / "bert")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(**sizes, intermediate_size=32, vocab_size=50)
    transformers.BertModel(config).save_pretrained(folder)
    with pytest.raises(BadModelError, match="a BertModel does not take images; choose") as told:
        check_fit(backbone(folder), SIZE, SIZE, Embedding())
    assert "\n" not in str(told.value)


def test_a_backbone_is_no_classifier_and_says_what_takes_it(tmp_path: Path) -> None:
    folder = save("dinov2", tmp_path / "dinov2")
    with pytest.raises(BadModelError, match=r"not an image classifier.*`nightlabel embed`"):
        fetch(str(folder), None)


def test_code_of_its_own_is_never_run(tmp_path: Path) -> None:
    folder = save("vit", tmp_path / "vit")
    tiny.edit_config(folder, architectures=["MyModel"], auto_map={"AutoModel": "my.MyModel"})
    with pytest.raises(BadModelError, match="needs code of its own"):
        backbone(folder)


def test_tokens_of_which_nobody_knows_what_they_are_give_no_mean(tmp_path: Path) -> None:
    """More tokens than a grid of patches and what is known to stand before it."""
    folder = save("vit", tmp_path / "vit")
    config = json.loads((folder / "config.json").read_text())
    assert ModelConfig.read(folder, "it").raw == config
    model = transformers.AutoModel.from_pretrained(folder)
    from types import SimpleNamespace

    import torch

    from pipeline.models.pooling import poolings_of

    hidden = torch.zeros(1, 1 + 16 + 3, 32)
    output = SimpleNamespace(last_hidden_state=hidden, pooler_output=torch.zeros(1, 32))
    assert poolings_of(model, output, (SIZE, SIZE)) == ["pooler"]
