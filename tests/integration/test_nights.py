"""Nights on a real S3 server, a real Ray and a real (tiny) ViT, through the command line."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.errors import MissingError
from tests.integration.conftest import Archive, Ran, command, label, measure, nightlabel, uris_of
from tests.parts.models.tiny import archive, image_bytes
from tests.parts.servers.faults import faulty
from tests.parts.servers.s3 import S3Server

pytestmark = [pytest.mark.s3, pytest.mark.ray]

Here = Callable[..., Ran]


def test_a_first_night_and_the_nights_after(here: Here, s3: S3Server, tiny_model: Path) -> None:
    broken = {"bad.jpg": b"<html>", "none.png": b"", "cut.jpg": image_bytes(1)[:400]}
    found = Archive(s3, archive(120) | broken | {"notes.txt": b"text"})
    everything = [uri for uri in found.uris() if not uri.endswith("notes.txt")]

    first = nightlabel(*label(found, tiny_model))
    assert first.code == 0, first.err
    counts = first.json["counts"]
    assert (counts["listed"], counts["labelled"], counts["excluded"]) == (123, 120, 1)
    assert counts["errors"] == {"not_an_image": 1, "empty": 1, "truncated": 1}
    assert uris_of(found.delta()) == uris_of(found.plain()) == everything

    again = here(*label(found, tiny_model))
    assert again.code == 0
    counts = again.json["counts"]
    assert (counts["labelled"], counts["done"], counts["failed_before"]) == (0, 120, 3)

    changed = {name: image_bytes(1000 + n) for n, name in enumerate(archive(5))}
    found.put(changed | archive(7, first=500))
    third = here(*label(found, tiny_model))
    counts = third.json["counts"]
    assert (third.code, counts["labelled"], counts["changed"], counts["new"]) == (0, 12, 5, 7)
    rows = found.plain(["uri", "etag"]).to_pylist()
    assert sorted(row["uri"] for row in rows) == sorted(
        {*everything, *(f"{found.src}/{name}" for name in archive(7, first=500))}
    )
    tags = {row["uri"]: row["etag"] for row in rows}
    listed = {entry.uri: entry.etag for entry in _entries(found.src)}
    assert all(tags[f"{found.src}/{name}"] == listed[f"{found.src}/{name}"] for name in changed)

    proof = here("verify", found.src, found.dst, "--json")
    assert proof.code == 0, proof.out
    assert proof.json["sample"]["agree"] == proof.json["sample"]["images"] == 16


def _entries(uri: str) -> list[object]:
    from pipeline.storage import list_pages

    return [entry for page in list_pages(f"{uri}/") for entry in page]


@pytest.mark.slow
def test_three_kills_and_then_every_image_has_one_row(s3: S3Server, slow_model: Path) -> None:
    found = Archive(s3, archive(1500))
    arguments = command(*label(found, slow_model, "--commit-seconds", 0.3))
    already = 0
    for kill in range(3):
        _kill_after_rows(arguments, found, already + 150)
        seen = uris_of(found.delta())
        assert len(seen) == len(set(seen)), f"a row twice after kill {kill}"
        assert max(Counter(uris_of(found.plain())).values(), default=1) == 1
        assert len(seen) > already
        already = len(seen)
    last = nightlabel(*label(found, slow_model))
    assert last.code == 0, last.err
    counts = last.json["counts"]
    assert counts["listed"] == 1500
    assert counts["done"] >= already
    assert counts["done"] + counts["labelled"] == 1500
    assert uris_of(found.delta()) == uris_of(found.plain()) == found.uris()
    idle = nightlabel(*label(found, slow_model))
    assert (idle.code, idle.json["counts"]["labelled"]) == (0, 0)
    assert nightlabel("verify", found.src, found.dst, "--sample", 0).code == 0


def _kill_after_rows(arguments: list[str], found: Archive, rows: int) -> None:
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while found.delta().num_rows < rows:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < until, "the run committed nothing"
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def slow_reads(server: S3Server, **seconds: float) -> Iterator[dict[str, str]]:
    """An environment in which an image takes so long to come, by its folder: a run lasts, and
    works little."""
    with faulty(server) as proxy:
        for folder, delay in seconds.items():
            proxy.rule(method="GET", path=f"/photos/{folder}/", delay=delay)
        yield {**os.environ, **proxy.env}


def test_while_a_run_lasts_readers_see_no_row_twice(here: Here, s3: S3Server) -> None:
    found = Archive(s3, archive(100))
    assert here(*measure(found)).code == 0
    finished_night = uris_of(found.plain())
    late = [name for name in archive(40) if name.startswith("b/")]  # replacing delays a next commit
    replaced = {name: image_bytes(2000 + n) for n, name in enumerate(late)}
    found.put(archive(600, first=1000) | replaced)
    with slow_reads(s3, a=0.2, b=1.2) as env:  # so that batches end at different times
        process = subprocess.Popen(
            command(*measure(found, "--commit-seconds", 0.3)), stdout=subprocess.DEVNULL, env=env
        )
        grew = _watched_by_readers(process, found, finished_night)
    assert process.returncode == 0
    print(f"readers saw {sorted(grew)} rows")
    assert len(grew) > 2
    assert uris_of(found.plain()) == found.uris()


def _watched_by_readers(
    process: "subprocess.Popen[bytes]", found: Archive, finished_night: list[str]
) -> set[int]:
    """The numbers of rows that a Delta reader saw."""
    grew = set()
    while process.poll() is None:
        seen = uris_of(found.delta())
        assert len(seen) == len(set(seen))
        grew.add(len(seen))
        try:
            plain = uris_of(found.plain())
        except MissingError:
            continue  # a replaced file went between being listed and being read: the merge
        assert len(plain) == len(set(plain))
        if found.delta().num_rows < 700:  # still, so there was no merge meanwhile
            assert plain == finished_night
    return grew


def test_of_two_runs_at_once_one_wins(s3: S3Server) -> None:
    found = Archive(s3, archive(200))
    pair = [
        subprocess.Popen(
            command(*measure(found)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    ended = [(process.communicate(timeout=300), process.returncode) for process in pair]
    assert sorted(code for _, code in ended) == [0, 5]
    [(_, words)] = [streams for streams, code in ended if code == 5]
    winner = next(process for process in pair if process.returncode == 0)
    assert f"process {winner.pid}" in words
    assert uris_of(found.delta()) == found.uris()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, id="INT"),
        pytest.param(signal.SIGTERM, 143, id="TERM", marks=pytest.mark.slow),
    ],
)
def test_a_signal_commits_what_is_done(
    here: Here, s3: S3Server, tiny_model: Path, number: signal.Signals, code: int
) -> None:
    found = Archive(s3, archive(700))
    with slow_reads(s3, a=0.2, b=1.2) as env:
        process = subprocess.Popen(
            command(*label(found, tiny_model, "--commit-seconds", 0.3)),
            stdout=subprocess.PIPE,
            text=True,
            env=env,
            start_new_session=True,
        )
        while found.delta().num_rows < 100:
            assert process.poll() is None
            time.sleep(0.05)
        sent = time.monotonic()
        os.killpg(process.pid, number)  # as a terminal does, to the workers too
        out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert time.monotonic() - sent < 10
    summary = json.loads(out)
    assert summary["status"] == "interrupted"
    assert found.delta().num_rows == summary["counts"]["labelled"] < 700
    rest = here(*label(found, tiny_model))
    assert rest.code == 0, rest.err
    assert uris_of(found.plain()) == found.uris()


def test_a_deadline_commits_what_is_done(here: Here, s3: S3Server) -> None:
    found = Archive(s3, archive(1500))
    with slow_reads(s3, a=0.1, b=3.0) as env:  # a batch of the latter lasts longer than the night
        stopped = nightlabel(*measure(found, "--deadline", "10s"), env=env)
    assert stopped.code == 4
    assert stopped.json["reason"] == "the deadline was reached"
    assert found.delta().num_rows == stopped.json["counts"]["labelled"] < 1500
    assert stopped.json["seconds"]["all"] < 10 + 10
    rest = here(*measure(found))
    assert rest.code == 0
    assert uris_of(found.plain()) == found.uris()
