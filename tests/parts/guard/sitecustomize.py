"""In each Python of `pytest --without …`: starting Ray or importing torch fails, and is logged.

Python runs a file of this name at its start where its folder is on PYTHONPATH, as in
tests/parts/without.py.
"""

import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

#: The marks of what is refused, and the file that is told of it.
WITHOUT, LOG = "NIGHTLABEL_TESTS_WITHOUT", "NIGHTLABEL_TESTS_REFUSED"
HERE = Path(__file__).parent


class Refused(BaseException):
    """No Exception, so that no library takes it for a package that is not installed."""


def refuse(mark: str, what: str) -> None:
    with Path(os.environ[LOG]).open("a") as log:
        log.write(f"{mark}\t{what} in {' '.join(sys.orig_argv)[:200]!r}\n")
    raise Refused(what)


class NoTorch(Loader):
    """In the place of torch's own loader: whether torch is installed may be asked."""

    def exec_module(self, module: ModuleType) -> None:
        refuse("torch", "torch is imported")


class Finder:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "torch" or (spec := PathFinder.find_spec(name, path, target)) is None:
            return None
        spec.loader = NoTorch()
        return spec


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuses to start Ray; a child with an environment of its own is watched like the others."""
    if event != "subprocess.Popen":
        return
    program, _, _, env = arguments
    if "ray" in marks() and Path(os.fsdecode(program)).name == "gcs_server":
        refuse("ray", "a Ray is started")
    if env is not None and WITHOUT not in env:
        env.update(environment(env.get("PYTHONPATH")))


def environment(pythonpath: str | None) -> dict[str, str]:
    """What a child of this process is told, which would else have `pythonpath`."""
    folders = [str(HERE), *([pythonpath] if pythonpath else [])]
    told = {name: os.environ[name] for name in (WITHOUT, LOG)}
    return told | {"PYTHONPATH": os.pathsep.join(folders)}


def marks() -> list[str]:
    return os.environ.get(WITHOUT, "").split(",")


def install() -> None:
    if WITHOUT in os.environ:
        sys.addaudithook(watch)
    if "torch" in marks():
        sys.meta_path.insert(0, Finder)


def run_the_next() -> None:
    """A test may have a sitecustomize of its own further down the path."""
    path = [folder for folder in sys.path if folder != str(HERE)]
    spec = PathFinder.find_spec("sitecustomize", path)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(module_from_spec(spec))


install()
if __name__ == "sitecustomize":
    run_the_next()
