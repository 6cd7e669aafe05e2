"""`--compile`: torch.compile for a device's network, once for all processes of a machine.

The kernels are in the cache folder of the machine. The first process compiles them while
the others wait; those load the result. Kernels are code, so each process loads its own copy,
of files that match the digests that the first one wrote, or compiles them again.

On a GPU a batch is one CUDA graph, which avoids the launches of hundreds of kernels. A graph takes
one shape only, so every batch has that shape.

transformers before 5.18 gives a compiled network an attention mask that it does not use otherwise.
With a mask torch computes attention in fp32 and step by step, and an H200 was half as fast.
"""

import gc
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import ModelError
from pipeline.models import digests
from pipeline.models.cache import cache_folder
from pipeline.models.digests import DamagedError

if TYPE_CHECKING:
    import torch

#: Calls before the first real batch. On a GPU the first compiles and warms up, the second records
#: the CUDA graph, the third replays it.
CALLS: Final = 3


@contextmanager
def compiled(model: Any, shape: tuple[int, int, int, int]) -> Iterator[None]:
    """After this, `model` compiles itself at its first call; call it `CALLS` times in the block.

    `shape` is that of every batch: (n, height, width, 3). Raises ModelError if the cache
    folder cannot be written; UnsafeFolderError.
    """
    with _kernels(_key(model, shape)):
        model.compile(dynamic=False, options=_options(model.device))
        yield


def forget() -> None:
    """Free all that was compiled in this process, in the thread that ran it.

    A CUDA graph keeps the memory of its whole batch for as long as it can be replayed, which
    `empty_cache` does not free.
    """
    import torch

    torch.compiler.reset()
    gc.collect()


@contextmanager
def _kernels(key: str) -> Iterator[None]:
    """One process at a time in the block until one has stored its kernels; then all at once."""
    with ExitStack() as held:
        with _writable():
            kept = cache_folder("compiled") / key
            scratch = held.enter_context(TemporaryDirectory(dir=kept.parent, prefix="new-"))
            place = Path(scratch) / "kernels"
            known = _copied(kept, place) or _first_alone(kept, place, held)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(place)
        os.environ["TRITON_CACHE_DIR"] = str(place / "triton")
        yield
        if not known and any(place.iterdir()):
            with _writable():
                digests.keep(place, kept)


@contextmanager
def _writable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(
            "--compile keeps its kernels in the cache of this machine, which cannot be written: "
            f"{error}; set NIGHTLABEL_CACHE to a folder with room"
        ) from error


def _copied(kept: Path, place: Path) -> bool:
    """Whether there were kernels, all unchanged; if so they are now in `place`."""
    try:
        digests.copy(kept, place)
    except (FileNotFoundError, DamagedError):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return False
    return True


def _first_alone(kept: Path, place: Path, held: ExitStack) -> bool:
    """The same after any other process has finished compiling; if there are none, a
    lock is `held`."""
    from filelock import FileLock

    lock = FileLock(f"{kept}.lock")
    lock.acquire()
    if _copied(kept, place):
        lock.release()
        return True
    held.callback(lock.release)
    if kept.exists():
        logging.getLogger("nightlabel").warning(
            "nightlabel: the compiled kernels in %s are damaged: compiling again", kept
        )
    return False


def _options(device: "torch.device") -> dict[str, Any]:
    if device.type == "cuda":
        return {"triton.cudagraphs": True}
    # A precompiled header would be in /tmp, under a name that anyone could create first.
    return {"freezing": True, "cpp_cache_precompile_headers": False}


def _key(model: Any, shape: tuple[int, int, int, int]) -> str:
    """Equal for models with equal kernels."""
    import torch

    from pipeline.models.backends.loading import device_name

    kinds = sorted({type(layer).__name__ for layer in model.modules()})  # int8 has its own
    on = (device_name(model.device), torch.backends.cpu.get_cpu_capability())
    said = (torch.__version__, on, str(model.dtype), shape, kinds)
    text = f"{said} {model.config.to_json_string()}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
