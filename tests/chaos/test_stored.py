"""Hundreds of damaged stores: each command ends with a result or with an error of ours.

    CHAOS_SEED=1234 python -m pytest -m chaos -s tests/chaos/test_stored.py

makes the same mutants again. Nobody may allocate without end, raise what is not ours, or read a
row that the store never had.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline import schema
from pipeline.errors import NightlabelError
from pipeline.runs.finalize import compact_store
from pipeline.runs.recipes import list_recipes
from pipeline.storage import Folder
from pipeline.store.choice import load_current
from pipeline.store.delta.log import Traces, files_with_traces
from pipeline.store.erase import Objects, Search, documents_that_name
from pipeline.store.failed import failed_rows
from pipeline.store.lease import read_holder
from pipeline.store.reader import LabelStore
from pipeline.store.runs import read_runs
from tests.chaos.scores import SEED, Scores
from tests.parts.processes.memory import status_bytes
from tests.parts.servers.traffic import ranges_alone
from tests.parts.stores.store_mutants import Mutant, copy_of, documents, little_store, mutant

QUICK_SEED: Final = 20_260_101
QUICK: Final = 150
FULL: Final = 10_000
#: Of which so many are compacted too, in a copy.
WRITTEN: Final = 20
MEMORY: Final = 400 * 2**20
URI: Final = "s3://photos/1"


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    logging.getLogger("nightlabel").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("nightlabel").setLevel(logging.NOTSET)


def test_some_damaged_stores_do_no_harm(tmp_path: Path) -> None:
    assert tried(QUICK_SEED, QUICK, tmp_path) == []


@pytest.mark.chaos
def test_every_damaged_store_does_no_harm(tmp_path: Path, scores: Scores) -> None:
    wrong = tried(SEED, FULL, tmp_path)
    scores.count("damaged stores, read by each command", FULL)
    assert wrong == []


def tried(seed: int, count: int, tmp_path: Path) -> list[str]:
    """What went wrong with the first `count` mutants of a seed."""
    top = tmp_path / "labels"
    folder = little_store(top)
    whole = documents(top)
    had = Counter(LabelStore(str(top)).to_table(["uri", "label"])["uri"].to_pylist())
    wrong: list[str] = []
    outcomes: Counter[str] = Counter()
    for number in range(count):
        found = mutant(seed, number, whole)
        (top / found.path).write_bytes(found.data)
        try:
            with nullcontext() if number % 2 else ranges_alone():
                wrong += judged(found, folder, had, outcomes)
            if number % WRITTEN == 0:
                wrong += written(found, top, tmp_path / "copy", outcomes)
        finally:
            (top / found.path).write_bytes(whole[found.path])
    assert outcomes["result"] > count
    assert outcomes["refused"] > count / 4
    return wrong


def judged(found: Mutant, folder: Folder, had: Counter[str], outcomes: Counter[str]) -> list[str]:
    Path("/proc/self/clear_refs").write_text("5")
    before = status_bytes("VmRSS")
    allowed = had if found.path.startswith("_delta_log/") else None
    wrong = [
        f"{found.number} {found.path} {found.blows}: {name}: {problem}"
        for name, command in COMMANDS.items()
        if (problem := outcome(lambda command=command: command(folder, allowed), outcomes))
    ]
    if (took := status_bytes("VmHWM") - before) > MEMORY:
        wrong.append(f"{found.number} {found.path} {found.blows}: took {took:,} bytes")
    return wrong


def written(found: Mutant, top: Path, copy: Path, outcomes: Counter[str]) -> list[str]:
    try:
        folder = copy_of(top, copy)
        problem = outcome(lambda: compact_store(folder.uri, take_over=True), outcomes)
        return [f"{found.number} {found.path} {found.blows}: compact: {problem}"] if problem else []
    finally:
        shutil.rmtree(copy)


def outcome(command: Callable[[], Any], outcomes: Counter[str]) -> str | None:
    """What a command must not do, if it did."""
    try:
        problem = command()
        outcomes["result"] += 1
    except NightlabelError as error:
        outcomes["refused"] += 1
        return None if "\n" not in str(error) and len(str(error)) < 1500 else f"says {error}"
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        return f"raises {type(error).__name__}: {str(error)[:300]}"
    return problem if isinstance(problem, str) else None


def _reads(folder: Folder, had: Counter[str] | None) -> str | None:
    store = LabelStore(folder.uri)
    files = store.live()
    rows = store.to_table()
    store.label_counts()
    if rows.num_rows != sum(file.num_rows for file in files):
        return "reads other numbers of rows than the log tells"
    uris = Counter(rows["uri"].to_pylist())
    # A file of the same size and number of rows is the same to a log.
    return None if had is None or uris <= had else "reads a row that was not there, or one twice"


def _forgets(folder: Folder, _: Any) -> None:
    search = Search()
    search.look(folder, Objects.of([URI], [schema.object_id(URI)]))
    files_with_traces(folder, Traces.of(set(search.held), search.clean, [URI]))
    documents_that_name(folder, Objects.of([URI], [schema.object_id(URI)]))


COMMANDS: Final[dict[str, Callable[[Folder, Counter[str] | None], Any]]] = {
    "reader": _reads,
    "errors": lambda folder, _: failed_rows(LabelStore(folder.uri), None, (), 3) and None,
    "recipes": lambda folder, _: list_recipes(folder.uri) and None,
    "runs": lambda folder, _: read_runs(folder) and None,
    "current": lambda folder, _: load_current(folder) and None,
    "lease": lambda folder, _: read_holder(folder) and None,
    "forget": _forgets,
}
