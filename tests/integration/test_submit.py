"""Jobs of a real cluster of a head without CPUs, a CPU node and a node of two logical GPUs."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pipeline.graph.progress import STAGES
from tests.integration.conftest import Archive, Ran, _run_here, command, nightlabel, uris_of
from tests.parts.clusters.cluster import LocalCluster, free_port, local_cluster
from tests.parts.models.tiny import archive, image_bytes
from tests.parts.servers.faults import FaultProxy, faulty
from tests.parts.servers.s3 import S3Process

pytestmark = [pytest.mark.s3, pytest.mark.ray]


@pytest.fixture(scope="module")
def proxy(s3: S3Process) -> Iterator[FaultProxy]:
    """Between the store and the cluster, where a job can be made to last without much work."""
    with faulty(s3) as found:
        yield found


@pytest.fixture(scope="module")
def cluster(proxy: FaultProxy) -> Iterator[LocalCluster]:
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in proxy.env.items():
                patch.setenv(name, value)
            found = stack.enter_context(local_cluster())
            found.add(num_cpus=2)
            found.add(num_cpus=0, num_gpus=2)
        yield found


class Person:
    """Someone with a command line beside the cluster."""

    def __init__(self, cluster: LocalCluster, found: Archive, *what: object) -> None:
        self.cluster, self.found = cluster, found
        self.ends = [found.src, found.dst, *what]

    def submit(self, *options: object) -> list[object]:
        return ["submit", *self.ends, "--address", self.cluster.url, *options]

    def does(self, *arguments: object) -> Ran:
        return _run_here(*arguments, "--address", self.cluster.url)

    def night(self, *options: object, run: Callable[..., Ran] = _run_here) -> Ran:
        return run(*self.submit(*options))


@pytest.fixture
def person(cluster: LocalCluster, tiny_model: Path, s3: S3Process) -> Callable[[int], Person]:
    return lambda images: Person(cluster, Archive(s3, archive(images)), "--model", tiny_model)


@pytest.fixture
def measurer(cluster: LocalCluster, s3: S3Process) -> Callable[[int], Person]:
    """Someone whose nights need no model, for what becomes of any job."""
    return lambda images: Person(cluster, Archive(s3, archive(images)), "--task", "fingerprint")


@dataclass(frozen=True)
class Night:
    """Someone's night over 60 images that was seen through."""

    one: Person
    first: Ran


@pytest.fixture(scope="module")
def done(cluster: LocalCluster, tiny_model: Path, s3: S3Process) -> Night:
    one = Person(cluster, Archive(s3, archive(60)), "--model", tiny_model)
    return Night(one, one.night("--json", run=nightlabel))


def test_a_night_is_submitted_once_and_seen_through(done: Night) -> None:
    one, first = done.one, done.first
    assert first.code == 0, first.err
    told = first.json
    assert (told["attached"], told["already_completed"]) == (False, False)
    assert told["status"] == "SUCCEEDED"
    assert told["summary"]["counts"]["labelled"] == 60
    assert told["summary"]["hardware"]["predictors"] == [2, 2]
    stages = [STAGES[name] for name in ("checking", "model", "listing", "starting", "merging")]
    said = [line.partition(" ")[2] for line in first.err.splitlines()]
    assert [line for line in said if line in stages] == stages
    assert uris_of(one.found.delta()) == uris_of(one.found.plain()) == one.found.uris()

    again = one.night("--night", told["night"])
    assert again.code == 0
    assert "already completed" in again.err
    assert "no image is new or changed since" in again.err
    assert len(_jobs(one, told["job"])) == 1

    [job] = _jobs(one, told["job"])
    assert (job["exit_code"], job["src"], job["dst"]) == (0, one.found.src, one.found.dst)
    status = one.does("status", told["job"], "--json").json
    assert status == job
    logs = one.does("logs", told["job"])
    assert "labelled" in logs.out
    assert one.does("logs", "-f", told["job"], "--json").json["exit_code"] == 0


