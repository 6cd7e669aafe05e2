"""A folder beside a store that nothing may touch, and all that is done to a store on local disk."""

import ctypes
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import MissingError, NightlabelError
from pipeline.runs.finalize import compact_store, inline, merge
from pipeline.runs.forget import forget
from pipeline.runs.recipes import drop_recipe, list_recipes, use_recipe
from pipeline.storage import Folder
from pipeline.store.delta.table import Table
from pipeline.store.lease import PATH, Lease
from pipeline.store.parts import write_part
from pipeline.store.reader import LabelStore
from pipeline.store.runs import save_run
from pipeline.store.upkeep import part_path
from tests.runs.test_recipes import A, B, night
from tests.store.stores import rows

#: Some days ago: what is younger than a day is not tidied away.
OLD = time.time() - 5 * 86_400
RUN = "20251231T020000Z-00000000"
_EXCHANGE = 2


@dataclass(frozen=True)
class Guarded:
    """A folder whose files have the names that a store's have, and a record of each."""

    top: Path

    @classmethod
    def make(cls, top: Path) -> "Guarded":
        store = Folder(str(top))
        for path in (
            f"{RUN}-00000.parquet",
            f"recipe={A}/{RUN}-00000.parquet",
            f"run/recipe={A}/000000-part.parquet",
            "0.parquet",
            "half.parquet#7",
        ):
            write_part(store, path.partition("#")[0], A, rows([1, 2]))
            if "#" in path:
                (top / path.partition("#")[0]).rename(top / path)
        for name in ("00000000000000000000.json", "_commit_1.json.tmp", "_last_checkpoint"):
            (top / name).write_text('{"add":{"path":"0.parquet"}}')
        for name in ("lease.json", "lease.json.lock", "current.json", "victim", "x.json"):
            (top / name).write_text(f"a foreign {name}, five lines long")
        for name in ("empty", "runs", "recipes", "more/empty"):
            (top / name).mkdir(parents=True)
        (top / "more/victim").write_bytes(b"another foreign file")
        (top / "runs/x.json").write_text("{}")
        for path in [*top.rglob("*"), top]:
            os.utime(path, (OLD, OLD))
        return cls(top)

    def record(self) -> dict[str, tuple[object, ...]]:
        """Kind, mode, inode, time and bytes of the folder and all below it."""
        return {str(path): _facts(path) for path in [self.top, *sorted(self.top.rglob("*"))]}

    def files(self) -> list[Path]:
        return [path for path in sorted(self.top.rglob("*")) if path.is_file()]

    def folders(self) -> list[Path]:
        return [self.top, *(path for path in sorted(self.top.rglob("*")) if path.is_dir())]

    @contextmanager
    def untouched(self) -> Iterator[None]:
        before = self.record()
        yield
        assert self.record() == before


def _facts(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    data = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
    return status.st_mode, status.st_ino, status.st_uid, status.st_mtime_ns, data


def make_store(top: Path) -> Folder:
    """Two recipes with files at rest and parts, and what dead runs left of each kind."""
    folder = Folder(str(top))
    folder.ensure()
    night(folder, A, 1, 4)
    night(folder, B, 2, 3)
    use_recipe(folder.uri, A)
    for path in (f"recipe={A}/{RUN}-00000.parquet", part_path(RUN, A, "old")):
        write_part(folder, path, A, rows([7]))
        os.utime(top / path, (OLD, OLD))
    return folder


def add_a_night(folder: Folder) -> None:
    table = Table.open(folder)
    if table is None:
        raise MissingError(f"{folder.uri}: no label store")
    run = f"20260103T{table.version:06}Z-00000000"
    table.commit(added=[write_part(folder, part_path(run, A, 0), A, rows([run]))])
    merge(folder, table, run, inline)


def _lease(folder: Folder) -> None:
    with Lease(folder, "run") as lease:
        entry = folder.stat(PATH)
        assert entry is not None
        folder.replace(PATH, lease._document(), entry.etag or "")  # as its thread does in time


def _read(folder: Folder) -> None:
    store = LabelStore(folder.uri)
    for read in (store.to_table, store.files, store.runs, store.recipes, store.refresh):
        with suppress(NightlabelError):
            read()


def _documents(folder: Folder) -> None:
    for run in LabelStore(folder.uri).runs():
        save_run(folder, run)


#: By name, everything that reads, writes or deletes in a store.
OPERATIONS: dict[str, Callable[[Folder], object]] = {
    "lease": _lease,
    "night": add_a_night,
    "read": _read,
    "recipes": lambda folder: list_recipes(folder.uri),
    "use": lambda folder: [use_recipe(folder.uri, one) for one in (B, A)],
    "documents": _documents,
    "compact": lambda folder: compact_store(folder.uri),
    "forget": lambda folder: forget(folder.uri, "s3://photos/1"),
    "unfinished": lambda folder: folder.unfinished(),
    "drop": lambda folder: drop_recipe(folder.uri, B),
}


def operate(folder: Folder) -> dict[str, NightlabelError | None]:
    """Do all of it; what each ended with."""
    ended: dict[str, NightlabelError | None] = {}
    for name, operation in OPERATIONS.items():
        try:
            operation(folder)
            ended[name] = None
        except NightlabelError as error:
            ended[name] = error
    return ended


@contextmanager
def swapped(one: Path, other: Path) -> Iterator[None]:
    """Two names change places as fast as can be, each time in one step."""
    stop = threading.Event()
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)

    def swap() -> None:
        while not stop.is_set():
            libc.renameat2(-100, names[0], -100, names[1], _EXCHANGE)
            stop.wait(0.0002)

    assert libc.renameat2(-100, names[0], -100, names[1], _EXCHANGE) == 0, ctypes.get_errno()
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
