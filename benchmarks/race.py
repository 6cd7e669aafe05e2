"""Whole runs side by side: each labels the same folder, from the start of its process to its end.

The contenders take turns, round by round, so that a slow minute of the machine is everybody's.
What each wrote is read first: every image one label, and as many as may be the same as those of
the plain loop, which uses Pillow and so has the reference's pixels.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from tests.parts.archives.real_archives import ROOT, cache_folder
from tests.parts.processes.memory import status_bytes

PEERS: Final = ROOT / "benchmarks" / "peers"
#: Which contender's labels the others' are held against.
REFERENCE: Final = "torch loop, 2 threads"
#: A Ray that runs on this machine already is not to be part of it.
ALONE: Final = {"RAY_ADDRESS": "local", "HF_HUB_OFFLINE": "1"}
OURS: Final = {"RAY_ENABLE_AUTO_CONNECT"}

#: (images, model, out) → a command line
Command = Callable[[Path, Path, Path], list[object]]


@dataclass
class Contender:
    """Someone that labels a folder, with what was seen of it: seconds and agreement, by round."""

    name: str
    command: Command
    seconds: list[float] = field(default_factory=list)
    agreement: list[float] = field(default_factory=list)
    steady: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def ratio(self, other: "Contender") -> float:
        """How many times as long `other` took: the median over rounds."""
        return statistics.median(
            theirs / ours for theirs, ours in zip(other.seconds, self.seconds, strict=True)
        )


def nightlabel(*options: object, src: str | None = None, command: str = "label") -> Command:
    """`src`: where the same images lie too."""
    here = Path(sys.executable).with_name("nightlabel")
    return lambda images, model, out: [
        *(here, command, src or images, out),
        *(["--model", model] if command == "label" else []),
        *("--no-progress", "--json", *options),
    ]


def peer(name: str, *options: object) -> Command:
    """A script of peers/ in an environment of its own, made at first use."""
    python = environment(name)
    return lambda images, model, out: [python, PEERS / f"{name}.py", images, model, out, *options]


def environ() -> dict[str, str]:
    """This process's, but for what importing pipeline.engine has set in it: peers start Ray."""
    inherited = {name: value for name, value in os.environ.items() if name not in OURS}
    return {**inherited, **ALONE}


def bare_loop(task: str = "classify") -> Command:
    loop = [sys.executable, "-m", "benchmarks.peers.bare_loop"]
    return lambda images, model, out: [*loop, images, model, out, task]


def environment(name: str) -> Path:
    """The Python of a peer's environment, pinned by its requirements file."""
    folder = cache_folder() / f"venv-{name}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install: list[str | Path] = [python, "-m", "pip", "install", "--quiet"]
        install += ["--requirement", PEERS / f"{name}.txt"]
        subprocess.run(install, check=True)
        (folder / "ready").touch()
    return python


def make_environments() -> None:
    """All of them, so that a pin that has no solution is known before hours of measuring."""
    for requirements in sorted(PEERS.glob("*.txt")):
        environment(requirements.stem)


def peak_mb() -> float:
    """The most memory that this process has held.

    `ru_maxrss` would not do: a program begins with that of the one that started it.
    """
    return status_bytes("VmHWM") / 2**20


def model_only(model: Path, count: int) -> float:
    """Images a second of two processes of one thread that do nothing but predict."""
    command: list[str | Path] = [sys.executable, "-m", "benchmarks.peers.model_only"]
    command += [model, str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return float(done.stdout)


def race(
    contenders: Sequence[Contender],
    images: Path,
    model: Path,
    rounds: int,
    *,
    answer: str = "label",
    reference: str = REFERENCE,
) -> None:
    """Run them in turns, each round beginning with another one, and note what was seen; the column
    `answer` of each is held against that of `reference`, if it takes part."""
    for number in range(rounds):
        first = number % len(contenders)
        answers: dict[str, Mapping[str, Any]] = {}
        for contender in [*contenders[first:], *contenders[:first]]:
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                out = Path(folder) / "out"
                contender.seconds.append(_timed(contender, images, model, out))
                rows = rows_of(out)
                answers[contender.name] = _answers(contender.name, rows, answer)
                contender.steady.append(_steady(rows))
            print(f"{contender.name}: {contender.seconds[-1]:.1f} s", file=sys.stderr, flush=True)
        names = {path.name for path in images.iterdir()}
        _judge(contenders, answers, names, answers.get(reference))


def _timed(contender: Contender, images: Path, model: Path, out: Path) -> float:
    command = [str(part) for part in contender.command(images, model, out)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environ())
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{contender.name} failed:\n{done.stderr[-4000:]}")
    return seconds


def _answers(who: str, table: pa.Table, answer: str) -> dict[str, Any]:
    """File name → its answer; raises ValueError where an image has two rows."""
    name = next(column for column in ("uri", "path") if column in table.column_names)
    names = [Path(value).name for value in table[name].to_pylist()]
    if len(set(names)) != len(names):
        raise ValueError(f"{who} labels an image twice")
    return dict(zip(names, table[answer].to_pylist(), strict=True))


def rows_of(out: Path) -> pa.Table:
    """All that a contender has written."""
    files = [*out.glob("*.parquet"), *out.glob("recipe=*/*.parquet")]
    return ds.dataset([str(path) for path in files]).to_table()


def _steady(table: pa.Table) -> float:
    """Images a second once labels come: from the time of the first labels to that of the last."""
    if "labelled_at" not in table.column_names:
        return float("nan")
    first, last, rows = steady_part(table)
    return rows / (last - first)


def steady_part(table: pa.Table) -> tuple[float, float, int]:
    """When the first and the last labels came, by `time.time`, and the rows after the first."""
    times = table["labelled_at"]
    first, last = pc.min(times), pc.max(times)
    began = pc.sum(pc.equal(times, first)).as_py()
    return first.as_py().timestamp(), last.as_py().timestamp(), table.num_rows - began


def _judge(
    contenders: Sequence[Contender],
    answers: Mapping[str, Mapping[str, Any]],
    names: set[str],
    reference: Mapping[str, Any] | None,
) -> None:
    for contender in contenders:
        given = answers[contender.name]
        if set(given) != names:
            raise ValueError(f"{contender.name} labelled {len(given)} of {len(names)} images")
        if reference is not None:
            same = sum(given[name] == label for name, label in reference.items())
            contender.agreement.append(same / len(names))
