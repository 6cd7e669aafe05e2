"""A model's `config.json`, read as JSON: no torch, so the driver can check it at once."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from pipeline.errors import BadModelError
from pipeline.fields import bad_field, is_number, is_text, read_object, short
from pipeline.models import timm
from pipeline.models.labels import class_names

CONFIG = "config.json"

#: Image classifiers of transformers whose input is more than `pixel_values`.
NOT_FROM_PIXELS = frozenset({"imagegpt", "shieldgemma2", "siglip2"})

#: Image classifiers of transformers 4 that version 5 removed.
_REMOVED = frozenset(
    {
        "EfficientFormerForImageClassification",
        "EfficientFormerForImageClassificationWithTeacher",
        "NatForImageClassification",
        "VanForImageClassification",
        "ViTHybridForImageClassification",
    }
)

#: Attention implementations that are part of torch and transformers.
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
    """`name` is the model's name in messages; `raw` the JSON object unchanged."""

    name: str
    raw: dict[str, Any]

    @classmethod
    def read(cls, folder: Path, name: str) -> Self:
        """Raises BadModelError if there is no config.json, or it is not a JSON object."""
        raw = read_object(folder / CONFIG, name)
        if raw is None:
            raise BadModelError(
                f"{name} holds no {CONFIG}; give a folder that save_pretrained wrote"
            )
        return cls(name, raw)

    def check(self, *, classifier: bool = True) -> None:
        """Raise BadModelError unless transformers has this image classifier among its own.

        For a model that is no `classifier` but a backbone, transformers itself decides whether it
        takes images.
        """
        self._check_code()
        self._check_types()
        if self.is_timm:
            timm.check(self.name, self.raw)
        elif classifier:
            self._check_architecture()
        else:
            self._check_backbone()
        self._check_fields(classifier=classifier)

    @property
    def is_timm(self) -> bool:
        """Whether transformers treats it as a timm checkpoint."""
        return timm.is_timm(self.raw)

    def _check_code(self) -> None:
        for kernel in _foreign_kernels(self.raw):
            raise BadModelError(
                f"{self.name} asks for the code of {kernel!r} in {CONFIG}, which is never run; "
                "remove that field"
            )

    def _check_architecture(self) -> None:
        architecture = self._architecture()
        if "ForImageClassification" not in architecture:
            raise BadModelError(
                f"{self.name} is a {architecture}, not an image classifier; fine-tune it with a "
                "class head (AutoModelForImageClassification) and give that with --model FOLDER, "
                "or keep its vectors with `nightlabel embed`"
            )
        self._check_known(architecture, "another image classifier with --model")

    def _check_backbone(self) -> None:
        named = self.raw.get("architectures")
        if named is None and is_text(self.raw.get("model_type")):
            return  # what AutoModel makes of it
        self._check_known(self._architecture(), "another --model")

    def _check_known(self, architecture: str, instead: str) -> None:
        if not _known(architecture):
            self._refuse_unknown(architecture)
        if self.raw.get("model_type") in NOT_FROM_PIXELS:
            raise BadModelError(
                f"{self.name} is a {architecture}, which needs more than pixels as input; "
                f"choose {instead}"
            )

    def _check_types(self) -> None:
        for field in ("model_type", "problem_type"):
            value = self.raw.get(field)
            if value is not None and not is_text(value):
                raise bad_field(self.name, CONFIG, field, value, "text")
        for field, value in self.raw.items():
            if isinstance(value, float) and not is_number(value):
                raise bad_field(self.name, CONFIG, field, value, "a finite number")

    def _check_fields(self, *, classifier: bool) -> None:
        if classifier and self.raw.get("problem_type") == "regression":
            raise BadModelError(
                f"{self.name} predicts a number (problem_type is regression), not classes; "
                "choose an image classifier with --model"
            )
        quantised = self.raw.get("quantization_config")
        if quantised is not None:
            method = quantised.get("quant_method") if isinstance(quantised, dict) else None
            raise BadModelError(
                f"{self.name} has quantised weights (quantization_config in {CONFIG}: "
                f"{short(method)}), which are not loaded; give the model from before quantisation "
                "(--precision int8 or fp16 makes it small here)"
            )
        if classifier:
            self.labels  # noqa: B018 - raises what is wrong with them

    @cached_property
    def labels(self) -> list[str]:
        """The classes' names in the order of the logits. Raises BadModelError."""
        if self.is_timm:
            return timm.class_names(self.name, self.raw)
        return class_names(self.name, self.raw)

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
        if named is not None and not (isinstance(named, list) and all(map(is_text, named))):
            raise bad_field(self.name, CONFIG, "architectures", named, "a list of names")
        if named:
            return str(named[0])
        raise BadModelError(
            f"{self.name}: {CONFIG} names no architecture of transformers; give a model that "
            "AutoModelForImageClassification saved"
        )

    def _refuse_unknown(self, architecture: str) -> None:
        if self.raw.get("auto_map"):
            raise BadModelError(
                f"{self.name} needs code of its own (auto_map in {CONFIG}), which is never run "
                "here; choose a model whose architecture is part of transformers"
            )
        from transformers import __version__

        if architecture in _REMOVED:
            raise BadModelError(
                f"{self.name} is a {architecture}, a family that transformers removed in version "
                f"5 (here is {__version__}); choose another --model"
            )
        raise BadModelError(
            f"{self.name} is a {architecture}, which transformers {__version__} does not know; "
            "install a newer transformers or choose another --model"
        )


def _foreign_kernels(config: dict[str, Any]) -> Iterator[str]:
    """Fields that name code of the hub: `attn_implementation: someone/kernel`, or a
    similar field."""
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
    """Whether the source of transformers' register names it, which avoids importing the register.

    The import takes most of a second. If there is no such file, the answer is no.
    """
    found = find_spec("transformers")
    folders = (found and found.submodule_search_locations) or ()
    sources = [Path(folder, "models", "auto", "modeling_auto.py") for folder in folders]
    return architecture.isidentifier() and any(
        f'"{architecture}"' in source.read_text(encoding="utf-8")
        for source in sources
        if source.is_file()
    )
