"""The documents of a store's recipes, by id: how the labels were made."""

import re
from collections.abc import Iterable
from itertools import islice
from typing import Final

from pipeline.errors import DeniedError, MissingError, StoreError
from pipeline.storage import Folder
from pipeline.store.runs import LISTED
from pipeline.store.skipped import warn_of_skipped

RECIPES: Final = "_nightlabel/recipes/"
#: One has some 3 KB.
RECIPE_BYTES: Final = 2**20
RECIPES_READ: Final = 1000


def is_recipe_id(text: str) -> bool:
    return re.fullmatch(r"[\w.-]{1,100}", text) is not None and bool(text.strip("."))


def save_recipe(folder: Folder, recipe_id: str, document: str) -> None:
    """Record how these labels were made; a recipe never changes, so the first writer wins."""
    folder.create(f"{RECIPES}{recipe_id}.json", document.encode())


def delete_recipe(folder: Folder, recipe_id: str) -> None:
    folder.delete([f"{RECIPES}{recipe_id}.json"])


def recipe_names(folder: Folder) -> list[str]:
    """The ids of the recipes that have a document."""
    names = (folder.relative(entry.uri) for entry in islice(folder.list(RECIPES), LISTED))
    ids = (name.removeprefix(RECIPES).removesuffix(".json") for name in names)
    return sorted(islice(filter(is_recipe_id, ids), RECIPES_READ))


def load_recipes(folder: Folder, only: Iterable[str] | None = None) -> dict[str, str]:
    """The recipes' documents by id, all or `only` those. One that is too large is reported, not
    read."""
    found, unread = dict[str, str](), list[str]()
    for recipe in recipe_names(folder) if only is None else only:
        try:
            data = folder.read(f"{RECIPES}{recipe}.json", at_most=RECIPE_BYTES)
            found[recipe] = data.decode("utf-8", "replace")
        except MissingError:  # dropped since it was listed
            continue
        except DeniedError:
            raise
        except StoreError as error:
            unread.append(str(error))
    warn_of_skipped(unread)
    return found
