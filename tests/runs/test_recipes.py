"""`recipes`, `use` and `drop`: by their functions and as commands."""

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli.failures import exit_code_of
from pipeline.cli.store.drop import drop
from pipeline.cli.store.recipes import recipes
from pipeline.cli.store.use import use
from pipeline.errors import BusyError, ConflictError, MissingError, SpecError
from pipeline.runs.finalize import inline, merge
from pipeline.runs.promotion import rows_of
from pipeline.runs.recipes import drop_recipe, list_recipes, use_recipe
from pipeline.storage import Folder
from pipeline.store.choice import Choice, begin_drop, choose, load_current
from pipeline.store.delta.table import Table
from pipeline.store.lease import Lease
from pipeline.store.parts import write_part
from pipeline.store.reader import LabelStore
from pipeline.store.recipes import load_recipes, save_recipe
from pipeline.store.runs import Counts, RunSummary, load_runs, save_run
from pipeline.store.upkeep import at_rest, part_path
from pipeline.tasks.classify import ClassifyRecipe as Recipe
from tests.runs.test_scopes import prefix
from tests.store.stores import new_table, rows

A, B = "rab000001", "rab000002"
START = datetime(2026, 1, 1, 2, tzinfo=UTC)


def document(top_k: int) -> str:
    return Recipe(
        format=1,
        model=f"/models/vit-{top_k}",
        revision=None,
        weights_sha256="0" * 64,
        network_sha256="1" * 64,
        labels_sha256="2" * 64,
        preprocessing={"size": 224},
        exif=True,
        decode="exact",
        precision="auto",
        top_k=top_k,
        multi_label=False,
    ).to_json()


def night(folder: Folder, recipe: str, day: int, names: int, **fields: Any) -> None:
    """A run of `recipe` that leaves a file at rest and a part."""
    table = Table.open(folder) or new_table(folder)
    save_recipe(folder, recipe, document(day))
    run_id = f"2026010{day}T020000Z-00000000"
    for number, some in enumerate((range(names - 1), range(names - 1, names))):
        path = part_path(run_id, recipe, number)
        table.commit(added=[write_part(folder, path, recipe, rows(list(some)))])
        if number == 0:
            merge(folder, table, run_id, inline)
    given = {
        "run_id": run_id,
        "started": START.replace(day=day),
        "finished": START.replace(day=day),
        "recipe": recipe,
        "scope": prefix(),
        "spec": {},
        "status": "complete",
        "listing_complete": True,
        "counts": Counts(listed=4, labelled=names),
    }
    save_run(folder, RunSummary.model_validate(given | fields))


@pytest.fixture
def two(folder: Folder) -> Folder:
    """Four images, all of them labelled by A, which readers see, and three by B."""
    folder.ensure()
    night(folder, A, 1, 4)
    assert choose(folder, A, Choice.read(folder))
    night(folder, B, 2, 3)
    return folder


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    found = Folder("labels")
    found.ensure()
    night(found, A, 1, 4)
    assert choose(found, A, Choice.read(found))
    night(found, B, 2, 3)
    return found


def rows_in(folder: Folder, recipe: str) -> int:
    table = Table.open(folder)
    assert table is not None
    return rows_of(table, recipe)


def test_the_recipes_of_a_store(two: Folder) -> None:
    current, other = list_recipes(two.uri)
    assert (current.recipe, current.current, current.rows, current.share) == (A, True, 4, 1.0)
    assert (other.recipe, other.current, other.rows, other.share) == (B, False, 3, 0.75)
    assert (current.differences, current.model) == ([], "/models/vit-1")
    assert other.differences == ["model /models/vit-1 → /models/vit-2", "top_k 1 → 2"]
    assert (current.last_run, other.last_run) == (START, START.replace(day=2))


