"""Outage handling: distinguishes a failing store from failing objects.

A row may say `denied` or `missing` permanently only if the object itself is at fault. So failures
that the store may have caused are held back until the other reads of their block are over. Then
a canary is read again: an object of the same store that was read successfully before.

    canary answers       the failed objects are read once more; a second failure is their own
    canary is refused    so is everything: DeniedError or MissingError, and no row
    canary gets no answer wait, up to two minutes; then StoreError, and no row

Without a canary (no object was ever read), a block in which everything is refused is
refused as a whole; a block of dead names becomes rows.

A store is a bucket, the local disk, or all web servers together: if one web server refuses
or lacks an object, no credentials are at fault, and a dead server says nothing about the others.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Final

from pipeline.errors import MissingError, NightlabelError, StoreError
from pipeline.storage.clients.web import STRICT, Rules
from pipeline.storage.faults import Fault, Kind
from pipeline.storage.names.uris import BUCKETS, public, scheme, split
from pipeline.storage.reading import Failed, Outcome, Want, attempt_many
from pipeline.storage.translate import fault_error

#: Seconds to wait for a store that gives no answer, and the pauses between two checks.
PATIENCE_SECONDS: Final = 120.0
_PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 15.0)

#: Of this many canaries at least one must still exist, or all are gone.
_CANARIES: Final = 4

_WEB: Final = "http(s)"

_REFUSED: Final = frozenset(
    {Kind.DENIED, Kind.REJECTED, Kind.CREDENTIALS, Kind.EXPIRED, Kind.NO_BUCKET}
)
_GONE: Final = frozenset({Kind.MISSING, Kind.NO_BUCKET})
_UNANSWERED: Final = frozenset({Kind.TRANSIENT, Kind.OTHER})
_SUSPECT: Final = _REFUSED | _GONE | _UNANSWERED

Known = Mapping[str, Want]


def _store(uri: str) -> str:
    return _WEB if scheme(uri) in {"http", "https"} else split(uri)[0]


def _suspects(store: str) -> frozenset[Kind]:
    """The kinds of fault that the store may have caused."""
    if store == _WEB:
        return frozenset({Kind.TRANSIENT})
    ours = scheme(store) in {"file", *BUCKETS}
    return _SUSPECT if ours else _SUSPECT - {Kind.OTHER}  # fsspec's filesystems may raise anything


class Canaries:
    """Objects that were read successfully in this run, the latest of each store. For all threads.

    `ask` returns what other workers read, by store; it is called only for a store of which this
    process knows nothing. `tell` is called with the first object that this process reads of each
    store.
    """

    def __init__(
        self,
        *,
        ask: Callable[[], Known] = dict,
        tell: Callable[[str, Want], object] | None = None,
    ) -> None:
        self._ask, self._tell = ask, tell
        self._good: dict[str, deque[Want]] = {}

    def record_success(self, want: Want) -> None:
        """`want` was read successfully."""
        store = _store(want.uri)
        if store not in self._good:
            self._good[store] = deque(maxlen=_CANARIES)
            if self._tell is not None:
                self._tell(store, want)
        self._good[store].append(want)

    def of(self, store: str) -> tuple[list[Want], bool]:
        """(canaries, whether they are of `store` itself).

        Otherwise they are of other stores with the same credentials; for the web, of any.
        """
        if store not in self._good:
            for other, want in self._ask().items():
                self._good.setdefault(other, deque([want], maxlen=_CANARIES))
        if store in self._good:
            return list(self._good[store]), True
        near = [
            want
            for other, wants in list(self._good.items())  # another thread may add to it
            if store == _WEB or scheme(other) == scheme(store)
            for want in list(wants)
        ]
        return near[-_CANARIES:], False


def read_steadily(
    wants: Sequence[Want],
    canaries: Canaries,
    *,
    max_bytes: int,
    rules: Rules = STRICT,
    in_flight: int = 32,
    patience: float = PATIENCE_SECONDS,
) -> Iterator[tuple[int, Outcome]]:
    """(index, bytes or error) for each of `wants`, like `read_many`.

    Raises DeniedError, MissingError or StoreError if the store fails and not its objects;
    in that case no error that may be the store's fault was yielded.
    """
    left: Sequence[int] = range(len(wants))
    for may_repeat in (True, False):
        held: defaultdict[str, dict[int, Failed]] = defaultdict(dict)
        reads = attempt_many(
            [wants[n] for n in left], max_bytes=max_bytes, rules=rules, in_flight=in_flight
        )
        for at, got in reads:
            index = left[at]
            store = _store(wants[index].uri)
            if not isinstance(got, Failed):
                if wants[index].data is None:
                    canaries.record_success(wants[index])
                yield index, got
            elif got.fault is not None and got.fault.kind in _suspects(store):
                held[store][index] = got
            else:
                if store == _WEB and got.fault is not None:
                    canaries.record_success(wants[index])  # it did answer
                yield index, got.error
        again: list[int] = []
        for store, failed in held.items():
            faults = [(wants[n], one.fault) for n, one in failed.items() if one.fault]
            trial = _Trial(store, canaries, max_bytes, rules, patience)
            if trial.judge(faults) and may_repeat:
                again += failed
                continue
            for index, one in failed.items():
                yield index, one.error
        left = again


class _Trial:
    """One store's failures in one block."""

    def __init__(
        self, store: str, canaries: Canaries, max_bytes: int, rules: Rules, patience: float
    ) -> None:
        self._store, self._patience = store, patience
        self._max_bytes, self._rules = max_bytes, rules
        self._canaries, self._own = canaries.of(store)

    def judge(self, failed: Sequence[tuple[Want, Fault]]) -> bool:
        """Whether the failed objects are worth another read. Raises if the store is at fault."""
        kinds = {fault.kind for _, fault in failed}
        if self._canaries:
            # A missing object says nothing unless others are missing too.
            silence = _suspects(self._store) - (set() if kinds & _GONE else {Kind.MISSING})
            waited = self._until_answered(self._canaries, silence)
            return waited or (self._own and self._store != _WEB)
        if kinds <= _REFUSED | {Kind.OTHER}:
            raise fault_error(failed[0][1], failed[0][0].uri)
        if kinds <= _UNANSWERED:
            step = -(-len(failed) // _CANARIES)
            self._until_answered([want for want, _ in failed[::step]], _UNANSWERED)
        return bool(kinds & _UNANSWERED)

    def _until_answered(self, wants: Sequence[Want], silence: frozenset[Kind]) -> bool:
        """Returns once one of `wants` gets an answer; the result says whether that took waiting."""
        began = time.monotonic()
        pauses = chain(_PAUSES, repeat(_PAUSES[-1]))
        waited = False
        while len(silent := self._look(wants, silence)) == len(wants):
            unanswered = [fault for _, fault in silent if fault.kind in _UNANSWERED]
            if not unanswered:
                raise self._gone(silent)
            pause = next(pauses)
            if time.monotonic() - began + pause > self._patience:
                raise StoreError(
                    f"{public(self._store)}: no answer for {self._patience:.0f} s "
                    f"({unanswered[0].detail}); check endpoint and network"
                )
            time.sleep(pause)
            waited = True
        return waited

    def _look(self, wants: Sequence[Want], silence: frozenset[Kind]) -> list[tuple[Want, Fault]]:
        """Those of `wants` that still fail with such a fault, and the fault."""
        return [
            (wants[index], got.fault)
            for index, got in attempt_many(wants, max_bytes=self._max_bytes, rules=self._rules)
            if isinstance(got, Failed) and got.fault is not None and got.fault.kind in silence
        ]

    def _gone(self, silent: Sequence[tuple[Want, Fault]]) -> NightlabelError:
        for want, fault in silent:
            if fault.kind in _REFUSED:
                return fault_error(fault, want.uri)
        return MissingError(
            f"{public(self._store)}: objects that were read before are gone; is SRC still "
            "there? Nothing was recorded for them, and the next run lists again"
        )