def test_a_night_that_is_over_says_so_and_the_night_that_it_names_works(
    done: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, first = done.one, done.first.json
    night = first["night"]
    one.found.put({"new.jpg": image_bytes(99)})
    line = one.night("--night", night).err.splitlines()[-1]
    assert re.match(r"NOTHING WAS RUN: job \S+ already completed at 2\S+ \d\d:\d\d UTC", line)
    assert "with exit code 0; 1 image that is new or changed is NOT labelled" in line
    assert line.endswith(f"use --night {night}b")

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    for waiting in ("--wait", "--no-wait"):
        told = one.night("--night", night, waiting, "--json", run=nightlabel).json
        assert told["already_completed"] is told["attached"] is True
        assert (told["night"], told["exit_code"], told["status"]) == (night, 0, "SUCCEEDED")
        assert told["since"] == {"unlabelled": 1, "complete": True, "problem": None}
        assert told["summary"] == first["summary"]
        assert told["ended"].endswith("+00:00")

    other = one.night("--night", told["another_night"], "--json")
    assert other.code == 0, other.err
    assert (other.json["already_completed"], other.json["attached"]) == (False, False)
    assert other.json["summary"]["counts"]["labelled"] == 1


def test_a_wrong_address_is_refused_where_nothing_is_new(done: Night) -> None:
    one = done.one
    closed, dashboard = f"127.0.0.1:{free_port()}", one.cluster.url.removeprefix("http://")
    began = time.monotonic()
    for what, address, code, words in [
        ("label", closed, 1, "no Ray cluster answers at"),
        ("plan", closed, 1, "no Ray cluster answers at"),
        ("verify", closed, 1, "no Ray cluster answers at"),
        ("label", dashboard, 2, "a web server answers there"),
        ("label", one.cluster.url, 2, "is the url of a job server"),
    ]:
        ran = nightlabel(what, *one.ends, "--address", address, "--json")
        assert ran.code == code, ran.err
        assert words in ran.json["message"]
        said = [line for line in ran.err.splitlines() if line.startswith("nightlabel")]
        assert said == [f"nightlabel: {ran.json['message']}"]
    assert time.monotonic() - began < 60
    right = nightlabel("plan", *one.ends, "--no-probe", "--address", one.cluster.address, "--json")
    assert right.code == 0, right.err


def test_two_at_once_are_one_job(measurer: Callable[[int], Person]) -> None:
    one = measurer(40)
    both = [_running(one.submit("--json")) for _ in range(2)]
    told = [json.loads(process.communicate(timeout=240)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert told[0]["job"] == told[1]["job"]
    assert len(_jobs(one, told[0]["job"])) == 1


def test_a_stopped_job_is_no_success_and_the_next_one_finishes(
    measurer: Callable[[int], Person], proxy: FaultProxy
) -> None:
    one = measurer(1000)  # several batches
    late = urlsplit(f"{one.found.src}/b/")
    proxy.rule(method="GET", path=f"/{late.netloc}{late.path}", delay=2.0)
    with _running(one.submit("--commit-seconds", 0.5, "--json")) as follower:
        job = _once_labels_come(one)
        stopped = one.does("stop", job)
        assert stopped.code == 0, stopped.err
        out, _ = follower.communicate(timeout=120)
    proxy.rules.clear()
    assert follower.returncode == 143
    assert json.loads(out)["status"] == "STOPPED"
    assert 0 < one.found.delta().num_rows < 1000
    assert len(set(uris_of(one.found.delta()))) == one.found.delta().num_rows
    rest = one.night("--commit-seconds", 0.5, "--json")
    assert rest.code == 0, rest.err
    assert rest.json["job"] == f"{job}-2"
    assert rest.json["summary"]["counts"]["done"] > 0
    assert uris_of(one.found.delta()) == one.found.uris()


def test_who_stops_following_stops_no_job(person: Callable[[int], Person]) -> None:
    one = person(300)
    with _running(one.submit("--commit-seconds", 0.5)) as follower:
        job = _once_it_follows(one, follower)
        follower.send_signal(signal.SIGINT)
        _, err = follower.communicate(timeout=30)
    assert follower.returncode == 130, err
    assert f"nightlabel stop {job} --address {one.cluster.url}" in err
    attached = one.night("--commit-seconds", 0.5, "--json")
    assert attached.code == 0, attached.err
    assert attached.json["job"] == job
    assert attached.json["summary"]["counts"]["labelled"] == 300


def test_a_gate_is_the_exit_code_of_who_follows(measurer: Callable[[int], Person]) -> None:
    one = measurer(20)
    one.found.put({f"broken-{n}.jpg": b"\xff\xd8\xff" for n in range(5)})
    ran = one.night("--max-errors", 3, "--json")
    assert ran.code == 3
    assert ran.json["status"] == "FAILED"
    assert ran.json["summary"]["status"] == "gate"
    assert one.found.delta().num_rows == 25


@pytest.mark.parametrize("what", [["list"], ["status", "j"], ["stop", "j"], ["logs", "j"]])
def test_no_head_is_told_soon(what: list[str]) -> None:
    began = time.monotonic()
    ran = _run_here(*what, "--address", "http://127.0.0.1:9")
    assert ran.code == 1
    assert "no job server answers at http://127.0.0.1:9" in ran.err
    assert time.monotonic() - began < 30


def test_a_job_that_nobody_knows(cluster: LocalCluster) -> None:
    ran = _run_here("status", "nightlabel-none", "--address", cluster.url)
    assert ran.code == 1
    assert "knows no job nightlabel-none" in ran.err


def _running(arguments: list[object]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )


def _once_labels_come(one: Person) -> str:
    """The id of their job, when its first labels are true."""
    until = time.monotonic() + 120
    while one.found.delta().num_rows == 0:
        assert time.monotonic() < until
        time.sleep(0.1)
    return _job_of(one)


def _once_it_follows(one: Person, follower: "subprocess.Popen[str]") -> str:
    """The id of their job, when the follower has told of its first stage."""
    assert follower.stderr is not None
    for line in follower.stderr:
        if line.strip().endswith(STAGES["checking"]):
            return _job_of(one)
    raise AssertionError("the follower ended before the job began")


def _job_of(one: Person) -> str:
    [job] = [job["job"] for job in _jobs(one, "") if job["src"] == one.found.src]
    return str(job)


def _jobs(one: Person, prefix: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = one.does("list", "--json").json
    return [job for job in found if job["job"].startswith(prefix)]
