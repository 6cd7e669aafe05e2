"""Parquet lists from the web: small files of which a batch of rows would fill the memory."""

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.errors import SpecError
from pipeline.sources.lists.files import ListFile
from pipeline.sources.lists.parquet import read_parquet
from tests.parts.processes.memory import status_bytes
from tests.parts.stores.parquet_bombs import BOMBS, MIB, by_its_footer, by_prefixes, written


@pytest.fixture
def copy() -> Iterator[io.BufferedRandom]:
    with tempfile.TemporaryFile() as file:
        yield file  # type: ignore[misc]


def read(copy: io.BufferedRandom, data: bytes, uri: str) -> int:
    copy.write(data)
    copy.seek(0)
    return sum(len(rows.uris) for rows in read_parquet(ListFile(uri, copy, data[:4])))


def by_one_page() -> bytes:
    """A single page of three hundred megabytes."""
    column = pa.array(["https://a/" + "x" * MIB] * 300)
    return written(pa.table({"uri": column}), use_dictionary=False, data_page_size=2**30)


def by_a_long_name() -> bytes:
    """One address of a megabyte, and three hundred rows that name it."""
    return written(pa.table({"uri": pa.array(["https://a/" + "x" * MIB] * 300)}))


@pytest.mark.parametrize(
    "bomb", [by_one_page, by_a_long_name, by_prefixes, by_its_footer, BOMBS["lie"]]
)
def test_a_list_from_the_web_that_would_fill_the_memory_is_refused(copy, bomb) -> None:
    data = bomb()
    Path("/proc/self/clear_refs").write_text("5")
    before = status_bytes("VmRSS")
    with pytest.raises(SpecError, match="not a Parquet list that can be read"):
        read(copy, data, "https://example.com/list.parquet")
    assert status_bytes("VmHWM") - before < 64 * MIB


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "brotli", "lz4", "none"])
def test_a_list_from_the_web_is_read(copy, compression: str) -> None:
    uris = [f"https://a/{n % 1000}" for n in range(50_000)]
    data = written(pa.table({"uri": uris}), compression=compression, row_group_size=20_000)
    assert read(copy, data, "https://example.com/list.parquet") == 50_000
