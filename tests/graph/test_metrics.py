"""No name of a label store ends a run, and no two of them share a metric."""

import logging
import random
from itertools import product

import pytest
from ray.util import metrics as of_ray

from pipeline.graph.metrics import (
    IMAGES,
    METRICS,
    TAG_LENGTH,
    Meters,
    Metric,
    named,
    tag_value,
)

NAMES = [
    "jörg/labels",
    "s3://b/läbels",
    "s3://b/l%C3%A4bels",
    "s3://b/ラベル 🏷",
    "s3://b/a\x00b",
    "s3://b/a\nb\x1b[31m",
    "s3://b/\x7f\x80\x85",
    "/labels/\udce4",
    "/labels/\ud800",
    "gs://b/" + "x" * 5_000,
    "gs://b/" + "x" * 5_001,
    "gs://b/" + "ü" * 500,
    "gs://b/" + "ü" * 500 + "!",
    "/",
    'a "quoted" \\name {x="y"}',
]


def test_every_name_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """By Ray's real metrics, which encode what they are given at once."""
    with caplog.at_level(logging.WARNING, "nightlabel"):
        for name, metric in product(NAMES, METRICS):
            if metric.kind == "counter":
                Meters.of(name).add(metric, 1, "läbel" if metric.tag else None)
            else:
                Meters.of(name).set(metric, 1)
    assert caplog.messages == []


def test_ray_would_refuse_them_as_they_are() -> None:
    """If this fails, Ray takes other letters by now, and tags may be plain."""
    counter = of_ray.Counter("nightlabel_probe_total", description="of a test", tag_keys=("dst",))
    with pytest.raises(UnicodeEncodeError):
        counter.inc(1, {"dst": "jörg"})


def test_tags_are_short_printable_ascii_and_differ() -> None:
    generator = random.Random(25)
    alphabet = "ab/%~-\\ \x00\n\x7fäÄßж中🏷\ud800\udcff"
    names = {
        "".join(generator.choices(alphabet, k=generator.randrange(0, 700))) for _ in range(3_000)
    }
    tags = {tag_value(name) for name in names}
    assert all(tag.isascii() and tag.isprintable() and 0 < len(tag) <= TAG_LENGTH for tag in tags)
    assert len(tags) == len(names)


@pytest.mark.parametrize("name", ["s3://bucket/labels", "/data/my labels", "gs://b/100%"])
def test_plain_names_are_their_own_tags(name: str) -> None:
    """Dashboards and alerts that name a store keep working."""
    assert tag_value(named(name)) == name


def test_a_name_is_readable_in_its_tag() -> None:
    assert tag_value("s3://b/läbels") == "s3://b/l%C3%A4bels"


@pytest.mark.parametrize("amount", [10**400, "many"])
def test_what_ray_does_not_take_is_a_warning(amount, caplog: pytest.LogCaptureFixture) -> None:
    broken = Metric("gauge", f"nightlabel_broken_{type(amount).__name__}", "of a test")
    with caplog.at_level(logging.WARNING, "nightlabel"):
        for _ in range(3):
            Meters.of("s3://b/labels").set(broken, amount)
    assert len(caplog.messages) == 1
    assert broken.name in caplog.messages[0]


def test_a_lacking_tag_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "nightlabel"):
        Meters.of("s3://b/labels").add(IMAGES, 1)
    assert "nightlabel_images_total" in caplog.messages[0]
