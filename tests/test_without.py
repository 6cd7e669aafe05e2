"""Tests that start Ray or load torch without saying so fail in `make test-fast`."""

import os
import subprocess
import sys
from pathlib import Path

from tests.parts.guard.sitecustomize import LOG, WITHOUT

ROOT = Path(__file__).parents[1]
WITHOUT_BOTH = ("--without", "ray", "--without", "torch", "-p", "no:cacheprovider")

CONFTEST = """
from tests.conftest import pytest_addoption, pytest_collection_modifyitems, pytest_configure
from tests.integration.conftest import tiny_model
"""

AT_ITS_TOP = """
import torch

def test_never(): raise AssertionError
"""

WITHIN = """
import importlib.util
import subprocess
import sys

import pytest
import ray

def test_torch():
    import torch

def test_torch_under_a_bare_except():
    try:
        import torch
    except BaseException:
        pass

def test_torch_in_a_child():
    subprocess.run([sys.executable, "-c", "import torch"], stderr=subprocess.DEVNULL)

def test_torch_in_a_child_with_an_environment_of_its_own(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.own = True")
    code = "import sys; assert sys.own; import torch"
    env = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert "Refused" in done.stderr

def test_a_ray_of_its_own():
    ray.init("local", num_cpus=1, include_dashboard=False)

def test_whether_it_is_installed():
    assert importlib.util.find_spec("torch")

@pytest.mark.torch
def test_marked(): raise AssertionError

def test_marked_by_its_fixture(tiny_model): raise AssertionError
"""


def run(folder: Path, **files: str) -> list[str]:
    for name, text in {"conftest": CONFTEST, **files}.items():
        (folder / f"{name}.py").write_text(text)
    env = {name: value for name, value in os.environ.items() if name not in (LOG, WITHOUT)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *WITHOUT_BOTH, "-q", "-rA", folder],
        cwd=ROOT,
        env=env | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout.splitlines()


def test_what_lacks_its_mark_fails_and_what_has_it_is_left_out(tmp_path: Path) -> None:
    said = run(tmp_path, test_top=AT_ITS_TOP, test_within=WITHIN)
    lines = [line for line in said if line.startswith(("FAILED", "ERROR", "PASSED"))]
    found = {line.split("::")[1].split(" ")[0]: line for line in lines}
    assert {name: line.split(" ")[0] for name, line in found.items()} == {
        "test_torch": "FAILED",
        "test_torch_under_a_bare_except": "FAILED",
        "test_torch_in_a_child": "FAILED",
        "test_torch_in_a_child_with_an_environment_of_its_own": "FAILED",
        "test_a_ray_of_its_own": "FAILED",
        "test_whether_it_is_installed": "PASSED",
    }
    for name, line in found.items():
        needs = f"::{name} lacks the mark {'ray' if 'ray' in name else 'torch'}: "
        assert any(needs in told for told in said) == line.startswith("FAILED")
    assert any("test_top.py" in line and "it imports torch" in line for line in said)
    assert any("2 deselected" in line for line in said)
