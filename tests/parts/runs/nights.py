"""Whole runs that are watched: many names of few images, and what the processes held."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.integration.conftest import command
from tests.parts.processes.watch import Watched, watch

#: Names in one folder.
FOLDER_NAMES = 1000


def fill(folder: Path, names: int, distinct: dict[str, bytes]) -> None:
    """`names` hard links to a few distinct images, a thousand in a folder."""
    originals = folder.with_name(f"{folder.name}-originals")
    originals.mkdir()
    for name, data in distinct.items():
        (originals / name).write_bytes(data)
    sources = [originals / name for name in distinct]
    for number in range(names):
        target = folder / f"{number // FOLDER_NAMES:04}"
        if number % FOLDER_NAMES == 0:
            target.mkdir(parents=True)
        source = sources[number % len(sources)]
        (target / f"{number:07}{source.suffix}").hardlink_to(source)


def night(root: Path, model: Path) -> tuple[dict[str, Any], Watched]:
    """Label `root`/photos into `root`/labels; the run's summary, and its processes' samples."""
    arguments = [root / "photos", root / "labels", "--model", model, "--json"]
    out, err = root / "out.json", root / "err.txt"
    with (
        out.open("w") as stdout,
        err.open("w") as stderr,
        subprocess.Popen(
            command("label", *arguments), stdout=stdout, stderr=stderr, text=True
        ) as process,
    ):
        try:
            watched = watch(process)
        finally:
            process.terminate()  # it has ended, unless whoever watches is interrupted
    assert process.returncode == 0, err.read_text()
    summary: dict[str, Any] = json.loads(out.read_text())
    return summary, watched
