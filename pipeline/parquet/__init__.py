"""Parquet files from untrusted writers: computes their unpacked size before they are unpacked.

A footer states sizes, and so does each page. Arrow allocates what the pages say and compares the
two with nothing. So the pages' headers are read first, and their sizes added up.
"""

from pipeline.parquet.footer import footer_start, open_parquet, ranges_of, read_groups
from pipeline.parquet.sizes import Chunk, chunks_of, longest_of, refuse_larger
from pipeline.parquet.thrift import Data, Malformed

__all__ = [
    "Chunk",
    "Data",
    "Malformed",
    "chunks_of",
    "footer_start",
    "longest_of",
    "open_parquet",
    "ranges_of",
    "read_groups",
    "refuse_larger",
]
