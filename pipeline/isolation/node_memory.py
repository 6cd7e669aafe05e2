"""The memory of this process's node: the machine's, or the limit of its cgroups.

A container sees all of the machine's memory in /proc/meminfo, but the kernel kills it at the
limit of its cgroup. Limits nest: the smallest of a cgroup and its ancestors applies.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
#: Files with a cgroup's limit: version 2 and 1. "max" and huge numbers mean no limit.
_V2: Final = ("memory.max", "memory.high")
_V1: Final = ("memory.limit_in_bytes",)


def node_memory(proc: Path = _PROC) -> int:
    """Bytes that all processes of this node may use together."""
    return min([_machine(proc), *_limits(proc)])


def _machine(proc: Path) -> int:
    for line in _lines(proc / "meminfo"):
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _limits(proc: Path) -> Iterator[int]:
    """Limits of this process's cgroups and their ancestors, as far as they are mounted here."""
    mounts = list(_mounts(proc))
    for line in _lines(proc / "self" / "cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for kind, root, point in mounts:
            if kind == "cgroup2" and not controllers:
                yield from _upwards(point, _below(path, root), _V2)
            if kind == "cgroup" and "memory" in controllers.split(","):
                yield from _upwards(point, _below(path, root), _V1)


def _mounts(proc: Path) -> Iterator[tuple[str, str, Path]]:
    """(type, its root in the hierarchy, mount point) of file systems that may limit memory.

    For version 1 only the mount of the memory controller has these files.
    """
    for line in _lines(proc / "self" / "mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split(" ", 1)[0]
        if kind in ("cgroup", "cgroup2") and len(fields) > 4:
            yield kind, fields[3], Path(fields[4].replace("\\040", " "))


def _below(path: str, root: str) -> str:
    """The part of a cgroup's path below a mount; a container may see another root than its own."""
    inside = path == root or path.startswith(root.rstrip("/") + "/")
    return path[len(root.rstrip("/")) :] if inside else path


def _upwards(point: Path, path: str, names: tuple[str, ...]) -> Iterator[int]:
    folder = point / path.strip("/")
    for place in (folder, *folder.parents):
        if place == point or point in place.parents:
            for name in names:
                yield from (int(line) for line in _lines(place / name) if line.strip().isdigit())


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
