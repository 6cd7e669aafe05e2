"""Nightlabel: rsync for labels. The public Python API.

import nightlabel

spec = nightlabel.make_spec(src="s3://bucket/photos", dst="s3://bucket/labels")
summary = nightlabel.label(spec)
table = nightlabel.LabelStore("s3://bucket/labels").to_table(["uri", "label", "score"])

The code is in the package `pipeline`; this name cannot collide with a `pipeline` of your own.
"""

from typing import TYPE_CHECKING, Any

import pipeline

if TYPE_CHECKING:
    from pipeline import LabelSpec as LabelSpec
    from pipeline import LabelStore as LabelStore
    from pipeline import embed as embed
    from pipeline import fingerprint as fingerprint
    from pipeline import label as label
    from pipeline import make_spec as make_spec
    from pipeline import plan as plan
    from pipeline import verify as verify

__version__ = pipeline.__version__

__all__ = pipeline.__all__


if not TYPE_CHECKING:  # or type checkers would take any name for one of the API

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'nightlabel' has no attribute {name!r}")
        return getattr(pipeline, name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
