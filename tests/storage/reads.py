"""Reading a handful of objects, as tests of every kind of store do."""

from pipeline.errors import ImageError, TransientError
from pipeline.storage import Want, read_many
from tests.storage.servers import HERE

MAX = 1 << 20


def read(*wants: Want | str, max_bytes: int = MAX) -> list:
    """Outcomes in the order of `wants`: bytes, or the error's code."""
    wants = [Want(want) if isinstance(want, str) else want for want in wants]
    found = dict(read_many(wants, max_bytes=max_bytes, rules=HERE))
    assert sorted(found) == list(range(len(wants)))
    return [
        str(one.code) if isinstance(one, ImageError | TransientError) else one
        for _, one in sorted(found.items())
    ]
