"""--compile: the vectors of the plain network, in batches of one shape."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.models.backends.torch_engine import TorchEngine
from pipeline.models.purpose import ClassifyingAndEmbedding, Embedding, Purpose
from tests.models import tiny
from tests.models.backbones import SIZE, save


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIGHTLABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "put back at the end")
    monkeypatch.setenv("TRITON_CACHE_DIR", "put back at the end")
    return tmp_path / "cache"


def load(folder: Path, purpose: Purpose, **more: Any) -> TorchEngine:
    shape: dict[str, Any] = {"height": SIZE, "width": SIZE, "precision": "fp32", "top_k": 5}
    return TorchEngine.load(folder, **shape, **tiny.SCALE, purpose=purpose, **more)


def assert_same(folder: Path, purpose: Purpose, count: int, batch_size: int) -> None:
    pixels = tiny.images(count)
    plain = load(folder, purpose, batch_size=batch_size).predict(pixels)
    compiled = load(folder, purpose, batch_size=batch_size, compile=True).predict(pixels)
    for one, other in zip(compiled, plain, strict=True):
        off = 1e-4 * float(np.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=off)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "purpose"),
    [
        ("vit", Embedding("cls")),
        ("dinov2", Embedding("mean")),
        ("clip", Embedding("projection")),
        ("vit_classifier", ClassifyingAndEmbedding("mean")),
    ],
)
def test_compiled_vectors_are_those_of_the_plain_network(
    tmp_path: Path, cache: Path, family: str, purpose: Purpose
) -> None:
    assert_same(save(family, tmp_path / family), purpose, count=9, batch_size=4)
    assert list((cache / "compiled").rglob("*.so")), "nothing was compiled"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("purpose", [Embedding("cls"), Embedding("mean")])
def test_a_cuda_graph_does_not_write_over_vectors(tmp_path: Path, purpose: Purpose) -> None:
    assert_same(save("vit", tmp_path / "vit"), purpose, count=1000, batch_size=64)
