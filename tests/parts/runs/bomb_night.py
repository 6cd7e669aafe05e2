"""A night over small files that are large images, and the memory that decoders took of it."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

from PIL import Image

from tests.parts.processes.process_tree import below, title

#: WebP, PNG, TIFF and GIF of one colour.
SORTS: Final[dict[str, dict[str, Any]]] = {
    "webp": {"lossless": True, "method": 0},
    "png": {"compress_level": 9},
    "tiff": {"compression": "tiff_adobe_deflate"},
    "gif": {},
}


class Peak(NamedTuple):
    """The most private bytes of all decoders together, and how many there were then."""

    together: int
    decoders: int


def bombs(folder: Path, count: int, side: int, sorts: Sequence[str] = (*SORTS,)) -> list[Path]:
    """Images of `side` by `side` pixels, each sort in turn, in folders of one."""
    made = {suffix: _bomb(suffix, side) for suffix in sorts}
    paths = []
    for number in range(count):
        suffix = sorts[number % len(sorts)]
        path = folder / f"{number:03}" / f"bomb.{suffix}"
        path.parent.mkdir(parents=True)
        path.write_bytes(made[suffix])
        paths.append(path)
    return paths


def _bomb(suffix: str, side: int) -> bytes:
    sink = BytesIO()
    mode = "P" if suffix == "gif" else "RGB"
    Image.new(mode, (side, side), 7).save(sink, suffix.upper(), **SORTS[suffix])
    return sink.getvalue()


@contextmanager
def watched() -> Iterator[list[Peak]]:
    """Looks twenty times a second at this process's decoders; the list holds all that was seen."""
    seen: list[Peak] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            sizes = [_private(pid) for pid in below(os.getpid()) if "Decode" in title(pid)]
            seen.append(Peak(sum(sizes), len(sizes)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def _private(pid: int) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0
