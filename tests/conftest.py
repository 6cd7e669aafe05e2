"""Fixtures that several test files share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts import fast_mode
from tests.parts.s3 import FOREIGN, S3Process, serve


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="neither Ray nor torch, held to it")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--fast"):
        folder = tempfile.TemporaryDirectory(prefix="nightlabel-fast-")
        config.add_cleanup(folder.cleanup)
        config.pluginmanager.register(fast_mode.FastMode(Path(folder.name, "log")))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    fast_mode.mark(items)


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
