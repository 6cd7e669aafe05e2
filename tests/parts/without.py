"""`pytest --without ray --without torch`: the tests that need neither, held to that.

What a test needs is told by its marks `ray` and `torch`, and by fixtures that stand for them.
Where one tries without its mark, here or in a Python that it starts, it fails and is told which it
lacks; a file that imports torch at its top is skipped.
"""

import os
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

from tests.parts.guard import sitecustomize
from tests.parts.guard.sitecustomize import LOG, WITHOUT

NEEDS = ("ray", "torch")

#: Fixtures that stand for a mark, by the function that makes them.
FIXTURES = {
    "tests.chaos.conftest.measured_worlds": "ray",
    "tests.chaos.conftest.worlds": "ray",
    "tests.conftest.s3": "s3",
    "tests.conftest.two_slots": "ray",
    "tests.integration.conftest.here": "ray",
    "tests.integration.conftest.other_model": "torch",
    "tests.integration.conftest.slow_model": "torch",
    "tests.integration.conftest.tiny_model": "torch",
    "tests.integration.test_tasks.night": "ray",
    "tests.models.conftest.convnext": "torch",
    "tests.models.conftest.own_vit": "torch",
    "tests.models.conftest.resnet": "torch",
    "tests.models.conftest.vit": "torch",
}


def mark(items: Sequence[pytest.Item]) -> None:
    """Add the marks that fixtures stand for."""
    for item in items:
        for name in _makers(item) & FIXTURES.keys():
            item.add_marker(FIXTURES[name])


def _makers(item: pytest.Item) -> set[str]:
    if not isinstance(item, pytest.Function):
        return set()
    known = item._fixtureinfo.name2fixturedefs.values()
    return {f"{made.func.__module__}.{made.func.__name__}" for every in known for made in every}


class _Module(pytest.Module):
    """pytest would read the source of all that leads to a refusal, which is long."""

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> object:
        if isinstance(excinfo.value, sitecustomize.Refused):
            return str(excinfo.value)
        return super().repr_failure(excinfo)


class Without:
    """The plugin of a session without `marks`. `log` is what the processes write to."""

    def __init__(self, marks: Sequence[str], log: Path) -> None:
        self._marks, self._log = marks, log
        log.touch()
        os.environ |= {WITHOUT: ",".join(marks), LOG: str(log)}
        os.environ |= sitecustomize.environment(os.environ.get("PYTHONPATH"))
        sitecustomize.install()

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        left_out = [item for item in items if any(map(item.get_closest_marker, self._marks))]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]

    def pytest_pycollect_makemodule(
        self, module_path: Path, parent: pytest.Collector
    ) -> pytest.Module:
        module: pytest.Module = _Module.from_parent(parent, path=module_path)
        return module

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
            marks = " and ".join(sorted({line.partition("\t")[0] for line in told}))
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
