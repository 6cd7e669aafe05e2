"""How far our pixels are from those of transformers' PIL processors, as a Markdown table.

    python -m benchmarks.parity FOLDER [FOLDER ...]

Every image below the folders goes both ways, from its bytes: through `pipeline.images.prepare`,
and through transformers' `load_image` and the model's own processor with `backend="pil"`,
rescaling and normalising left out. Differences are in steps of 1/255.
"""

import argparse
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from pipeline.images import Preprocess, prepare
from pipeline.spec import IMAGE_SUFFIXES
from tests.golden import reference
from tests.golden.reference import NAMES, PROCESSORS

PACKAGES = ("pillow", "simplejpeg", "torch", "transformers")
FILTERS = {2: "bilinear", 3: "bicubic"}


@dataclass
class Row:
    """The differences seen for one processor."""

    preprocess: Preprocess
    images: int = 0
    same: int = 0
    worst: int = 0
    total: float = 0.0

    def add(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        difference = np.abs(ours.astype(np.int16) - theirs)
        self.images += 1
        self.same += not difference.any()
        self.worst = max(self.worst, int(difference.max()))
        self.total += float(difference.mean())

    def cells(self, name: str) -> list[str]:
        kind = self.preprocess.processor.removesuffix("ImageProcessorPil")
        resample = FILTERS.get(self.preprocess.resample, str(self.preprocess.resample))
        path = "fast" if self.preprocess.config is None else "Hugging Face"
        share = f"{self.same / self.images:.1%}"
        mean = f"{self.total / self.images:.5f}"
        return [name, kind, resample, path, str(self.images), share, str(self.worst), mean]


HEADINGS = ["model", "processor", "filter", "path", "images", "identical", "max", "mean"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    images = list(_images(parser.parse_args().folders))
    rows = {name: Row(Preprocess.from_folder(PROCESSORS / name)) for name in NAMES}
    for data in (path.read_bytes() for path in images):
        upright = reference.upright(data)
        for name, row in rows.items():
            row.add(
                prepare(data, row.preprocess).pixels, reference.pixels(PROCESSORS / name, upright)
            )
    print(_table([HEADINGS, *(row.cells(name) for name, row in rows.items())]))
    installed = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(f"\n{installed}; Python {platform.python_version()}, {platform.machine()}.")


def _images(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        yield from (path for path in files if path.suffix.lower() in IMAGE_SUFFIXES)


def _table(rows: list[list[str]]) -> str:
    rule = ["---"] * 4 + ["--:"] * 4
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (rows[0], rule, *rows[1:]))


if __name__ == "__main__":
    main()
