"""What the tests of sources ask of them."""

from typing import Any

import pyarrow as pa

from pipeline import schema
from pipeline.sources import Source, open_source
from pipeline.spec import make_spec


def source(src: str, dst: str = "/tmp/labels", **fields: Any) -> Source:
    return open_source(make_spec(src=src, dst=dst, **fields))


def refs(found: Source) -> pa.Table:
    """All refs of a source, over its shards; each page must be REFS exactly."""
    pages = [page for shard in found.shards() for page in found.refs(shard)]
    for page in pages:
        assert page.refs.schema == schema.REFS
    return pa.concat_tables([schema.REFS.empty_table(), *(page.refs for page in pages)])


def uris(found: Source) -> list[str]:
    return refs(found)["uri"].to_pylist()


def excluded(found: Source) -> int:
    return sum(page.excluded for shard in found.shards() for page in found.refs(shard))


def checked(src: object, **fields: Any) -> Source:
    """The source, once it has looked at SRC as a run does first."""
    made = source(str(src), **fields)
    made.check()
    return made
