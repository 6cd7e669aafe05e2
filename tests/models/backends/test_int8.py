"""--precision int8: close to fp32, the same in any company, and honest about what it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageClassification

from pipeline.errors import ModelError
from pipeline.models.backends import int8
from pipeline.models.backends.int8 import int8_linear, quantise
from pipeline.models.backends.loading import pick_precision
from pipeline.models.backends.torch_engine import TorchEngine
from tests.models import tiny


def layer(inputs: int, outputs: int, bias: bool = True) -> torch.nn.Linear:
    torch.manual_seed(inputs * 1000 + outputs)
    return torch.nn.Linear(inputs, outputs, bias=bias)


def load(folder: Path, **changes: Any) -> TorchEngine:
    settings = {"height": tiny.SIZE, "width": tiny.SIZE, **tiny.SCALE}
    settings |= {"precision": "int8", "top_k": 5, "batch_size": 4}
    return TorchEngine.load(folder, **settings | changes)


@pytest.fixture(params=[True, False], ids=["as integers", "as floats"], autouse=True)
def integers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Every test, on a CPU that multiplies integers fast and on one that does not."""
    pay = bool(request.param)
    if pay and not int8.integers_hold():
        pytest.skip("this CPU has no instructions that multiply bytes without an overflow")
    monkeypatch.setattr(int8, "integers_pay", lambda: pay)
    return pay


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 8, 16), (3, 5, 8, 24), (197, 192, 768), (0, 8, 4)])
def test_a_layer_is_off_by_a_rounding_of_its_factors(shape: tuple[int, ...], bias: bool) -> None:
    exact = layer(shape[-2], shape[-1], bias)
    x = torch.randn(shape[:-1])
    with torch.inference_mode():
        ours, theirs = int8_linear()(exact)(x), exact(x)
    assert ours.shape == theirs.shape
    # Half a step of 1/127 of the largest, in each factor of a row times a channel.
    most = x.abs().amax(-1, keepdim=True) * exact.weight.abs().amax(1) * shape[-2] / 127
    assert ((ours - theirs).abs() <= most).all()
    assert torch.allclose(ours, theirs, atol=0.05)


@pytest.mark.parametrize("shape", [(3, 8, 16), (197, 768, 3072), (197, 4096, 64)])
def test_integers_and_floats_give_the_same(
    shape: tuple[int, int, int], integers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, x = layer(shape[1], shape[2]), torch.randn(shape[:2])
    if not int8.integers_hold():
        pytest.skip("this CPU has no instructions that multiply bytes without an overflow")
    one = int8_linear()(exact)
    monkeypatch.setattr(int8, "integers_pay", lambda: not integers)
    other = int8_linear()(exact)
    assert type(one.product) is not type(other.product)
    with torch.inference_mode():
        assert torch.equal(one(x), other(x))


def test_rows_do_not_hang_on_each_other() -> None:
    ours = int8_linear()(layer(64, 32))
    x = torch.randn(9, 64)
    x[4] *= 1e6
    with torch.inference_mode():
        together = ours(x)
        alone = torch.cat([ours(row[None]) for row in x])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_stays_so(value: float) -> None:
    x = torch.randn(3, 16)
    x[1, 7] = value
    with torch.inference_mode():
        result = int8_linear()(layer(16, 4))(x)
    assert not result[1].isfinite().any()
    assert result[[0, 2]].isfinite().all()


@pytest.mark.parametrize("form", ["none", "tanh"])
def test_a_gelu_that_it_does_itself_is_torchs(form: str) -> None:
    ours, x = int8_linear()(layer(64, 32)), torch.randn(9, 64)
    with torch.inference_mode():
        expected = torch.nn.functional.gelu(ours(x), approximate=form)
        ours.gelu = form
        assert torch.equal(ours(x), expected)


def test_gelus_go_into_their_layers(vit: Path) -> None:
    layers = [one for one in load(vit)._scorer._model.modules() if type(one) is int8_linear()]
    assert sum(one.gelu == "none" for one in layers) == 2


def test_nothing_is_nothing() -> None:
    exact = layer(16, 4)
    with torch.inference_mode():
        assert torch.equal(int8_linear()(exact)(torch.zeros(2, 16)), exact(torch.zeros(2, 16)))


def test_scores_are_near_those_of_fp32(vit: Path) -> None:
    pixels = tiny.images(11)
    engine, exact = load(vit, top_k=7), load(vit, top_k=7, precision="fp32")
    assert (engine.precision, exact.precision) == ("int8", "fp32")
    ours, theirs = (by_class_of(one, pixels) for one in (engine, exact))
    assert np.abs(ours - theirs).max() < 0.05
    assert np.abs(ours - theirs).max() > 0, "these are the scores of fp32"


def by_class_of(engine: TorchEngine, pixels: np.ndarray) -> np.ndarray:
    """(n, classes) scores by class."""
    indices, scores = engine.predict(pixels)
    by_class = np.zeros((len(pixels), len(engine.labels)), np.float32)
    np.put_along_axis(by_class, indices, scores, axis=1)
    return by_class


def test_padding_and_company_change_nothing(vit: Path) -> None:
    pixels = tiny.images(5)
    one_by_one = load(vit, batch_size=1).predict(pixels)
    padded = load(vit, batch_size=4).predict(pixels)
    np.testing.assert_array_equal(padded[0], one_by_one[0])
    np.testing.assert_allclose(padded[1], one_by_one[1], rtol=0, atol=1e-6)


def test_all_but_the_head_is_replaced(vit: Path) -> None:
    model = AutoModelForImageClassification.from_pretrained(vit)
    before = {n for n, one in model.named_modules() if isinstance(one, torch.nn.Linear)}
    quantise(model)
    left = {n for n, one in model.named_modules() if isinstance(one, torch.nn.Linear)}
    assert left == {"classifier"}
    assert len(before) > 6


def test_a_network_without_linear_layers_is_refused(resnet: Path) -> None:
    with pytest.raises(ModelError, match="use fp32") as caught:
        load(resnet)
    assert "\n" not in str(caught.value)


def test_a_gpu_is_refused() -> None:
    assert pick_precision("int8", torch.device("cpu")) == "int8"
    with pytest.raises(ModelError, match="fp16"):
        pick_precision("int8", torch.device("cuda"))


def test_auto_is_never_int8() -> None:
    assert pick_precision("auto", torch.device("cpu")) == "fp32"


def test_it_is_never_much_slower_than_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # this machine as it is
    exact, x = layer(768, 768), torch.randn(197, 768)
    ours = int8_linear()(exact)
    with one_thread(), torch.inference_mode():
        seconds = [
            min(int8._least_seconds(partial(one, x)) for _ in range(5)) for one in (ours, exact)
        ]
    # Without the right instructions torch._int_mm takes twenty times as long.
    assert seconds[0] < 4 * seconds[1]


@contextmanager
def one_thread() -> Iterator[None]:
    """Several wait for each other where something else runs beside them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
