"""Nightlabel: rsync for labels.

import nightlabel

spec = nightlabel.make_spec(src="s3://bucket/photos", dst="s3://bucket/labels")
summary = nightlabel.label(spec)
table = nightlabel.LabelStore("s3://bucket/labels").to_table(["uri", "label", "score"])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.runs.label import embed as embed
    from pipeline.runs.label import fingerprint as fingerprint
    from pipeline.runs.label import label as label
    from pipeline.runs.plan import plan as plan
    from pipeline.runs.verify import verify as verify
    from pipeline.spec import LabelSpec as LabelSpec
    from pipeline.spec import make_spec as make_spec
    from pipeline.store.reader import LabelStore as LabelStore

__version__ = "0.2.0"

_PUBLIC = {
    "label": "pipeline.runs.label",
    "embed": "pipeline.runs.label",
    "fingerprint": "pipeline.runs.label",
    "plan": "pipeline.runs.plan",
    "verify": "pipeline.runs.verify",
    "LabelSpec": "pipeline.spec",
    "make_spec": "pipeline.spec",
    "LabelStore": "pipeline.store.reader",
}

__all__ = [
    "LabelSpec",
    "LabelStore",
    "embed",
    "fingerprint",
    "label",
    "make_spec",
    "plan",
    "verify",
]


if not TYPE_CHECKING:  # or type checkers would take any name for one of the API

    def __getattr__(name: str) -> Any:
        # Lazy, so that `nightlabel --help` loads neither Ray nor Arrow.
        if name not in _PUBLIC:
            raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
        return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
