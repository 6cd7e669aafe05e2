"""Fixtures that several test files share."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts import without
from tests.parts.servers.s3 import FOREIGN, S3Process, serve
from tests.store.stores import folder

__all__ = ["folder"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without", action="append", choices=without.NEEDS, help="no test may start or load it"
    )


def pytest_configure(config: pytest.Config) -> None:
    # Ray's GPUs are only numbers in these tests, see pipeline/graph/stages/own_device.py.
    os.environ["NIGHTLABEL_LOGICAL_GPUS"] = "1"
    if marks := config.getoption("--without"):
        folder = tempfile.TemporaryDirectory(prefix="nightlabel-without-")
        config.add_cleanup(folder.cleanup)
        config.pluginmanager.register(without.Without(marks, Path(folder.name, "refused")))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    without.mark(items)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Process]:
    """A real S3 server for the session; its credentials stand in `os.environ` meanwhile."""
    with (
        tempfile.TemporaryDirectory(prefix="nightlabel-s3-") as folder,
        serve(Path(folder)) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in FOREIGN:
            patch.delenv(name, raising=False)
        for name, value in server.env.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(scope="module")
def two_slots() -> Iterator[None]:
    """A real Ray with two CPU slots."""
    from tests.parts.clusters.ray import own_ray

    with own_ray():
        yield
