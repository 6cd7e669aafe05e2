"""A little store, and mutants of it without end, each made again from its seed and number."""

import json
import random
import re
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from pipeline.storage import Folder
from pipeline.store.choice import CURRENT
from pipeline.store.lease import PATH
from pipeline.store.parts import write_part
from pipeline.store.recipes import RECIPES
from pipeline.store.runs import RunSummary, save_run
from pipeline.store.upkeep import part_path
from tests.store.stores import RECIPE, new_table, rows

COMMITS: Final = 21
#: The commits that add a file: before the checkpoint and after it.
PARTS: Final = (0, 3, 20)
_HUGE: Final = (0, -1, 1.5, 1e308, 2**31, 2**62, 2**63, 2**64, -(2**63), 10**30, 10**5000)
_NUMBER: Final = re.compile(rb"-?\d+")


class Mutant(NamedTuple):
    """`path` of the store has become `data`, by these blows."""

    number: int
    path: str
    blows: tuple[str, ...]
    data: bytes


def little_store(top: Path) -> Folder:
    """Two runs, a checkpoint, a commit after it, parts of a few rows, one with errors."""
    folder = Folder(str(top))
    folder.ensure()
    table = new_table(folder)
    for number in range(COMMITS):
        if number in PARTS:
            labels = rows(range(3 * number, 3 * number + 3), error="empty" if number else None)
            path = part_path("run", RECIPE, number)
            table.commit(added=[write_part(folder, path, RECIPE, labels)])
        else:
            table.commit()
    started = datetime(2026, 1, 2, tzinfo=UTC)
    for day in range(2):
        at = started + timedelta(days=day)
        run_id = f"{at:%Y%m%dT%H%M%SZ}-aaaaaaaa"
        scope = {"kind": "prefix", "src": "s3://photos/", "include": ["*.jpg"], "exclude": []}
        save_run(folder, RunSummary(run_id=run_id, started=at, recipe=RECIPE, scope=scope, spec={}))
    folder.put(CURRENT, json.dumps({"recipe": RECIPE, "choice": "a" * 32}).encode())
    folder.put(f"{RECIPES}{RECIPE}.json", json.dumps(_RECIPE).encode())
    holder = dict.fromkeys(("run_id", "host", "boot_id", "token"), "x") | {"pid": 1, "started": 2}
    folder.put(PATH, json.dumps(holder).encode())
    return folder


_RECIPE: Final = {
    "format": 1, "model": "m", "revision": None, "weights_sha256": "a", "network_sha256": "b",
    "labels_sha256": "c", "preprocessing": {"height": 24, "config": "{}"}, "exif": True,
    "decode": "fast", "precision": "auto", "top_k": 5, "multi_label": False,
}  # fmt: skip


def documents(top: Path) -> dict[str, bytes]:
    """All files of a store by their paths within it, without the commits that add nothing."""
    found = {
        path.relative_to(top).as_posix(): path.read_bytes()
        for path in sorted(top.rglob("*"))
        if path.is_file()
    }
    return {name: data for name, data in found.items() if b'"add"' in data or "log/0" not in name}


def mutant(seed: int, number: int, whole: Mapping[str, bytes]) -> Mutant:
    """The same one for the same seed, number and store."""
    choice = random.Random(f"{seed}:{number}")
    path = sorted(whole)[number % len(whole)]
    data, others = whole[path], list(whole.values())
    blows = tuple(choice.choices(list(_BLOWS), k=choice.choice((1, 1, 2, 3))))
    for blow in blows:
        data = _BLOWS[blow](choice, data, others)
    return Mutant(number, path, blows, data)


def copy_of(top: Path, target: Path) -> Folder:
    shutil.copytree(top, target)
    return Folder(str(target))


def _flip(choice: random.Random, data: bytes, _: list[bytes]) -> bytes:
    turned = bytearray(data)
    for _ in range(choice.randint(1, 8) if data else 0):
        turned[choice.randrange(len(data))] ^= 1 << choice.randrange(8)
    return bytes(turned)


def _footer(choice: random.Random, data: bytes, _: list[bytes]) -> bytes:
    """Flips near the end, where Parquet says what it holds."""
    turned = bytearray(data)
    for _ in range(choice.randint(1, 4) if data else 0):
        turned[-choice.randint(1, min(len(data), 2500))] = choice.randrange(256)
    return bytes(turned)


def _fill(choice: random.Random, data: bytes, _: list[bytes]) -> bytes:
    size, start = choice.choice((1, 4, 64, 512)), choice.randrange(len(data) + 1)
    filling = choice.choice((bytes(size), b"\xff" * size, choice.randbytes(size)))
    return data[:start] + filling + data[start + size :]


def _cut(choice: random.Random, data: bytes, _: list[bytes]) -> bytes:
    return data[: choice.randrange(len(data) + 1)]


def _hole(choice: random.Random, data: bytes, _: list[bytes]) -> bytes:
    start = choice.randrange(len(data) + 1)
    return data[:start] + data[start + choice.choice((1, 7, 64)) :]


def _swap(choice: random.Random, _: bytes, others: list[bytes]) -> bytes:
    return choice.choice(others)


def _number(choice: random.Random, data: bytes, _: list[bytes]) -> bytes:
    """Another number in a text."""
    found = list(_NUMBER.finditer(data))
    if not found:
        return data
    at, value = choice.choice(found), choice.choice(_HUGE)
    said = b"1" + b"0" * 5000 if value == 10**5000 else str(value).encode()
    return data[: at.start()] + said + data[at.end() :]


def _lines(choice: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """A line once more, gone, or another file's."""
    lines = data.splitlines(keepends=True)
    line = choice.choice(choice.choice([data, *others]).splitlines(keepends=True) or [b""])
    lines.insert(choice.randint(0, len(lines)), line)
    if choice.random() < 0.5:
        del lines[choice.randrange(len(lines))]
    return b"".join(lines)


_DEEP: Final = (b"[" * 50_000, b'{"a":' * 50_000, b'"\\ud800"', b"NaN", b"null", b"\xef\xbb\xbf")


def _value(choice: random.Random, data: bytes, _: list[bytes]) -> bytes:
    """Something odd in place of a value of JSON."""
    found = [match.start() + 1 for match in re.finditer(rb":", data)]
    at = choice.choice(found) if found else 0
    end = re.compile(rb"[,}]|$").search(data, at)
    return data[:at] + choice.choice(_DEEP) + data[end.start() if end else at :]


_BLOWS: Final[dict[str, Callable[[random.Random, bytes, list[bytes]], bytes]]] = {
    "flip": _flip, "footer": _footer, "fill": _fill, "cut": _cut, "hole": _hole,
    "swap": _swap, "number": _number, "lines": _lines, "value": _value,
}  # fmt: skip
