"""Loads a model folder as an engine on this process's device, and describes a model."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.models.purpose import CLASSIFYING, Purpose

if TYPE_CHECKING:
    from pipeline.images import Preprocess
    from pipeline.models.backends.engine import Engine
    from pipeline.models.backends.loading import Weights


def load_engine(
    folder: Path,
    shape: "Preprocess",
    precision: str,
    top_k: int = 1,
    *,
    batch_size: int | None,
    compile: bool = False,
    purpose: Purpose = CLASSIFYING,
) -> "Engine":
    """An engine on this process's device, with one thread: predictors run side by side."""
    from pipeline.models.backends.engine import Engine

    return Engine.load(
        folder,
        height=shape.height,
        width=shape.width,
        rescale=shape.rescale,
        mean=shape.mean,
        std=shape.std,
        precision=precision,
        top_k=top_k,
        batch_size=batch_size,
        threads=1,
        compile=compile,
        purpose=purpose,
    )


def keys_in_words(weights: "Weights", result: str) -> Iterator[str]:
    """Which weights a model's files lack, or hold beyond what a `result` needs."""
    from pipeline.models.backends.loading import some

    if weights.unread:
        yield f"its files lack {some(weights.unread)}, which no {result} depends on"
    if weights.unused:
        yield f"its files hold {some(weights.unused)} beyond the network, not used"


def picture() -> bytes:
    """A PNG of coloured stripes, in a size that no model takes."""
    from PIL import Image

    stripes = Image.linear_gradient("L").resize((640, 427))
    sink = BytesIO()
    Image.merge("RGB", (stripes, stripes.rotate(180), stripes)).save(sink, "PNG")
    return sink.getvalue()