def test_the_share_is_of_all_that_was_listed(two: Folder) -> None:
    """A try on a few images is no whole archive, and two sources are more than one."""
    few = prefix(limit=3)
    night(two, "rab000003", 3, 3, scope=few, counts=Counts(listed=3, labelled=3))
    assert {row.recipe: row.share for row in list_recipes(two.uri)}["rab000003"] == 0.75
    other = prefix("s3://elsewhere/")
    night(two, "rab000004", 4, 4, scope=other, counts=Counts(listed=4, labelled=4))
    assert {row.recipe: row.share for row in list_recipes(two.uri)}["rab000004"] == 0.5


def test_a_store_of_no_runs(folder: Folder) -> None:
    folder.ensure()
    with pytest.raises(MissingError, match="no label store"):
        list_recipes(folder.uri)
    new_table(folder)
    assert list_recipes(folder.uri) == []


def test_switching_and_rolling_back(two: Folder) -> None:
    assert use_recipe(two.uri, B).before == A
    assert LabelStore(two.uri).count() == 3
    back = use_recipe(two.uri, A)
    assert (back.before, back.rows, LabelStore(two.uri).count()) == (B, 4, 4)


def test_switching_while_a_night_runs(two: Folder) -> None:
    with Lease(two, "night"):
        assert use_recipe(two.uri, B).recipe == B


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("rab", f"is the beginning of {A}, {B}; there are"),
        ("rff", f"is not a recipe of this store; there are {A}, {B}"),
        ("", "is not a recipe of this store"),
        ("ab000001", "is not a recipe of this store"),
    ],
)
def test_a_recipe_that_is_not_one(two: Folder, given: str, words: str) -> None:
    for call in (use_recipe, drop_recipe):
        with pytest.raises(SpecError, match=words):
            call(two.uri, given)


def test_an_id_that_begins_another_is_itself(two: Folder) -> None:
    night(two, f"{B}0", 3, 2)
    assert use_recipe(two.uri, B).recipe == B


def test_a_recipe_without_rows_is_refused(two: Folder) -> None:
    save_recipe(two, "rcc000003", document(3))
    with pytest.raises(SpecError, match="has no rows"):
        use_recipe(two.uri, "rcc")
    assert load_current(two) == A


def test_a_dropped_recipe_leaves_nothing_that_readers_see(two: Folder) -> None:
    dropped = drop_recipe(two.uri, "rab000002")
    assert (dropped.recipe, dropped.rows, dropped.files, dropped.parts_left) == (B, 3, 2, 1)
    assert rows_in(two, B) == 0
    assert at_rest(two, [B]) == []
    assert list(load_recipes(two)) == [A]
    assert {run.recipe: run.whole for run in load_runs(two)} == {A: True, B: False}
    assert LabelStore(two.uri).count() == 4
    with pytest.raises(SpecError, match="is not a recipe of this store"):
        use_recipe(two.uri, B)


def test_a_dropped_recipe_may_be_labelled_anew(two: Folder) -> None:
    drop_recipe(two.uri, B)
    night(two, B, 3, 4)
    assert use_recipe(two.uri, B).rows == 4


def test_the_current_recipe_is_never_dropped(two: Folder) -> None:
    version = LabelStore(two.uri).version
    with Lease(two, "night"), pytest.raises(SpecError, match="is what readers see"):
        drop_recipe(two.uri, A)  # at once, though a night runs
    assert LabelStore(two.uri).version == version


def test_nothing_is_dropped_while_a_night_runs(two: Folder) -> None:
    with Lease(two, "night"):
        with pytest.raises(BusyError):
            drop_recipe(two.uri, B)
        assert rows_in(two, B) == 3
        assert drop_recipe(two.uri, B, take_over=True).rows == 3


def test_a_fenced_night_does_not_bring_a_dropped_recipe_back(two: Folder) -> None:
    asleep = Table.open(two)
    assert asleep is not None
    late = write_part(two, part_path("late", B, 0), B, rows([9]))
    drop_recipe(two.uri, B)
    with pytest.raises(ConflictError):
        asleep.commit(added=[late])


