"""The answers, which are checked before any speed is told."""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import pyarrow as pa

#: Share of labels that must equal those of fp32 on the CPU.
LEAST = 0.99


def agreement(rows: pa.Table, names: Collection[str], truth: Mapping[str, str]) -> float:
    """The share of `truth` (file name → label) that the rows say too.

    Raises ValueError unless each of `names` has one row, with a label, and that share is LEAST.
    """
    given = dict[str, str]()
    counts = Counter(Path(uri).name for uri in rows["uri"].to_pylist())
    for uri, label in zip(rows["uri"].to_pylist(), rows["label"].to_pylist(), strict=True):
        given[Path(uri).name] = label
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ValueError(f"{len(twice)} images have more than one row, first {min(twice)}")
    if missing := set(names) - set(given):
        raise ValueError(f"{len(missing)} images have no row, first {min(missing)}")
    if foreign := set(given) - set(names):
        raise ValueError(f"{len(foreign)} rows are of no image, first {min(foreign)}")
    if failed := [name for name, label in given.items() if label is None]:
        raise ValueError(f"{len(failed)} rows have no label, first {min(failed)}")
    return enough(sum(given[name] == label for name, label in truth.items()), len(truth))


def enough(same: int, of: int) -> float:
    """The share; raises ValueError below LEAST."""
    if not of or same / of < LEAST:
        raise ValueError(f"{same} of {of} labels are those of fp32 on the CPU, below {LEAST:.0%}")
    return same / of
