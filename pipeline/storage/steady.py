"""Reading through a night on which the store itself may fail.

A row that says `denied` or `missing` for ever must be the object's own fate. So failures
that may be the store's are held back until the other reads of their block are over, and
then a canary is read again: an object of the same bucket that was read well before.

    canary answers       the failures are the objects' own; transient ones are read once more
    canary is refused    so is everything: DeniedError or MissingError, and no row
    canary gets nothing  patience, up to two minutes; then StoreError, and no row

Without a canary (nothing was ever read well), a block in which everything is refused is
refused as a whole; a block of dead names is rows.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from pipeline.errors import MissingError, StoreError
from pipeline.storage.reading import Failed, Outcome, Want, attempt_many
from pipeline.storage.translate import Fault, Kind, fault_error
from pipeline.storage.uris import public, scheme, split

#: How long a store that gives no answer is waited for, and the pauses between two looks.
PATIENCE_SECONDS: Final = 120.0
_PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 15.0)

#: Of so many objects read well one at least must be left, or all is gone.
_CANARIES: Final = 4

_REFUSED: Final = frozenset({Kind.DENIED, Kind.CREDENTIALS, Kind.NO_BUCKET})
_UNANSWERED: Final = frozenset({Kind.TRANSIENT, Kind.OTHER})
_SUSPECT: Final = _REFUSED | _UNANSWERED | {Kind.MISSING}

Asked = Callable[[], Iterable[Want]]


class Canaries:
    """Objects that were read well in this run, the latest of each bucket or host.

    `ask` tells of those that others read; it is called only where this process knows none.
    `tell` hears of the first that this process reads.
    """

    def __init__(self, *, ask: Asked = tuple, tell: Callable[[Want], object] | None = None) -> None:
        self._ask, self._tell = ask, tell
        self._good: defaultdict[str, deque[Want]] = defaultdict(lambda: deque(maxlen=_CANARIES))

    def sing(self, want: Want) -> None:
        """`want` was read well."""
        if self._tell is not None:
            self._tell(want)
            self._tell = None
        self._good[split(want.uri)[0]].append(want)

    def of(self, root: str) -> list[Want]:
        """Those of `root`, else of anywhere."""
        if not self._good:
            for want in self._ask():
                self._good[split(want.uri)[0]].append(want)
        if root in self._good:
            return list(self._good[root])
        return [want for wants in self._good.values() for want in wants][-_CANARIES:]


def read_steadily(
    wants: Sequence[Want],
    canaries: Canaries,
    *,
    max_bytes: int,
    in_flight: int = 32,
    patience: float = PATIENCE_SECONDS,
) -> Iterator[tuple[int, Outcome]]:
    """(index, bytes or error) for each of `wants`, like `read_many`.

    Raises DeniedError, MissingError or StoreError where the store fails and not its objects;
    then no error that may be the store's fault has been given.
    """
    held: defaultdict[str, dict[int, Failed]] = defaultdict(dict)
    for index, got in attempt_many(wants, max_bytes=max_bytes, in_flight=in_flight):
        if not isinstance(got, Failed):
            canaries.sing(wants[index])
            yield index, got
        elif _suspect(got, wants[index]):
            held[split(wants[index].uri)[0]][index] = got
        else:
            yield index, got.error
    for root, failed in held.items():
        trial = _Trial(root, canaries.of(root), max_bytes, patience)
        again = trial.verdict(failed, [wants[index] for index in failed])
        numbers, retried = again, [wants[index] for index in again]
        for index in failed.keys() - set(again):
            yield index, failed[index].error
        for at, got in attempt_many(retried, max_bytes=max_bytes, in_flight=in_flight):
            yield numbers[at], got.error if isinstance(got, Failed) else got


def _suspect(failed: Failed, want: Want) -> bool:
    if failed.fault is None:
        return False
    # What a web server refuses or lacks is nobody's credentials.
    kinds = _UNANSWERED if scheme(want.uri) in {"http", "https"} else _SUSPECT
    return failed.fault.kind in kinds


class _Trial:
    """One bucket's or host's failures in one block."""

    def __init__(
        self, root: str, canaries: Sequence[Want], max_bytes: int, patience: float
    ) -> None:
        self._root, self._canaries = root, canaries
        self._max_bytes, self._patience = max_bytes, patience

    def verdict(self, failed: Mapping[int, Failed], wants: Sequence[Want]) -> list[int]:
        """Which of the failed to read again. Raises where it is the store that fails."""
        faults = {index: one.fault for index, one in failed.items() if one.fault is not None}
        unanswered = [index for index, fault in faults.items() if fault.kind in _UNANSWERED]
        if self._canaries:
            self._until_answered(self._canaries)
            own = split(self._canaries[-1].uri)[0] == self._root
            return unanswered if own else []
        if all(fault.kind in _REFUSED for fault in faults.values()):
            raise fault_error(next(iter(faults.values())), wants[0].uri)
        if len(unanswered) == len(faults):
            # Nothing is known of these, so that one is missing is an answer too.
            self._until_answered(wants[-_CANARIES:], silence=_SUSPECT - {Kind.MISSING})
        return unanswered

    def _until_answered(self, wants: Sequence[Want], silence: frozenset[Kind] = _SUSPECT) -> None:
        began = time.monotonic()
        for pause in _pauses():
            faults = self._look(wants)
            if any(fault is None or fault.kind not in silence for fault in faults):
                return
            last = faults[-1]
            if last is None or last.kind not in _UNANSWERED:
                raise self._gone(wants[-1], last)
            if time.monotonic() - began + pause > self._patience:
                raise StoreError(
                    f"{public(self._root)}: no answer for {self._patience:.0f} s "
                    f"({last.detail}); check endpoint and network"
                )
            time.sleep(pause)

    def _look(self, wants: Sequence[Want]) -> list[Fault | None]:
        """What the store says of each now; None for one that is read well or is another."""
        looks = attempt_many(wants, max_bytes=self._max_bytes)
        return [got.fault if isinstance(got, Failed) else None for _, got in looks]

    def _gone(self, canary: Want, fault: Fault | None) -> StoreError:
        if fault is None or fault.kind is Kind.MISSING:
            return MissingError(
                f"{public(self._root)}: objects that were read before are gone; is SRC still "
                "there? Nothing was recorded for them, and the next run lists anew"
            )
        return fault_error(fault, canary.uri)


def _pauses() -> Iterator[float]:
    yield from _PAUSES
    while True:
        yield _PAUSES[-1]
