"""The models and the counts of the chaos tests."""

import pytest

from tests.chaos.scores import Scores
from tests.integration.conftest import slow_model, tiny_model

__all__ = ["slow_model", "tiny_model"]

_SCORES = pytest.StashKey[Scores]()


@pytest.fixture(scope="session")
def scores(pytestconfig: pytest.Config) -> Scores:
    """What was done in this session; its table stands at the end of pytest's report."""
    return pytestconfig.stash.setdefault(_SCORES, Scores())


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    scores = config.stash.get(_SCORES, None)
    if scores is not None:
        terminalreporter.section("chaos")
        terminalreporter.write_line(scores.table())
