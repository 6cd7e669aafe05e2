"""A fixed set of locks, shared by any number of names: others choose the names."""

import threading
from typing import Final

_COUNT: Final = 64


class Locks:
    """Names share locks by chance, so one that is held for long delays a few others at most."""

    def __init__(self) -> None:
        self._locks = tuple(threading.Lock() for _ in range(_COUNT))

    def of(self, name: str) -> threading.Lock:
        return self._locks[hash(name) % _COUNT]
