"""The house keeps its floors: who may import whom, what loads when, how long a file is."""

import ast
import os
import re
import statistics
import subprocess
import sys
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: From the ground up. A unit imports from floors below its own, never from a sibling.
FLOORS = (
    {"errors", "schema", "heap", "words"},
    {"validation", "parquet", "job_options"},
    {"fields", "spec", "storage", "demo"},
    {"sources", "images", "models", "store", "events"},
    {"tasks"},
    {"isolation"},
    {"engine"},
    {"scan"},
    {"graph"},
    {"runs"},
    {"report", "cluster"},
    {"api", "__init__"},
    {"cli"},
    {"jobs"},
)
#: The public Python API gathers its names, lazily, from wherever they live.
FACADES = {"api", "__init__"}
ENGINE_HOMES = {"engine", "scan", "graph", "runs", "cluster", "jobs"}
TENSOR_HOMES = {"images", "models", "tasks"}
TENSORS = {"torch", "transformers"}
#: The one file that runs OpenVINO.
OPENVINO_HOME = ROOT / "pipeline" / "models" / "backends" / "openvino_engine.py"
#: Lines of a file, of half of all files, and files of a folder.
MOST_LINES, USUAL_LINES, MOST_FILES = 350, 150, 20

PACKAGES = ("nightlabel", "pipeline", "jobs")
SOURCES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))


@dataclass(frozen=True)
class Import:
    """One imported module, where it is written, and whether it runs when its file loads or ever."""

    path: Path
    line: int
    module: str
    at_load: bool
    runs: bool = True

    @property
    def home(self) -> str:
        """The unit that imports: `flow` in pipeline/runs/label.py, `spec` in pipeline/spec.py."""
        parts = self.path.relative_to(ROOT).parts
        return "jobs" if parts[0] == "jobs" else parts[1].removesuffix(".py")

    @property
    def unit(self) -> str | None:
        """The unit of ours that is imported, or None."""
        first, *rest = self.module.split(".")
        if first == "jobs":
            return "jobs"
        if first != "pipeline":
            return None
        return rest[0] if rest and rest[0] in floor_of else "__init__"

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.module}"


floor_of = {unit: floor for floor, units in enumerate(FLOORS) for unit in units}


def imports_of(path: Path, source: str | None = None) -> Iterator[Import]:
    """Every import in a file; those under `if TYPE_CHECKING` never load."""
    tree = ast.parse(path.read_text() if source is None else source)
    yield from _walk(path, tree, at_load=True, runs=True)


