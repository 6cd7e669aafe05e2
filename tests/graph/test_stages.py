"""A shard's batches; one that Ray lists again must give those of before, or the run ends."""

import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import ray
from PIL import Image

from pipeline.errors import StoreError
from pipeline.graph.batches import pack, unpack
from pipeline.graph.coordinator import Coordinator
from pipeline.graph.job import Job
from pipeline.graph.stages import decode
from pipeline.graph.stages.decode import Decode
from pipeline.graph.stages.image_loader import ImageLoader
from pipeline.graph.stages.list import List
from pipeline.images import Depth
from pipeline.sources import Page, Shard, open_source
from pipeline.spec import make_spec
from pipeline.tasks import task_named
from tests.parts.clusters.ray import own_ray
from tests.parts.images.decode_trial import SHAPE
from tests.parts.models.tiny import image_bytes
from tests.store.test_ledger import refs, uris

pytestmark = pytest.mark.ray

#: Of a batch.
ROWS = 2

CLASSIFY = task_named("classify")


@pytest.fixture(scope="module", autouse=True)
def a_ray() -> Iterator[None]:
    with own_ray(cpus=1):
        yield


@dataclass
class Archive:
    """A source whose pages are set by the test."""

    pages: list[list[int]]

    def refs(self, shard: object) -> Iterator[Page]:
        for names in self.pages:
            yield Page(refs(names), 0)


@dataclass
class Listing:
    """What Ray does with one shard: list it, and list it again."""

    archive: Archive
    most: int | None = None
    shard: int = 0
    coordinator: Any = None

    def __post_init__(self) -> None:
        self.coordinator = self.coordinator or ray.remote(Coordinator).remote(self.most)

    def batches(self) -> Iterator[pa.Table]:
        job = _job(self.archive)
        shards = pa.table({"number": [self.shard], "shard": [pickle.dumps(Shard("all"))]})
        yield from map(unpack, List(job, [], self.coordinator, ROWS)(shards))

    def run(self) -> list[list[int]]:
        """The names in each batch."""
        return [[int(name) for name in uris(batch)] for batch in self.batches()]

    def told(self) -> tuple[int, dict[str, int]]:
        return cast("tuple[int, dict[str, int]]", ray.get(self.coordinator.progress.remote()))


def _job(archive: Archive) -> Job:
    spec = make_spec(src="s3://photos/", dst="s3://labels")
    fields: dict[str, Any] = dict.fromkeys(Job.__dataclass_fields__)
    return Job(**fields | {"run_id": "run", "spec": spec, "source": archive, "task": CLASSIFY})


def test_pages_of_any_length_become_even_batches() -> None:
    listing = Listing(Archive([[], [1, 2, 3], [4], [], [5, 6, 7]]))
    assert listing.run() == [[1, 2], [3, 4], [5, 6], [7]]


def test_a_limit_holds_over_all_shards_and_at_each_repetition() -> None:
    first = Listing(Archive([[1, 2, 3]]), most=4)
    second = Listing(Archive([[4, 5], [6]]), shard=1, coordinator=first.coordinator)
    assert (first.run(), second.run(), first.run()) == ([[1, 2], [3]], [[4]], [[1, 2], [3]])
    shards, counts = first.told()
    assert shards == 1  # the second was not listed to its end
    assert counts["new"] == 5


def test_what_was_listed_is_told_before_the_end_of_a_shard() -> None:
    listing = Listing(Archive([[1, 2], [3]]))
    batches = listing.batches()
    next(batches)
    shards, counts = listing.told()
    assert (shards, counts["listed"]) == (0, 2)


def test_the_same_pages_again_count_once() -> None:
    listing = Listing(Archive([[1, 2], [3]]))
    assert listing.run() == listing.run()
    shards, counts = listing.told()
    assert (shards, counts["listed"], counts["new"]) == (1, 3, 3)


@pytest.mark.parametrize(
    "pages",
    [[[0, 1], [2, 3]], [[1, 2], [3, 4]], [[1], [3]], [[1, 2]], []],
    ids=["one before", "one after", "one gone", "a page gone", "all gone"],
)
def test_other_pages_end_the_run(pages: Sequence[Sequence[int]]) -> None:
    listing = Listing(Archive([[1, 2], [3]]))
    listing.run()
    listing.archive.pages = [list(page) for page in pages]
    with pytest.raises(StoreError, match=r"s3://photos/ changed while"):
        listing.run()
    failure = ray.get(listing.coordinator.failure.remote())
    assert isinstance(failure, StoreError)


def test_a_task_that_decodes_keeps_what_photographs_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """What that is worth, tests/test_heap.py shows; here it would change the tests' own heap."""
    called: list[str] = []
    monkeypatch.setattr(decode, "keep_photographs", lambda: called.append("kept"))
    monkeypatch.setattr(ImageLoader, "pixels", lambda _, refs: called.append("decoded") or refs)
    named = refs([1, 2])
    assert unpack(Decode(_job(Archive([])))(pack(named))) == named
    assert called == ["kept", "decoded"]


def test_a_batch_that_is_decoded_again_counts_its_depths_once(tmp_path: Path) -> None:
    for number in range(4):
        light = np.linspace(0, 65535, 48 * 32).astype("u2").reshape(32, 48) >> (8 * (number % 2))
        Image.fromarray(light).save(tmp_path / f"{number}.png")
    (tmp_path / "plain.jpg").write_bytes(image_bytes(1))
    (tmp_path / "none.jpg").write_bytes(b"no image")
    spec = make_spec(src=str(tmp_path), dst="s3://labels")
    source = open_source(spec)
    listed = pa.concat_tables([p.refs for s in source.shards() for p in source.refs(s)])
    fields: dict[str, Any] = dict.fromkeys(Job.__dataclass_fields__)
    job = Job(**fields | {"run_id": "run", "spec": spec, "source": source, "preprocess": SHAPE})
    coordinator = ray.remote(Coordinator).remote()
    images = ImageLoader(job, coordinator)
    for batch in (listed.slice(0, 3), listed.slice(3), listed.slice(0, 3)):
        images.pixels(batch)
    assert ray.get(coordinator.survey.remote()).depths == {"I;16": Depth(4, 2, 0)}


def test_decoders_beside_gpus_give_way_and_their_processes_do_not_become_predictors() -> None:
    @ray.remote(num_cpus=1)
    def decode_twice() -> tuple[int, int]:
        decode.give_way()
        decode.give_way()
        return os.getpid(), os.nice(0)

    @ray.remote(num_cpus=0)
    class Predictor:
        def process(self) -> tuple[int, int]:
            return os.getpid(), os.nice(0)

    process, nice = ray.get(decode_twice.remote())
    assert nice == decode.LOWEST
    predictors = [Predictor.remote() for _ in range(2)]
    found = ray.get([one.process.remote() for one in predictors])
    assert process not in [pid for pid, _ in found]
    assert all(value < decode.LOWEST for _, value in found)
