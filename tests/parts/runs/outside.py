"""A package of somebody else's that brings tasks with columns of their own, a source and commands.

It is written into a folder that stands on PYTHONPATH, as an installed one stands in site-packages.
"""

from pathlib import Path
from typing import Final

MODULE: Final = '''
"""Two tasks: `sky` says how blue an image is, `contrast` adds a column to those of fingerprint."""

import os
from typing import Literal

import numpy as np
import pyarrow as pa
from pipeline.images import prepare
from pipeline.tasks import Difference, Prepared, Recipe, Task, Words
from pipeline.tasks.fingerprint import SHAPE, Fingerprint, FingerprintRecipe, Measurer
from pipeline.tasks.rows import Answers, RowMaker


class SkyRecipe(Recipe):
    task: Literal["sky"] = "sky"
    exif: bool

    @property
    def made_by(self):
        return "sky of outside"


class Looker:
    device = "cpu"
    image_shape = (SHAPE.height, SHAPE.width, 3)

    def __call__(self, images, seen):
        if (images.mean(axis=(1, 2, 3)) > 250).any():
            os._exit(7)  # a white image ends the process, as a broken library might
        blue = pa.array([float(one[..., 2].mean()) / 255 for one in images], pa.float32())
        return Answers({"blue": blue}, pa.nulls(len(images), pa.string()))


class Sky(Task):
    name = "sky"
    kind = "measures"
    columns = (pa.field("blue", pa.float32()),)
    words = Words("look at", "looked at", "skies")
    network = False
    recipe = SkyRecipe

    def prepare(self, spec):
        recipe = SkyRecipe(format=1, exif=spec.exif)
        return Prepared(None, None, 0, SHAPE, recipe)

    def load(self, setting):
        return RowMaker(self.rows, Looker(), setting.run_id, setting.recipe.id)

    def reference(self, spec, recipe, room=None):
        return lambda data: float(prepare(data, SHAPE).pixels[..., 2].mean()) / 255

    def agree(self, stored, reference, recipe):
        well = abs(stored["blue"] - reference) < 0.01
        return None if well else Difference(uri=stored["uri"])

    def summary(self, rows):
        return f"{rows.num_rows} skies"


class ContrastRecipe(FingerprintRecipe):
    task: Literal["contrast"] = "contrast"


class Contrasts(Measurer):
    def __call__(self, images, seen):
        found = super().__call__(images, seen)
        column = pa.array([float(one.std()) for one in images], pa.float32())
        return Answers({**found.columns, "contrast": column}, found.precision)


class Contrast(Fingerprint):
    name = "contrast"
    columns = (*Fingerprint.columns, pa.field("contrast", pa.float32()))
    recipe = ContrastRecipe

    def prepare(self, spec):
        found = super().prepare(spec)
        fields = found.recipe.model_dump(exclude={"task"})
        return Prepared(None, None, 0, SHAPE, ContrastRecipe(**fields))

    def load(self, setting):
        return RowMaker(self.rows, Contrasts(), setting.run_id, setting.recipe.id)


class NoTask:
    """What an entry point may name by mistake."""
'''

MORE: Final = '''
"""A source, `album://NAME/COUNT`, which makes its images itself, and a command."""

import io
from dataclasses import dataclass

import click
from PIL import Image
from pipeline.sources import Page, Shard, refs_of, with_data


@dataclass(frozen=True)
class Half(Shard):
    first: int = 0


@dataclass(frozen=True)
class Album:
    src: str

    @property
    def scope(self):
        return {"kind": "album", "src": self.src}

    def check(self, dst=None):
        pass

    def shards(self):
        return (Half(str(first), first) for first in (0, 1))

    def refs(self, shard):
        numbers = range(shard.first, int(self.src.rpartition("/")[2]), 2)
        names = [f"{self.src}/{number}.png" for number in numbers]
        data = [picture(number) for number in numbers]
        tags = [f"of {number}" for number in numbers]
        yield Page(with_data(refs_of(names, names, tags, [*map(len, data)]), data), 0)

    def contains(self, uri, member=None):
        return member is None and uri.startswith(f"{self.src}/")


def picture(number):
    sink = io.BytesIO()
    Image.new("RGB", (40, 30), (0, 0, 20 * number)).save(sink, "png")
    return sink.getvalue()


def open_album(spec):
    return Album(spec.src)


@click.command()
@click.argument("name")
@click.option("--loud", is_flag=True)
def greet(name, loud):
    """Greet somebody."""
    click.echo(f"hello, {name}" + ("!" if loud else ""))
'''

ENTRY_POINTS: Final = """
[nightlabel.tasks]
sky = outside_tasks:Sky
contrast = outside_tasks:Contrast
mistake = outside_tasks:NoTask
gone = outside_tasks:Gone

[nightlabel.sources]
album = outside_more:open_album
lost = outside_more:Lost

[nightlabel.commands]
greet = outside_more:greet
mistaken = outside_more:picture
absent = outside_more:Absent
label = outside_more:greet
"""


def install(folder: Path) -> Path:
    """Put it into `folder`, which is to stand on PYTHONPATH; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "outside_tasks.py").write_text(MODULE)
    (folder / "outside_more.py").write_text(MORE)
    facts = folder / "outside_tasks-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-tasks\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder
