"""Processes that promote, choose and drop recipes of one store until somebody kills them.

    python -m tests.chaos.choosers URI LOG

loads what they need, once; each line on its stdin, a seed, starts one, whose pid it prints. What
a process asks to be chosen it writes to LOG first, and what it died of where nothing should.
"""

import importlib
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pipeline.errors import BusyError, ConflictError, SpecError
from pipeline.runs.promotion import Promotion, rows_of
from pipeline.runs.recipes import drop_recipe, use_recipe
from pipeline.storage import Folder
from pipeline.store.delta.table import Table
from pipeline.store.lease import Lease
from pipeline.store.parts import write_part
from pipeline.store.recipes import save_recipe
from pipeline.store.runs import Counts, RunSummary, new_run_id, save_run
from pipeline.store.upkeep import part_path
from tests.store.stores import new_table, rows

WHOLE: Final = ("r0000000a", "r0000000b", "r0000000c")
#: Its runs always leave something: it may ask to be promoted, and must never be.
PART: Final = "r0000000d"
ROWS: Final = 3
#: What a deed would import first, in each process anew.
LOADED_LATE: Final = ("deltalake", "deltalake.transaction", "pandas", "pyarrow.parquet")
SCOPE: Final = {"kind": "prefix", "src": "s3://photos/", "include": [], "exclude": []}

#: How such a deed may end when others are at work, or when the last one was killed in its midst.
EXPECTED: Final = (BusyError, ConflictError, SpecError)


def label(folder: Folder, recipe: str, *, promote: bool) -> None:
    """What a run does of which readers could see something; its rows come in one commit."""
    run_id = new_run_id(datetime.now(UTC))
    with Lease(folder, run_id):
        table = Table.open(folder) or new_table(folder)
        save_recipe(folder, recipe, "{}")
        promotion = Promotion.begin(folder, table, recipe, asked=promote)
        run = RunSummary(
            run_id=run_id, started=datetime.now(UTC), recipe=recipe, scope=SCOPE, spec={}
        )
        save_run(folder, run)
        if not rows_of(table, recipe):
            part = write_part(folder, part_path(run_id, recipe, 0), recipe, rows(range(ROWS)))
            table.commit(added=[part])
        whole = recipe != PART
        run.status, run.exit_code = ("complete", 0) if whole else ("incomplete", 4)
        run.listing_complete, run.counts = True, Counts(listed=ROWS)
        promotion.end(run)
        save_run(folder, run)


def deed(folder: Folder, draw: random.Random, ask: Callable[[str], None]) -> None:
    what, recipe = draw.choice(("use", "label", "promote", "drop")), draw.choice(WHOLE)
    if what == "use":
        ask(recipe)
        use_recipe(folder.uri, recipe)
    elif what == "drop":
        drop_recipe(folder.uri, recipe)
    else:
        recipe = draw.choice((*WHOLE, PART))
        if what == "promote" and recipe != PART:
            ask(recipe)
        label(folder, recipe, promote=what == "promote")


def live(uri: str, log: Path, seed: int) -> None:
    """One process: deeds without end."""
    draw, folder = random.Random(seed), Folder(uri)
    file = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)

    def ask(recipe: str) -> None:
        os.write(file, f"asked {recipe}\n".encode())

    Table.open(folder)  # to find credentials and what is loaded late takes longer than a deed
    os.write(file, f"ready {os.getpid()}\n".encode())
    while True:
        try:
            deed(folder, draw, ask)
            os.write(file, b"done\n")
        except EXPECTED:
            pass
        except BaseException:
            os.write(file, f"died {traceback.format_exc()!r}\n".encode())
            raise


def main(arguments: list[str]) -> None:
    uri, log = arguments[0], Path(arguments[1])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for name in LOADED_LATE:
        importlib.import_module(name)
    for line in sys.stdin:
        # Nothing here has used a store yet, so no thread of one is lost in the fork.
        if (pid := os.fork()) == 0:
            live(uri, log, int(line))
        print(pid, flush=True)


def started(uri: str, log: Path) -> dict[str, Any]:
    """Arguments of `subprocess.Popen`."""
    return {"args": [sys.executable, "-m", "tests.chaos.choosers", uri, str(log)], "text": True}


if __name__ == "__main__":
    main(sys.argv[1:])
