"""Damaged images without end, each made again from its seed and number."""

import random
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from tests.parts.images.anatomy import fields, pieces, with_checksums
from tests.parts.images.specimens import Specimen, specimens

#: How many blows a mutant takes, weighted.
_BLOWS: Final = (1, 1, 1, 2, 3)
#: How often checksums are left as they are.
_NOT_MENDED: Final = 0.2


class Mutant(NamedTuple):
    """`kind` is the format of what was damaged, `damage` the first blow."""

    number: int
    kind: str
    damage: str
    data: bytes


def mutant(seed: int, number: int) -> Mutant:
    """The same bytes for the same seed and number, with the same build of Pillow."""
    choice = random.Random(f"{seed}:{number}")
    kinds = specimens()
    victim = kinds[number % len(kinds)]
    names = choice.choices(list(_DAMAGES), _ODDS, k=choice.choice(_BLOWS))
    data = victim.data
    for name in names:
        data = _DAMAGES[name](choice, victim.kind, data)
    if choice.random() >= _NOT_MENDED:
        data = with_checksums(victim.kind, data)
    return Mutant(number, victim.kind, names[0], data)


def _flip(choice: random.Random, _: str, data: bytes) -> bytes:
    turned = bytearray(data)
    for _ in range(choice.randint(1, 8) if data else 0):
        turned[choice.randrange(len(data))] ^= 1 << choice.randrange(8)
    return bytes(turned)


def _run(choice: random.Random, _: str, data: bytes) -> bytes:
    """Some bytes overwritten by zeros, ones, noise or what stands elsewhere."""
    size = choice.choice((1, 2, 4, 16, 64, 512))
    start = choice.randrange(len(data) + 1)
    elsewhere = choice.randrange(len(data) + 1)
    filling = choice.choice(
        (bytes(size), b"\xff" * size, choice.randbytes(size), data[elsewhere : elsewhere + size])
    )
    return data[:start] + filling + data[start + size :]


def _cut(choice: random.Random, _: str, data: bytes) -> bytes:
    return data[: choice.randrange(len(data) + 1)]


def _hole(choice: random.Random, _: str, data: bytes) -> bytes:
    start = choice.randrange(len(data) + 1)
    return data[:start] + data[start + choice.choice((1, 2, 7, 64, 1000)) :]


def _splice(choice: random.Random, kind: str, data: bytes) -> bytes:
    """The beginning of one file and the end of another, of the same format half of the time."""
    others: Sequence[Specimen] = specimens()
    if choice.random() < 0.5:
        others = [one for one in others if one.kind == kind]
    other = choice.choice(others).data
    if choice.random() < 0.5:
        start = choice.randrange(min(len(data), len(other)) + 1)
        return data[:start] + other[start:]
    return data[: choice.randrange(len(data) + 1)] + other[choice.randrange(len(other)) :]


def _field(choice: random.Random, kind: str, data: bytes) -> bytes:
    """A length, dimension or mode that says something extreme."""
    known = fields(kind, data)
    if not known:
        return data
    at, size, order = choice.choice(known)
    most = 256**size - 1
    now = int.from_bytes(data[at : at + size], order)
    extremes = (0, 1, most, most - 1, most // 2, most // 2 + 1, now + 1, now - 1, now * 2, 5000)
    value = choice.choice((*extremes, choice.randint(0, most)))
    return data[:at] + max(0, min(value, most)).to_bytes(size, order) + data[at + size :]


def _twice(choice: random.Random, kind: str, data: bytes) -> bytes:
    parts = pieces(kind, data)
    if parts:
        parts.insert(choice.randint(0, len(parts)), choice.choice(parts))
    return b"".join(parts)


def _without(choice: random.Random, kind: str, data: bytes) -> bytes:
    parts = pieces(kind, data)
    if len(parts) > 1:
        del parts[choice.randrange(len(parts))]
    return b"".join(parts)


def _swap(choice: random.Random, kind: str, data: bytes) -> bytes:
    parts = pieces(kind, data)
    if parts:
        a, b = (choice.randrange(len(parts)) for _ in range(2))
        parts[a], parts[b] = parts[b], parts[a]
    return b"".join(parts)


def _foreign(choice: random.Random, kind: str, data: bytes) -> bytes:
    """A part of another file of the same format among its own."""
    other = choice.choice([one for one in specimens() if one.kind == kind])
    parts, theirs = pieces(kind, data), pieces(kind, other.data)
    parts.insert(choice.randint(0, len(parts)), choice.choice(theirs))
    return b"".join(parts)


_DAMAGES: Final[dict[str, Callable[[random.Random, str, bytes], bytes]]] = {
    "bits turned": _flip,
    "bytes overwritten": _run,
    "cut short": _cut,
    "bytes missing": _hole,
    "two files spliced": _splice,
    "extreme field": _field,
    "part twice": _twice,
    "part missing": _without,
    "parts swapped": _swap,
    "part of another": _foreign,
}

#: Headers have more to lie about than any other damage can reach.
_ODDS: Final = [3 if damage is _field else 1 for damage in _DAMAGES.values()]
