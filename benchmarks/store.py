"""Reading from S3: a real server on loopback, the client's own processor time."""

import time
from pathlib import Path

from pipeline.sources import open_source, wants_of
from pipeline.spec import MAX_BYTES, make_spec
from pipeline.storage import read_many
from tests.parts.servers.s3 import S3Server


def fill(server: S3Server, images: Path) -> str:
    """Upload a folder to a new bucket; returns the prefix."""
    prefix = f"{server.bucket()}/photos"
    server.put_folder(images, prefix)
    return prefix


def read_milliseconds(prefix: str) -> float:
    """Processor time of this process, all its threads, to list and read an object whole."""
    source = open_source(make_spec(src=prefix, dst=f"{prefix}-labels"))
    pages = [page.refs for shard in source.shards() for page in source.refs(shard)]
    wants = [want for refs in pages for want in wants_of(refs)]
    list(read_many(wants[:100], max_bytes=MAX_BYTES))  # connections
    began = time.process_time()
    for _, data in read_many(wants, max_bytes=MAX_BYTES):
        if not isinstance(data, bytes):
            raise data
    return (time.process_time() - began) / len(wants) * 1e3
