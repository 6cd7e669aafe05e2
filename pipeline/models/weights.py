"""A model folder's safetensors files, and their digest."""

import json
import re
from collections.abc import Iterable
from hashlib import file_digest, sha256
from pathlib import Path

from pipeline.errors import ModelError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_SHARD = re.compile(r"[\w.-]+\.safetensors")

#: A part that transformers would add to the model, with weights that no digest covers.
ADAPTER = "adapter_config.json"

#: What a model needs; pickles (*.bin, *.pt) and code (*.py) are never fetched.
PATTERNS = ("*.json", SINGLE, "model-*.safetensors")


def weight_files(folder: Path, name: str) -> list[Path]:
    """The files that transformers loads: the single one, else the shards that the index names.

    Raises ModelError, calling the model `name`, if there are none or a shard is missing.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if not (folder / INDEX).is_file():
        raise no_safetensors(name, [file.name for file in folder.iterdir()])
    try:
        shards = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        shards = {""}
    # transformers unpickles a shard of any other name, and follows one out of the folder.
    if not all(isinstance(shard, str) and _SHARD.fullmatch(shard) for shard in shards):
        raise ModelError(f"{name}: {INDEX} is not an index of safetensors files")
    files = [folder / shard for shard in sorted(shards)]
    if missing := [file.name for file in files if not file.is_file()]:
        raise ModelError(f"{name} is incomplete: {', '.join(missing)} missing; fetch it again")
    return files


def weights_sha256(files: list[Path]) -> str:
    """sha256 in hex of one weights file; of several, of their digests one after the other.

    Always of the bytes, never remembered: 346 MB (ViT-B) take 0.2 s with SHA instructions.
    """
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append(file_digest(stream, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()


def no_safetensors(name: str, files: Iterable[str]) -> ModelError:
    """The error for a model whose `files` hold no safetensors that transformers would load."""
    pickled = sorted(file for file in files if Path(file).suffix in {".bin", ".pt", ".pth"})
    if not pickled:
        return ModelError(f"{name} holds no weights: neither {SINGLE} nor {INDEX}")
    return ModelError(
        f"{name} has only pickled weights ({pickled[0]}), which can run code and are not loaded; "
        "convert it once where you trust it: AutoModelForImageClassification.from_pretrained"
        f"({name!r}).save_pretrained(FOLDER), then --model FOLDER"
    )
