"""Bad usage of any command: exit 2, one line, a document with --json, and nothing heavy loaded."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import COMMANDS

#: Runs each command line that stands in its input, in one process, and tells what came of it.
PROGRAM = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from pipeline.cli import cli
from pipeline.cli.failures import exit_code_of

HEAVY = ("ray", "torch", "transformers", "pyarrow", "deltalake", "numpy", "obstore", "pandas")

def run(words):
    out, err, before = io.StringIO(), io.StringIO(), set(sys.modules)
    with redirect_stdout(out), redirect_stderr(err):
        code = exit_code_of(cli, words)
    loaded = [name for name in HEAVY if name in sys.modules and name not in before]
    return {"code": int(code), "out": out.getvalue(), "err": err.getvalue(), "loaded": loaded}

print(json.dumps([run(words) for words in json.load(sys.stdin)]))
"""

JOB = ("status j", "stop j", "logs j")
BOTH_ENDS = ("label", "plan", "verify", "submit")
#: With a source that is there.
LABELS = ("label photos labels", "plan photos labels", "bench photos")
OF_A_SPEC = (*LABELS, "submit photos labels", "verify photos labels")
AT = "--address http://127.0.0.1:9"

CASES: list[tuple[str, str]] = [
    # Commands and options that there are not.
    *((f"{name} --no-such-option", "--no-such-option") for name in COMMANDS),
    ("lable a b", "did you mean label?"),
    ("sumbit a b", "did you mean submit?"),
    ("verfy a b", "did you mean verify?"),
    ("frobnicate", "see `nightlabel --help`"),
    ("--jsn label", "--jsn"),
    ("label a b --precison fp16", "--precision"),
    # Too many arguments, and too few.
    *((f"{name} one two three", "three") for name in (*BOTH_ENDS, "doctor")),
    *((f"{name} one two", "two") for name in ("runs", "compact", "demo", "bench")),
    *((f"{name} one {AT}", "one") for name in (*JOB, "list")),
    *((name, "nightlabel label SRC DST") for name in (*BOTH_ENDS, "bench")),
    *((f"{name} photos", "dst") for name in BOTH_ENDS),
    *((name, f"nightlabel {name} [OPTIONS] DST") for name in ("runs", "compact")),
    *((f"{name.split()[0]} {AT}", "JOB") for name in JOB),
    *((name, "--address") for name in (*JOB, "list")),
    ("submit photos labels", "url of the cluster's dashboard"),
    ("completion", "SHELL"),
    ("label photos labels --model", "--model"),
    # Values of click's own.
    ("completion csh", "csh"),
    ("runs labels --last many", "--last"),
    ("runs labels --last -1", "--last"),
    ("verify photos labels --sample -1", "--sample"),
    ("bench photos --seconds 0", "--seconds"),
    *((f"{line} --precision int4", "int8") for line in LABELS),
    *((f"{line} --top-k five", "--top-k") for line in LABELS),
    # Values of a specification, by flag, by --set and by --config.
    *((f"{line} --top-k 0", "give a number above 0") for line in LABELS),
    *((f"{line} --set topk=3", "did you mean top_k?") for line in OF_A_SPEC),
    *((f"{line} --set top_k", "write KEY=VALUE") for line in OF_A_SPEC),
    *((f"{line} --config key.toml", "did you mean max_errors?") for line in OF_A_SPEC),
    *((f"{line} --config broken.toml", "not TOML") for line in OF_A_SPEC),
    *((f"{line} --config none.toml", "no such file") for line in OF_A_SPEC),
    *((f"{line} --config photos", "Is a directory") for line in OF_A_SPEC),
    ("label photos labels --predictors 4:2", "such as 1:8"),
    ("label photos labels --max-errors many", "such as 0.5%"),
    ("label photos labels --deadline soon", "such as 06:30"),
    ("label photos labels --delete --limit 3", "which --limit cuts"),
    (f"submit photos labels --night a/b {AT}", "night='a/b'"),
    # What is not on this machine.
    *((f"{name} none labels", "no such file or folder") for name in ("label", "plan", "verify")),
    ("bench none", "no such file or folder"),
    ("label none.txt labels", "no such file or folder"),
    ("label none/*.jpg labels", "no such folder"),
    (f"label {'a' * 5000} labels", "no such file or folder"),
    ("label loop labels", "no such file or folder"),
    ("label photos/a.jpg/b labels", "no such file or folder"),
    ("label file://relative labels", "file:///absolute/path"),
    ("label photos labels --dry-run --model ./none", "no such folder"),
    ("label photos labels --model ~nobody-of-that-name/vit", "no such folder"),
    *((f"{line} --model ./none", "no such folder") for line in (*LABELS, "verify photos labels")),
    *((f"{line} --model bare", "config.json") for line in (*LABELS, "verify photos labels")),
    # Addresses of another kind.
    *((f"{line} --address http://h:8265", "nightlabel submit") for line in LABELS[:2]),
    *((f"{line} --address ray://h:10001", "Ray Client") for line in LABELS[:2]),
    *((f"{line} --address redis://h:1", "not an address of a Ray") for line in LABELS[:2]),
    *((f"{line} --address head", "not HOST:PORT") for line in LABELS[:2]),
    *((f"{line} --address head:99999", "not HOST:PORT") for line in LABELS[:2]),
    ("verify photos labels --address http://h:8265", "nightlabel submit"),
    ("bench photos --scratch labels --address ray://h:1", "Ray Client"),
    *((f"{line} --address ray://h:1", "Ray Client") for line in (*JOB, "list", "submit a b")),
    *(
        (f"{line} --address ftp://h", "not a job server's url")
        for line in (*JOB, "list", "submit a b")
    ),
    *((f"{line} --address auto", "job server") for line in (*JOB, "list", "submit a b")),
]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str
    loaded: list[str]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """What came of each case, and of each with --json."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "photos").mkdir()
    (folder / "photos" / "a.jpg").write_bytes(b"no image")
    (folder / "loop").symlink_to("loop")
    (folder / "bare").mkdir()
    (folder / "key.toml").write_text('max-error = "1%"\n')
    (folder / "broken.toml").write_text("src = \n")
    lines = [line for case, _ in CASES for line in (case, _with_json(case))]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([line.split() for line in lines]),
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": "/usr/bin", "PYTHONPATH": str(Path(__file__).parents[2])},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return {line: Ran(**told) for line, told in zip(lines, json.loads(done.stdout), strict=True)}


def _with_json(line: str) -> str:
    first, space, rest = line.partition(" ")
    return f"{first} --json{space}{rest}"


def test_every_command_is_walked() -> None:
    assert {line.split()[0] for line, _ in CASES} >= set(COMMANDS)


@pytest.mark.parametrize(("line", "words"), CASES)
def test_bad_usage_is_one_line_and_2(ran: dict[str, Ran], line: str, words: str) -> None:
    found = ran[line]
    assert (found.code, found.out) == (2, "")
    assert found.err.startswith("nightlabel: ")
    assert found.err.count("\n") == 1
    assert words in found.err
    assert found.loaded == []


@pytest.mark.parametrize(("line", "words"), CASES)
def test_bad_usage_is_a_document_too(ran: dict[str, Ran], line: str, words: str) -> None:
    found = ran[_with_json(line)]
    document: dict[str, Any] = json.loads(found.out)
    assert found.err == f"nightlabel: {document['message']}\n"
    assert (found.code, document["exit_code"]) == (2, 2)
    assert document["error"] in ("UsageError", "SpecError")


def test_what_comes_after_two_dashes_is_no_option() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("nightlabel"), "runs", "--", "a", "--json"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")


def test_a_cluster_in_the_environment_is_named_as_such(tmp_path: Path) -> None:
    env = {"PATH": "/usr/bin", "RAY_ADDRESS": "http://head:8265"}
    command = [Path(sys.executable).with_name("nightlabel"), "label", tmp_path, tmp_path / "labels"]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 2
    assert done.stderr.startswith("nightlabel: RAY_ADDRESS='http://head:8265': ")
