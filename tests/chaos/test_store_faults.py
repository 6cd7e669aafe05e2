"""Whole nights on a store that fails: right rows or none, and the next run completes."""

import os
from collections import Counter

import pytest

from tests.integration.conftest import Archive, Ran, nightlabel, uris_of
from tests.parts.faults import FaultProxy, faulty
from tests.parts.s3 import S3Server
from tests.parts.tiny import archive

pytestmark = pytest.mark.s3

#: One GET of one of the archive's objects, not a listing.
IMAGE = r"/photos/[ab]/"


def label(found: Archive, model: object, proxy: FaultProxy) -> Ran:
    arguments = [found.src, found.dst, "--model", model, "--json", "--commit-seconds", 1]
    return nightlabel("label", *arguments, env={**os.environ, **proxy.env})


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
    s3: S3Server, tiny_model: object, status: int, code: str
) -> None:
    found = Archive(s3, archive(600))
    with faulty(s3) as proxy:
        proxy.rule(method="GET", path=IMAGE, skip=200, status=status, code=code)
        broken = label(found, tiny_model, proxy)
        assert broken.code == 1, broken.err
        assert "Traceback" not in broken.err
        assert errors(found) == {}
        assert found.delta().num_rows <= 200
        proxy.rules.clear()
        mended = label(found, tiny_model, proxy)
    assert mended.code == 0, mended.err
    assert errors(found) == {}
    assert uris_of(found.delta()) == uris_of(found.plain()) == found.uris()


def test_bursts_of_everything_end_in_right_rows(s3: S3Server, tiny_model: object) -> None:
    """Throttling, resets, cut, damaged and late bodies, lost answers to commits."""
    found = Archive(s3, archive(400))
    with faulty(s3, seed=7) as proxy:
        proxy.rule(method="GET", path=IMAGE, chance=0.05, status=503)
        proxy.rule(method="GET", path=IMAGE, chance=0.03, reset=True)
        proxy.rule(method="GET", path=IMAGE, chance=0.03, cut_after=500)
        proxy.rule(method="GET", path=IMAGE, chance=0.02, flip=4)
        proxy.rule(method="GET", path=IMAGE, chance=0.03, delay=2.0)
        proxy.rule(method="GET", path=IMAGE, times=2, bytes_per_second=1000)
        proxy.rule(method="PUT", path="/_parts/", times=1, status=503)
        proxy.rule(method="PUT", path="/_delta_log/", skip=1, times=1, status=503)
        proxy.rule(method="PUT", path="/_delta_log/", skip=1, times=1, lose_answer=True)
        ran = label(found, tiny_model, proxy)
        kinds = {id(rule) for _, _, rule in proxy.fired}
    assert ran.code == 0, ran.err
    assert len(kinds) >= 8
    assert errors(found) == {}
    assert uris_of(found.delta()) == uris_of(found.plain()) == found.uris()
    assert nightlabel("verify", found.src, found.dst).code == 0
