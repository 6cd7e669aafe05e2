"""fp16 where it gives what fp32 gives on photographs, also if a clamp hides an overflow.

The device is a CPU, and takes what a GPU would.
"""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.errors import BadModelError
from pipeline.models.backends.loading import channels_last, load_weights
from pipeline.models.backends.torch_engine import TorchEngine
from pipeline.models.purpose import CLASSIFYING, Classifying, Embedding, Purpose, Reader
from pipeline.tasks.pictures import pictures
from tests.models import graphs, tiny


class Clamped(Classifying):
    """Its hidden numbers overflow in fp16, and are clamped there, as BART's and DETR's are."""

    clamps: ClassVar[tuple[torch.dtype, ...]] = (torch.float16,)

    def reader(self, model: Any) -> Reader:
        model.vit.embeddings.register_forward_hook(self._clamp)
        return super().reader(model)

    def _clamp(self, _: Any, __: Any, hidden: torch.Tensor) -> torch.Tensor:
        large = hidden * 60_000
        if hidden.dtype in self.clamps:
            large = large.clamp(-65_504, 65_504)
        return large / 60_000


class ClampedInHalves(Clamped):
    clamps = (torch.float16, torch.bfloat16)


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torch_engine", "half_precision"):
        monkeypatch.setattr(
            f"pipeline.models.backends.{module}.pick_precision",
            lambda asked, _: "fp16" if asked == "auto" else asked,
        )


def load(folder: Path, purpose: Purpose, **changes: Any) -> TorchEngine:
    settings = {"height": tiny.SIZE, "width": tiny.SIZE, **tiny.SCALE, "top_k": 7}
    settings |= {"precision": "auto", "batch_size": 4, "purpose": purpose}
    settings |= {"photographs": partial(pictures, graphs.PREPROCESS)}
    return TorchEngine.load(folder, **settings | changes)


@pytest.mark.parametrize(
    ("purpose", "found"),
    [
        (CLASSIFYING, "fp16"),
        (Embedding(), "fp16"),
        (Clamped(), "bf16"),
        (ClampedInHalves(), "fp32"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Purpose) else value,
)
def test_auto_is_the_first_that_agrees_with_fp32(
    vit: Path, purpose: Purpose, found: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = load(vit, purpose)
    assert engine.precision == found
    told = [record.getMessage() for record in caplog.records]
    assert all(f"--precision auto is {found} here: in fp16" in text for text in told)
    assert bool(told) == (found != "fp16")


def test_without_photographs_a_clamp_is_not_seen(vit: Path) -> None:
    """Nothing is infinite, so the proof on black and noise passes."""
    engine = load(vit, Clamped(), photographs=None)
    assert engine.precision == "fp16"
    assert np.isfinite(engine.predict(tiny.images(8))[1]).all()


def test_fp16_that_is_asked_for_is_refused_where_it_is_wrong(vit: Path) -> None:
    assert load(vit, CLASSIFYING, precision="fp16").precision == "fp16"
    with pytest.raises(BadModelError, match=r"in fp16 .* away .* use --precision auto"):
        load(vit, Clamped(), precision="fp16")


def test_rows_that_overflow_openly_are_no_reason_to_refuse_fp16(own_vit: Path) -> None:
    """They are computed again in fp32."""
    from transformers import AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(own_vit)
    torch.nn.init.constant_(model.classifier.bias, 1e6)
    model.save_pretrained(own_vit)
    assert load(own_vit, CLASSIFYING, precision="fp16").precision == "fp16"
    assert load(own_vit, CLASSIFYING).precision != "fp16"


@pytest.mark.parametrize("at", [0, 1], ids=["load", "forward"])
def test_without_memory_for_fp32_nothing_is_compared(
    vit: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    def full(plain: Callable[..., Any], *given: Any, **named: Any) -> Any:
        if at or "fp32" in given:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB")
        return plain(*given, **named)

    name = ("load_weights", "results_of")[at]
    plain = {"load_weights": load_weights, "results_of": None}[name]
    monkeypatch.setattr(f"pipeline.models.backends.torch_engine.{name}", partial(full, plain))
    assert load(vit, CLASSIFYING).precision == "fp16"


def test_channels_last_changes_no_label(resnet: Path, vit: Path) -> None:
    def logits(folder: Path, change: Callable[[Any], object]) -> tuple[NDArray[Any], list[bool]]:
        model = load_weights(folder, torch.device("cpu"), "fp32").model
        change(model)
        pixels = torch.from_numpy(tiny.images(6)).permute(0, 3, 1, 2) / 255
        with torch.inference_mode():
            found = model(pixel_values=pixels).logits.numpy()
        kernels = [layer.weight for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)]
        return found, [
            one.is_contiguous(memory_format=torch.channels_last)
            for one in kernels
            if one.shape[1] > 1 and one.shape[2] > 1
        ]

    plain, _ = logits(resnet, lambda _: None)
    found, ordered = logits(resnet, channels_last)
    assert ordered
    assert all(ordered)
    np.testing.assert_allclose(found, plain, rtol=0, atol=1e-5)
    assert logits(vit, channels_last)[1] == [False], "one convolution, for the patches"


SUMS = """
import warnings
warnings.simplefilter("error")
import torch
from pipeline.models.backends.loading import sum_in_fp32
torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
sum_in_fp32()
cuda = torch.backends.cuda.matmul
# All that torch itself reads when it compiles: it raises where old and new names disagree.
assert not cuda.allow_tf32 and not torch.backends.cudnn.allow_tf32
assert torch.get_float32_matmul_precision() == "highest"
assert not cuda.allow_fp16_reduced_precision_reduction
assert not cuda.allow_bf16_reduced_precision_reduction
if hasattr(cuda, "fp32_precision"):
    assert cuda.fp32_precision != "tf32" and torch.backends.cudnn.conv.fp32_precision != "tf32"
"""


@pytest.mark.parametrize("new", [False, True], ids=["old names", "new names"])
def test_sums_are_in_fp32(new: bool) -> None:
    program = SUMS.replace('warnings.simplefilter("error")', "")
    if new:
        program = program.replace(
            "torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True",
            "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
        )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
