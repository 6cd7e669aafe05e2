"""The processes below another one, by /proc: a run's driver, its Ray and all its workers."""

from collections import defaultdict
from contextlib import suppress
from pathlib import Path


def below(root: int) -> list[int]:
    """What `root` started, at any depth, parents before their children."""
    children = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            pid = int(folder.name)
            children[int(stat(pid)[1])].append(pid)
    found = list(children[root])
    for pid in found:
        found += children[pid]
    return found


def stat(pid: int) -> list[str]:
    """Its /proc/PID/stat from the third field on, its state: the name before may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def title(pid: int) -> str:
    """Its command line, or what it calls itself; "" if it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        return words.decode(errors="replace").strip()
    return ""
