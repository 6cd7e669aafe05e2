"""The names of a store's files. Files with other names are not ours, and are never deleted.

Run ids, recipes and the names of parts are words; `upkeep` describes the layout.
"""

import re
from typing import Final

from pipeline.storage.local.beneath import UNFINISHED

_WORD: Final = r"[\w.-]+"
_RECIPE: Final = rf"recipe={_WORD}"
_AT_REST: Final = rf"{_RECIPE}/{_WORD}-\d{{5,}}\.parquet"
#: Without the recipe's folder: parts of version 0.1.
_PART: Final = rf"_parts/{_WORD}/({_RECIPE}/)?{_WORD}\.parquet"
#: Delta's own; the last is a commit in progress.
_LOG: Final = rf"_delta_log/(\d{{20}}\.{_WORD}|_last_checkpoint|_commit_{_WORD})"
_CHANGING: Final = r"(current|lease)\.json(\.lock)?|(probe|clock)-\w+|doctor"
_DOCUMENT: Final = rf"_nightlabel/((runs|recipes)/{_WORD}\.json|runs-index\.jsonl\.gz|{_CHANGING})"
_IN_PATH: Final = re.compile(r"(?:^|/)recipe=([^/]*)/")

_DATA: Final = re.compile(f"{_AT_REST}|{_PART}")
_ANY: Final = re.compile(f"{_AT_REST}|{_PART}|{_LOG}|{_DOCUMENT}")


def is_data(path: str) -> bool:
    """Whether a run gives this name to a file of labels."""
    return _DATA.fullmatch(path) is not None


def may_hold(path: str, recipe: str) -> bool:
    """Whether the log may name `path` as a file of `recipe`'s labels, whoever wrote the log entry.

    Delta escapes paths; ours need no escapes.
    """
    said = _IN_PATH.search(path)
    within = path.endswith(".parquet") and not path.startswith(("_delta_log/", "_nightlabel/"))
    return within and "%" not in path and (said is None or said[1] == recipe)


def is_ours(path: str) -> bool:
    """Whether a run gives this name to a file, complete or half written."""
    return _ANY.fullmatch(UNFINISHED.sub("", path)) is not None
