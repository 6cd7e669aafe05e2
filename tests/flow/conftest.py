from collections.abc import Iterator

import pytest
import ray

from tests.store.stores import folder

__all__ = ["folder"]


@pytest.fixture(scope="module")
def two_slots() -> Iterator[None]:
    """A real Ray with two CPU slots."""
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
