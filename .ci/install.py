"""Install a lock, every file held to its digest, and then the project, into this environment.

    python .ci/install.py LOCK [PROJECT …]

PROJECT is a wheel, or `--editable FOLDER`, which is built here by what locks/build-system.txt
pins. pip resolves nothing: a package that the lock lacks is an error, not a download.
"""

import importlib
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

LOCKS = Path(__file__).resolve().parents[1] / "locks"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
INSTALL = [*PIP, "install", "--quiet", "--no-deps"]
#: Wheels alone: building an sdist runs code that no digest covers.
LOCKED = [*INSTALL, "--require-hashes", "--only-binary=:all:", "--requirement"]


def main(lock: str, *project: str) -> None:
    if "\ntorch==" in Path(lock).read_text():
        torch_for_cpus()
    run(*LOCKED, lock)
    if asks_for_cuda():
        run(*LOCKED, LOCKS / "cuda.txt")
    if project:
        if project[0] == "--editable":
            run(*LOCKED, LOCKS / "build-system.txt")
        run(*INSTALL, "--no-build-isolation", *project)
    run(*PIP, "check")


def torch_for_cpus() -> None:
    """pip would take PyPI's build, whose digest it knows before it has read the file."""
    asked = [*LOCKED, str(LOCKS / "torch-cpu.txt")]
    done = subprocess.run(asked, stderr=subprocess.PIPE, text=True)
    if done.returncode and "No matching distribution found" not in done.stderr:
        sys.exit(done.stderr)


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


def asks_for_cuda() -> bool:
    """Whether the torch that is installed needs packages of locks/cuda.txt on this machine."""
    importlib.invalidate_caches()
    try:
        asked = requires("torch") or []
    except PackageNotFoundError:
        return False
    from packaging.requirements import Requirement

    cuda = set(re.findall(r"^([\w.-]+)==", (LOCKS / "cuda.txt").read_text(), re.MULTILINE))
    needed = [one for one in map(Requirement, asked) if one.name in cuda]
    return any(one.marker is None or one.marker.evaluate({"extra": ""}) for one in needed)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except subprocess.CalledProcessError as failed:
        sys.exit(failed.returncode)
