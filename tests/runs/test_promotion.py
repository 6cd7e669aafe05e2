"""When a run changes what readers see, and when it says why it does not."""

from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.runs.promotion import Promotion, current_of, why_not
from pipeline.storage import Folder
from pipeline.store.choice import Choice, begin_drop, choose, load_current
from pipeline.store.parts import write_part
from pipeline.store.runs import RunSummary, load_runs, save_run
from pipeline.store.upkeep import part_path
from tests.parts.stores.indexes import forge
from tests.runs.test_scopes import prefix
from tests.store.stores import new_table, rows

A, B = "r0000000a", "r0000000b"
WHOLE = {"status": "complete", "listing_complete": True}


def run(recipe: str, number: int = 0, **fields: Any) -> RunSummary:
    given: dict[str, Any] = {
        "run_id": f"20260101T020000Z-{recipe}{number}",
        "started": datetime(2026, 1, 1, tzinfo=UTC),
        "recipe": recipe,
        "scope": prefix(),
        "spec": {"dst": "s3://b/labels"},
    }
    return RunSummary.model_validate(given | WHOLE | fields)


def test_a_whole_run_may_be_promoted() -> None:
    assert why_not(run(B), A, [run(A), run(B)]) is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"status": "incomplete", "exit_code": 4}, "ended incomplete, with exit 4"),
        ({"status": "incomplete", "exit_code": 0}, "ended incomplete, with exit 0"),  # --partial-ok
        ({"status": "gate", "exit_code": 3}, "ended gate, with exit 3"),
        ({"status": "interrupted", "exit_code": 130}, "ended interrupted"),
        ({"listing_complete": False}, "ended complete"),
        ({"spec": {"limit": 3}}, "--limit"),
        ({"spec": {"max_images": 3}}, "--max-images"),
        ({"scope": prefix(include=["*.jpg"])}, f"{A} also covers s3://b/photos/"),
        ({"scope": prefix(exclude=["a"])}, f"{A} also covers"),
        ({"scope": prefix("s3://b/photos/2024/")}, f"{A} also covers"),
        ({"scope": prefix(limit=5)}, f"{A} also covers"),
        ({"scope": prefix(modified_since="7d")}, f"{A} also covers"),
        ({"scope": prefix(colour="red")}, f"{A} also covers"),
    ],
)
def test_no_other_run_is(fields: dict[str, Any], words: str) -> None:
    why = why_not(run(B, **fields), A, [run(A)])
    assert why is not None
    assert words in why


def test_every_scope_of_the_current_recipe_is_covered_by_some_run() -> None:
    one, other = prefix("s3://b/one/"), prefix("s3://b/other/")
    old = [run(A, 1, scope=one), run(A, 2, scope=other)]
    assert why_not(run(B, 2, scope=other), A, old) is not None
    assert why_not(run(B, 2, scope=other), A, [*old, run(B, 1, scope=one)]) is None
    assert why_not(run(B, scope=prefix("s3://b/")), A, old) is None
    narrow = run(B, 2, scope=prefix("s3://b/one/", exclude=["a"]))
    assert why_not(narrow, A, [*old, run(B, 1, scope=prefix("s3://b/"))]) is not None
    part = run(B, 1, scope=one, status="incomplete")
    assert why_not(run(B, 2, scope=other), A, [*old, part]) is not None
    gone = run(B, 1, scope=one, dropped=True)
    assert why_not(run(B, 2, scope=other), A, [*old, gone]) is not None


def test_only_whole_runs_of_the_current_recipe_count_where_there_are_any() -> None:
    tried = run(A, 1, scope=prefix("s3://b/elsewhere/"), status="incomplete")
    assert why_not(run(B), A, [run(A), tried]) is None
    assert why_not(run(B), A, [tried]) is not None


