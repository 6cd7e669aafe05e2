"""Recipe: everything that decides a row. Its fingerprint is the label store's partition."""

import re
from hashlib import blake2b
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import StoreError
from pipeline.models.config import canonical_json

# Where a model came from. Shown to people, but no part of the fingerprint.
_PROVENANCE: Final = frozenset({"model", "revision"})
#: pydantic's messages about a hostile document are cut to this length.
_LONG: Final = 200

_COMMIT_OR_DIGEST: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Recipe(BaseModel):
    """Everything that decides a row, and where the model came from; each task has its own subclass.

    The fingerprint depends on content alone, and on `format`, which changes when our own code would
    give other results. Every task but the first, `classify`, has a field `task` with its name, so
    that no two tasks share a fingerprint. It leaves out

    - `model` and `revision`: a folder that moved, a hub model that was copied or a commit that
      touched only a README must not label an archive again; other weights change their digest.
    - `max_pixels`, `max_bytes`, `max_seconds` and `node_memory`: they decide whether an image
      gets a result, never which. Its row says `too_large` or `crashed`, and `--retry-errors`
      tries it again under a higher limit.
    - the hardware, the batch size and what `auto` precision became: each row records them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    model: str | None = None
    revision: str | None = None

    @property
    def id(self) -> str:
        """`r` and 8 hex digits: BLAKE2b (32 bits) of the canonical JSON without provenance.

        The `r` keeps readers from reading a partition of digits alone as a number.
        """
        text = canonical_json(self.model_dump(mode="json", exclude=set(_PROVENANCE)))
        return f"r{blake2b(text.encode(), digest_size=4).hexdigest()}"

    @property
    def made_by(self) -> str | None:
        """The model, or what takes its place."""
        return self.model

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
        """One line for each field that differs between this recipe and `other`, such as `top_k 5 →
        3`."""
        mine, theirs = _flat(self), _flat(other)
        return [
            f"{name} {_short(mine.get(name))} → {_short(theirs.get(name))}"
            for name in sorted(mine.keys() | theirs.keys())
            if mine.get(name) != theirs.get(name)
        ]


class OtherRecipe(Recipe):
    """Recipe of a task that is not installed here: it can be listed and told from others."""

    model_config = ConfigDict(frozen=True, extra="allow")


def _flat(recipe: Recipe) -> dict[str, Any]:
    fields = recipe.model_dump(mode="json")
    inner = fields.pop("preprocessing", {})
    inner = inner if isinstance(inner, dict) else {"": inner}
    return fields | {f"preprocessing.{name}": value for name, value in inner.items()}


def _short(value: Any) -> str:
    if isinstance(value, str) and _COMMIT_OR_DIGEST.fullmatch(value):
        return f"{value[:12]}…"
    return "none" if value is None else str(value)
