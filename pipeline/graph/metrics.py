"""Prometheus metrics of a run, exported through Ray: each process counts what it does itself.

Ray puts `ray_` before these names, and exports them on every node of a cluster. docs/reference.md
is generated from `METRICS`.
"""

import logging
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Final, Literal, Self
from urllib.parse import quote

from ray.util.metrics import Counter, Gauge

from pipeline.storage import canonical, identity, public


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. All have the tag `dst`, the label store; `tag` is a second one."""

    kind: Literal["counter", "gauge"]
    name: str
    description: str
    tag: str | None = None


IMAGES: Final = Metric(
    "counter",
    "nightlabel_images_total",
    "committed rows: `labelled`, or by their error code",
    "result",
)
COMMITS: Final = Metric("counter", "nightlabel_commits_total", "commits of new rows")
READ_BYTES: Final = Metric("counter", "nightlabel_read_bytes_total", "bytes of images read")
STAGE_SECONDS: Final = Metric(
    "counter",
    "nightlabel_stage_seconds_total",
    "time of workers: `read` waits for images, `decode` decodes them, `wait` is a predictor "
    "without work, `predict` one that predicts, `measure` is a task without a network, `write` "
    "writes parts",
    "stage",
)
DEVICE_SECONDS: Final = Metric(
    "counter",
    "nightlabel_device_seconds_total",
    "time of predictors on GPUs: `works`, or the GPU is idle and `waits` for a batch, `copies` "
    "pixels or results, or has all calls make `rows`",
    "activity",
)
STORE_ROWS: Final = Metric("gauge", "nightlabel_store_rows", "rows of this recipe in the store")
LISTED: Final = Metric("gauge", "nightlabel_listed", "objects listed so far")
REMAINING: Final = Metric("gauge", "nightlabel_remaining", "listed objects still to label")
COMMIT_LAG: Final = Metric(
    "gauge",
    "nightlabel_commit_lag_seconds",
    "seconds since the last cut if rows wait for a commit; 0 if none wait",
)

METRICS: Final = (
    IMAGES,
    COMMITS,
    READ_BYTES,
    STAGE_SECONDS,
    DEVICE_SECONDS,
    STORE_ROWS,
    LISTED,
    REMAINING,
    COMMIT_LAG,
)


#: Longer tags are cut: Prometheus takes any length, services that store its metrics do not.
TAG_LENGTH: Final = 512
_TAG_HASH_BYTES: Final = 8

#: What a Ray metric raises for a tag or a value that it does not accept.
_NOT_TAKEN: Final = (TypeError, ValueError, ArithmeticError, RuntimeError)


def named(uri: str) -> str:
    """The name of a label store, or of anything with a uri, in metrics and events:
    without secrets."""
    return public(identity(canonical(uri))).rstrip("/") or "/"


def tag_value(text: str) -> str:
    """`text` as a tag: printable ASCII, which is all that Ray accepts, and neither empty nor too
    long.

    Other letters become percent-encoded UTF-8, and a long text ends in a hash of the whole, so two
    label stores never share a tag.
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(
            sign if sign.isascii() and sign.isprintable() and sign != "%" else _escaped(sign)
            for sign in text
        )
    if len(text) > TAG_LENGTH:
        mark = blake2b(text.encode(), digest_size=_TAG_HASH_BYTES).hexdigest()
        text = f"{text[: TAG_LENGTH - len(mark) - 1]}~{mark}"
    return text or "-"


def _escaped(sign: str) -> str:
    return quote(sign.encode("utf-8", "surrogatepass"), safe="")


@dataclass(frozen=True, slots=True)
class Meters:
    """The metrics of one label store; `dst` is the result of `named`. No metric ends a run: if Ray
    does not accept one, Python's logger `nightlabel` gets a warning."""

    dst: str

    @classmethod
    def of(cls, dst: str) -> Self:
        """The metrics of the store at a uri."""
        return cls(named(dst))

    def add(self, metric: Metric, amount: float, tag: str | None = None) -> None:
        """Add `value` to a metric; Ray refuses to add 0."""
        if amount > 0:
            self._tell(metric, "inc", amount, tag)

    def set(self, metric: Metric, value: float) -> None:
        self._tell(metric, "set", value, None)

    def took(self, watch: "Watch") -> None:
        """Add what a watch has measured, and reset the watch."""
        for stage, seconds in watch.laps.items():
            self.add(STAGE_SECONDS, seconds, stage)
        watch.laps.clear()

    def _tell(self, metric: Metric, verb: str, value: float, tag: str | None) -> None:
        try:
            getattr(_made(metric), verb)(value, self._tags(metric, tag))
        except _NOT_TAKEN as error:
            _warn_once(metric.name, type(error).__name__)

    def _tags(self, metric: Metric, value: str | None) -> dict[str, str]:
        more = {} if metric.tag is None or value is None else {metric.tag: tag_value(value)}
        return {"dst": tag_value(self.dst)} | more


class Watch:
    """A stopwatch: seconds by the name of the activity."""

    def __init__(self) -> None:
        self.laps: defaultdict[str, float] = defaultdict(float)
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Count the time since the last lap as `name`."""
        now = time.perf_counter()
        self.laps[name] += now - self._last
        self._last = now


@cache
def _made(metric: Metric) -> "Counter | Gauge":
    make = Counter if metric.kind == "counter" else Gauge
    tags = ("dst", metric.tag) if metric.tag else ("dst",)
    return make(metric.name, description=metric.description, tag_keys=tags)


@cache
def _warn_once(name: str, problem: str) -> None:
    logging.getLogger("nightlabel").warning("nightlabel: no metric %s: %s", name, problem)
