"""The coordinator's process starts beside those that load the network."""

import subprocess
import sys

import pytest

from pipeline.graph.coordinator import IDLE_SECONDS, Coordinator

IMPORTS = """
import sys
import pipeline.graph.coordinator
print(*(name for name in ("PIL", "pipeline.images", "pipeline.scan.survey", "pipeline.storage")
        if name in sys.modules))
"""


def test_it_imports_at_first_only_what_it_needs_at_first() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == []


def test_what_devices_did_is_summed_up() -> None:
    coordinator = Coordinator()
    coordinator.labelled(512, {"works": 2.0, "waits": 1.0})
    coordinator.labelled(512, {"works": 0.5})
    coordinator.labelled(64)
    assert coordinator.progress()[1]["labelled"] == 1088
    assert coordinator.survey().device_seconds == {"works": 2.5, "waits": 1.0}


def test_a_predictor_that_cannot_load_stands_aside_while_another_may() -> None:
    coordinator = Coordinator()

    def starts(name: str, times: int) -> None:
        for _ in range(times):
            coordinator.starting(name)

    starts("bad", 4)
    assert not coordinator.others("bad", 3)
    starts("good", 1)
    assert coordinator.others("bad", 3)  # it may get ready
    coordinator.ready("good")
    assert coordinator.others("bad", 3)
    starts("good", 4)  # it was ready once, and is not any more
    assert not coordinator.others("bad", 3)
    assert not coordinator.others("good", 3)


def test_predictors_that_do_not_try_again_wait_for_no_other_like_them() -> None:
    coordinator = Coordinator()
    for name in ("one", "two"):
        coordinator.starting(name)
    coordinator.cannot_load("one")
    assert coordinator.others("one", 3)
    assert not coordinator.others("two", 3)
    coordinator.cannot_load("two")
    assert not coordinator.others("one", 3)


def test_it_knows_how_a_device_failed_last() -> None:
    coordinator = Coordinator()
    for words in ("CUDA error: unknown error", "CUDA error: uncorrectable ECC error encountered"):
        coordinator.lost_device("bad", words)
    assert coordinator.device_fault("bad") == "CUDA error: uncorrectable ECC error encountered"
    assert coordinator.device_fault("good") == ""


def test_a_predictor_that_holds_batches_waits_only_while_others_label(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its device failed in the midst of a night: nobody else gets what waits at it."""
    now = 0.0
    monkeypatch.setattr("pipeline.graph.coordinator.time.monotonic", lambda: now)
    coordinator = Coordinator()
    for name in ("bad", "good"):
        coordinator.starting(name)
        coordinator.ready(name)
    for _ in range(4):
        coordinator.starting("bad")
    for name in ("idle", "late"):  # never ready, so nothing waits at these
        coordinator.starting(name)
    assert coordinator.others("bad", 3)
    for name in ("idle", "late"):
        for _ in range(4):
            coordinator.starting(name)
    now = IDLE_SECONDS
    assert coordinator.others("bad", 3)
    coordinator.labelled(512)
    now = 2 * IDLE_SECONDS
    assert coordinator.others("bad", 3)
    now += 1
    assert not coordinator.others("bad", 3)
    assert coordinator.others("idle", 3)
