"""How soon the first label is true, beside what cannot be had for less.

By hand is what any program of this kind does first, one thing after the other: import torch and
transformers, start Ray, load the model. Ours is the time from the command to the first commit
that holds a label. The two take turns.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.race import environ
from pipeline import demo
from tests.parts.archives.real_archives import ROOT

BY_HAND = """
import sys, torch, transformers, ray
ray.init("local", include_dashboard=False, log_to_driver=False)
transformers.AutoModelForImageClassification.from_pretrained(sys.argv[1]).eval()
print("loaded", flush=True)
"""
LOOK_SECONDS = 0.02


def start_up(rounds: int) -> tuple[float, float, float]:
    """Median seconds until the model is loaded by hand, until our first label is true in the very
    first run of a model, and in the second."""
    by_hand, first, again = [], [], []
    for _ in range(rounds):
        by_hand.append(_by_hand())
        with tempfile.TemporaryDirectory() as cache:
            first.append(_first_label(cache))
            again.append(_first_label(cache))
    return statistics.median(by_hand), statistics.median(first), statistics.median(again)


def _by_hand() -> float:
    began = time.perf_counter()
    command = [sys.executable, "-c", BY_HAND, str(demo.model())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ(), cwd=ROOT) as process:
        assert process.stdout is not None
        loaded = process.stdout.readline()
        seconds = time.perf_counter() - began
    if loaded != b"loaded\n":
        raise RuntimeError("by hand, the model was not loaded")
    return seconds


def _first_label(cache: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        labels = Path(folder) / "labels"
        here = Path(sys.executable).with_name("nightlabel")
        options = ["--model", str(demo.model()), "--no-progress", "--json"]
        command = [str(here), "label", str(demo.images()), str(labels), *options]
        began = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, env=environ() | {"NIGHTLABEL_CACHE": cache}
        ) as process:
            while not _has_rows(labels / "_delta_log"):
                if process.poll() is not None:
                    raise RuntimeError("the run ended without a label")
                time.sleep(LOOK_SECONDS)
            return time.perf_counter() - began


def _has_rows(log: Path) -> bool:
    """Version 0 is the empty table; every later one that adds a file makes rows true."""
    commits = sorted(log.glob("*.json"))[1:] if log.is_dir() else []
    return any('"add"' in commit.read_text() for commit in commits)
