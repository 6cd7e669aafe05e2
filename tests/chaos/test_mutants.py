"""Thousands of damaged images: each gives Pillow's pixels or one error code, within its bounds.

    CHAOS_SEED=1234 python -m pytest -m chaos -s tests/chaos/test_mutants.py

makes the same mutants again.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.errors import ErrorCode
from tests.chaos.scores import SEED, Scores
from tests.parts.images.decode_trial import PIXELS, Trial, Trials, Verdict
from tests.parts.images.mutants import Mutant, mutant

QUICK_SEED = 20_260_101
QUICK = 600
FULL = 25_000
#: Below the default of --max-pixels, so that what a header claims is made in moderate time.
TRIAL = Trial(max_pixels=50_000_000, seconds=60.0)
#: What goes wrong so often is one defect.
MANY = 20

Table = Counter[tuple[str, str]]


def test_some_mutants_each_have_one_outcome(tmp_path: Path) -> None:
    report = tried(QUICK_SEED, QUICK, tmp_path)
    assert report.wrong == [], report


@pytest.mark.chaos
def test_every_mutant_has_one_outcome(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], scores: Scores
) -> None:
    report = tried(SEED, FULL, tmp_path)
    scores.count("damaged images, one outcome each", sum(report.kinds.values()))
    with capfd.disabled():  # without what libtiff says of thousands of files
        print(f"\n{report}")
    assert report.wrong == []


@dataclass
class Report:
    """`wrong`: where a mutant lies that did what none may do, and what that was."""

    seed: int
    kinds: Table = field(default_factory=Counter)
    damages: Table = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory: int = 0
    seconds: float = 0.0

    def add(self, found: Mutant, verdict: Verdict) -> None:
        self.kinds[found.kind, verdict.outcome] += 1
        self.damages[found.damage, verdict.outcome] += 1
        self.memory = max(self.memory, verdict.memory)
        self.seconds = max(self.seconds, verdict.seconds)

    def __str__(self) -> str:
        bounds = f"at most {self.memory / 2**20:.0f} MiB and {self.seconds:.1f} s an image"
        tables = [table(self.kinds), table(self.damages)]
        head = f"seed {self.seed}, {sum(self.kinds.values()):,} mutants; {bounds}"
        return "\n\n".join([head, *tables, *self.wrong])


def tried(seed: int, count: int, folder: Path) -> Report:
    """The first `count` mutants of a seed; those that do wrong are kept in `folder`."""
    report = Report(seed)
    with Trials(TRIAL) as trials:
        for number in range(count):
            if len(report.wrong) == MANY:
                return report
            found = mutant(seed, number)
            verdict = trials(found.data)
            report.add(found, verdict)
            if verdict.wrong:
                path = folder / f"{number}.{found.kind}"
                path.write_bytes(found.data)
                report.wrong.append(f"{path}: {verdict.outcome}, {verdict.wrong}")
    assert {outcome for _, outcome in report.kinds} <= {PIXELS, *ErrorCode}
    return report


def table(counts: Table) -> str:
    """Rows by outcomes."""
    rows = sorted({row for row, _ in counts})
    outcomes = sorted({outcome for _, outcome in counts})
    lines = [f"{'':18}" + "".join(f"{outcome:>13}" for outcome in outcomes)]
    lines += [
        f"{row:18}" + "".join(f"{counts[row, outcome]:13}" for outcome in outcomes) for row in rows
    ]
    return "\n".join(lines)