def list_names(folder: Folder) -> list[str]:
    return [row.recipe for row in list_recipes(folder.uri)]


class Died(BaseException):
    """A SIGKILL: nothing of ours handles it."""


@pytest.fixture
def dies_at_write(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Lets the process die at its nth write to the store, once that is done."""
    left = [-1]

    def dying(owner: type, name: str) -> Callable[..., Any]:
        real = getattr(owner, name)

        def call(self: Any, *given: Any, **named: Any) -> Any:
            result = real(self, *given, **named)
            if "lease" not in str(given[:1]):
                left[0] -= 1
                if left[0] == 0:
                    raise Died
            return result

        return call

    delete_one = dying(Folder, "delete")

    def delete(self: Folder, paths: Iterable[str]) -> None:
        for path in paths:
            delete_one(self, [path])

    for owner, name in [
        (Folder, "put"),
        (Folder, "create"),
        (Folder, "replace"),
        (Table, "commit"),
        (Table, "checkpoint"),
    ]:
        monkeypatch.setattr(owner, name, dying(owner, name))
    monkeypatch.setattr(Folder, "delete", delete)

    def at(number: int) -> None:
        left[0] = number

    yield at
    left[0] = -1


def test_a_drop_that_dies_anywhere_is_done_by_the_next(
    local: Folder, dies_at_write: Callable[[int], None]
) -> None:
    died = 0
    for number in range(1, 14):
        day = 3 + number % 5
        night(local, B, day, 3)
        dies_at_write(number)
        try:
            drop_recipe("labels", B)
        except Died:
            died += 1
        dies_at_write(-1)
        assert load_current(local) == A
        assert rows_in(local, A) == 4
        if B in list_names(local):  # else nothing was left to be done
            drop_recipe("labels", B)
        assert (rows_in(local, B), at_rest(local, [B]), list(load_recipes(local))) == (0, [], [A])
        assert Choice.read(local).dropping is None
    assert died > 5


def test_who_chooses_what_a_dead_drop_was_removing_hears_so(local: Folder) -> None:
    begin_drop(local, B)
    with pytest.raises(BusyError, match="run it again"):
        use_recipe("labels", B)
    assert use_recipe("labels", A).recipe == A


def test_the_commands(local: Folder) -> None:
    shown = CliRunner().invoke(recipes, ["labels"]).output.splitlines()
    assert shown[0].split() == ["recipe", "rows", "share", "last", "run", "model"]
    assert shown[1].split()[:4] == ["*", A, "4", "100.0%"]
    assert shown[2].split()[:3] == [B, "3", "75.0%"]
    assert shown[3:] == ["     model /models/vit-1 → /models/vit-2", "     top_k 1 → 2"]
    said = CliRunner().invoke(use, ["labels", B]).output
    assert said == f"readers see {B} (3 rows)\nto go back: nightlabel use labels {A}\n"
    said = CliRunner().invoke(drop, ["labels", A]).output
    assert said == f"deleted {A}: 4 rows in 2 files\n"
    found = json.loads(CliRunner().invoke(recipes, ["labels", "--json"]).output)
    assert [(row["recipe"], row["current"]) for row in found] == [(B, True)]


@pytest.mark.parametrize(
    ("command", "arguments", "code"),
    [
        (use, ["labels", "rff"], 2),
        (use, ["nowhere", "rff"], 1),
        (drop, ["labels", A], 2),
        (drop, ["labels", "r"], 2),
        (use, ["labels", B, "--json"], 0),
        (drop, ["labels", B, "--json"], 0),
    ],
)
def test_how_they_end(
    local: Folder, capsys: pytest.CaptureFixture[str], command: Any, arguments: list[str], code: int
) -> None:
    assert exit_code_of(command, arguments) == code
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    if "--json" in arguments:
        assert json.loads(shown.out)["recipe"] == B
