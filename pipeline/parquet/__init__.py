"""Parquet files that anybody may have written: what they would unpack to, before they are.

A footer tells sizes, and so does each page; Arrow allocates what the pages say and holds neither
against the other. So the pages' headers are walked first, and what they would take is added up.
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
