"""Registry of containers, objects that hold many images: one file per kind, one line here."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Final

from pipeline.sources.containers.base import Container, Member, Refusal
from pipeline.storage import public

__all__ = ["REGISTRY", "Container", "Member", "Refusal", "container", "kind_by_name", "may_be_any"]


def _lazy(module: str, name: str) -> Callable[[], Container]:
    def make() -> Container:
        found: Container = getattr(import_module(f"pipeline.sources.containers.{module}"), name)()
        return found

    return make


#: Kind → its factory. A kind has the name of its file ending.
REGISTRY: Final[Mapping[str, Callable[[], Container]]] = {"zip": _lazy("zip", "Zip")}

_ENDING: Final = re.compile(rf"\.({'|'.join(REGISTRY)})", re.IGNORECASE)


@cache
def container(kind: str) -> Container:
    """The container of this kind."""
    return REGISTRY[kind]()


def kind_by_name(uri: str) -> str | None:
    """`zip` for `s3://b/photos.ZIP` and for a signed address of it; None for a plain object."""
    name = public(uri).rpartition("/")[2]
    found = _ENDING.fullmatch(name[name.rfind(".") :]) if "." in name else None
    return found[1].lower() if found else None


def may_be_any(text: str) -> bool:
    """Quick check: whether any of the uris in a text may be a container's."""
    return _ENDING.search(text) is not None
