"""Whole nights on a store that fails: right rows or none, and the next run completes."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from pipeline.store.runs import load_runs
from tests.chaos.scores import Scores
from tests.integration.conftest import Archive, Ran, measure, nightlabel, uris_of
from tests.parts.models.tiny import archive
from tests.parts.servers.faults import FaultProxy, faulty
from tests.parts.servers.s3 import S3Server

pytestmark = [pytest.mark.s3, pytest.mark.ray]

#: One GET of one of the archive's objects, not a listing.
IMAGE = r"/photos/[ab]/"


@pytest.fixture
def proxy(s3: S3Server, scores: Scores) -> Iterator[FaultProxy]:
    """Before the store; what it does counts in the table."""
    with faulty(s3, seed=7) as found:
        yield found
    for _, _, rule in found.fired:
        scores.count(f"store fault: {rule.kind}")


def label(found: Archive, model: object, proxy: FaultProxy, *more: str) -> Ran:
    return _night("label", found, proxy, "--model", model, *more)


def fingerprint(found: Archive, proxy: FaultProxy) -> Ran:
    """The same without a network, for what the store does to any task."""
    return _night("fingerprint", found, proxy)


def _night(task: str, found: Archive, proxy: FaultProxy, *more: object) -> Ran:
    arguments = [found.src, found.dst, "--json", "--commit-seconds", 1, *more]
    return nightlabel(task, *arguments, env={**os.environ, **proxy.env})


def fails(ran: Ran, words: str) -> None:
    """With exit 1 and one line, which holds `words`."""
    assert ran.code == 1, ran.err
    assert "Traceback" not in ran.err
    [line] = [line for line in ran.err.splitlines() if line.startswith("nightlabel: ")]
    assert words in line


def errors(found: Archive) -> dict[str, int]:
    codes = found.delta(["uri", "error_code"])["error_code"].to_pylist()
    return dict(Counter(code for code in codes if code is not None))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "AccessDenied"),
        pytest.param(400, "ExpiredToken", marks=pytest.mark.chaos),
        pytest.param(404, "NoSuchBucket", marks=pytest.mark.chaos),
        pytest.param(404, "NoSuchKey", marks=pytest.mark.chaos),
    ],
)
def test_a_store_that_refuses_from_a_moment_on(
    here: Callable[..., Ran], s3: S3Server, proxy: FaultProxy, status: int, code: str
) -> None:
    found = Archive(s3, archive(600))
    proxy.rule(method="GET", path=IMAGE, skip=200, status=status, code=code)
    broken = fingerprint(found, proxy)
    assert broken.code == 1, broken.err
    assert "Traceback" not in broken.err
    assert errors(found) == {}
    assert found.delta().num_rows <= 200
    again = here(*measure(found))
    assert again.code == 0, again.err
    assert errors(found) == {}
    assert uris_of(found.delta()) == uris_of(found.plain()) == found.uris()


def test_bursts_of_everything_end_in_right_rows(
    here: Callable[..., Ran], s3: S3Server, proxy: FaultProxy
) -> None:
    """Throttling, resets, cut, damaged and late bodies, lost answers to commits."""
    found = Archive(s3, archive(400))
    proxy.rule(method="GET", path=IMAGE, chance=0.05, status=503)
    proxy.rule(method="GET", path=IMAGE, chance=0.03, reset=True)
    proxy.rule(method="GET", path=IMAGE, chance=0.03, cut_after=500)
    proxy.rule(method="GET", path=IMAGE, chance=0.02, flip=4)
    proxy.rule(method="GET", path=IMAGE, chance=0.03, delay=2.0)
    proxy.rule(method="GET", path=IMAGE, times=2, bytes_per_second=1000)
    proxy.rule(method="PUT", path="/_parts/", times=1, status=503)
    proxy.rule(method="PUT", path="/_delta_log/", skip=1, times=1, status=503)
    proxy.rule(method="PUT", path="/_delta_log/", skip=1, times=1, lose_answer=True)
    ran = fingerprint(found, proxy)
    kinds = {id(rule) for _, _, rule in proxy.fired}
    assert ran.code == 0, ran.err
    assert len(kinds) >= 8
    assert errors(found) == {}
    assert uris_of(found.delta()) == uris_of(found.plain()) == found.uris()
    assert here("verify", found.src, found.dst).code == 0


#: The second page of the listing of SRC, as the check, the probes and the tasks ask for it.
SECOND_PAGE = "list-type=2&prefix=photos.*(continuation-token|start-after)="


def long_archive(s3: S3Server) -> tuple[Archive, list[str]]:
    """More objects than a page holds, few of them images; and the uris of those."""
    texts = {f"t/{n:04}.txt": b"no image" for n in range(1050)}
    found = Archive(s3, archive(30) | texts | {f"z/{name}": b for name, b in archive(30).items()})
    return found, [uri for uri in found.uris() if uri.endswith(".jpg")]


def test_pages_that_fail_and_reads_that_crawl(s3: S3Server, proxy: FaultProxy) -> None:
    """A listing has all its pages or none; a read may take its time."""
    found, images = long_archive(s3)
    # Every other request for it: each is asked for again.
    faults = ({"status": 503}, {"cut_after": 300}, {"reset": True}, {"status": 500})
    for number, fault in enumerate(faults):
        proxy.rule(path=SECOND_PAGE, times=1, skip=number, **fault)
    proxy.rule(method="GET", path=r"/photos/(z/)?[ab]/", bytes_per_second=1000)
    ran = fingerprint(found, proxy)
    kinds = {id(rule) for _, _, rule in proxy.fired}
    assert ran.code == 0, ran.err
    assert len(kinds) == 5
    assert (ran.json["counts"]["listed"], ran.json["counts"]["excluded"]) == (60, 1050)
    assert errors(found) == {}
    assert uris_of(found.delta()) == uris_of(found.plain()) == images


@pytest.mark.chaos
def test_a_listing_that_fails_for_good(s3: S3Server, proxy: FaultProxy, tiny_model: object) -> None:
    """In the tasks of a first night, and before the second, which may not take it for whole."""
    found, images = long_archive(s3)
    # The check and the probe for ranges have read it when the tasks ask.
    rule = proxy.rule(path=SECOND_PAGE, skip=2, status=503)
    fails(label(found, tiny_model, proxy), "no answer (the store answered 503 SlowDown)")
    last = list(load_runs(found.folder))[-1]
    assert (last.status, last.exit_code, last.listing_complete) == ("failed", 1, False)
    proxy.rules.clear()
    assert label(found, tiny_model, proxy).code == 0
    assert uris_of(found.delta()) == uris_of(found.plain()) == images

    rule = proxy.rule(path=SECOND_PAGE, status=403, code="AccessDenied", skip=1)
    for options in ([], ["--delete"]):
        rule.skip = 1
        fails(label(found, tiny_model, proxy, *options), "the store answered 403 AccessDenied")
        last = list(load_runs(found.folder))[-1]
        assert (last.status, last.counts.gone, last.counts.deleted) == ("failed", 0, 0)
        assert uris_of(found.delta()) == uris_of(found.plain()) == images


@pytest.mark.chaos
def test_etags_that_are_no_md5s(s3: S3Server, proxy: FaultProxy, tiny_model: object) -> None:
    """As those of uploads in parts and of encrypted buckets; an object that moves is seen."""
    found = Archive(s3, {})
    for name, data in archive(40).items():
        s3.upload(f"{found.src}/{name}", data)
    moved, new = next(iter(archive(1))), next(iter(archive(1, first=900).values()))
    proxy.rule(
        method="GET",
        path=f"/photos/{moved}",
        before=lambda _: s3.upload(f"{found.src}/{moved}", new),
    )
    first = label(found, tiny_model, proxy)
    proxy.rules.clear()
    assert first.code == 4, first.err
    assert errors(found) == {"changed": 1}
    second = label(found, tiny_model, proxy)
    assert (second.code, second.json["counts"]["labelled"]) == (0, 1), second.err
    etags = found.delta(["uri", "etag"])["etag"].to_pylist()
    assert all(etag.endswith("-1") for etag in etags)
    assert errors(found) == {}


#: Every kind of PUT in a run, by its path; the merge's comes last but for the summary.
PUTS = (
    "/lease",
    "/recipes/",
    "/current",
    "/runs/",
    "/_parts/",
    "/_delta_log/",
    "/labels/recipe(=|%3D)",
)


@pytest.mark.chaos
def test_every_kind_of_put_fails_for_a_while(
    s3: S3Server, proxy: FaultProxy, tiny_model: object
) -> None:
    found = Archive(s3, archive(60))
    for path in PUTS:
        proxy.rule(method="PUT", path=path, times=2, status=503)
        proxy.rule(method="PUT", path=path, times=1, reset=True)
        proxy.rule(method="PUT", path=path, times=1, lose_answer=True)
    ran = label(found, tiny_model, proxy)
    left = [rule for rule in proxy.rules if rule.times]
    assert ran.code == 0, ran.err
    assert left == []
    assert errors(found) == {}
    assert uris_of(found.delta()) == uris_of(found.plain()) == found.uris()


@pytest.mark.chaos
def test_every_kind_of_put_fails_for_good(
    s3: S3Server, proxy: FaultProxy, tiny_model: object
) -> None:
    """One line that says what failed, soon; what was true stays, and the next run goes on."""
    found = Archive(s3, archive(60))
    refused = {"status": 403, "code": "ExpiredToken"}
    silent = {"status": 503}
    faults = [
        ("/lease", refused),
        ("/recipes/", refused),
        ("/current", refused),
        ("/runs/", refused),
        ("/_parts/", refused),
        ("/_delta_log/0*[1-9]", refused),
        ("/_delta_log/0*[1-9]", silent),
        ("/labels/recipe(=|%3D)", silent),
        ("/runs/.*", silent),
    ]
    rows = 0
    for number, (path, fault) in enumerate(faults):
        proxy.rules.clear()
        # The last: a summary is written at the start too, and only the second fails.
        proxy.rule(method="PUT", path=path, skip=int(path.endswith(".*")), **fault)
        began = time.monotonic()
        said = "403 ExpiredToken: what opens it" if fault is refused else "no answer"
        fails(label(found, tiny_model, proxy), said)
        assert time.monotonic() - began < 180, path
        seen = uris_of(found.delta())
        assert len(seen) == len(set(seen)) >= rows, path
        assert max(Counter(uris_of(found.plain())).values(), default=1) == 1
        rows = len(seen)
        assert rows == (60 if number >= 7 else 0), path
    proxy.rules.clear()
    again = label(found, tiny_model, proxy)
    assert again.code == 0, again.err
    assert again.json["counts"]["done"] == 60
    assert uris_of(found.delta()) == uris_of(found.plain()) == found.uris()


@pytest.mark.chaos
def test_a_bucket_that_vanishes(s3: S3Server, proxy: FaultProxy, tiny_model: object) -> None:
    """That of the labels, at the first commit."""
    found = Archive(s3, archive(60))
    proxy.rule(
        method="PUT",
        path="/_parts/",
        before=lambda _: s3.delete_bucket(found.dst),
    )
    fails(label(found, tiny_model, proxy), "its log is gone")


@pytest.mark.chaos
def test_a_lease_that_cannot_be_renewed(
    s3: S3Server, proxy: FaultProxy, tiny_model: object
) -> None:
    """Before it is dead for others, the run ends: they would take it over."""
    found = Archive(s3, archive(800))
    proxy.rule(method="GET", path=IMAGE, bytes_per_second=100)
    proxy.rule(method="PUT", path="/lease", skip=1, status=403, code="AccessDenied")
    began = time.monotonic()
    ran = label(found, tiny_model, proxy)
    assert 90 < time.monotonic() - began < 240
    fails(ran, "the lease could not be renewed for 90 s")
    proxy.rules.clear()
    again = label(found, tiny_model, proxy)
    assert again.code == 0, again.err
    assert uris_of(found.delta()) == uris_of(found.plain()) == found.uris()
