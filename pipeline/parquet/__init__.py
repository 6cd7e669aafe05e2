"""Parquet files that anybody may have written: what they would unpack to, before they are.

A footer tells sizes, and so does each page; Arrow allocates what the pages say and holds neither
against the other. So the pages' headers are walked first, and what they would take is added up.
"""

from pipeline.parquet.footer import open_parquet
from pipeline.parquet.sizes import Chunk, chunks_of, longest_of, refuse_larger
from pipeline.parquet.thrift import Malformed

__all__ = ["Chunk", "Malformed", "chunks_of", "longest_of", "open_parquet", "refuse_larger"]
