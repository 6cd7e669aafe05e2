"""The engine against transformers itself, and what it does when memory runs out."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageClassification, pipeline

from pipeline.errors import ModelError
from pipeline.models.backends.loading import pick_precision
from pipeline.models.backends.torch_engine import TorchEngine
from pipeline.models.backends.transfer import SLICES, slices
from pipeline.models.backends.transfer import _Slot as Slot
from pipeline.models.scorer import Scorer
from tests.models import tiny


def load(folder: Path, **changes: Any) -> TorchEngine:
    settings = {"height": tiny.SIZE, "width": tiny.SIZE, **tiny.SCALE}
    settings |= {"precision": "fp32", "top_k": 5, "batch_size": 4}
    return TorchEngine.load(folder, **settings | changes)


def transformers_says(folder: Path, pixels: np.ndarray, top_k: int) -> list[list[dict[str, Any]]]:
    classify = pipeline("image-classification", str(folder), device="cpu", dtype=torch.float32)
    return classify([Image.fromarray(image) for image in pixels], top_k=top_k)


@pytest.mark.parametrize("kind", ["vit", "resnet", "convnext"])
def test_scores_are_those_of_transformers(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    pixels = tiny.images(11)
    engine = load(folder, top_k=7)
    indices, scores = engine.predict(pixels)
    expected = transformers_says(folder, pixels, top_k=7)
    assert len({best["label"] for best, *_ in expected}) > 1, "one answer for all proves little"
    for row, answer in enumerate(expected):
        assert [engine.labels[i] for i in indices[row]] == [one["label"] for one in answer]
        assert np.abs(scores[row] - [one["score"] for one in answer]).max() < 1e-5


def test_types_and_names(vit: Path) -> None:
    engine = load(vit)
    indices, scores = engine.predict(tiny.images(3))
    assert (indices.dtype, indices.shape) == (np.int64, (3, 5))
    assert (scores.dtype, scores.shape) == (np.float32, (3, 5))
    assert (engine.precision, engine.labels[2]) == ("fp32", "thing 2")
    assert [part.shape for part in engine.predict(tiny.images(0))] == [(0, 5), (0, 5)]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9])
def test_padding_and_batch_shape_change_nothing(vit: Path, count: int) -> None:
    pixels = tiny.images(count)
    one_by_one = load(vit, batch_size=1).predict(pixels)
    padded = load(vit, batch_size=4).predict(pixels)
    np.testing.assert_array_equal(padded[0], one_by_one[0])
    np.testing.assert_allclose(padded[1], one_by_one[1], rtol=0, atol=1e-6)


def test_top_k_over_the_number_of_labels_gives_all(vit: Path) -> None:
    indices, scores = load(vit, top_k=100).predict(tiny.images(2))
    assert sorted(indices[0]) == list(range(7))
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)


def test_multi_label_scores_are_sigmoids(tmp_path: Path) -> None:
    folder = tiny.save_vit(tmp_path, problem_type="multi_label_classification")
    pixels = tiny.images(5)
    _, scores = load(folder, top_k=7).predict(pixels)
    expected = transformers_says(folder, pixels, top_k=7)
    np.testing.assert_allclose(
        scores, [[one["score"] for one in answer] for answer in expected], rtol=0, atol=1e-5
    )
    assert (np.abs(scores.sum(axis=1) - 1) > 0.1).any()


def test_equal_scores_keep_the_order_of_the_classes(tmp_path: Path) -> None:
    folder = tiny.save_vit(tmp_path, labels=40)
    model = AutoModelForImageClassification.from_pretrained(folder)
    torch.nn.init.zeros_(model.classifier.weight)
    model.save_pretrained(folder)
    indices, _ = load(folder).predict(tiny.images(2))
    assert indices.tolist() == [[0, 1, 2, 3, 4]] * 2


def test_half_precision_is_near(vit: Path) -> None:
    pixels = tiny.images(8)
    exact = load(vit, top_k=1).predict(pixels)[1]
    for precision in ("bf16", "fp16"):
        engine = load(vit, top_k=1, precision=precision)
        assert engine.precision == precision
        np.testing.assert_allclose(engine.predict(pixels)[1], exact, rtol=0, atol=0.05)


@pytest.mark.skipif(torch.cuda.is_available(), reason="looks at what a CPU gets")
def test_auto_is_fp32_on_a_cpu(vit: Path) -> None:
    engine = load(vit, precision="auto", batch_size=None)
    assert (engine.precision, engine.device, engine.batch_size) == ("fp32", "cpu", 16)


def test_auto_is_fp16_on_a_gpu() -> None:
    assert pick_precision("auto", torch.device("cuda")) == "fp16"


@pytest.mark.parametrize(("large", "found"), [(False, "fp16"), (True, "bf16")])
def test_auto_leaves_fp16_where_scores_overflow_in_it(
    own_vit: Path, monkeypatch: pytest.MonkeyPatch, large: bool, found: str
) -> None:
    """The device is a CPU, and takes what a GPU would."""
    if large:
        model = AutoModelForImageClassification.from_pretrained(own_vit)
        torch.nn.init.normal_(model.classifier.weight, std=30_000.0)
        model.save_pretrained(own_vit)
    on_a_gpu = {"auto": "fp16"}
    monkeypatch.setattr(
        "pipeline.models.backends.torch_engine.pick_precision",
        lambda asked, _: on_a_gpu.get(asked, asked),
    )
    engine = load(own_vit, precision="auto")
    assert engine.precision == found
    assert np.isfinite(engine.predict(tiny.images(8))[1]).all()
    if large:
        assert load(own_vit, precision="fp16").precision == "fp16"  # who asks for it gets it


class SmallMemory(Scorer):
    """A device that holds fewer images from one batch to the next: the last limit stays."""

    limits: list[int]

    def __call__(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        limit = self.limits.pop(0) if len(self.limits) > 1 else self.limits[0]
        if len(batch) > limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB")
        return super().__call__(batch)


def small_memory(folder: Path, *limits: int) -> TorchEngine:
    engine = with_scorer(SmallMemory, folder, batch_size=16)
    engine._scorer.limits = list(limits)  # type: ignore[attr-defined]
    return engine


@pytest.mark.parametrize("limits", [(3,), (16, 3)], ids=["at once", "in the midst"])
def test_out_of_memory_halves_the_batch_and_goes_on(vit: Path, limits: tuple[int, ...]) -> None:
    pixels = tiny.images(41)
    engine = small_memory(vit, *limits)
    indices, scores = engine.predict(pixels)
    expected = load(vit).predict(pixels)
    assert engine.batch_size == 2
    np.testing.assert_array_equal(indices, expected[0])
    np.testing.assert_allclose(scores, expected[1], rtol=0, atol=1e-6)


def test_a_model_too_large_for_one_image_is_refused(vit: Path) -> None:
    with pytest.raises(ModelError, match="not even one image fits in the memory of cpu"):
        small_memory(vit, 0).predict(tiny.images(2))


class Watched(Scorer):
    """Notes in which threads it was called, and with how many threads of torch."""

    calls: list[tuple[int, int]]

    def __call__(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls.append((threading.get_ident(), torch.get_num_threads()))
        return super().__call__(batch)


def with_scorer(kind: type[Scorer], folder: Path, **settings: Any) -> TorchEngine:
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    shape = {"height": tiny.SIZE, "width": tiny.SIZE, "precision": "fp32"}
    return TorchEngine(kind(model, **tiny.SCALE, top_k=5), **shape, **settings)


def test_one_thread_has_the_device_whoever_calls(vit: Path) -> None:
    """And each caller gets the results of its own images."""
    engine = with_scorer(Watched, vit, batch_size=4, threads=1)
    scorer = engine._scorer
    assert isinstance(scorer, Watched)
    scorer.calls = []
    pixels = tiny.images(40)
    expected = load(vit).predict(pixels)
    with ThreadPoolExecutor(4) as callers:
        parts = list(callers.map(engine.predict, np.split(pixels, 8)))
    np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), expected[0])
    np.testing.assert_allclose(
        np.concatenate([part[1] for part in parts]), expected[1], rtol=0, atol=1e-6
    )
    assert len(scorer.calls) == 16
    [(thread, threads)] = {*scorer.calls}
    assert threads == 1
    assert thread != threading.get_ident()


@pytest.mark.parametrize("rows", [1, 2, SLICES - 1, SLICES, SLICES + 1, 100, 256])
def test_slices_are_all_of_a_batch_in_order(rows: int) -> None:
    found = list(slices(rows))
    assert [row for part in found for row in range(rows)[part]] == list(range(rows))
    assert len(found) <= SLICES
    assert all(0 < part.stop - part.start <= -(-rows // SLICES) for part in found)


@pytest.mark.parametrize("rows", [0, 1, 9, 10, 15, 16])
def test_a_buffer_filled_in_slices_is_as_one_filled_at_once(rows: int) -> None:
    draw = np.random.default_rng(0)
    last, images = (draw.integers(1, 256, (n, 2, 2, 3), np.uint8) for n in (16, rows))
    slot = Slot((16, 2, 2, 3), one_shape=True)
    slot.put(last)
    for part in slices(16):
        slot._fill(images, part)
    buffer = slot._host.numpy()
    np.testing.assert_array_equal(buffer[:rows], images)
    assert not buffer[rows:].any()


def test_pixels_of_another_size_or_type_are_a_mistake(vit: Path) -> None:
    engine = load(vit)
    with pytest.raises(ValueError, match=r"\(16, 32, 3\), the model takes uint8 \(32, 32, 3\)"):
        engine.predict(np.zeros((2, 16, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="float64"):
        engine.predict(np.zeros((2, 32, 32, 3)))


def test_a_size_that_the_model_does_not_take_is_refused(vit: Path) -> None:
    with pytest.raises(ModelError, match="does not take images of 64x32"):
        load(vit, height=64)


def test_weights_without_a_head_are_refused(own_vit: Path) -> None:
    from safetensors.torch import load_file, save_file

    kept = load_file(own_vit / "model.safetensors")
    del kept["classifier.weight"], kept["classifier.bias"]
    save_file(kept, own_vit / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lack classifier\.bias, classifier\.weight"):
        load(own_vit)


def test_weights_for_other_labels_are_refused(own_vit: Path) -> None:
    tiny.edit_config(own_vit, id2label={str(i): str(i) for i in range(9)}, label2id=None)
    with pytest.raises(ModelError, match=r"don't fit config\.json in classifier\.bias"):
        load(own_vit)


def test_spoilt_weights_are_refused(own_vit: Path) -> None:
    weights = own_vit / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(own_vit)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_gpu_gives_the_same_labels(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    pixels = tiny.images(1000)
    engine = load(folder, batch_size=64)
    assert engine.device == f"cuda:{torch.cuda.get_device_name()}"
    indices, scores = engine.predict(pixels)
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    scorer = Scorer(model, **tiny.SCALE, top_k=5)
    with torch.inference_mode():
        on_cpu = scorer(torch.from_numpy(pixels))
    np.testing.assert_allclose(scores, on_cpu[1].numpy(), rtol=0, atol=1e-4)
    assert (indices[:, 0] == on_cpu[0][:, 0].numpy()).mean() > 0.999
