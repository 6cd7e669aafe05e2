"""Headers of safetensors files: names, types and shapes of tensors, without their content."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

from pipeline.errors import BadModelError
from pipeline.models.fetch import ModelFolder
from pipeline.models.weights import weight_files

#: safetensors itself allows 100 MB.
_LONGEST: Final = 2**27


@dataclass(frozen=True)
class Tensor:
    """`kind` is safetensors' name of the type: F32, BF16, I64, …"""

    kind: str
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        return prod(self.shape)


def headers(folder: ModelFolder) -> Iterator[bytes]:
    """The JSON of each file's header. Raises BadModelError."""
    for path in weight_files(folder.path, folder.id):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _LONGEST:
                raise _no_safetensors(folder.id, path)
            yield file.read(length)


def tensors(folder: ModelFolder) -> dict[str, Tensor]:
    """All tensors of a model by their names in its files. Raises BadModelError."""
    found: dict[str, Tensor] = {}
    for path, header in zip(weight_files(folder.path, folder.id), headers(folder), strict=True):
        try:
            said = json.loads(header)
            said.pop("__metadata__", None)
            found |= {n: Tensor(str(t["dtype"]), tuple(t["shape"])) for n, t in said.items()}
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise _no_safetensors(folder.id, path) from None
    return found


def _no_safetensors(name: str, path: Path) -> BadModelError:
    return BadModelError(f"{name}: {path.name} cannot be loaded: it is not a safetensors file")