class Store:
    """Runs without images: one row a name."""

    def __init__(self, folder: Folder) -> None:
        folder.ensure()
        self.folder, self.table = folder, new_table(folder)
        self.runs = 0

    def begin(self, recipe: str, *, asked: bool = False) -> tuple[Promotion, RunSummary]:
        self.runs += 1
        summary = run(recipe, self.runs, status="running", spec={"dst": "DST"})
        return Promotion.begin(self.folder, self.table, recipe, asked=asked), summary

    def write(self, recipe: str, names: int) -> None:
        path = part_path(f"n{self.runs}", recipe, self.runs)
        self.table.commit(added=[write_part(self.folder, path, recipe, rows(range(names)))])

    def end(self, promotion: Promotion, summary: RunSummary, **fields: Any) -> RunSummary:
        summary = summary.model_copy(update=WHOLE | fields)
        promotion.end(summary)
        save_run(self.folder, summary)
        assert list(load_runs(self.folder))
        return summary

    def night(self, recipe: str, names: int = 3, *, asked: bool = False, **end: Any) -> RunSummary:
        promotion, summary = self.begin(recipe, asked=asked)
        if names:
            self.write(recipe, names)
        return self.end(promotion, summary, **end)


@pytest.fixture
def store(folder: Folder) -> Store:
    return Store(folder)


def test_the_first_run_is_seen_at_once(store: Store) -> None:
    promotion, summary = store.begin(A)
    assert load_current(store.folder) == A
    assert store.end(promotion, summary).current == A


def test_a_current_recipe_without_rows_is_none(store: Store) -> None:
    store.night(A, names=0, status="failed")
    assert current_of(store.folder, store.table) is None
    store.night(B, status="gate")
    assert load_current(store.folder) == B


def test_another_recipe_is_not_seen_unasked(store: Store) -> None:
    store.night(A)
    beside = store.night(B)
    assert (load_current(store.folder), beside.current, beside.promoted) == (A, A, None)
    chosen = store.night(B, names=0, asked=True)
    assert (load_current(store.folder), chosen.current, chosen.promoted) == (B, B, True)


def test_an_older_recipe_again_moves_nothing(store: Store) -> None:
    store.night(A)
    store.night(B, asked=True)
    assert (store.night(A).current, load_current(store.folder)) == (B, B)
    assert store.night(A, names=0, asked=True).promoted is True


def test_what_was_not_promoted_names_the_command(store: Store) -> None:
    store.night(A)
    some = store.night(B, asked=True, status="incomplete", exit_code=4)
    assert (some.promoted, load_current(store.folder)) == (False, A)
    assert some.not_promoted == (
        "not promoted: the run ended incomplete, with exit 4; readers see r0000000a. "
        "To choose it anyway: nightlabel use DST r0000000b"
    )


def test_what_a_person_chose_meanwhile_stands(store: Store) -> None:
    store.night(A)
    promotion, summary = store.begin(B, asked=True)
    store.write(B, 3)
    assert choose(store.folder, A, Choice.read(store.folder))
    ended = store.end(promotion, summary)
    assert (ended.promoted, ended.current) == (False, A)
    assert "somebody chose another recipe while it ran" in str(ended.not_promoted)


def test_a_run_ends_what_a_dead_drop_left(store: Store) -> None:
    store.night(A)
    store.night(B)
    begin_drop(store.folder, B)
    assert store.night(B, names=0, asked=True).promoted is True


def test_summaries_of_older_versions_load(folder: Folder) -> None:
    folder.ensure()
    old = run(A).model_dump(mode="json")
    for name in ("current", "promoted", "not_promoted", "dropped"):
        del old[name]
    save_run(folder, RunSummary.model_validate(old))
    assert [found.whole for found in load_runs(folder)] == [True]


def test_readers_are_moved_by_the_documents_of_runs_alone(store: Store) -> None:
    """An index that says of the current recipe's run that it was over less."""
    narrow = prefix("s3://b/photos/2024/")
    wide = store.night(A)
    forge(store.folder, wide.model_copy(update={"scope": narrow}))
    refused = store.night(B, asked=True, scope=narrow)
    assert f"{A} also covers s3://b/photos/" in str(refused.not_promoted)
    assert load_current(store.folder) == A
