"""Inspection: reads and decodes a sample of a source without a model; reports formats
and errors."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Final, NamedTuple

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from pipeline import schema
from pipeline.engine.memory_budget import budget_here, process_memory
from pipeline.errors import ErrorCode, ImageError, TransientError
from pipeline.images import Clipped, Depth, Room, clipping_warnings, decode, depths_of
from pipeline.isolation.bisection import IsolatedDecoder
from pipeline.isolation.node_room import NodeRoom
from pipeline.sources import Source, open_source, rules_of, wants_of
from pipeline.spec import LabelSpec
from pipeline.storage import member_name, read_many
from pipeline.store.runs import Clipping

READS: Final = 8
#: The sample is spread over this many of the first listed images.
SPREAD_OVER: Final = 10_000
#: At most this many failed images are named.
NAMED: Final = 5


class Seen(NamedTuple):
    """What one image is; width and height are upright."""

    format: str
    mode: str
    width: int
    height: int
    clipped: Clipped | None


class Failed(BaseModel):
    """An image of the sample that could not be read or decoded."""

    model_config = ConfigDict(frozen=True)

    uri: str
    code: ErrorCode
    message: str


class Inspection(BaseModel):
    """Counts of a sample: by format, by Pillow's mode, by error code."""

    model_config = ConfigDict(frozen=True)

    images: int
    formats: dict[str, int]
    modes: dict[str, int]
    smallest: tuple[int, int] | None
    largest: tuple[int, int] | None
    errors: dict[str, int]
    failed: list[Failed]
    clipping: dict[str, Clipping]

    @property
    def mostly_well(self) -> bool:
        return 2 * sum(self.errors.values()) <= self.images

    def warnings(self) -> list[str]:
        """Facts that fail no check, but that the user should know before labelling."""
        depths = {mode: Depth(**counts.model_dump()) for mode, counts in self.clipping.items()}
        return list(clipping_warnings(depths))

    def in_words(self) -> str:
        parts = [f"{self.images:,} images checked", _counts(self.formats), _counts(self.modes)]
        if self.smallest and self.largest:
            parts.append("{} by {} to {} by {} pixels".format(*self.smallest, *self.largest))
        if self.errors:
            parts.append(f"{sum(self.errors.values()):,} failed ({_counts(self.errors)})")
        parts += [f"{one.uri}: {one.code}, {one.message}" for one in self.failed]
        return "; ".join(part for part in parts if part)


def inspect(spec: LabelSpec, wanted: int) -> Inspection:
    """Read and decode `wanted` images of `spec.src`, spread over the first that are listed.

    Each is decoded in a child process, so one that ends its decoder counts as crashed. Raises
    NightlabelError if the source cannot be listed.
    """
    refs = _spread(open_source(spec), wanted)
    seen: list[Seen] = []
    failed: list[tuple[int, ImageError | TransientError]] = []
    room = NodeRoom(budget_here(spec))
    look = partial(see, exif=spec.exif, max_pixels=spec.max_pixels, room=room)
    memory = process_memory(spec)
    with IsolatedDecoder(look, seconds=spec.max_seconds, memory=memory) as careful:
        for index, outcome in _read(spec, refs):
            try:
                if not isinstance(outcome, bytes):
                    raise outcome
                seen.append(careful(outcome))
            except (ImageError, TransientError) as error:
                failed.append((index, error))
    return _counted(refs, seen, sorted(failed, key=lambda one: one[0]))


def see(data: bytes, *, exif: bool, max_pixels: int, room: Room) -> Seen:
    """What an image is; raises ImageError if it cannot be decoded."""
    image = decode(data, exif=exif, max_pixels=max_pixels, room=room)
    return Seen(image.format, image.mode, image.width, image.height, image.clipped)


def _spread(source: Source, wanted: int) -> pa.Table:
    source.check()
    pages: list[pa.Table] = [schema.REFS.empty_table()]
    rows = 0
    for page in (page for shard in source.shards() for page in source.refs(shard)):
        pages.append(page.refs)
        rows += page.refs.num_rows
        if rows >= max(wanted, SPREAD_OVER):
            break
    wanted = min(wanted, rows)
    chosen = pa.array([rows * n // wanted for n in range(wanted)], pa.int64())
    return pa.concat_tables(pages).take(chosen)


def _read(
    spec: LabelSpec, refs: pa.Table
) -> Iterator[tuple[int, bytes | ImageError | TransientError]]:
    return read_many(
        wants_of(refs), max_bytes=spec.max_bytes, rules=rules_of(spec), in_flight=READS
    )


def _counted(
    refs: pa.Table, seen: list[Seen], failed: list[tuple[int, ImageError | TransientError]]
) -> Inspection:
    sizes = sorted(((one.width, one.height) for one in seen), key=lambda size: size[0] * size[1])
    depths = depths_of((one.mode, one.clipped) for one in seen)
    return Inspection(
        images=refs.num_rows,
        formats=Counter(one.format for one in seen),
        modes=Counter(one.mode for one in seen),
        smallest=sizes[0] if sizes else None,
        largest=sizes[-1] if sizes else None,
        errors=Counter(str(error.code) for _, error in failed),
        failed=[
            Failed(uri=_name(refs, index), code=error.code, message=error.message)
            for index, error in failed[:NAMED]
        ],
        clipping={mode: Clipping(**depth._asdict()) for mode, depth in depths.items()},
    )


def _name(refs: pa.Table, index: int) -> str:
    return member_name(refs["uri"][index].as_py(), refs["member"][index].as_py())


def _counts(counts: dict[str, int]) -> str:
    most_first = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{name} {number:,}" for name, number in most_first)
