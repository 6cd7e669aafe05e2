"""What type checkers see of `nightlabel`: `make lint` checks this file; nothing runs it."""

from collections.abc import Callable
from typing import assert_type

import nightlabel
from pipeline.runs.plan import Plan
from pipeline.runs.verify import Verification
from pipeline.store.runs import RunSummary


def of_the_api(src: str, dst: str) -> None:
    """Each name has its type, not `Any`."""
    spec = nightlabel.make_spec(src=src, dst=dst, top_k=3)
    assert_type(spec, nightlabel.LabelSpec)
    assert_type(spec.top_k, int)
    assert_type(spec.include, tuple[str, ...])
    assert_type(nightlabel.label(spec), RunSummary)
    assert_type(nightlabel.embed(spec), RunSummary)
    assert_type(nightlabel.fingerprint(spec), RunSummary)
    assert_type(nightlabel.plan(spec), Plan)
    assert_type(nightlabel.verify(spec), Verification)
    assert_type(nightlabel.LabelStore(dst).recipes(), dict[str, str])
    assert_type(nightlabel.__version__, str)


def of_what_is_not_in_it() -> Callable[[], None]:
    """An unknown name is an error; `warn_unused_ignores` fails where it is none."""
    return nightlabel.no_such_name  # type: ignore[attr-defined, no-any-return]
