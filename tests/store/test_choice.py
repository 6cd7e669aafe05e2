"""Which recipe readers see: swapped, never overwritten, and never one that is being removed."""

import json

import pytest

from pipeline.errors import BusyError, ConflictError, SpecError
from pipeline.storage import Folder
from pipeline.store.choice import (
    CURRENT,
    Choice,
    begin_drop,
    choose,
    clear_dead_drop,
    end_drop,
    load_current,
)
from pipeline.store.delta.table import Table
from tests.store.stores import new_table

A, B, C = "r0000000a", "r0000000b", "r0000000c"


@pytest.fixture
def chosen(folder: Folder) -> Folder:
    """A store whose readers see A."""
    folder.ensure()
    assert choose(folder, A, Choice.read(folder))
    return folder


def read(folder: Folder) -> dict[str, str]:
    found: dict[str, str] = json.loads(folder.read(CURRENT))
    return found


def test_the_first_choice_is_made_once(folder: Folder) -> None:
    folder.ensure()
    nothing = Choice.read(folder)
    assert (nothing.recipe, nothing.etag, load_current(folder)) == (None, None, None)
    assert choose(folder, A, nothing)
    assert not choose(folder, B, nothing)
    assert load_current(folder) == A


def test_the_last_to_choose_is_not_undone(chosen: Folder) -> None:
    """By a run that began before it, slept and was taken over."""
    sleeper = Choice.read(chosen)
    assert choose(chosen, B, Choice.read(chosen))
    assert not choose(chosen, C, sleeper)
    assert load_current(chosen) == B


def test_a_choice_that_came_back_is_another(chosen: Folder) -> None:
    """On object stores the etag is the MD5 of the bytes."""
    sleeper = Choice.read(chosen)
    assert choose(chosen, B, Choice.read(chosen))
    assert choose(chosen, A, Choice.read(chosen))
    assert not choose(chosen, C, sleeper)
    assert load_current(chosen) == A


def test_choosing_what_is_chosen_is_a_choice(chosen: Folder) -> None:
    """A person's word stands against a night that was told to promote before."""
    night = Choice.read(chosen)
    assert choose(chosen, A, Choice.read(chosen))
    assert not choose(chosen, B, night)


def test_the_document_of_an_older_version(folder: Folder) -> None:
    folder.ensure()
    folder.put(CURRENT, json.dumps({"recipe": A}).encode())
    seen = Choice.read(folder)
    assert (seen.recipe, seen.dropping) == (A, None)
    assert choose(folder, B, seen)
    assert set(read(folder)) == {"recipe", "choice"}


def test_an_answer_that_was_lost_is_found(chosen: Folder) -> None:
    """The first try landed, and the second was refused since the etag is another."""

    class Deaf(Folder):
        def replace(self, path: str, data: bytes, etag: str) -> bool:
            super().replace(path, data, etag)
            return False

    assert choose(Deaf(chosen.uri), B, Choice.read(chosen))
    assert load_current(chosen) == B


def test_what_readers_see_is_never_dropped(chosen: Folder, folder: Folder) -> None:
    with pytest.raises(SpecError, match="is what readers see"):
        begin_drop(chosen, A)
    assert read(chosen).keys() == {"recipe", "choice"}


def test_nothing_is_dropped_where_nothing_is_chosen(folder: Folder) -> None:
    folder.ensure()
    with pytest.raises(SpecError, match="no recipe is chosen yet"):
        begin_drop(folder, B)


def test_what_is_being_dropped_is_never_chosen(chosen: Folder) -> None:
    begin_drop(chosen, B)
    with pytest.raises(BusyError, match="is being removed"):
        choose(chosen, B, Choice.read(chosen))
    assert choose(chosen, C, Choice.read(chosen))  # another may be
    with pytest.raises(BusyError):
        choose(chosen, B, Choice.read(chosen))
    end_drop(chosen, B)
    assert choose(chosen, B, Choice.read(chosen))


def test_a_drop_that_begins_while_somebody_chooses_wins(chosen: Folder) -> None:
    person = Choice.read(chosen)  # and now looks at the rows
    begin_drop(chosen, B)
    end_drop(chosen, B)  # done, as fast as can be: the document says what it said before
    assert not choose(chosen, B, person)
    assert load_current(chosen) == A


def test_a_choice_that_is_made_while_a_drop_begins_wins(chosen: Folder) -> None:
    class Meanwhile(Folder):
        chosen = False

        def replace(self, path: str, data: bytes, etag: str) -> bool:
            if not Meanwhile.chosen:
                Meanwhile.chosen = True
                assert choose(Folder(self.uri), B, Choice.read(Folder(self.uri)))
            return super().replace(path, data, etag)

    with pytest.raises(SpecError, match="is what readers see"):
        begin_drop(Meanwhile(chosen.uri), B)
    assert load_current(chosen) == B


def test_only_the_mark_of_ones_own_drop_is_taken_away(chosen: Folder) -> None:
    begin_drop(chosen, B)
    end_drop(chosen, C)
    assert read(chosen)["dropping"] == B


def test_a_drop_that_sleeps_is_fenced_before_its_mark_goes(chosen: Folder) -> None:
    new_table(chosen)
    asleep, heir = Table.open(chosen), Table.open(chosen)
    assert asleep is not None
    assert heir is not None
    begin_drop(chosen, B)
    clear_dead_drop(chosen, heir)
    assert read(chosen).keys() == {"recipe", "choice"}
    with pytest.raises(ConflictError):
        asleep.commit()


def test_where_no_drop_died_nothing_is_written(chosen: Folder) -> None:
    table = new_table(chosen)
    before = read(chosen)
    clear_dead_drop(chosen, table)
    assert (read(chosen), table.version) == (before, 0)
