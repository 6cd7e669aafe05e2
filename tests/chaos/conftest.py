"""The models and the counts of the chaos tests."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.chaos.scores import SEED, Scores
from tests.chaos.world import MeasuredWorld, World
from tests.integration.conftest import here, other_model, slow_model, tiny_model
from tests.parts.servers.s3 import S3Process
from tests.store.stores import folder

__all__ = ["folder", "here", "other_model", "slow_model", "tiny_model"]

Worlds = Callable[..., World]

_SCORES = pytest.StashKey[Scores]()


@pytest.fixture(scope="session")
def scores(pytestconfig: pytest.Config) -> Scores:
    """What was done in this session; its table stands at the end of pytest's report."""
    return pytestconfig.stash.setdefault(_SCORES, Scores())


@pytest.fixture
def worlds(s3: S3Process, tiny_model: Path, scores: Scores) -> Worlds:
    """Makes a world of so many images: worlds(size=2000)."""
    return partial(World, s3, tiny_model, scores, seed=SEED)


@pytest.fixture
def measured_worlds(s3: S3Process, scores: Scores) -> Worlds:
    """Those whose nights need no model."""
    return partial(MeasuredWorld, s3, Path("unused"), scores, seed=SEED)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    scores = config.stash.get(_SCORES, None)
    if scores is not None:
        terminalreporter.section("chaos")
        terminalreporter.write_line(scores.table())
