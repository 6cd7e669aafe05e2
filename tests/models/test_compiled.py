"""--compile: the labels of the plain network, batches of one shape, one compilation a machine."""

import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._inductor.config

from pipeline.errors import ModelError
from pipeline.models.compiled import _first_alone
from pipeline.models.engine import Engine
from pipeline.models.scorer import Scorer
from tests.models import tiny


def load(folder: Path, **changes: Any) -> Engine:
    settings = {"height": tiny.SIZE, "width": tiny.SIZE, **tiny.SCALE}
    settings |= {"precision": "fp32", "top_k": 5, "batch_size": 4}
    return Engine.load(folder, **settings | changes)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIGHTLABEL_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "put back at the end")
    return tmp_path


def test_labels_are_those_of_the_plain_network(
    vit: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: set[int] = set()
    score = Scorer.__call__

    def seen(scorer: Scorer, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.add(len(batch))
        return score(scorer, batch)

    pixels = tiny.images(9)
    plain = load(vit).predict(pixels)
    monkeypatch.setattr(Scorer, "__call__", seen)
    compiled = load(vit, compile=True).predict(pixels)
    np.testing.assert_array_equal(compiled[0], plain[0])
    np.testing.assert_allclose(compiled[1], plain[1], rtol=0, atol=1e-6)
    assert sizes == {4}, "9 images are three batches of one shape"
    assert list((cache / "compiled" / "kernels").iterdir()), "nothing was compiled"


@pytest.mark.usefixtures("cache")
def test_without_a_compiler_it_is_refused(vit: Path) -> None:
    why = "does not take images of 32x32 in fp32, compiled: .*no-such-compiler"
    with (
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(ModelError, match=re.compile(why, re.DOTALL)),
    ):
        load(vit, batch_size=3, compile=True)


def test_a_cache_that_cannot_be_written_is_named(vit: Path, cache: Path) -> None:
    (cache / "compiled").write_text("a file, where a folder should be")
    with pytest.raises(ModelError, match=f"keeps its kernels in {cache}/compiled, which cannot"):
        load(vit, compile=True)


def test_the_first_is_alone_and_the_others_wait_for_it(tmp_path: Path) -> None:
    done, entered, order = tmp_path / "key", threading.Event(), list[str]()

    def second() -> None:
        entered.set()
        with _first_alone(done):
            order.append("second")

    with _first_alone(done):
        waiting = threading.Thread(target=second)
        waiting.start()
        entered.wait()
        waiting.join(timeout=0.3)
        assert waiting.is_alive()
        order.append("first")
    waiting.join(timeout=10)
    assert order == ["first", "second"]
    with _first_alone(done), _first_alone(done):  # nobody waits any more
        order.append("both")


def test_one_that_fails_leaves_it_to_the_next(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), _first_alone(tmp_path / "key"):
        raise RuntimeError
    assert not (tmp_path / "key").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.usefixtures("cache")
def test_a_cuda_graph_gives_the_same_labels(vit: Path) -> None:
    pixels = tiny.images(1000)
    plain, graph = load(vit, batch_size=64), load(vit, batch_size=64, compile=True)
    np.testing.assert_array_equal(graph.predict(pixels)[0][:, 0], plain.predict(pixels)[0][:, 0])
    np.testing.assert_allclose(graph.predict(pixels)[1], plain.predict(pixels)[1], atol=1e-4)
