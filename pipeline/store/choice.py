"""The current recipe, which readers see: one document, changed only by compare-and-swap.

Users' own queries read `_nightlabel/current.json`, so it is plain JSON, written in one PUT:
`recipe` is what they see. `choice` is new with every write: an object store's etag is the MD5
of the bytes, and a recipe that is chosen again must not look like one that never changed.

`dropping` names a recipe whose rows are being removed. Nobody can choose it during that time, and
a chosen recipe cannot be marked. Both are writes of this document, so if a `use` and a `drop`
happen at the same moment, one fails. A process that finds the mark of a dead drop first fences that
drop with a commit of its own, and only then clears the mark.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Self
from uuid import uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict

from pipeline.errors import BusyError, DeniedError, MissingError, SpecError, StoreError
from pipeline.storage import Folder, public
from pipeline.store.delta.table import Table
from pipeline.store.recipes import is_recipe_id
from pipeline.store.runs import read_document

CURRENT: Final = "_nightlabel/current.json"

#: A swap fails only if another one succeeded; this many failures in a row are no accident.
TRIES: Final = 50


_BYTES: Final = 64 * 2**10
#: Nothing else records what readers see, so an invalid document is an error.
_MEND: Final = (
    "update nightlabel if a newer one wrote it; if not, delete it and choose again: "
    "nightlabel use DST RECIPE"
)


def _recipe_id(text: str) -> str:
    if not is_recipe_id(text):
        raise ValueError("not the id of a recipe")
    return text


RecipeId = Annotated[str, AfterValidator(_recipe_id)]


class Current(BaseModel):
    """The document. Stores of older versions have only `recipe`."""

    model_config = ConfigDict(extra="forbid")

    recipe: RecipeId
    choice: str | None = None
    dropping: RecipeId | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The document as it was read, None if nothing was chosen yet, and its etag."""

    document: Current | None
    etag: str | None

    @classmethod
    def read(cls, folder: Folder) -> Self:
        # The etag comes from before the read: what is replaced is never newer than what was read.
        entry = folder.stat(CURRENT)
        if entry is None:
            return cls(None, None)
        try:
            return cls(read_document(folder, CURRENT, Current, _BYTES), entry.etag)
        except MissingError:
            return cls(None, None)
        except DeniedError:
            raise
        except StoreError as error:
            raise StoreError(f"{error}; {_MEND}") from None

    @property
    def recipe(self) -> str | None:
        return self.document.recipe if self.document else None

    @property
    def dropping(self) -> str | None:
        return self.document.dropping if self.document else None


def load_current(folder: Folder) -> str | None:
    """The recipe that readers see, None if none was chosen."""
    return Choice.read(folder).recipe


def choose(folder: Folder, recipe: str, seen: Choice) -> bool:
    """Let readers see `recipe`; False if someone else has chosen since `seen` was read.

    The caller must have checked, after `seen` was read, that the recipe has rows. Raises BusyError
    for a recipe that is being dropped.
    """
    if seen.dropping == recipe:
        raise BusyError(
            f"{public(folder.uri)}: {recipe} is being removed. If that `nightlabel drop` died, "
            "run it again; or label it again"
        )
    return _swap(folder, Current(recipe=recipe, dropping=seen.dropping), seen)


def begin_drop(folder: Folder, recipe: str) -> None:
    """From here on nobody can choose `recipe`. Raises SpecError if readers see it."""
    for _ in range(TRIES):
        seen = Choice.read(folder)
        if seen.recipe in (recipe, None):
            raise SpecError(
                "recipe",
                recipe,
                "is what readers see; choose another first: nightlabel use DST RECIPE"
                if seen.recipe
                else "cannot be dropped: no recipe is chosen yet; run nightlabel use DST RECIPE",
            )
        if _swap(folder, Current(recipe=str(seen.recipe), dropping=recipe), seen):
            return
    raise _too_many(folder)


def end_drop(folder: Folder, recipe: str) -> None:
    """Clear the mark: the rows of `recipe` are gone, or certain to stay."""
    for _ in range(TRIES):
        seen = Choice.read(folder)
        if seen.recipe is None or seen.dropping != recipe:
            return
        if _swap(folder, Current(recipe=seen.recipe), seen):
            return
    raise _too_many(folder)


def clear_dead_drop(folder: Folder, table: Table) -> None:
    """End a drop that died or was taken over; only the holder of the lease may call this.

    The fence comes first: a drop that was only suspended must not remove rows after its mark is
    gone.
    """
    recipe = Choice.read(folder).dropping
    if recipe is not None:
        table.commit()
        end_drop(folder, recipe)


def _swap(folder: Folder, document: Current, seen: Choice) -> bool:
    document = document.model_copy(update={"choice": uuid4().hex})
    data = document.model_dump_json(exclude_none=True).encode()
    if seen.document is None:
        done = folder.create(CURRENT, data)
    else:
        done = folder.replace(CURRENT, data, seen.etag or "")
    # The answer to our own write may have been lost, and the retry refused.
    return done or Choice.read(folder).document == document


def _too_many(folder: Folder) -> BusyError:
    return BusyError(f"{public(folder.uri)}: others keep choosing recipes; try again later")
