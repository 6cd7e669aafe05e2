"""The files of a manifest: their format by name and by content, decompressed and as text.

A name says which format a file has, but its first bytes are more reliable: compressed files are
decompressed, and a file that is not a list is refused with the name of its real format.
"""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Final, cast

import pyarrow as pa

from pipeline.errors import SpecError
from pipeline.storage import Rules, open_binary, public

#: By the file ending, without that of the compression.
LISTS: Final = (
    ".txt",
    ".lst",
    ".csv",
    ".tsv",
    ".jsonl",
    ".ndjson",
    ".json",
    ".parquet",
)
_PACKED: Final = re.compile(r"\.(gz|bz2|xz|zst|zstd|lz4)$")
PARQUET: Final = b"PAR1"
_SAMPLE: Final = 64 * 1024

_Opener = Callable[[Any], Any]
#: First bytes → how to decompress the file.
_UNPACKERS: Final[dict[bytes, tuple[str, _Opener]]] = {
    b"\x1f\x8b": ("gzip", lambda file: gzip.GzipFile(fileobj=file)),
    b"BZh": ("bzip2", bz2.BZ2File),
    b"\xfd7zXZ\x00": ("xz", lzma.LZMAFile),
    b"\x28\xb5\x2f\xfd": ("zstd", partial(pa.CompressedInputStream, compression="zstd")),
    b"\x04\x22\x4d\x18": ("lz4", partial(pa.CompressedInputStream, compression="lz4")),
}

_EXPORT: Final = "export it as CSV or Parquet"
_AN_IMAGE: Final = "an image, not a list; --no-manifest labels it"
#: First bytes of files that are not lists.
_STRANGERS: Final = {
    b"PK\x03\x04": f"a spreadsheet (.xlsx) or a zip archive; {_EXPORT}",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": f"a spreadsheet (.xls); {_EXPORT}",
    b"%PDF": f"a PDF; {_EXPORT}",
    b"ORC": f"an ORC file; {_EXPORT}",
    b"Obj\x01": f"an Avro file; {_EXPORT}",
    b"ARROW1": f"an Arrow file; {_EXPORT}",
    b"SQLite format 3": f"a database; {_EXPORT}",
    b"\x93NUMPY": f"a NumPy file; {_EXPORT}",
    b"\xff\xd8\xff": _AN_IMAGE,
    b"\x89PNG": _AN_IMAGE,
    b"GIF8": _AN_IMAGE,
    b"RIFF": _AN_IMAGE,
    b"II*\x00": _AN_IMAGE,
    b"MM\x00*": _AN_IMAGE,
}
_PAGE: Final = re.compile(rb"\s*<(!doctype html|html|\?xml)", re.IGNORECASE)

#: Longer marks first: UTF-32's begins like UTF-16's.
_MARKS: Final = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
#: At most this share of a text's characters may be control characters or broken UTF-8.
_ODD_LETTERS: Final = 0.25
_ODD: Final = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ListFile:
    """One open file of a manifest, decompressed; `start` are its first bytes."""

    uri: str
    file: BinaryIO
    start: bytes

    @property
    def suffix(self) -> str:
        return suffix(self.uri)

    @property
    def is_parquet(self) -> bool:
        return self.suffix == ".parquet" or self.start.startswith(PARQUET)

    def refused(self, problem: str) -> SpecError:
        return SpecError("src", public(self.uri), problem)

    def text(self, newline: str) -> io.TextIOWrapper:
        """The file as text, without its byte order mark; `newline` as in `open`.

        Bytes that are not UTF-8 become surrogates, as in file names. Raises SpecError if the file
        is not text.
        """
        encoding = self._encoding()
        errors = "surrogateescape" if encoding == "utf-8-sig" else "surrogatepass"
        return io.TextIOWrapper(self.file, encoding, errors, newline)

    def _encoding(self) -> str:
        for start, what in _STRANGERS.items():
            if self.start.startswith(start):
                raise self.refused(f"not a list of images: it is {what}")
        if _PAGE.match(self.start):
            raise self.refused("not a list of images: it is a web page or XML")
        marked = next((name for mark, name in _MARKS.items() if self.start.startswith(mark)), "")
        if marked.startswith(("utf-16", "utf-32")):
            return marked
        text = self.start.decode("utf-8", "surrogateescape")
        if len(_ODD.findall(text)) > _ODD_LETTERS * len(text):
            raise self.refused("not a list of images: it is not text; save it in UTF-8")
        return "utf-8-sig"


def suffix(uri: str) -> str:
    """`.csv` of `s3://b/list.csv.gz?x`, in lower case."""
    name = _PACKED.sub("", public(uri).rstrip("/").lower()).rpartition("/")[2]
    return f".{name.rpartition('.')[2]}" if "." in name else ""


@contextmanager
def opened(uri: str, rules: Rules) -> Iterator[ListFile]:
    """One file of a manifest. Raises SpecError for a damaged one, and storage's errors."""
    with open_binary(uri, rules) as file:
        try:
            yield _unpacked(uri, file)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SpecError("src", public(uri), str(error).splitlines()[0]) from None
        except UnicodeError:
            raise SpecError("src", public(uri), "not text; save it in UTF-8") from None


def _unpacked(uri: str, file: BinaryIO) -> ListFile:
    start = file.read(_SAMPLE)
    file.seek(0)
    for magic, (name, opener) in _UNPACKERS.items():
        if start.startswith(magic):
            stream = io.BufferedReader(_Unpacked(opener(file), uri, name), _SAMPLE)
            return ListFile(uri, cast("BinaryIO", stream), stream.peek(_SAMPLE))
    return ListFile(uri, file, start)


class _Unpacked(io.RawIOBase):
    """The output of a decompressor; it can't be read twice. Damage becomes a SpecError."""

    def __init__(self, stream: Any, uri: str, name: str) -> None:
        self._stream, self._uri, self._name = stream, uri, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's own error
            problem = f"not a complete {self._name} file"
            raise SpecError("src", public(self._uri), f"{problem}: {error}") from None
        buffer[: len(data)] = data
        return len(data)


#: How many bytes are decompressed to estimate the length of a line.
_COUNTED: Final = 2**20


def estimated_rows(uri: str, rules: Rules) -> int:
    """About how many rows a file has, estimated from its beginning."""
    with open_binary(uri, rules) as file:
        found = _unpacked(uri, file)
        if found.is_parquet and found.file.seekable():
            from pyarrow import parquet

            return int(parquet.ParquetFile(file).metadata.num_rows)
        lines = found.file.read(_COUNTED).count(b"\n") + 1
        taken, size = file.tell(), file.seek(0, io.SEEK_END)
        return lines * size // max(1, min(taken, size))
