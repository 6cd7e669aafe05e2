from collections.abc import Iterator

import pytest

from tests.parts.ray import own_ray
from tests.store.stores import folder

__all__ = ["folder"]


@pytest.fixture(scope="module")
def two_slots() -> Iterator[None]:
    """A real Ray with two CPU slots."""
    with own_ray():
        yield
