"""What Ray raises, in our own words."""

import subprocess
import sys

import pytest
import ray

from pipeline.engine.address import cluster_address
from pipeline.engine.session import ray_error, session
from pipeline.errors import DeniedError, PlacementError


@pytest.mark.parametrize(
    ("kind", "fix"),
    [
        (ray.exceptions.OutOfMemoryError, "fewer --predictors"),
        (ray.exceptions.OutOfDiskError, "RAY_TMPDIR"),
        (ray.exceptions.ObjectStoreFullError, "/dev/shm"),
    ],
)
def test_what_the_machine_lacks_is_named(kind: type[Exception], fix: str) -> None:
    bare = kind("Ray has\nmuch to say")
    for error in (bare, ray.exceptions.RayTaskError("task", "trace", bare)):
        told = str(ray_error(error))
        assert fix in told
        assert "the next run continues" in told
        assert "\n" not in told


@pytest.mark.parametrize("code", [0, 3, 130])
def test_no_end_of_a_library_changes_the_code(code: int) -> None:
    program = (
        "import atexit, os, signal\n"
        "from pipeline.engine.session import end_process\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGSEGV)\n"
        f"print('told', end='')\nend_process({code})"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (code, "told")


def test_our_own_errors_come_out_as_they_were_raised() -> None:
    ours = DeniedError("refused; check")
    assert ray_error(ray.exceptions.RayTaskError("task", "trace", ours)) is ours


@pytest.mark.parametrize(
    ("asked", "environment", "address"),
    [
        (None, None, None),
        (None, "head:6379", "head:6379"),
        ("other:6379", "head:6379", "other:6379"),
        ("local", "head:6379", None),
        (None, "local", None),
        ("auto", "local", "auto"),
        (None, "", None),
    ],
)
def test_local_is_a_ray_of_our_own(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, environment: str | None, address: str | None
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if environment is not None:
        monkeypatch.setenv("RAY_ADDRESS", environment)
    assert cluster_address(asked) == address


def test_a_ray_that_cannot_start_is_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.engine.session.ROOM_BYTES", 2**60)
    with pytest.raises(PlacementError, match="RAY_TMPDIR"), session(None):
        pass
    assert not ray.is_initialized()


@pytest.mark.parametrize("kind", [Exception, RuntimeError, OSError])
def test_a_node_that_takes_too_long_to_start_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def init(*_: object, **__: object) -> None:
        raise kind("The current node timed out during startup.\nSome of the raylet failed")

    monkeypatch.setattr(ray, "init", init)
    words = r"Ray does not start on this machine: The current node timed out during startup\. \(--"
    with pytest.raises(PlacementError, match=words), session(None):
        pass


def test_a_fault_of_ours_is_not_taken_for_a_ray_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "init", lambda *_, **__: {}["a fault"])
    with pytest.raises(KeyError), session(None):
        pass
