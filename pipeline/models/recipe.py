"""What decides a label, and its fingerprint: the label store's partition."""

import json
import logging
import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import StoreError, printable
from pipeline.models.config import ModelConfig, canonical_json
from pipeline.models.fetch import ModelFolder
from pipeline.spec import LabelSpec

FORMAT = 1
#: What a hostile document has pydantic say is cut.
_LONG = 200

# Where the model came from. Told to people, but no part of the fingerprint.
_PROVENANCE = frozenset({"model", "revision"})

_COMMIT_OR_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Recipe(BaseModel):
    """Everything that decides a label, and whence the model came.

    The fingerprint rests on content alone: the weights, what config.json says of the network,
    the labels, the preprocessing, the options, and `format`, which changes when Nightlabel's
    own code would give other labels. It leaves out

    - `model` and `revision`: a folder that moved, a hub model that was copied or a commit that
      touched only a README must not label an archive again; other weights show in their digest.
    - `max_pixels`, `max_bytes`, `max_seconds` and `node_memory`: they decide whether an image
      gets a label, never which. Its row says `too_large` or `crashed`, and `--retry-errors`
      tries it again under a higher limit.
    - what hardware, batch size and `auto` precision became: they stand in each row.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    model: str
    revision: str | None
    weights_sha256: str
    network_sha256: str
    labels_sha256: str
    preprocessing: dict[str, Any]
    exif: bool
    decode: str
    precision: str
    top_k: int
    multi_label: bool

    @classmethod
    def of(cls, spec: LabelSpec, folder: ModelFolder, preprocessing: dict[str, Any]) -> Self:
        """`preprocessing` is `Preprocess.as_dict()`: JSON values. Raises ModelError."""
        config = ModelConfig.read(folder.path, folder.id)
        return cls(
            format=FORMAT,
            model=folder.id,
            revision=folder.revision,
            weights_sha256=folder.weights_sha256,
            network_sha256=config.network_sha256,
            labels_sha256=config.labels_sha256,
            preprocessing=json.loads(canonical_json(preprocessing)),  # tuples become lists
            exif=spec.exif,
            decode=spec.decode,
            precision=spec.precision,
            top_k=spec.top_k,
            multi_label=config.multi_label,
        )

    @property
    def id(self) -> str:
        """`r` and 8 hex digits: BLAKE2b (32 bits) of the canonical JSON without provenance.

        The `r` keeps readers from taking a partition of digits alone for a number.
        """
        text = canonical_json(self.model_dump(mode="json", exclude=set(_PROVENANCE)))
        return f"r{blake2b(text.encode(), digest_size=4).hexdigest()}"

    def to_json(self) -> str:
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Raises StoreError if it is not a recipe that this version can read."""
        try:
            return cls.model_validate_json(text, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])[:_LONG] or "JSON"
            raise StoreError(
                f"not a recipe this version can read: {field}: {first['msg'][:_LONG]}"
            ) from None

    def differences(self, other: "Recipe") -> list[str]:
        """One line a field that changed from this recipe to `other`, such as `top_k 5 → 3`."""
        mine, theirs = _flat(self), _flat(other)
        return [
            f"{name} {_short(mine.get(name))} → {_short(theirs.get(name))}"
            for name in sorted(mine.keys() | theirs.keys())
            if mine.get(name) != theirs.get(name)
        ]


def known_recipes(documents: Mapping[str, str]) -> dict[str, Recipe]:
    """Those of the documents, by recipe id, that this version can read; others are told of."""
    known = {}
    for name, text in documents.items():
        try:
            known[name] = Recipe.from_json(text)
        except StoreError as error:
            logging.getLogger("nightlabel").warning(
                "nightlabel: the document of recipe %s is passed over: %s", printable(name), error
            )
    return known


def _flat(recipe: Recipe) -> dict[str, Any]:
    fields = recipe.model_dump(mode="json")
    inner = fields.pop("preprocessing")
    return fields | {f"preprocessing.{name}": value for name, value in inner.items()}


def _short(value: Any) -> str:
    if isinstance(value, str) and _COMMIT_OR_DIGEST.fullmatch(value):
        return f"{value[:12]}…"
    return "none" if value is None else str(value)
