"""A shard that Ray lists again must give the blocks of before, or the run ends."""

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pyarrow as pa
import pytest
import ray

from pipeline.errors import StoreError
from pipeline.flow.job import Job
from pipeline.flow.stages import List
from pipeline.flow.tally import Tally
from pipeline.sources import Page, Shard
from pipeline.spec import make_spec
from tests.store.test_ledger import refs


@pytest.fixture(scope="module", autouse=True)
def a_ray() -> Iterator[None]:
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


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
    tally: Any = field(default_factory=lambda: ray.remote(Tally).remote())

    def run(self) -> list[str]:
        job = _job(self.archive)
        shards = pa.table({"number": [0], "shard": [pickle.dumps(Shard("all"))]})
        blocks = List(job, [], self.tally)(shards)
        return [uri for block in blocks for uri in block["uri"].to_pylist()]

    def told(self) -> tuple[int, dict[str, int]]:
        return cast("tuple[int, dict[str, int]]", ray.get(self.tally.progress.remote()))


def _job(archive: Archive) -> Job:
    spec = make_spec(src="s3://photos/", dst="s3://labels")
    fields: dict[str, Any] = dict.fromkeys(Job.__dataclass_fields__)
    return Job(**fields | {"run_id": "run", "spec": spec, "source": archive})


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
    failure = ray.get(listing.tally.failure.remote())
    assert isinstance(failure, StoreError)
