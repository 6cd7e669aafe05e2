"""Acceptance on one GPU, in ten minutes at most.

    python -m benchmarks.acceptance [--simulate] [--out FILE]

The tests that need a GPU, injected faults of a device, 60,000 JPEGs with and without each lead,
compiled or not, a network of convolutions, rows that overflow, and what the device did each second.
Needs no network: photographs are synthetic, weights are random. FILE gets the section "GPU".
`--simulate` runs all of it, with small numbers and on a device that sleeps, where there is no GPU;
it prints the section and writes nothing.
"""

import argparse
import sys
from pathlib import Path

from benchmarks import gpu, report
from benchmarks.acceptance import night, seconds
from benchmarks.acceptance.leads import COMPILED, NIGHTS
from benchmarks.acceptance.rig import GPU, SIMULATED, Rig
from benchmarks.acceptance.runner import Group, Step, all_of, pytest_of, step_of, told
from benchmarks.acceptance.steps import WAYS
from pipeline.models.backends.loading import device_name, pick_device

SECONDS = {GPU.name: 585.0, SIMULATED.name: 280.0}
ENGINE = "tests/models/backends/test_torch_engine.py"
NO_GPU = (
    "this machine has no GPU that PyTorch can use: --simulate runs all of it, but for the figures"
)


def section(rig: Rig = GPU) -> str:
    """Raises RuntimeError without a GPU."""
    device = pick_device()
    if not rig.simulated and device.type != "cuda":
        raise RuntimeError(NO_GPU)
    found = all_of(groups(rig), SECONDS[rig.name], lambda line: print(line, file=sys.stderr))
    parts = [f"## GPU{', simulated' if rig.simulated else ''}", _what(rig, device_name(device))]
    for group, outcomes in found:
        parts.append(told(group, outcomes))
        looks = [row for one in outcomes[:1] for row in one.found.get("seconds", ())]
        if looks:
            parts += ["Each second of the first of these:", report.table(seconds.HEAD, looks, 0)]
    failed = sum(bool(one.failure) for _, outcomes in found for one in outcomes)
    return "\n\n".join([*parts, f"{failed} steps failed." if failed else "No step failed."])


def _what(rig: Rig, device: str) -> str:
    if rig.simulated:
        return (
            "**Simulated: these are no figures of a GPU.** Networks and the graph run on a device "
            f"that sleeps ({rig.rate:,} images a second), whole runs on a GPU that only Ray knows."
        )
    return (
        f"{device}. {rig.images:,} names of {rig.distinct:,} synthetic JPEGs of 500×375, random "
        "weights, so labels are close calls. Rows and labels were checked before each speed."
    )


def groups(rig: Rig) -> list[Group]:
    """In the order of their worth: the last go without if time runs out."""
    ready = step_of(rig.name, "prepared", "images", 90)
    truth = step_of(rig.name, "checked", "labels to compare with", 60)
    unseen = Step(truth.name, truth.seconds, truth.command, {"CUDA_VISIBLE_DEVICES": "-1"})
    return [
        Group("Prepared", ["", ""], [ready, unseen], left=2),
        *(_simulated_runs(rig) if rig.simulated else [_runs(rig, NIGHTS)]),
        Group(
            "A network",
            gpu.HEAD,
            [step_of(rig.name, "network", name, 80, name) for name in WAYS],
            "Images a second of one predictor's engine, decoded pixels.",
            left=2,
        ),
        Group(
            "Rows that overflow",
            ["in fp16", "ms a block"],
            [step_of(rig.name, "overflowing", "rows that overflow", 40)],
            "Their scores are replaced by NaN; the engine in fp32 is the real one.",
        ),
        Group(
            "Packing",
            ["milliseconds there and back", "column by column", "as one Arrow stream"],
            [step_of(rig.name, "packing", "packing", 40)],
            "Only compared, by way of Ray's store: the former way is not in the product.",
        ),
        Group("Tests", ["", ""], _tests(), left=2),
    ]


def _runs(rig: Rig, chosen: dict[str, str]) -> Group:
    return Group(
        "Whole runs",
        night.HEAD,
        [
            step_of(rig.name, "whole", f"run, {name}", 80 if lead in ("", COMPILED) else 55, lead)
            for lead, name in chosen.items()
        ],
        f"{'ViT-Ti/16 on the CPU' if rig.simulated else 'ViT-B/16 in fp16'}. At most one lead is "
        "off in each. Where calls do not overlap, `waits` includes the time in which "
        "rows are made.",
    )


def _simulated_runs(rig: Rig) -> list[Group]:
    chosen = [lead for lead in NIGHTS if lead != COMPILED]
    steps = [step_of(rig.name, "sleeping", NIGHTS[lead], 45, lead) for lead in chosen]
    head = ["a device that sleeps", "block", "img/s at most", "img/s", "busy"]
    note = "32×32, so that two cores can feed it. A device that sleeps is not compiled."
    return [_runs(rig, {"": NIGHTS[""]}), Group("Leads", head, steps, note)]


def _tests() -> list[Step]:
    faults = "lost_device or no_memory or out_of_memory"
    bad = "tests/chaos/test_poison.py::test_a_device_that_is_bad_from_the_start_ends_no_night_of"
    return [
        pytest_of("marked gpu", 120, "-m", "gpu", "tests/models"),
        pytest_of("faults of a device, injected", 60, ENGINE, "-k", faults),
        pytest_of("a device that is bad from the start", 60, f"{bad}_another[one]"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.acceptance", description=__doc__)
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    try:
        text = section(SIMULATED if options.simulate else GPU)
    except RuntimeError as error:
        parser.error(str(error))
    text = report.stamped(text)
    print(text)
    out: Path | None = options.out
    if out is not None and not options.simulate:
        out.write_text(report.with_section(out.read_text() if out.exists() else "", text))
    sys.exit(0 if text.endswith("No step failed.") else 1)


if __name__ == "__main__":
    main()
