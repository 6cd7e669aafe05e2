"""A new user's walk: every command of docs/how-do-i.md, from top to bottom, on one archive."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline import LabelStore, demo
from pipeline.storage import canonical
from tests.parts.models.tiny import image_bytes, make_model

PAGE = Path(__file__).parents[2] / "docs" / "how-do-i.md"
IMAGES = 12
OLD = 1_500_000_000
DUCKDB = """#!{python}
import sys, duckdb
print(duckdb.sql(sys.argv[2]))
"""


def commands(page: str) -> Iterator[tuple[str, str]]:
    """(heading, command) for every `sh` block of a page."""
    for section in re.split(r"^## … ", page, flags=re.MULTILINE)[1:]:
        heading = section.partition("\n")[0]
        for block in re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
            yield heading, block


class Walk:
    """A folder with `photos`, `vit` and `vit-2`, and a shell in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.photos = folder / "photos"
        for name in ("bag", "coat"):
            shutil.copytree(demo.images() / name, self.photos / name)
            for path in sorted((self.photos / name).iterdir())[IMAGES // 2 :]:
                path.unlink()
        make_model(folder / "vit")
        make_model(folder / "vit-2", seed=1)
        self.put("broken.jpg", b"\xff\xd8\xff no photograph")
        tools = folder / "bin"
        tools.mkdir()
        (tools / "duckdb").write_text(DUCKDB.format(python=sys.executable))
        (tools / "duckdb").chmod(0o755)
        here = Path(sys.executable).parent
        path = os.pathsep.join([str(tools), str(here), os.environ["PATH"]])
        self._env = os.environ | {"PATH": path}

    def put(self, name: str, data: bytes, modified: int | None = None) -> None:
        path = self.photos / name
        path.write_bytes(data)
        if modified is not None:
            os.utime(path, (modified, modified))

    def run(self, command: str) -> str:
        ran = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=300,
        )
        said = f"{ran.stdout}\n{ran.stderr}"
        assert ran.returncode == 0, f"$ {command}\nexit {ran.returncode}\n{said}"
        return ran.stdout

    def rows(self, store: str = "labels") -> dict[str, dict[str, object]]:
        """The current rows by their path below the folder; fails on a doubled one."""
        rows = LabelStore(str(self.folder / store)).to_table().to_pylist()
        home = canonical(str(self.folder)).rstrip("/") + "/"
        named = {row["uri"].removeprefix(home): row for row in rows}
        assert len(named) == len(rows)
        return named

    def store_recipes(self) -> set[str]:
        return {str(row["recipe_id"]) for row in self.rows().values()}


def _labelled(walk: Walk, _: str) -> None:
    assert len(walk.rows()) == IMAGES + 1
    walk.put("old.jpg", image_bytes(1), OLD)
    walk.put("new.jpg", image_bytes(2))


def _last_week(walk: Walk, _: str) -> None:
    assert "photos/new.jpg" in walk.rows()
    assert "photos/old.jpg" not in walk.rows()


def _examples(walk: Walk, out: str) -> None:
    assert "class " in out
    assert "photos/" in out


def _errors(walk: Walk, out: str) -> None:
    if "broken.jpg" in out:
        walk.put("broken.jpg", image_bytes(3))


def _current(walk: Walk, out: str) -> None:
    assert re.search(rf"\b{len(walk.rows())}\b", out)
    assert "labelled_at" in out or "precision" in out


def _fewer(walk: Walk, _: str) -> None:
    recipes = LabelStore(str(walk.folder / "labels")).recipes()
    assert len(recipes) == 2


def _promoted(walk: Walk, _: str) -> None:
    assert len(walk.rows()) == IMAGES + 3
    assert len(LabelStore(str(walk.folder / "labels")).recipes()) == 3


def _erased(walk: Walk, _: str) -> None:
    name = "photos/bag/00018.png"
    assert name not in walk.rows()
    (walk.folder / name).unlink()


def _moved_store(walk: Walk, _: str) -> None:
    assert walk.rows("labels-2").keys() == walk.rows().keys()


def _moved_archive(walk: Walk, _: str) -> None:
    assert {name.partition("/")[0] for name in walk.rows()} == {"photos-2"}
    again = "nightlabel label photos-2 labels --model vit-2 --json"
    assert json.loads(walk.run(again))["counts"]["labelled"] == 0


def _measured(walk: Walk, out: str) -> None:
    assert "img/s" in out


CHECKS: dict[str, Callable[[Walk, str], None]] = {
    "label an archive": _labelled,
    "label only last week's images": _last_week,
    "see examples of each label": _examples,
    "see the images that the model is least sure of": _examples,
    "see which images failed, and why": _errors,
    "read the current labels in pandas, Polars, DuckDB or Spark": _current,
    "keep fewer labels for each image": _fewer,
    "relabel with a new model, and switch readers to it": _promoted,
    "erase a person's image everywhere": _erased,
    "move the label store": _moved_store,
    "move the archive": _moved_archive,
    "know the time and the cost of ten million images": _measured,
}


@pytest.fixture
def walk(tmp_path: Path) -> Walk:
    return Walk(tmp_path)


@pytest.mark.ray
def test_every_command_of_the_page_does_what_it_says(walk: Walk) -> None:
    done = list(commands(PAGE.read_text()))
    assert {heading for heading, _ in done} == CHECKS.keys()
    for heading, command in done:
        CHECKS[heading](walk, walk.run(command))
