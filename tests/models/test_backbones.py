"""Vectors of each family are transformers' own, by every pooling and in every precision."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.errors import BadModelError, Exit
from pipeline.models.backends.openvino_engine import OpenVinoEngine
from pipeline.models.backends.torch_engine import TorchEngine
from pipeline.models.backends.vit import slim_layer
from pipeline.models.fetch import fetch
from pipeline.models.fit import Vectors, check_fit
from pipeline.models.purpose import ClassifyingAndEmbedding, Embedding, Purpose
from pipeline.models.reference import ReferenceBackbone
from tests.models import graphs, tiny
from tests.models.backbones import FAMILIES, SIZE, save, truth

#: Much like others, in the long run only.
ALSO = {"vit_msn", "dinov3", "clip_vision", "siglip_vision"}
EVERY = [
    pytest.param(family, pooling, marks=[pytest.mark.slow] if family in ALSO else [])
    for family, found in FAMILIES.items()
    for pooling in found.vectors
]
#: By OpenVINO, the default vector of a few families always, and all the others in the long run.
SOON = {"vit", "dinov2", "swin", "convnext", "clip", "siglip", "vit_mae"}
EVERY_BY_OPENVINO = [
    pytest.param(family, pooling, marks=[] if family in SOON and not at else [pytest.mark.slow])
    for family, found in FAMILIES.items()
    for at, pooling in enumerate(found.vectors)
]
SLIM = ["vit", "deit"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("backbones")
    return {family: save(family, home / family) for family in FAMILIES}


def load(folder: Path, purpose: Purpose, precision: str = "fp32", **more: Any) -> TorchEngine:
    shape: dict[str, Any] = {"height": SIZE, "width": SIZE, "batch_size": 4, "top_k": 5}
    shape |= tiny.SCALE | more
    return TorchEngine.load(folder, **shape, precision=precision, purpose=purpose)


def scaled(pixels: NDArray[np.uint8]) -> torch.Tensor:
    values = (pixels * np.float32(tiny.SCALE["rescale"]) - tiny.SCALE["mean"]) / np.array(
        tiny.SCALE["std"]
    )
    return torch.from_numpy(values.astype(np.float32).transpose(0, 3, 1, 2).copy())


def cosines(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    one, other = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    result: NDArray[np.float64] = (one * other).sum(axis=1) / lengths
    return result


def assert_alike(ours: NDArray[Any], theirs: NDArray[Any], cosine: float = 0.999999) -> None:
    assert ours.shape == theirs.shape
    assert cosines(ours, theirs).min() >= cosine
    if cosine > 0.9999:
        off = 1e-4 * float(np.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=off)


@pytest.mark.parametrize(("family", "pooling"), EVERY)
def test_vectors_are_those_of_transformers(
    folders: dict[str, Path], family: str, pooling: str
) -> None:
    folder, pixels = folders[family], tiny.images(9)
    theirs = truth(family, folder, pooling, scaled(pixels)).numpy()
    (ours,) = load(folder, Embedding(pooling)).predict(pixels)
    assert_alike(ours, theirs)
    assert cosines(theirs[:1], theirs[1:2])[0] < 0.9999, "images that nobody could tell apart"
    reference = ReferenceBackbone(folder, pooling)
    again = np.stack([reference.vector(image) for image in scaled(pixels).numpy()])
    assert_alike(again, theirs)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_vectors_a_network_has_is_known_without_its_weights(
    folders: dict[str, Path], family: str
) -> None:
    folder = fetch(str(folders[family]), None, classifier=False)
    there = list(FAMILIES[family].vectors)
    found = check_fit(folder, SIZE, SIZE, Embedding())
    dim = truth(family, folder.path, there[0], scaled(tiny.images(1))).shape[1]
    assert found == Vectors(there[0], dim, there)
    for pooling in {"projection", "cls", "pooler", "mean"} - {*there}:
        with pytest.raises(
            BadModelError, match=f"no {pooling} vectors; it has|lack {pooling}"
        ) as told:
            check_fit(folder, SIZE, SIZE, Embedding(pooling))
        assert told.value.exit_code == Exit.USAGE


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("family", ["dinov2_registers", "clip"])
def test_in_fewer_bits_they_are_near(folders: dict[str, Path], family: str, precision: str) -> None:
    folder, pixels = folders[family], tiny.images(5)
    pooling = next(iter(FAMILIES[family].vectors))
    theirs = truth(family, folder, pooling, scaled(pixels)).numpy()
    (ours,) = load(folder, Embedding(pooling), precision).predict(pixels)
    assert_alike(ours, theirs, cosine=0.995)


@pytest.mark.parametrize(("family", "pooling"), EVERY_BY_OPENVINO)
def test_vectors_by_openvino_are_those_of_transformers(
    folders: dict[str, Path], family: str, pooling: str
) -> None:
    folder, pixels = folders[family], tiny.images(9)
    theirs = truth(family, folder, pooling, scaled(pixels)).numpy()
    engine = graphs.engine(graphs.graph(folder, Embedding(pooling)))
    for count in (9, 4, 3, 1, 0):  # full batches and others
        (ours,) = engine.predict(pixels[:count])
        assert ours.shape == (count, theirs.shape[1])
        if count:
            assert_alike(ours, theirs[:count])
    beside_white = np.concatenate([pixels[:1], np.full_like(pixels[1:3], 255)])
    np.testing.assert_array_equal(engine.predict(beside_white)[0][0], ours_of(engine, pixels, 3))


def ours_of(engine: OpenVinoEngine, pixels: NDArray[np.uint8], count: int) -> NDArray[Any]:
    """The first image's vector beside black neighbours."""
    beside = np.concatenate([pixels[:1], np.zeros_like(pixels[1:count])])
    found: NDArray[Any] = engine.predict(beside)[0][0]
    return found


@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("family", ["dinov2_registers", "clip"])
def test_in_fewer_bits_openvino_is_near(
    folders: dict[str, Path], family: str, precision: str
) -> None:
    folder, pixels = folders[family], tiny.images(5)
    pooling = next(iter(FAMILIES[family].vectors))
    theirs = truth(family, folder, pooling, scaled(pixels)).numpy()
    engine = graphs.engine(graphs.graph(folder, Embedding(pooling), precision))
    (ours,) = engine.predict(pixels)
    assert engine.precision in {precision, "fp32"}, "a CPU may have no bf16"
    assert_alike(ours, theirs, cosine=0.98 if precision == "int8" else 0.995)
    np.testing.assert_array_equal(ours[0], ours_of(engine, pixels, 5))


@pytest.mark.parametrize("family", SLIM)
def test_the_last_layer_is_cut_for_the_class_token_alone(
    folders: dict[str, Path], family: str
) -> None:
    for pooling in FAMILIES[family].vectors:
        model = load(folders[family], Embedding(pooling))._scorer._model
        layers: list[Any] = [one for one in model.modules() if isinstance(one, slim_layer())]
        assert [layer.tokens for layer in layers] == [None, None, None if pooling == "mean" else 1]


def test_layers_that_would_change_a_vector_stay_as_they_are(folders: dict[str, Path]) -> None:
    """A network that looks at the type of its layers, as no test of layers alone can tell."""

    class Suspicious(Embedding):
        def reader(self, model: Any) -> Any:
            def notice(layer: torch.nn.Module, _: Any, result: torch.Tensor) -> torch.Tensor:
                plain = any(type(one) is torch.nn.Linear for one in model.modules())
                return result if plain else -result

            model.layernorm.register_forward_hook(notice)
            return super().reader(model)

    folder, pixels = folders["vit"], tiny.images(5)
    engine = load(folder, Suspicious("cls"))
    assert any(type(one) is torch.nn.Linear for one in engine._scorer._model.modules())
    theirs = truth("vit", folder, "cls", scaled(pixels)).numpy()
    assert_alike(engine.predict(pixels)[0], theirs)


def test_a_network_with_a_will_of_its_own_is_refused(folders: dict[str, Path]) -> None:
    class Masking(Embedding):
        def prepared(self, config: Any) -> Any:
            config.hidden_dropout_prob = 0.5
            return config

        def reader(self, model: Any) -> Any:
            return super().reader(model.train())

    with pytest.raises(BadModelError, match="gives other vectors each time"):
        load(folders["vit"], Masking("cls"))


def test_a_masked_autoencoder_sees_all_of_an_image_and_always_the_same(
    folders: dict[str, Path],
) -> None:
    pixels = tiny.images(4)
    for pooling in ("cls", "mean"):
        once, again = (
            load(folders["vit_mae"], Embedding(pooling)).predict(pixels)[0] for _ in "ab"
        )
        np.testing.assert_array_equal(once, again)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kind", ["ViTForImageClassification", "Dinov2ForImageClassification"])
def test_one_pass_gives_the_labels_of_before_and_the_vectors_of_the_backbone(
    tmp_path: Path, kind: str, pooling: str
) -> None:
    import transformers

    family = "vit_classifier" if kind.startswith("ViT") else "dinov2"
    network = getattr(transformers, kind)
    torch.manual_seed(0)
    settings = FAMILIES[family].config | {"id2label": {i: f"thing {i}" for i in range(7)}}
    folder = tiny.save(network(network.config_class(**settings)), tmp_path / "model")
    pixels = tiny.images(9)
    plain = TorchEngine.load(
        folder, height=SIZE, width=SIZE, **tiny.SCALE, precision="fp32", top_k=7, batch_size=4
    )
    both = load(folder, ClassifyingAndEmbedding(pooling), top_k=7)
    seen = []
    both._scorer._model.register_forward_hook(lambda *_: seen.append(1))
    indices, scores, ours = both.predict(pixels)
    assert len(seen) == 3, "9 images are three batches, each one pass"
    assert both.labels == plain.labels
    np.testing.assert_array_equal(indices, plain.predict(pixels)[0])
    np.testing.assert_allclose(scores, plain.predict(pixels)[1], atol=1e-6)
    read_as = "ViTModel" if kind.startswith("ViT") else "Dinov2Model"
    model = getattr(transformers, read_as).from_pretrained(folder).eval()
    with torch.inference_mode():
        theirs = FAMILIES[family].vectors[pooling](model, scaled(pixels)).numpy()
    assert_alike(ours, theirs)


def test_a_class_head_has_no_pooler_to_give(folders: dict[str, Path]) -> None:
    folder = fetch(str(folders["vit_classifier"]), None)
    with pytest.raises(BadModelError, match="has no pooler vectors; it has cls, mean"):
        check_fit(folder, SIZE, SIZE, ClassifyingAndEmbedding("pooler"))


def test_of_no_images_there_are_no_vectors(folders: dict[str, Path]) -> None:
    (none,) = load(folders["dinov2"], Embedding("cls")).predict(tiny.images(0))
    assert none.shape == (0, 32)
