"""locks/: they agree with constraints.txt, have digests, and what has another one is refused."""

import hashlib
import re
import subprocess
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ROOT / "locks"
INSTALL = ROOT / ".ci" / "install.py"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OURS = ("run", "cluster", "dev")
HASHED = [path.stem for path in sorted(LOCKS.glob("*.txt"))]
MACHINES = [
    {"sys_platform": platform, "platform_machine": "x86_64", "python_version": version}
    | {"python_full_version": f"{version}.1", "extra": ""}
    for platform in ("linux", "darwin")
    for version in ("3.11", "3.12", "3.13", "3.14")
]


def entries(name: str) -> list[tuple[Requirement, list[str]]]:
    """Each package of a lock, with its digests."""
    text = re.sub(r"(?m)^#.*\n", "", (LOCKS / f"{name}.txt").read_text()).replace("\\\n", " ")
    found = [line.split(" --hash=") for line in text.splitlines() if line]
    return [(Requirement(asked), [one.strip() for one in digests]) for asked, *digests in found]


def pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    pairs = [line.split("==") for line in lines]
    return {canonicalize_name(name): version for name, version in pairs}


def locked(name: str) -> dict[str, str]:
    return {canonicalize_name(one.name): str(one.specifier)[2:] for one, _ in entries(name)}


def is_for_us(asked: Requirement) -> bool:
    return asked.marker is None or any(map(asked.marker.evaluate, MACHINES))


@pytest.mark.parametrize("name", HASHED)
def test_every_package_has_one_version_and_digests(name: str) -> None:
    assert entries(name)
    for asked, digests in entries(name):
        assert re.fullmatch(r"==[^,*]+", str(asked.specifier)), asked
        assert digests, asked
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in digests), asked
    assert len(locked(name)) == len(entries(name))


@pytest.mark.parametrize("name", OURS)
def test_versions_are_those_of_the_constraints(name: str) -> None:
    pinned = pins(ROOT / "constraints.txt")
    for asked, _ in entries(name):
        if is_for_us(asked):
            package = canonicalize_name(asked.name)
            assert pinned.get(package) == locked(name)[package], f"{package}: make constraints"


def test_every_constraint_is_locked() -> None:
    assert pins(ROOT / "constraints.txt").items() <= locked("dev").items()


@pytest.mark.parametrize("job", ["airflow", "dagster"])
def test_versions_of_orchestrators_are_those_of_their_constraints(job: str) -> None:
    pinned = pins(ROOT / "jobs" / "orchestrators" / job / "constraints.txt")
    for asked, _ in entries(job):
        if is_for_us(asked):
            package = canonicalize_name(asked.name)
            assert pinned.get(package, locked(job)[package]) == locked(job)[package]
    assert pinned.items() <= locked(job).items()


@pytest.mark.parametrize("name", OURS)
def test_a_lock_has_what_the_project_asks_for(name: str) -> None:
    project = PROJECT["project"]
    extra = [] if name == "run" else project["optional-dependencies"][name]
    for asked in map(Requirement, [*project["dependencies"], *extra]):
        version = locked(name)[canonicalize_name(asked.name)]
        assert asked.specifier.contains(version), f"{asked}: make constraints"


def test_what_builds_the_package_is_pinned_and_locked() -> None:
    requires = [Requirement(one) for one in PROJECT["build-system"]["requires"]]
    for name in ("build-system", "build"):
        found = locked(name)
        assert {one.name: str(one.specifier) for one in requires}.items() <= {
            package: f"=={version}" for package, version in found.items()
        }.items()


def test_no_environment_is_installed_without_digests() -> None:
    recipes = (ROOT / "Makefile").read_text() + (ROOT / "tests" / "wheel" / "walk.py").read_text()
    assert re.findall(r"pip[\"', -]+(?:install|wheel|download)\b.*", recipes) == []
    assert "--no-isolation" in (ROOT / ".ci" / "wheel.py").read_text()
    assert "--no-build-isolation" in (ROOT / ".ci" / "wheel.py").read_text()


# What a digest is for, with the pip of this Python, without a network


def wheel(folder: Path, name: str, needs: str = "") -> Path:
    """A package of one module, with `needs` as a requirement."""
    made = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    about += f"Requires-Dist: {needs}\n" if needs else ""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", about)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return made


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def install(python: Path, index: Path, lock: Path, *project: Path) -> subprocess.CompletedProcess:
    env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": "/dev/null"}
    command = [python, INSTALL, lock, *project]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def lock_of(folder: Path, *wheels: Path) -> Path:
    lock = folder / "lock.txt"
    digests = {one.name.split("-")[0]: hashlib.sha256(one.read_bytes()) for one in wheels}
    lines = [f"{name}==1.0 --hash=sha256:{one.hexdigest()}\n" for name, one in digests.items()]
    lock.write_text("".join(lines))
    return lock


def has(python: Path, module: str) -> bool:
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0


def test_a_wheel_with_another_digest_is_refused(python: Path, tmp_path: Path) -> None:
    good = wheel(tmp_path, "honest")
    lock = lock_of(tmp_path, good)
    with zipfile.ZipFile(good, "a") as archive:
        archive.writestr("planted.py", "")
    done = install(python, tmp_path, lock)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not has(python, "honest")
    lock_of(tmp_path, good)
    assert install(python, tmp_path, lock).returncode == 0
    assert has(python, "honest")


def test_what_the_lock_lacks_is_an_error_and_not_installed(python: Path, tmp_path: Path) -> None:
    wheel(tmp_path, "unlisted")
    lock = lock_of(tmp_path, wheel(tmp_path, "asking", needs="unlisted"))
    done = install(python, tmp_path, lock)
    assert done.returncode != 0
    assert "unlisted" in done.stdout + done.stderr
    assert not has(python, "unlisted")


def test_a_lock_without_a_digest_is_refused(python: Path, tmp_path: Path) -> None:
    wheel(tmp_path, "bare")
    lock = tmp_path / "lock.txt"
    lock.write_text("bare==1.0\n")
    assert install(python, tmp_path, lock).returncode != 0
    assert not has(python, "bare")


def test_the_script_that_writes_locks_writes_those_that_are_there() -> None:
    words = re.findall(r'^    "([\w-]+)": "', (ROOT / ".ci" / "lock.py").read_text(), re.MULTILINE)
    assert {*words, "torch-cpu"} == set(HASHED)
