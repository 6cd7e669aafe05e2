"""Variables of Ray for the length of a test."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipeline.engine.ray_compat import reset_token


@contextmanager
def ray_environment() -> Iterator[pytest.MonkeyPatch]:
    """What is set is undone at the end, and Ray is told: it keeps what it has read."""
    try:
        with pytest.MonkeyPatch.context() as patched:
            yield patched
    finally:
        reset_token()
