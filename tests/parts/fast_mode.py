"""`pytest --fast`: the tests that neither start Ray nor load torch, held to it.

What a test needs is told by the fixtures it asks for and by the marks `ray` and `torch`. Under
`--fast` no process of the tests gets either: a test that tries without its mark fails, and a file
that imports torch at its top is skipped.
"""

import importlib
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.parts.guard.sitecustomize import LOG

#: What fixtures of several files need.
FIXTURES = {
    "here": "ray",
    "two_slots": "ray",
    "worlds": "ray",
    "convnext": "torch",
    "other_model": "torch",
    "own_vit": "torch",
    "resnet": "torch",
    "slow_model": "torch",
    "tiny_model": "torch",
    "vit": "torch",
}


def mark(items: list[pytest.Item]) -> None:
    """Add the marks that fixtures stand for."""
    for item in items:
        for name in {FIXTURES[name] for name in _fixtures(item) & FIXTURES.keys()}:
            item.add_marker(name)


def _fixtures(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))


class FastMode:
    """The plugin of a session with --fast. `log` is what the refused processes write to."""

    def __init__(self, log: Path) -> None:
        self._log = log
        log.touch()
        folder = str(Path(__file__).parent / "guard")
        os.environ[LOG] = str(log)
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [folder, *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        importlib.reload(importlib.import_module("tests.parts.guard.sitecustomize"))

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        long = ("ray", "torch", "slow", "chaos", "gpu", "orchestrators")
        kept = [item for item in items if not any(map(item.get_closest_marker, long))]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
        items[:] = kept

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        if self._refused():
            report.outcome = "skipped"
            report.longrepr = (str(collector.path), 0, "Skipped: it imports torch")
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if told := self._refused():
            marks = " and ".join(sorted({line.split("\t")[0] for line in told}))
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} lacks the mark {marks}: " + "; ".join(told)
        return report

    def _refused(self) -> list[str]:
        """What was refused since the last time."""
        if not self._log.stat().st_size:
            return []
        told = self._log.read_text().splitlines()
        self._log.write_text("")
        return told
