"""Preprocess cache: keeps on this machine how a model preprocesses images, and that its config is
valid.

To find this out, transformers is imported, its processor tried on a few images and its network
built without weights. That takes seconds: too long for a run with nothing new. The result is kept
under a digest of all its inputs.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

import pipeline.images
import pipeline.models
from pipeline.images import Preprocess
from pipeline.models.cache import keep, kept
from pipeline.models.fetch import ModelFolder
from pipeline.models.purpose import Purpose

if TYPE_CHECKING:
    from pipeline.models.fit import Vectors

#: The files that `Preprocess.from_folder` reads of a model.
_CONFIGS: Final = ("preprocessor_config.json", "processor_config.json", "config.json")
#: The code that makes pixels, ours and theirs, and networks; timm and torchvision are optional.
_PACKAGES: Final = ("transformers", "pillow", "numpy", "torch", "timm", "torchvision", "openvino")

_FITS: Final = b"fits"

#: Calls what imports torch and transformers.
Call = Callable[[Callable[[], Any]], Any]
_elsewhere: ContextVar[Call] = ContextVar("elsewhere", default=lambda work: work())


@contextmanager
def elsewhere(call: Call) -> Iterator[None]:
    """Within the block, what is not known yet is found out by `call`, say in another process."""
    token = _elsewhere.set(call)
    try:
        yield
    finally:
        _elsewhere.reset(token)


def preprocess_of(folder: Path) -> Preprocess:
    """`Preprocess.from_folder`, cached; raises what that raises."""
    name = f"{digest(folder)}.json"
    with suppress(OSError, ValidationError):
        return TypeAdapter(Preprocess).validate_json(kept("preprocess", name))
    found: Preprocess = _elsewhere.get()(partial(Preprocess.from_folder, folder))
    with suppress(OSError):  # then the next run computes it again
        keep("preprocess", name, TypeAdapter(Preprocess).dump_json(found))
    return found


def checked_preprocess(model: ModelFolder) -> Preprocess:
    """The same, for a model whose config.json was checked against its images and its weights.

    Raises BadModelError, which names file and field (see `models.fit`).
    """
    from pipeline.models.fit import check_fit
    from pipeline.models.headers import headers

    shape = preprocess_of(model.path)
    size = f"{shape.height}x{shape.width}".encode()
    name = digest(model.path, [size, *headers(model)])
    try:
        known = kept("fits", name) == _FITS
    except OSError:
        known = False
    if not known:
        _elsewhere.get()(partial(check_fit, model, shape.height, shape.width))
        with suppress(OSError):
            keep("fits", name, _FITS)
    return shape


def checked_vectors(model: ModelFolder, purpose: Purpose) -> tuple[Preprocess, "Vectors"]:
    """The same, and the vectors that the network gives under this `purpose`."""
    from pipeline.models.fit import Vectors, check_fit
    from pipeline.models.headers import headers

    shape = preprocess_of(model.path)
    asked = f"{shape.height}x{shape.width} {purpose}".encode()
    name = digest(model.path, [asked, *headers(model)])
    with suppress(OSError, ValidationError):
        return shape, TypeAdapter(Vectors).validate_json(kept("fits", name))
    found = _elsewhere.get()(partial(check_fit, model, shape.height, shape.width, purpose))
    if found is None:
        raise TypeError(f"{purpose} is for no vectors")
    with suppress(OSError):
        keep("fits", name, TypeAdapter(Vectors).dump_json(found))
    return shape, found


def digest(folder: Path, beside: Iterable[bytes] = ()) -> str:
    """A name for what follows from a model's config files and the code that reads them, in hex."""
    found = blake2b(digest_size=16)
    for data in beside:
        found.update(len(data).to_bytes(8, "little") + data)
    for path in [*(folder / name for name in _CONFIGS), *_own_code()]:
        data = b""
        with suppress(OSError):  # from_folder reports what is missing
            data = path.read_bytes()
        found.update(len(data).to_bytes(8, "little") + data)
    for package in _PACKAGES:
        found.update(f"{package} {_version(package)}".encode())
    return found.hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _own_code() -> list[Path]:
    homes = (*pipeline.images.__path__, *pipeline.models.__path__)
    files = [path for home in homes for path in sorted(Path(home).rglob("*"))]
    return [path for path in files if path.suffix in {".py", ".so"}]
