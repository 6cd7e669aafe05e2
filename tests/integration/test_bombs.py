"""A night of images that would together take a node down ends with a row each, in its memory."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

from pipeline.engine import batch_rows
from pipeline.engine.memory_budget import budget_of
from tests.integration.conftest import Ran, _run_here
from tests.parts.clusters.ray import own_ray
from tests.parts.runs.bomb_night import SORTS, Peak, bombs, watched

MIB = 2**20
GIB = 2**30
#: A process on each core decodes, beside its network.
CPUS = 4
SIDE = 8000
#: A process with torch and a network of next to nothing.
PROCESS = 400 * MIB


@pytest.fixture
def many_decoders(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Ray whose processes each take one image at a time."""
    monkeypatch.setattr(batch_rows, "CPU_BATCH_RANGE", (1, 1))
    with own_ray(cpus=CPUS):
        yield


def night(
    root: Path, model: Path, count: int, sorts: tuple[str, ...], memory: int
) -> tuple[Ran, list[Path], Peak]:
    paths = bombs(root / "photos", count, SIDE, sorts)
    arguments = ["label", root / "photos", root / "labels", "--model", model, "--json"]
    with watched("Label") as seen:
        ran = _run_here(*arguments, "--node-memory", memory)
    return ran, paths, max(seen)


def rows(root: Path) -> list[dict[str, object]]:
    columns = ["uri", "label", "error_code", "error_message"]
    found: list[dict[str, object]] = (
        DeltaTable(root / "labels").to_pyarrow_table(columns=columns).to_pylist()
    )
    return found


@pytest.mark.ray
@pytest.mark.usefixtures("many_decoders")
@pytest.mark.parametrize(
    ("count", "sorts"),
    [(6, ("webp",)), pytest.param(48, (*SORTS,), marks=pytest.mark.chaos)],
    ids=["short", "long"],
)
def test_bombs_share_the_memory_of_their_node(
    count: int,
    sorts: tuple[str, ...],
    tmp_path: Path,
    tiny_model: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    memory = 4 * GIB
    budget = budget_of(memory, CPUS, CPUS, memory, 0)
    assert budget.large == GIB
    ran, paths, peak = night(tmp_path, tiny_model, count, sorts, memory)
    assert ran.code == 0, ran.err
    found = rows(tmp_path)
    assert Counter(row["uri"] for row in found) == Counter(path.as_uri() for path in paths)
    assert all(row["label"] for row in found), found
    with capfd.disabled():
        print(f"\n{count} bombs of {SIDE**2 / 1e6:.0f} MP: {peak.together / MIB:.0f} MiB private")
    # A bomb beyond the budget is decoded alone.
    most = max(budget.large, int(SIDE**2 * 17.5))
    assert peak.together <= most + CPUS * PROCESS


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.usefixtures("many_decoders")
def test_what_does_not_fit_on_the_node_is_a_row_that_says_so(
    tmp_path: Path, tiny_model: Path
) -> None:
    # Half of it is for one image: PNG and GIF take 550 MiB, TIFF 794, WebP 1,068.
    ran, paths, peak = night(tmp_path, tiny_model, 8, (*SORTS,), 5 * GIB // 4)
    assert ran.code in (0, 3), ran.err
    found = rows(tmp_path)
    assert sorted(str(row["uri"]) for row in found) == sorted(path.as_uri() for path in paths)
    refused = [str(row["error_message"]) for row in found if row["error_code"] == "too_large"]
    assert len(refused) == 4  # WebP and TIFF
    assert all("--max-pixels" in message for message in refused)
    assert peak.together <= 600 * MIB + CPUS * PROCESS
