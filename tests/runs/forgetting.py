"""Stores that hold an image everywhere a store can, and all ways to look for it."""

import io
from pathlib import Path

import deltalake
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.runs.finalize import inline, merge
from pipeline.storage import Folder
from pipeline.store.delta.table import Table
from pipeline.store.parts import write_part
from pipeline.store.reader import LabelStore
from pipeline.store.upkeep import at_rest, part_path
from tests.runs.test_recipes import A, B, night
from tests.store.stores import new_table, rows

NAME = "jane-doe.jpg"
URI = f"s3://photos/{NAME}"


def everything(folder: Folder) -> dict[str, bytes]:
    """The bytes of every file, Parquet decoded too; on local disk with what `list` leaves out."""
    names = {folder.relative(entry.uri) for entry in folder.list()} | {*folder.unfinished()}
    found = {name: folder.read(name) for name in names if "#" not in name}
    for name, data in list(found.items()):
        if name.endswith(".parquet"):
            try:
                decoded = pq.read_table(io.BytesIO(data), partitioning=None)
            except pa.ArrowInvalid:  # none of ours
                continue
            found[f"{name} decoded"] = repr(decoded.to_pylist()).encode()
            found[f"{name} footer"] = repr(pq.read_metadata(io.BytesIO(data)).to_dict()).encode()
    return found


def tell(folder: Folder, text: str = NAME) -> list[str]:
    return sorted(name for name, data in everything(folder).items() if text.encode() in data)


def write(folder: Folder, recipe: str, run: str, names: list[str | int]) -> None:
    """Two parts, one of which comes to rest: the other stays a live part."""
    table = Table.open(folder) or new_table(folder)
    half = len(names) // 2
    for number, some in enumerate((names[:half], names[half:])):
        part = write_part(folder, part_path(run, recipe, number), recipe, rows(some))
        table.commit(added=[part])
        if number == 0:
            merge(folder, table, run, inline)


def fill(folder: Folder) -> None:
    """Two recipes that label it, in files at rest, live parts, orphans, strays, and no commit."""
    folder.ensure()
    night(folder, A, 1, 4)
    night(folder, B, 2, 3)
    for recipe in (A, B):
        write(folder, recipe, f"other-{recipe}", [NAME, f"{recipe}-a", f"{recipe}-b", "zz"])
    table = Table.open(folder)
    assert table is not None
    live = [file for file in table.live() if file.path.startswith("recipe=")]
    # A row that was replaced: the old one lies in a file at rest that no version names.
    new = write_part(folder, part_path("replacing", A, 0), A, rows([f"{A}-c"]))
    one = next(file for file in live if file.path.startswith(f"recipe={A}/other-"))
    table.commit(added=[new, write_part(folder, part_path("r", A, 1), A, rows([NAME, f"{A}-a"]))])
    table.commit(removed=[one])
    write_part(folder, part_path("dead", B, 0), B, rows(["never", NAME]))
    write_part(folder, f"_parts/dead/{0}.parquet", B, rows([NAME]))


@pytest.fixture
def store(folder: Folder) -> Folder:
    fill(folder)
    return folder


@pytest.fixture
def local(tmp_path: Path) -> Folder:
    found = Folder(str(tmp_path / "labels"))
    fill(found)
    return found


def by_recipe(folder: Folder) -> dict[str, list[str]]:
    """All rows that the newest version has, and the same as delta-rs and Polars read them."""
    table = deltalake.DeltaTable(folder.delta_url, storage_options=folder.delta_options)
    access = {k: v for k, v in folder.delta_options.items() if k.startswith("AWS_")}
    frame = pl.read_delta(folder.delta_url, storage_options=access or None)
    read = table.to_pyarrow_table(columns=["recipe", "uri"]).to_pylist()
    pairs = sorted((row["recipe"], row["uri"]) for row in read)
    assert pairs == sorted(frame.select("recipe", "uri").rows())
    assert len(pairs) == len(set(pairs))
    return {recipe: [uri for name, uri in pairs if name == recipe] for recipe, _ in pairs}


def plain(folder: Folder) -> list[tuple[str, str]]:
    """What readers of `recipe=*/*.parquet` see."""
    found = []
    for path in at_rest(folder, [A, B]):
        table = pq.read_table(io.BytesIO(folder.read(path)), partitioning=None)
        recipe = path.partition("/")[0].removeprefix("recipe=")
        found += [(recipe, uri) for uri in table["uri"].to_pylist()]
    return sorted(found)


def goes_on(folder: Folder) -> None:
    """The next night commits, merges and looks at what the version of any moment named."""
    table = Table.open(folder)
    assert table is not None
    for entry in folder.list("_parts/"):
        table.paths_at(folder, entry.modified)
    run = f"next-{table.version}"
    table.commit(added=[write_part(folder, part_path(run, A, 0), A, rows([run]))])
    merge(folder, table, run, inline)
    found = by_recipe(folder)
    assert f"s3://photos/{run}" in found[A]
    assert plain(folder) == sorted((recipe, uri) for recipe in found for uri in found[recipe])
    assert LabelStore(folder.uri).version == table.version


def without(rows_before: dict[str, list[str]]) -> dict[str, list[str]]:
    return {recipe: [u for u in uris if u != URI] for recipe, uris in rows_before.items()}


def uris_in(folder: Folder, path: str) -> list[str]:
    table = pq.read_table(io.BytesIO(folder.read(path)), partitioning=None)
    return [str(uri) for uri in table["uri"].to_pylist()]


def without_nights(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {recipe: [u for u in uris if "next-" not in u] for recipe, uris in found.items()}
