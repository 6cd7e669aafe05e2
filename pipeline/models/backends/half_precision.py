"""Finds networks that fp16 does not suit: their results are compared with fp32's on photographs.

A number that overflows in fp16 mostly makes a result that is no number, and its row is computed
again in fp32. But some networks clamp such numbers to the largest that fp16 has. Then results are
finite and wrong, and only a comparison shows it. Black images and noise do not: activations grow
with what a network recognises.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BadModelError
from pipeline.models.backends.device_faults import Fault, fault
from pipeline.models.backends.loading import Weights, pick_precision

if TYPE_CHECKING:
    import torch

    from pipeline.models.scorer import Scaler

#: How far scores, or vectors as a share of their largest number, may be from fp32's. Rounding stays
#: below 0.05 in fp16.
CLOSE: Final = 0.1
#: More than any network has classes: results contain all scores.
ALL: Final = 2**31

Results = tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Trial:
    """How a network in a precision is had (`load`), and its results for photographs, by class.

    `labels`: the first of these are scores.
    """

    load: Callable[[str], Weights]
    results: Callable[[Weights], Results]
    labels: bool

    def distance(self, found: Results, exact: Results) -> float:
        """The largest difference: of scores, or of vectors as a share of their largest number.

        inf if a number is not finite.
        """
        return max(
            _distance(one, other, scores=self.labels and not number)
            for number, (one, other) in enumerate(zip(found, exact, strict=True))
        )


def suited(asked: str, device: "torch.device", trial: Trial) -> tuple[str, Weights]:
    """A precision for `asked`, and the network in it.

    If fp16 does not give the results of fp32, `auto` is bf16 if that does, else fp32. Raises
    BadModelError if fp16 was asked for and finite results are wrong.
    """
    chosen = pick_precision(asked, device)
    weights = trial.load(chosen)
    if chosen != "fp16" or (exact := _exact(trial)) is None:
        return chosen, weights
    found = trial.results(weights)
    if asked != "auto":
        _check(trial, found, exact)
        return chosen, weights
    if (off := trial.distance(found, exact)) <= CLOSE:
        return chosen, weights
    del weights
    chosen, weights = _wider(trial, exact)
    logging.getLogger("nightlabel").warning(
        "nightlabel: --precision auto is %s here: in fp16 the model's results for photographs are "
        "%.2g away from those in fp32",
        chosen,
        off,
    )
    return chosen, weights


def by_class(results: Results, labels: Sequence[str]) -> Results:
    """Scores of all classes, in the order of the classes, if there are any; then vectors."""
    if not labels:
        return results
    indices, scores, *vectors = results
    ordered = np.empty_like(scores)
    np.put_along_axis(ordered, indices, scores, axis=1)
    return ordered, *vectors


def results_of(scorer: "Scaler", pixels: NDArray[np.uint8]) -> Results:
    """By class, for (n, H, W, 3) uint8, of a `scorer` with `ALL` classes."""
    import torch

    with torch.inference_mode():
        results = scorer(torch.from_numpy(pixels).to(scorer.device))
        return by_class(tuple(result.cpu().numpy() for result in results), scorer.labels)


def _distance(found: NDArray[Any], exact: NDArray[Any], *, scores: bool) -> float:
    if not np.isfinite(found).all():
        return float("inf")
    largest = 1.0 if scores else float(np.abs(exact).max(initial=0.0)) or 1.0
    return float(np.abs(found - exact).max(initial=0.0) / largest)


def _exact(trial: Trial) -> Results | None:
    """In fp32; None if the device has no memory for that, or the network fails, which its proof
    then tells."""
    import torch

    try:
        return trial.results(trial.load("fp32"))
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, RuntimeError) and fault(error) is Fault.LOST:
            raise
    finally:
        torch.cuda.empty_cache()  # does nothing without CUDA
    return None


def _wider(trial: Trial, exact: Results) -> tuple[str, Weights]:
    """The network in bf16, which has the range of fp32 in steps eight times those of fp16, or in
    fp32 if that is not close enough."""
    weights = trial.load("bf16")
    if trial.distance(trial.results(weights), exact) <= CLOSE:
        return "bf16", weights
    return "fp32", trial.load("fp32")


def _check(trial: Trial, found: Results, exact: Results) -> None:
    """Rows that are not finite are computed again in fp32, so only the others must be close."""
    rows = np.isfinite(np.concatenate(found, axis=1)).all(axis=1)
    off = trial.distance(
        tuple(result[rows] for result in found), tuple(result[rows] for result in exact)
    )
    if off > CLOSE:
        raise BadModelError(
            f"in fp16 the model's results for photographs are {off:.2g} away from those in fp32, "
            "and nothing but this comparison shows it: use --precision auto, bf16 or fp32"
        )
