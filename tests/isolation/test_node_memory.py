"""The memory of a node: the least of the machine's and of what nested cgroups allow."""

from pathlib import Path

import pytest

from pipeline.isolation.node_memory import node_memory

GIB = 2**30
NONE_V1 = 2**63 - 4096


class Proc:
    """A /proc of 64 GiB, and cgroups mounted where the test says."""

    def __init__(self, root: Path) -> None:
        self.root, self.groups = root / "proc", root / "cgroup"
        (self.root / "self").mkdir(parents=True)
        (self.root / "meminfo").write_text(f"MemTotal: {64 * 2**20} kB\nMemFree: 1 kB\n")

    def mount(self, kind: str, root: str = "/", *, options: str = "rw") -> None:
        line = f"30 23 0:26 {root} {self.groups} {options} shared:1 - {kind} {kind} rw\n"
        with (self.root / "self" / "mountinfo").open("a") as file:
            file.write(line)

    def member(self, line: str) -> None:
        (self.root / "self" / "cgroup").write_text(f"5:cpu:/elsewhere\n{line}\n")

    def limit(self, folder: str, name: str, value: object) -> None:
        place = self.groups / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(f"{value}\n")

    def memory(self) -> int:
        return node_memory(self.root)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_without_cgroups_it_is_the_machines(proc: Proc) -> None:
    assert proc.memory() == 64 * GIB


def test_version_2_of_a_container(proc: Proc) -> None:
    proc.mount("cgroup2")
    proc.member("0::/")
    proc.limit("", "memory.max", 8 * GIB)
    assert proc.memory() == 8 * GIB


@pytest.mark.parametrize("where", ["", "pods", "pods/one", "pods/one/main"])
def test_version_2_the_smallest_of_all_above_holds(proc: Proc, where: str) -> None:
    proc.mount("cgroup2")
    proc.member("0::/pods/one/main")
    for folder in ("pods", "pods/one", "pods/one/main"):
        proc.limit(folder, "memory.max", "max")
    proc.limit("pods/other", "memory.max", GIB)  # not above
    proc.limit(where, "memory.max", 6 * GIB)
    assert proc.memory() == 6 * GIB


def test_where_the_kernel_only_slows_down_counts_too(proc: Proc) -> None:
    proc.mount("cgroup2")
    proc.member("0::/job")
    proc.limit("job", "memory.max", 9 * GIB)
    proc.limit("job", "memory.high", 7 * GIB)
    assert proc.memory() == 7 * GIB


def test_version_1_nested(proc: Proc) -> None:
    proc.mount("cgroup")
    proc.member("4:cpu,memory:/docker/abc")
    proc.limit("docker/abc", "memory.limit_in_bytes", NONE_V1)
    proc.limit("docker", "memory.limit_in_bytes", 5 * GIB)
    assert proc.memory() == 5 * GIB


def test_version_1_of_a_container_that_sees_only_its_own(proc: Proc) -> None:
    """The path is the host's, the mount begins at the container's."""
    proc.mount("cgroup", "/docker/abc")
    proc.member("4:memory:/docker/abc")
    proc.limit("", "memory.limit_in_bytes", 3 * GIB)
    assert proc.memory() == 3 * GIB


def test_a_path_that_is_not_mounted_leaves_the_mounts_own_limit(proc: Proc) -> None:
    proc.mount("cgroup")
    proc.member("4:memory:/kubepods/xyz")
    proc.limit("", "memory.limit_in_bytes", 2 * GIB)
    assert proc.memory() == 2 * GIB


@pytest.mark.parametrize("value", ["max", "", "much", "-1", NONE_V1])
def test_what_is_no_limit_is_none(proc: Proc, value: object) -> None:
    proc.mount("cgroup2")
    proc.member("0::/job")
    proc.limit("job", "memory.max", value)
    assert proc.memory() == 64 * GIB


def test_here_it_is_something() -> None:
    assert 2**28 < node_memory() < 2**50
