"""What a model's `config.json` says, read as JSON: no torch, so a driver may ask at once."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from pipeline.errors import ModelError

CONFIG = "config.json"

#: Image classifiers of transformers whose input is more than `pixel_values`.
NOT_FROM_PIXELS = frozenset({"imagegpt", "shieldgemma2", "siglip2"})

#: Ways of attention that are part of torch and transformers.
_OWN_ATTENTION = (None, "eager", "sdpa", "flex_attention")

# They change when a model is saved again, and never a label; the labels have their own digest.
_NOT_THE_NETWORK = frozenset(
    {
        "_commit_hash",
        "_name_or_path",
        "dtype",
        "id2label",
        "label2id",
        "torch_dtype",
        "transformers_version",
    }
)


@dataclass(frozen=True)
class ModelConfig:
    """`name` is what people call the model, for messages; `raw` the JSON object as it is."""

    name: str
    raw: dict[str, Any]

    @classmethod
    def read(cls, folder: Path, name: str) -> Self:
        """Raises ModelError if there is no config.json, or it is not a JSON object."""
        try:
            raw = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(
                f"{name} holds no {CONFIG}; give a folder that save_pretrained wrote"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"{name}: {CONFIG} cannot be read as JSON: {error}") from None
        if not isinstance(raw, dict):
            raise ModelError(f"{name}: {CONFIG} is no JSON object")
        return cls(name, raw)

    def check(self) -> None:
        """Raise ModelError unless transformers has this image classifier among its own."""
        architecture = self._architecture()
        if "ForImageClassification" not in architecture:
            raise ModelError(
                f"{self.name} is a {architecture}, no image classifier; fine-tune it with a "
                "class head (AutoModelForImageClassification) and give that with --model FOLDER"
            )
        if not _known(architecture):
            self._refuse_unknown(architecture)
        for kernel in _foreign_kernels(self.raw):
            raise ModelError(
                f"{self.name} asks for the code of {kernel!r} in {CONFIG}, which is never run; "
                "take that out of it"
            )
        if self.raw.get("model_type") in NOT_FROM_PIXELS:
            raise ModelError(
                f"{self.name} is a {architecture}, which needs more than pixels as input; "
                "choose another image classifier with --model"
            )
        if self.raw.get("problem_type") == "regression":
            raise ModelError(
                f"{self.name} predicts a number (problem_type is regression), not classes; "
                "choose an image classifier with --model"
            )

    @property
    def labels(self) -> list[str]:
        """The classes' names in the order of the logits; `LABEL_0`, … where none are given."""
        names = self.raw.get("id2label")
        if not names:
            return [f"LABEL_{i}" for i in range(int(self.raw.get("num_labels", 2)))]
        try:
            return [str(names[str(i)]) for i in range(len(names))]
        except (KeyError, TypeError):
            raise ModelError(
                f"{self.name}: id2label in {CONFIG} must name every class from 0 up"
            ) from None

    @property
    def multi_label(self) -> bool:
        """True if each class has a sigmoid of its own, by the rule of transformers' pipeline."""
        return self.raw.get("problem_type") == "multi_label_classification" or len(self.labels) == 1

    @property
    def network_sha256(self) -> str:
        """Digest of what the config says of the network (and not of its name or labels)."""
        return digest({k: v for k, v in self.raw.items() if k not in _NOT_THE_NETWORK})

    @property
    def labels_sha256(self) -> str:
        return digest(self.labels)

    def _architecture(self) -> str:
        named = self.raw.get("architectures")
        if isinstance(named, list) and named and isinstance(named[0], str):
            return named[0]
        raise ModelError(
            f"{self.name}: {CONFIG} names no architecture of transformers; give a model that "
            "AutoModelForImageClassification saved"
        )

    def _refuse_unknown(self, architecture: str) -> None:
        if self.raw.get("auto_map"):
            raise ModelError(
                f"{self.name} needs code of its own (auto_map in {CONFIG}), which is never run "
                "here; choose a model whose architecture is part of transformers"
            )
        from transformers import __version__

        raise ModelError(
            f"{self.name} is a {architecture}, which transformers {__version__} does not know; "
            "install a newer transformers or choose another --model"
        )


def _foreign_kernels(config: dict[str, Any]) -> Iterator[str]:
    """What names code of the hub: `attn_implementation: someone/kernel`, or what stands for one."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _foreign_kernels(value)
        elif key.endswith("attn_implementation") and value not in _OWN_ATTENTION:
            yield str(value)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """sha256, in hex, of the canonical JSON of `value`."""
    return sha256(canonical_json(value).encode()).hexdigest()


def _known(architecture: str) -> bool:
    if _registered(architecture):
        return True
    import transformers

    # dir() of the lazy module lists its names without importing torch; getattr would.
    return architecture in dir(transformers)


def _registered(architecture: str) -> bool:
    """Whether the source of transformers' register names it: a night need not import it for that.

    It takes most of a second. Where there is no such file, nothing is.
    """
    found = find_spec("transformers")
    folders = (found and found.submodule_search_locations) or ()
    sources = [Path(folder, "models", "auto", "modeling_auto.py") for folder in folders]
    return architecture.isidentifier() and any(
        f'"{architecture}"' in source.read_text(encoding="utf-8")
        for source in sources
        if source.is_file()
    )
