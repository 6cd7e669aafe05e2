"""`--compile`: torch.compile for a device's network, once for all processes of a machine.

The kernels lie in the cache folder of the machine. The first process that comes makes them while
the others wait; those load what is there. On a GPU a batch is one CUDA graph, which saves the
launches of hundreds of kernels and takes one shape only, so every batch has that.

transformers before 5.18 gives a network that is compiled an attention mask that it does without
otherwise; with one torch computes attention in fp32 and step by step, and an H200 was half as fast.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError
from pipeline.models.bucket import cache_folder

if TYPE_CHECKING:
    import torch


@contextmanager
def compiled(model: Any, shape: tuple[int, int, int, int]) -> Iterator[None]:
    """From here on `model` compiles itself when it is called; call it once in the block.

    `shape` is that of every batch: (n, height, width, 3). Raises ModelError where the cache
    folder cannot be written.
    """
    folder = _folder()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "kernels")
    model.compile(dynamic=False, options=_options(model.device))
    with _first_alone(folder / _key(model, shape)):
        yield


def _folder() -> Path:
    folder = cache_folder() / "compiled"
    try:
        (folder / "kernels").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(
            f"--compile keeps its kernels in {folder}, which cannot be written: {error}; "
            "let NIGHTLABEL_CACHE name a folder with room"
        ) from error
    return folder


def _options(device: "torch.device") -> dict[str, Any]:
    return {"triton.cudagraphs": True} if device.type == "cuda" else {"freezing": True}


def _key(model: Any, shape: tuple[int, int, int, int]) -> str:
    """Equal for what has equal kernels."""
    import torch

    from pipeline.models.loading import device_name

    kinds = sorted({type(layer).__name__ for layer in model.modules()})  # int8 has its own
    said = (torch.__version__, device_name(model.device), str(model.dtype), shape, kinds)
    text = f"{said} {model.config.to_json_string()}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@contextmanager
def _first_alone(done: Path) -> Iterator[None]:
    """One process at a time in the block until one is through; then all at once."""
    from filelock import FileLock

    with ExitStack() as held:
        if not done.exists():
            held.enter_context(FileLock(f"{done}.lock"))
            if done.exists():
                held.close()
        yield
        done.touch()
