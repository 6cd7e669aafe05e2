"""A model folder's safetensors files, and their digest."""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from hashlib import file_digest, sha256
from pathlib import Path

from pipeline.errors import BadModelError
from pipeline.fields import JsonObject, read_object

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_SHARD = re.compile(r"[\w.-]+\.safetensors")

#: A part that transformers would add to the model, with weights that no digest covers.
ADAPTER = "adapter_config.json"

#: What a model needs; pickles (*.bin, *.pt) and code (*.py) are never fetched.
PATTERNS = ("*.json", SINGLE, "model-*.safetensors")


def matches(name: str, patterns: Sequence[str] = PATTERNS) -> bool:
    """Whether a file of a model's own folder is one of those."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def weight_files(folder: Path, name: str) -> list[Path]:
    """The files that transformers loads: the single one, else the shards that the index names.

    Raises BadModelError, calling the model `name`, if there are none or a shard is missing.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if not (folder / INDEX).is_file():
        raise no_safetensors(name, [file.name for file in folder.iterdir()])
    try:
        shards = set((read_object(folder / INDEX, name) or JsonObject())["weight_map"].values())
    except (KeyError, AttributeError, TypeError):
        shards = {""}
    # transformers unpickles a shard of any other name, and follows one that leads out of the
    # folder.
    if not all(isinstance(shard, str) and _SHARD.fullmatch(shard) for shard in shards):
        raise BadModelError(f"{name}: {INDEX} is not an index of safetensors files")
    files = [folder / shard for shard in sorted(shards)]
    if missing := [file.name for file in files if not file.is_file()]:
        raise BadModelError(f"{name} is incomplete: {', '.join(missing)} missing; fetch it again")
    return files


def weights_sha256(files: list[Path], known: Mapping[str, str]) -> str:
    """sha256 in hex of one weights file; of several, of their digests one after the other.

    Always of the bytes: `known` has digests, by name, that were just computed from them.
    346 MB (ViT-B) take 0.2 s with SHA instructions.
    """
    digests = []
    for file in files:
        if file.name in known:
            digests.append(known[file.name])
            continue
        with file.open("rb") as stream:
            digests.append(file_digest(stream, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()


def no_safetensors(name: str, files: Iterable[str]) -> BadModelError:
    """The error for a model whose `files` hold no safetensors that transformers would load."""
    pickled = sorted(file for file in files if Path(file).suffix in {".bin", ".pt", ".pth"})
    if not pickled:
        return BadModelError(f"{name} holds no weights: neither {SINGLE} nor {INDEX}")
    return BadModelError(
        f"{name} has only pickled weights ({pickled[0]}), which can run code and are not loaded; "
        "convert it once where you trust it, with AutoModelForImageClassification of transformers "
        f"(a backbone without a class head: AutoModel): .from_pretrained({name!r})"
        ".save_pretrained(FOLDER), then --model FOLDER"
    )


def adapter(name: str, *, beside: bool) -> BadModelError:
    """The error for a folder with an adapter, `beside` a model or alone."""
    what = (
        f"has an adapter ({ADAPTER})" if beside else f"is only an adapter ({ADAPTER}), not a model"
    )
    return BadModelError(
        f"{name} {what}; merge it into the model that it was trained on (peft: merge_and_unload), "
        "save that, and give it with --model FOLDER"
    )