def _walk(path: Path, node: ast.AST, at_load: bool, runs: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(path, child.lineno, alias.name, at_load, runs)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{path}:{child.lineno}: write imports in full"
            for alias in child.names:
                yield Import(path, child.lineno, f"{child.module}.{alias.name}", at_load, runs)
        else:
            lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from _walk(path, child, at_load and not lazy and not typing, runs and not typing)


IMPORTS = [found for path in SOURCES for found in imports_of(path)]


def breaks_floors(found: Import) -> bool:
    if found.unit is None or found.unit == found.home or found.home in FACADES:
        return False
    return floor_of[found.unit] >= floor_of[found.home]


def breaks_homes(found: Import) -> bool:
    """Ray outside of its home; torch, transformers and OpenVINO outside of theirs or at load."""
    if found.package == "ray":
        return found.home not in ENGINE_HOMES
    if found.package == "openvino":
        return found.at_load or found.path != OPENVINO_HOME
    if found.package in TENSORS:
        return found.at_load or found.home not in TENSOR_HOMES
    return False


def test_every_unit_stands_on_a_floor() -> None:
    homes = {found.home for found in IMPORTS}
    assert homes <= set(floor_of)
    assert len(SOURCES) > 10


def test_imports_come_from_floors_below() -> None:
    assert [str(found) for found in IMPORTS if breaks_floors(found)] == []


def test_ray_torch_and_openvino_stay_at_home() -> None:
    assert [str(found) for found in IMPORTS if breaks_homes(found)] == []


@pytest.mark.parametrize(
    ("path", "source", "floors", "homes"),
    [
        ("pipeline/spec.py", "from pipeline.errors import SpecError", False, False),
        ("pipeline/spec.py", "from pipeline import storage", True, False),
        ("pipeline/errors.py", "from pipeline.schema import REFS", True, False),
        ("pipeline/images/decode.py", "import pipeline.models.backends.torch_engine", True, False),
        ("pipeline/images/decode.py", "def f():\n    from pipeline.runs import x", True, False),
        ("pipeline/runs/label.py", "from pipeline.store.delta.table import Table", False, False),
        ("pipeline/runs/label.py", "from pipeline import LabelStore", True, False),
        ("jobs/label.py", "from pipeline.runs.label import run\nimport ray", False, False),
        ("pipeline/api.py", "def f():\n    from pipeline.cli import x", False, False),
        ("pipeline/store/delta/table.py", "def f():\n    import ray.data", False, True),
        ("pipeline/models/backends/torch_engine.py", "def f():\n    import torch", False, False),
        ("pipeline/models/backends/torch_engine.py", "class A:\n    import torch.nn", False, True),
        ("pipeline/graph/predictor.py", "def f():\n    import torch", False, True),
        (
            "pipeline/models/backends/openvino_engine.py",
            "def f():\n    import openvino",
            False,
            False,
        ),
        ("pipeline/models/backends/openvino_engine.py", "import openvino", False, True),
        ("pipeline/models/backends/int8.py", "def f():\n    import openvino", False, True),
        ("pipeline/tasks/graph_maker.py", "from pipeline import demo", False, False),
        ("pipeline/tasks/embed.py", "def f():\n    import transformers", False, False),
        ("pipeline/tasks/embed.py", "import torch", False, True),
        ("pipeline/tasks/embed.py", "from pipeline.models.fetch import fetch", False, False),
        ("pipeline/tasks/embed.py", "from pipeline.store.delta.table import Table", False, False),
        ("pipeline/tasks/embed.py", "from pipeline.graph.job import Job", True, False),
        (
            "pipeline/models/backends/torch_engine.py",
            "from pipeline.tasks import Task",
            True,
            False,
        ),
        ("pipeline/store/delta/table.py", "from pipeline.tasks import Task", True, False),
        ("pipeline/runs/label.py", "from pipeline.tasks import Task", False, False),
        (
            "pipeline/models/backends/torch_engine.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from torch import Tensor",
            False,
            False,
        ),
    ],
)
def test_the_rules_bite(path: str, source: str, floors: bool, homes: bool) -> None:
    found = list(imports_of(ROOT / path, source))
    assert any(map(breaks_floors, found)) == floors
    assert any(map(breaks_homes, found)) == homes


def is_private_to_ray(found: Import) -> bool:
    """A module that Ray keeps to itself, or a name of one."""
    parts = found.module.split(".")
    return found.package == "ray" and any(part.startswith("_") for part in parts)


def test_what_ray_keeps_to_itself_is_in_one_file() -> None:
    home = ROOT / "pipeline" / "engine" / "ray_compat.py"
    assert [
        str(found) for found in IMPORTS if is_private_to_ray(found) and found.path != home
    ] == []
    words = re.compile(r"\b_raylet\b|\bray\._private\b|\bray\.data\._internal\b|\b_global_node\b")
    naming = [str(path.relative_to(ROOT)) for path in SOURCES if words.search(path.read_text())]
    assert naming == [str(home.relative_to(ROOT))]


def opens_anything(source: str) -> list[int]:
    """Lines that let Pillow try all of its plugins on a file."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if ast.unparse(call.func) in ("Image.open", "PIL.Image.open", "load_image")
        and not any(keyword.arg == "formats" for keyword in call.keywords)
        and not any(ast.unparse(given).startswith("opened(") for given in call.args)
    ]


def test_pillow_opens_only_the_formats_that_it_is_told() -> None:
    files = [*SOURCES, *(ROOT / "benchmarks").rglob("*.py")]
    found = {str(path.relative_to(ROOT)): opens_anything(path.read_text()) for path in files}
    assert {path: lines for path, lines in found.items() if lines} == {}
    assert any(
        "formats=" in path.read_text() and "Image.open" in path.read_text() for path in files
    )


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("Image.open(path)", True),
        ("PIL.Image.open(BytesIO(data)).convert('RGB')", True),
        ("load_image(str(path))", True),
        ("load_image(opened(data))", False),
        ("Image.open(path, formats=formats())", False),
        ("path.open()", False),
    ],
)
def test_that_rule_bites(source: str, found: bool) -> None:
    assert bool(opens_anything(source)) == found


def test_no_file_is_long() -> None:
    files = [*SOURCES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    lines = {path: len(path.read_text().splitlines()) for path in files}
    assert {str(path): size for path, size in lines.items() if size > MOST_LINES} == {}
    assert statistics.median(lines[path] for path in SOURCES) <= USUAL_LINES


def test_no_folder_is_full() -> None:
    files = Counter(str(path.parent.relative_to(ROOT)) for path in SOURCES)
    assert {folder: number for folder, number in files.items() if number > MOST_FILES} == {}


def circles(imports: Iterable[Import]) -> list[str]:
    """Files that import each other, over others or not, when they load or later."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in SOURCES}
    imported = defaultdict(set)
    for found in imports:
        module = found.module if found.module in names else found.module.rpartition(".")[0]
        if found.runs and module in names and names[module] != found.path:
            imported[found.path].add(names[module])
    sorter = TopologicalSorter(imported)
    try:
        sorter.prepare()
    except CycleError as error:
        return [str(path.relative_to(ROOT)) for path in error.args[1]]
    return []


def test_no_files_import_each_other() -> None:
    assert circles(IMPORTS) == []


def test_a_circle_is_found() -> None:
    two = [ROOT / "pipeline/cli/plan.py", ROOT / "pipeline/cli/label.py"]
    lines = ["from pipeline.cli.label import x", "def f():\n    from pipeline.cli import plan"]
    there_and_back = [
        i for path, line in zip(two, lines, strict=True) for i in imports_of(path, line)
    ]
    assert set(circles(there_and_back)) == {"pipeline/cli/plan.py", "pipeline/cli/label.py"}


def test_the_command_line_loads_nothing_heavy() -> None:
    heavy = ["deltalake", "numpy", "obstore", "openvino", "pyarrow", "pydantic", "ray"]
    heavy += TENSORS
    code = f"import sys, pipeline.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_answers_at_once() -> None:
    """By the time it works: what else this machine does is not its fault."""
    command = [str(Path(sysconfig.get_path("scripts")) / "nightlabel"), "--help"]
    seconds = []
    for _ in range(5):
        before = _seconds_of_children()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds.append(_seconds_of_children() - before)
        assert "Usage: nightlabel" in done.stdout
    assert statistics.median(seconds) < 0.3


def _seconds_of_children() -> float:
    used = os.times()
    return used.children_user + used.children_system


def test_what_prepares_a_run_loads_no_engine() -> None:
    """A driver checks a job from JSON; an engine that ends its process ends a predictor alone."""
    code = (
        "import sys, pipeline.runs.prepare\n"
        "from pipeline.tasks import REGISTRY, task_named\n"
        "tasks = [task_named(name) for name in REGISTRY]\n"
        "loaded = {name.rpartition('.')[2] for name in sys.modules}\n"
        "print(loaded & {'torch_engine', 'openvino_engine', 'torch', 'openvino'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_starts_a_run_loads_no_network() -> None:
    """Neither the process that a user starts nor a worker before it predicts: only the child that
    makes a graph."""
    code = (
        "import sys, pipeline.runs.label, pipeline.graph.stages, pipeline.tasks.loading\n"
        f"print([m for m in {sorted(TENSORS | {'openvino'})} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
