"""In each Python of `pytest --without …`: starting Ray or importing torch fails, and is logged.

Python runs a file of this name at its start where its folder is on PYTHONPATH, as in
tests/parts/without.py.
"""

import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

#: The marks of what is refused, and the file that is told of it.
WITHOUT, LOG = "NIGHTLABEL_TESTS_WITHOUT", "NIGHTLABEL_TESTS_REFUSED"


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


def no_ray(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen" and Path(os.fsdecode(arguments[0])).name == "gcs_server":
        refuse("ray", "a Ray is started")


def install() -> None:
    marks = os.environ.get(WITHOUT, "").split(",")
    if "torch" in marks:
        sys.meta_path.insert(0, Finder)
    if "ray" in marks:
        sys.addaudithook(no_ray)


install()
