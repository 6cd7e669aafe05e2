"""Who may write, asked of real processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pipeline.errors import BusyError
from pipeline.storage import Folder
from pipeline.store import lease as module
from pipeline.store.lease import PATH, Holder, Lease
from tests.parts.servers.faults import faulty
from tests.parts.servers.s3 import S3Server

HOLD = """
import sys, time
from pipeline.storage import Folder
from pipeline.store.lease import Lease
with Lease(Folder(sys.argv[1]), "other"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(folder: Folder):
    """Another process of this host that holds the lease."""
    folder.ensure()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder.uri], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def put_holder(folder: Folder, **fields: object) -> Holder:
    holder = replace(Holder.me("elsewhere"), **fields)
    folder.put(PATH, json.dumps(asdict(holder)).encode())
    return holder


def test_a_lease_is_held_and_given_back(folder: Folder) -> None:
    folder.ensure()
    with Lease(folder, "one"):
        assert folder.stat(PATH) is not None
    assert folder.stat(PATH) is None


def test_a_living_holder_is_named(folder: Folder, other: subprocess.Popen[str]) -> None:
    with pytest.raises(BusyError, match=f"run other .process {other.pid} on"), Lease(folder, "me"):
        pass


def test_a_killed_holder_is_taken_over_at_once(
    folder: Folder, other: subprocess.Popen[str]
) -> None:
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    began = time.monotonic()
    with Lease(folder, "heir"):
        assert time.monotonic() - began < 5
        assert Holder.parse(folder.read(PATH)) == replace(
            Holder.me("heir"), token=Holder.parse(folder.read(PATH)).token
        )


def test_take_over_fences_a_living_holder(folder: Folder, other: subprocess.Popen[str]) -> None:
    assert other.poll() is None
    with Lease(folder, "thief", take_over=True) as lease:
        assert Holder.parse(folder.read(PATH)) == lease.holder


def test_a_pid_that_was_given_again_is_no_holder(folder: Folder) -> None:
    folder.ensure()
    put_holder(folder, pid=os.getpid(), started=1)
    with Lease(folder, "heir"):
        pass


def test_a_holder_of_before_the_reboot_is_dead(folder: Folder) -> None:
    folder.ensure()
    put_holder(folder, boot_id="another boot")
    with Lease(folder, "heir"):
        pass


def test_a_silent_holder_elsewhere_is_waited_for_and_taken_over(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEAD_SECONDS", 3.0)
    folder.ensure()
    put_holder(folder, host="elsewhere")
    began = time.monotonic()
    with Lease(folder, "heir"):
        assert time.monotonic() - began > 1.5


def test_a_holder_elsewhere_that_renews_is_alive(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEAD_SECONDS", 6.0)
    monkeypatch.setattr(module, "RENEW_SECONDS", 4.0)
    folder.ensure()
    put_holder(folder, host="elsewhere")
    renewer = threading.Timer(1.5, lambda: folder.put(PATH, folder.read(PATH)))
    renewer.start()
    with pytest.raises(BusyError, match="on elsewhere"), Lease(folder, "me"):
        pass
    renewer.join()


def test_a_holder_learns_that_it_lost_the_lease(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.2)
    folder.ensure()
    with Lease(folder, "one") as lease:
        assert not lease.lost.wait(0.7)
        thief = put_holder(folder, host="elsewhere")
        assert lease.lost.wait(5)
    assert Holder.parse(folder.read(PATH)) == thief


@pytest.mark.s3
def test_an_answer_that_is_lost_costs_no_lease(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PUT that is tried again finds what it has itself written."""
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.2)
    folder = Folder(f"{s3.bucket()}/labels")
    with faulty(s3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        acquired = proxy.rule(method="PUT", path="/lease", times=1, lose_answer=True)
        with Lease(folder, "one") as lease:
            renewed = proxy.rule(method="PUT", path="/lease", times=1, lose_answer=True)
            again = proxy.rule(method="PUT", path="/lease", times=2, status=503)
            assert not lease.lost.wait(4)
        assert [rule.times for rule in (acquired, renewed, again)] == [0, 0, 0]
        assert folder.stat(PATH) is None


@pytest.mark.s3
def test_a_lease_that_nobody_can_renew_is_lost(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says why. That it cannot be given back hides nothing of how a run ended."""
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(module, "DEAD_SECONDS", 1.0)
    folder = Folder(f"{s3.bucket()}/labels")
    with faulty(s3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        lease = Lease(folder, "one")

        def run() -> None:
            with lease:
                proxy.rule(path="/lease", status=403, code="AccessDenied")
                assert lease.lost.wait(20)
                raise ValueError("how the run ended")

        with pytest.raises(ValueError, match="how the run ended"):
            run()
    assert "could not be renewed for 1 s" in str(lease.failure)
    assert "the store answered 403; check what these credentials may do" in str(lease.failure)


def test_of_many_heirs_one_wins(folder: Folder) -> None:
    folder.ensure()
    put_holder(folder, boot_id="another boot")
    script = HOLD.replace("time.sleep(60)", "sys.stdin.read()")
    heirs = [
        subprocess.Popen(
            [sys.executable, "-c", script, folder.uri],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    # Losers end by themselves; the winner holds on until its standard input closes.
    deadline = time.monotonic() + 60
    while sum(heir.poll() is None for heir in heirs) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    alive = [heir for heir in heirs if heir.poll() is None]
    outputs = [heir.communicate() for heir in heirs]
    assert len(alive) == 1
    assert [out for out, _ in outputs].count("held\n") == 1
    assert all("BusyError" in error for out, error in outputs if not out)


@pytest.mark.parametrize("data", [b"{not json", b"", b"[" * 10_000, b'{"run_id": "newer"}'])
def test_a_file_that_is_no_lease_is_waited_for_and_taken_over(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    """A newer version may hold it: it is as good as one from elsewhere."""
    monkeypatch.setattr(module, "DEAD_SECONDS", 1.5)
    folder.ensure()
    folder.put(PATH, data)
    began = time.monotonic()
    with Lease(folder, "me"):
        assert 0.5 < time.monotonic() - began < 30
    with Lease(folder, "me", take_over=True):
        pass


def test_what_is_no_lease_and_is_renewed_is_alive(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEAD_SECONDS", 6.0)
    monkeypatch.setattr(module, "RENEW_SECONDS", 4.0)
    folder.ensure()
    folder.put(PATH, b"{}")
    renewer = threading.Timer(1.5, lambda: folder.put(PATH, b"{}"))
    renewer.start()
    with pytest.raises(BusyError, match=r"a lease that this version cannot read.*take-over"):
        Lease(folder, "me").__enter__()
    renewer.join()


def test_a_lease_of_next_century_is_waited_for_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEAD_SECONDS", 1.5)
    folder = Folder(str(tmp_path))
    put_holder(folder, host="elsewhere")
    os.utime(tmp_path / PATH, (4e9, 4e9))
    began = time.monotonic()
    with Lease(folder, "me"):
        assert time.monotonic() - began < 30
