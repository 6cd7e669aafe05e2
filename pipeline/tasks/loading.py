"""Loads a run's network as an engine, and describes a model."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.models.fetch import fetch
from pipeline.models.purpose import Purpose

if TYPE_CHECKING:
    from pipeline.images import Preprocess
    from pipeline.models.backends.base import Engine
    from pipeline.models.backends.loading import Weights
    from pipeline.models.backends.torch_engine import TorchEngine
    from pipeline.tasks.base import Setting


def load_engine(setting: "Setting", purpose: Purpose, top_k: int = 1) -> "Engine":
    """The run's network on this process's device: its graph by OpenVINO, if it has one, else torch.

    With one thread: processes that predict run side by side. Raises ModelError.
    """
    if setting.graph is None:
        return load_torch(setting, purpose, top_k, setting.spec.precision)
    from pipeline.models.backends.openvino_engine import OpenVinoEngine

    engine = OpenVinoEngine(
        setting.graph,
        top_k=top_k,
        batch_size=setting.spec.batch_size,
        threads=1,
        load_exact=partial(load_torch, setting, purpose, top_k, "fp32"),
    )
    engine.load()
    return engine


def load_torch(setting: "Setting", purpose: Purpose, top_k: int, precision: str) -> "Engine":
    """The same by torch, on a GPU if this process has one. Raises DeviceLostError too."""
    from pipeline.models.backends.device_faults import device_errors

    spec = setting.spec
    model = fetch(setting.model or spec.model, setting.revision, classifier=purpose.labels)
    with device_errors(model.id):
        return torch_engine(
            model.path,
            setting.preprocess,
            precision=precision,
            top_k=top_k,
            batch_size=spec.batch_size,
            compile=spec.compile,
            purpose=purpose,
        )


def torch_engine(folder: Path, shape: "Preprocess", **options: Any) -> "TorchEngine":
    """A model folder by torch, with one thread, for images of a `shape`; `options` are those of
    `TorchEngine.load`."""
    from pipeline.models.backends.torch_engine import TorchEngine
    from pipeline.tasks.pictures import pictures

    return TorchEngine.load(
        folder,
        height=shape.height,
        width=shape.width,
        rescale=shape.rescale,
        mean=shape.mean,
        std=shape.std,
        threads=1,
        photographs=partial(pictures, shape),
        **options,
    )


def keys_in_words(weights: "Weights", result: str) -> Iterator[str]:
    """Which weights a model's files lack, or hold beyond what a `result` needs."""
    from pipeline.models.backends.loading import some

    if weights.unread:
        yield f"its files lack {some(weights.unread)}, which no {result} depends on"
    if weights.unused:
        yield f"its files hold {some(weights.unused)} beyond the network, not used"
