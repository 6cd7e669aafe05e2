"""How a model's images are preprocessed, remembered on this machine.

To read it, transformers is imported and its processor tried on a few images, which takes
seconds: too long for a night without news. What was found is kept under a digest of all that it
came from.
"""

from contextlib import suppress
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Final
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

import pipeline.images
from pipeline.images import Preprocess
from pipeline.models.bucket import cache_folder

#: What `Preprocess.from_folder` reads of a model.
_CONFIGS: Final = ("preprocessor_config.json", "processor_config.json", "config.json")
#: What makes the pixels, ours and theirs.
_PACKAGES: Final = ("transformers", "pillow", "numpy")


def preprocess_of(folder: Path) -> Preprocess:
    """`Preprocess.from_folder`, which raises what that raises."""
    file = cache_folder() / "preprocess" / f"{_digest(folder)}.json"
    with suppress(OSError, ValidationError):
        return TypeAdapter(Preprocess).validate_json(file.read_bytes())
    found = Preprocess.from_folder(folder)
    with suppress(OSError):  # then the next run takes its seconds too
        _keep(file, TypeAdapter(Preprocess).dump_json(found))
    return found


def _keep(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{uuid4().hex}")
    new.write_bytes(data)
    new.replace(file)


def _digest(folder: Path) -> str:
    found = blake2b(digest_size=16)
    for path in [*(folder / name for name in _CONFIGS), *_own_code()]:
        data = b""
        with suppress(OSError):  # from_folder says what is missing
            data = path.read_bytes()
        found.update(len(data).to_bytes(8, "little") + data)
    for package in _PACKAGES:
        found.update(f"{package} {version(package)}".encode())
    return found.hexdigest()


def _own_code() -> list[Path]:
    here = Path(pipeline.images.__file__).parent
    return sorted(path for path in here.iterdir() if path.suffix in {".py", ".so"})
