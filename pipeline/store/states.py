"""State of a row, as a ledger holds it in five bits: a label, or which error.

The ordinals exist in memory only, so codes may be added and reordered freely.
"""

from collections.abc import Collection
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import NOT_PUBLIC, TRANSIENT_CODES, ErrorCode

STATE_BITS: Final = 5

LABELLED: Final = 0
CODES: Final = {code: ordinal for ordinal, code in enumerate(ErrorCode, start=1)}
#: A code that a newer version of this package wrote: permanent, as far as this version knows.
UNKNOWN: Final = (1 << STATE_BITS) - 1
#: `denied` because its address is not public; told apart only for a run that may read such
#: addresses.
PRIVATE: Final = UNKNOWN - 1

#: Prefix for counts of permanent errors that stay: this, then the code.
FAILED_BEFORE: Final = "failed_before:"
_NAMES: Final = {str(code): at for code, at in CODES.items()} | {"unknown": UNKNOWN}

#: Which permanent errors to try again: all, none, or those of some codes.
Retried = bool | Collection[ErrorCode]

States = npt.NDArray[np.int32]


def states_of(rows: pa.Table) -> States:
    """The state of each row, from its error_code.

    If error_message is among the columns, PRIVATE rows are distinguished.
    """
    codes = rows["error_code"]
    states = np.full(len(codes), LABELLED, np.int32)
    failed = np.asarray(pc.is_valid(codes).to_numpy(), dtype=bool)
    known = pc.index_in(codes.drop_null(), value_set=pa.array([str(code) for code in CODES]))
    states[failed] = pc.fill_null(pc.add(known, 1), UNKNOWN).to_numpy()
    if "error_message" in rows.column_names:
        refused = pc.match_substring(rows["error_message"], NOT_PUBLIC).fill_null(False)
        private = np.asarray(refused.to_numpy(), dtype=bool)
        states[private & (states == CODES[ErrorCode.DENIED])] = PRIVATE
    return states


def retried(wanted: Retried) -> npt.NDArray[np.bool_]:
    """For each state, whether such a row is tried again."""
    states = np.zeros(UNKNOWN + 1, dtype=bool)
    if wanted is True:
        states[LABELLED + 1 :] = True
    elif wanted:
        states[[CODES[code] for code in wanted]] = True
    states[[CODES[code] for code in TRANSIENT_CODES]] = True
    states[PRIVATE] = True
    return states


def counts_of(states: States) -> dict[str, int]:
    """Counts of rows that stay as they are: labels, errors, and errors by code."""
    rows = np.bincount(states, minlength=UNKNOWN + 1)
    by_code = {FAILED_BEFORE + name: int(rows[at]) for name, at in _NAMES.items() if rows[at]}
    failed = int(rows.sum() - rows[LABELLED])
    return {"done": int(rows[LABELLED]), "failed_before": failed} | by_code
