"""Five thousand names that others may give to what they put into DST, and ask for: seeded."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from pipeline.errors import NightlabelError, StoreError
from pipeline.storage import Folder
from pipeline.store.reader import LabelStore
from tests.parts.stores.guarded import OLD, RUN, Guarded, make_store, operate
from tests.runs.test_links import STAND_INS
from tests.runs.test_recipes import A, B

NAMES: Final = 5_000
IN_A_STORE: Final = 250

#: Names of ours, and what people and attackers give.
OURS: Final = (
    "{n:05}.parquet",
    f"{RUN}-{{n:05}}.parquet",
    "{n:06}-0123abcd-part.parquet",
    "compact-{n:06}.parquet",
    "{n:020}.json",
    "{n:020}.checkpoint.parquet",
    "_commit_{n}.json.tmp",
    "{n:05}.parquet#{n}",
    "clock-{n}",
)
ODD: Final = (
    "%2e%2e", "..%2f..%2f", "%2E./victim", "..\\..\\victim", "C:\\victim", "\\\\host\\share",
    "…", "\uff0e\uff0e", "ü\u0308", "\u202egpj.exe", "file:", "s3:", "*", "?", "~", "$HOME", "-rf",
    " ", "a b ", "a\nb", "\x1b[2J", "\x7f", "x" * 200, "日本" * 30, "recipe=", "recipe=..",
    "\udcff\udcfe",
)  # fmt: skip
PLACES: Final = (
    "", "more/", "a/b/c/d/", "_parts/", f"_parts/{RUN}/", f"_parts/{RUN}/recipe={A}/",
    f"recipe={A}/", f"recipe={B}/", f"recipe={A}/deep/er/", "_nightlabel/", "_nightlabel/more/",
)  # fmt: skip
#: Where a link is not passed over but refused, with all that would be done.
REFUSED: Final = ("_delta_log/", "_delta_log/more/", "_nightlabel/runs/", "_nightlabel/recipes/")


@dataclass(frozen=True)
class Hostile:
    """A thing at `path`; `kind` is one of STAND_INS, or a folder or file of its own."""

    path: str
    kind: str
    target: Path


def hostile(
    dice: random.Random, number: int, guarded: Guarded, store: Path, places: tuple[str, ...]
) -> Hostile:
    name = dice.choice(OURS).format(n=number)
    if dice.random() < 0.5:
        name = f"{dice.choice(ODD)}{number}{dice.choice(('', '.parquet', '.json', '#1'))}"
    for _ in range(dice.choice((0, 0, 0, 1, 3))):
        name = f"{dice.choice(('sub', '%2e%2e', 'recipe=x', '日本'))}{number}/{name}"
    kind = dice.choice([*STAND_INS, "link", "folder", "file"])
    targets = guarded.files() if kind == "hard" else [*guarded.files(), *guarded.folders(), store]
    place = dice.choice(places)
    if not place and name.startswith("recipe="):  # would stand in for a recipe's folder
        place = "more/"
    return Hostile(place + name, kind, dice.choice(targets))


def put_there(store: Path, thing: Hostile) -> None:
    place = store / thing.path
    place.parent.mkdir(parents=True, exist_ok=True)
    if thing.kind == "folder":
        place.mkdir()
        (place / "inner").symlink_to(thing.target)
    elif thing.kind == "file":
        place.write_bytes(b"of others")
    else:
        STAND_INS[thing.kind](place, thing.target)
    if thing.kind != "hard":
        os.utime(place, (OLD, OLD), follow_symlinks=False)


def asked(folder: Folder, path: str) -> Iterator[Callable[[], object]]:
    """All that a path from a document or the log may be asked for."""
    yield lambda: folder.read(path)
    yield lambda: folder.stat(path)
    yield lambda: list(folder.list(f"{path}/"))
    yield lambda: folder.replace(path, b"ours", "etag")
    yield lambda: folder.create(path, b"ours")
    yield lambda: folder.put(f"{path}/victim", b"ours")
    yield lambda: folder.delete([f"{path}/victim", f"{path}/more/victim"])
    yield lambda: folder.copy(path, f"{path}/copy")
    yield lambda: folder.put(path, b"ours")
    yield lambda: folder.delete([path])


def leading_out(dice: random.Random, guarded: Guarded, store: Path) -> str:
    """A path that would lead to the guarded folder if any part of it were taken at its word."""
    victim = os.path.relpath(dice.choice(guarded.files()), store)
    before = dice.choice(("", "_parts/../", f"recipe={A}/../", "./", "_parts//../", "a/b/../../"))
    turned: list[Callable[[str], str]] = [
        lambda path: path,
        lambda path: path.replace("..", "%2e%2e"),
        lambda path: path.replace("../", "%2e%2e%2f", 1),
        lambda path: path.replace("/", "\\"),
        lambda path: f"{store.parent}/{path.removeprefix('../')}",
        lambda path: f"file://{store}/{path}",
        lambda path: path.replace("..", "\uff0e\uff0e"),
    ]
    return dice.choice(turned)(before + victim)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("made") / "labels"
    make_store(top)
    return top


@pytest.mark.parametrize("batch", range(NAMES // IN_A_STORE))
def test_no_name_leads_out_of_the_store(made: Path, tmp_path: Path, batch: int) -> None:
    dice = random.Random(f"links {batch}")
    store, guarded = tmp_path / "labels", Guarded.make(tmp_path / "guarded")
    shutil.copytree(made, store)
    folder = Folder(str(store))
    places = REFUSED if batch % 5 == 0 else PLACES
    things = [
        hostile(dice, batch * IN_A_STORE + n, guarded, store, places) for n in range(IN_A_STORE)
    ]
    for thing in things:
        put_there(store, thing)
    with guarded.untouched():
        ended = operate(folder)
        if places is PLACES:
            assert {name: error for name, error in ended.items() if error} == {}
            assert LabelStore(folder.uri).count() == 4  # of A: three of its own, and a night's
        for thing in things:
            for call in asked(folder, thing.path):
                with suppress(NightlabelError):
                    call()
        for _ in range(IN_A_STORE):
            path = leading_out(dice, guarded, store)
            for call in asked(folder, path):
                with suppress(NightlabelError):
                    call()


def test_paths_through_a_link_are_refused_by_name(tmp_path: Path) -> None:
    guarded = Guarded.make(tmp_path / "guarded")
    folder = Folder(str(tmp_path / "labels"))
    folder.ensure()
    (tmp_path / "labels/link").symlink_to(guarded.top)
    with guarded.untouched():
        for call in asked(folder, "link/more"):
            with pytest.raises(StoreError, match="labels/link is a symbolic link"):
                call()
