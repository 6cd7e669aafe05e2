"""`import nightlabel`: the API of `pipeline` under a name of its own, light, and seen by tools."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import nightlabel
import pipeline

ROOT = Path(__file__).parents[1]


def test_it_is_the_api_of_the_package() -> None:
    assert nightlabel.__all__ == pipeline.__all__
    assert nightlabel.__version__ == pipeline.__version__
    for name in nightlabel.__all__:
        assert getattr(nightlabel, name) is getattr(pipeline, name)


@pytest.mark.parametrize("module", [nightlabel, pipeline])
def test_dir_shows_the_api_and_nothing_else(module: object) -> None:
    assert dir(module) == sorted([*nightlabel.__all__, "__version__"])


@pytest.mark.parametrize("module", ["nightlabel", "pipeline"])
def test_an_unknown_name_is_an_attribute_error(module: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'lable'"):
        importlib.import_module(module).lable  # noqa: B018


@pytest.mark.parametrize("module", ["nightlabel", "pipeline"])
def test_type_checkers_see_every_name(module: str) -> None:
    """By imports that never run; `make lint` checks their types in typed_api.py."""
    source = (ROOT / module / "__init__.py").read_text()
    found = [
        name.asname
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for line in node.body
        if isinstance(line, ast.ImportFrom)
        for name in line.names
    ]
    assert sorted(map(str, found)) == sorted(nightlabel.__all__)
    assert (ROOT / module / "py.typed").exists()
    checked = (ROOT / "tests" / "typed_api.py").read_text()
    assert [name for name in nightlabel.__all__ if f"nightlabel.{name}" not in checked] == []


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, nightlabel\ndir(nightlabel)\n"
        "heavy = {'deltalake', 'numpy', 'obstore', 'pyarrow', 'pydantic', 'ray', 'torch', "
        "'transformers', 'click', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"
