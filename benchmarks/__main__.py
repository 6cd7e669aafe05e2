"""All benchmarks, as one Markdown document.

    python -m benchmarks [--quick] [--only SECTION] [--out FILE]

Run it on a machine that does nothing else. `--quick` takes fewer images and rounds, and some ten
minutes; its figures are for a first look. FILE gets each section as soon as it is measured, and
keeps those of its sections that are not.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from benchmarks import cpu, device, inputs, labels, overhead, race, report, startup, store
from benchmarks import scale as growing
from benchmarks.acceptance.__main__ import section as gpu_acceptance
from benchmarks.inputs import DISTINCT
from benchmarks.pixels import contest
from benchmarks.race import Contender
from pipeline.models.backends.openvino_engine import multiplies_bytes
from tests.parts.archives.real_archives import tuxpaint_stamps
from tests.parts.models.dinov2 import checkpoint
from tests.parts.servers.s3 import serve

#: Images a second that a ViT-B/16 might make in half precision, see docs/performance.md.
DEVICES = {"A10G": 700, "L4": 1_200, "H100": 10_000}
#: The section that needs a GPU: only if it is asked for.
GPU = "gpu"
#: Devices of one node and what each makes a second: a network of the size of ViT-B, a smaller one.
AT_HAND = ((1, 10_000), (1, 20_000), (2, 5_000))
#: From here on two cores do not copy what a device takes, but for small images.
FAST, SMALL_SIDE = 5_000, 32


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    rounds: int
    starts: int
    small: int
    large: int
    end_to_end: int
    overhead: int
    fingerprinted: int
    agreement: int
    every_stamp: int
    stored: int
    devices: tuple[int, ...]
    sides: tuple[int, ...]
    device_seconds: float
    scale: dict[str, tuple[int, ...]]

    @property
    def long_rounds(self) -> int:
        """Rounds of what takes minutes."""
        return max(1, self.rounds - 2)


FULL = Scale(
    rounds=5,
    starts=5,
    small=200,
    large=16,
    end_to_end=8_000,
    overhead=50_000,
    fingerprinted=20_000,
    agreement=400,
    every_stamp=1,
    stored=4_000,
    devices=(1, 2, 4),
    sides=(device.SIDE, SMALL_SIDE),
    device_seconds=60.0,
    scale={
        "listing": (1_000_000, 10_000_000),
        "manifest": (100_000, 1_000_000),
        "ledger": (10_000_000, 100_000_000),
        "parts": (1_000, 10_000),
        "no-news": (100_000, 1_000_000),
        "graph": (10_000, 100_000, 1_000_000),
    },
)
QUICK = Scale(
    rounds=3,
    starts=1,
    small=60,
    large=6,
    end_to_end=300,
    overhead=4_000,
    fingerprinted=2_000,
    agreement=24,
    every_stamp=16,
    stored=200,
    devices=(2,),
    sides=(SMALL_SIDE,),
    device_seconds=15.0,
    scale={
        "listing": (1_000_000,),
        "manifest": (100_000,),
        "ledger": (10_000_000,),
        "parts": (1_000,),
        "no-news": (100_000,),
        "graph": (10_000,),
    },
)


def pixels(scale: Scale) -> str:
    model = inputs.vit_tiny()
    contests = [
        contest(title, sorted(folder.iterdir())[:count], model, scale.rounds)
        for title, folder, count in (
            ("JPEG 500×375", inputs.small_jpegs(DISTINCT), scale.small),
            ("JPEG 4000×3000", inputs.large_jpegs(scale.agreement), scale.large),
            ("PNG, WebP 500×375", inputs.mixed(FULL.small), scale.small),
        )
    ]
    errors = "; ".join(
        f"{found.title}: at most {found.worst}/255, {found.mean:.3f} on average"
        for found in contests
    )
    return f"""## Pixels

Bytes of an image to 224×224 uint8, bilinear, one thread's CPU time.

{report.contest_table(contests)}

`--decode exact` gave the reference's pixels to the bit. `--decode fast` was off by: {errors}."""


def end_to_end(scale: Scale) -> str:
    images = inputs.many_names(scale.end_to_end, DISTINCT)
    model = inputs.vit_tiny()
    contenders = [
        Contender("nightlabel", race.nightlabel()),
        Contender(race.REFERENCE, race.peer("torch_loop", "--threads", 2)),
        Contender(
            "torch loop, two processes",
            race.peer("torch_loop", "--processes", 2, "--threads", 1),
        ),
        Contender("Daft", race.peer("daft_recipe")),
        Contender("Hugging Face pipeline", race.peer("hf_pipeline")),
        Contender("Ray Data's recipe", race.peer("ray_recipe")),
    ]
    race.race(contenders, images, model, scale.long_rounds)
    ceiling = race.model_only(model, max(200, scale.end_to_end // 8))
    steady = statistics.median(contenders[0].steady)
    return f"""## End to end

{scale.end_to_end:,} JPEGs of 500×375 on local disk, ViT-Ti in fp32, wall time from the command to
its end.

{report.race_table(contenders, scale.end_to_end)}

Two processes of one thread that do nothing but predict, by transformers' own layers: {ceiling:.1f}
img/s. Once labels came, Nightlabel made {steady:.1f} a second, {steady / ceiling:.0%} of that."""


def quick_ways(scale: Scale) -> str:
    model = checkpoint()
    stamps = sorted(tuxpaint_stamps().rglob("*.png"))
    large = sorted(inputs.large_jpegs(scale.agreement).iterdir())
    narrow = [labels.narrow(name, stamps[:: scale.every_stamp], model) for name in ("int8", "bf16")]
    by_fast = labels.fast(large, model)
    flips = [f"- `{found.title}` {flip}" for found in (*narrow, by_fast) for flip in found.flips]
    has = "with" if multiplies_bytes() else "without"
    beside = " ".join(
        f"`--precision {found.title}`: {found.ratio:.2f}× as fast on one thread, "
        f"{found.same:.2%} of the labels equal, scores at most {found.most:.3f} apart."
        for found in narrow
    )
    return f"""## Labels of the quick ways, on a CPU {has} instructions for int8

A DINOv2 ViT-S/14 with a linear head for 13 classes, beside fp32 on {narrow[0].images} Tux Paint
stamps. {beside} `--decode fast` beside exact on {by_fast.images} JPEGs of 4000×3000:
{by_fast.same:.2%} of the labels equal, scores at most {by_fast.most:.3f} apart. Labels that differ:

{chr(10).join(flips) or "none"}"""


def cores(scale: Scale) -> str:
    found = {name: cpu.rates(name, scale.rounds) for name in cpu.NETWORKS}
    rows = [
        [way, *(f"{rates[way]:.1f}" for rates in found.values())]
        for way in next(iter(found.values()))
    ]
    return f"""## A core, by what runs the network

Images of 224×224 a second, one thread, batches as in a run, random weights; medians of
{scale.rounds} rounds in turns. int8 and bf16 need instructions that not every CPU has.

{report.table(["", *found], rows, left=1)}"""


def start_up(scale: Scale) -> str:
    by_hand, first, again = startup.start_up(scale.starts)
    return f"""## Start-up

The demo archive. Importing torch and transformers, starting Ray and loading the model by hand,
one after the other: {by_hand:.1f} s. From the command to the first label that is true, where this
machine has run the model before: {again:.1f} s, {again / by_hand:.2f} times as long; in the very
first run: {first:.1f} s, {first / by_hand:.2f} times as long."""


def object_store(scale: Scale) -> str:
    images, model = inputs.many_names(scale.stored, DISTINCT), inputs.vit_tiny()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(serve(folder))
        stack.enter_context(patch.dict(os.environ, server.env))
        prefix = store.fill(server, images)
        milliseconds = statistics.median(
            store.read_milliseconds(prefix) for _ in range(scale.rounds)
        )
        contenders = [
            Contender("from local disk", race.nightlabel()),
            Contender("from S3", race.nightlabel(src=prefix)),
        ]
        race.race(contenders, images, model, scale.long_rounds)
    local, remote = contenders
    return f"""## From object storage

A SeaweedFS on the same machine, which shares its cores; {scale.stored:,} JPEGs of 500×375.
Reading an object whole takes {milliseconds:.2f} ms of the client's processor. ViT-Ti in fp32 from
the command to its end: {local.median:.1f} s from local disk, {remote.median:.1f} s from S3,
{local.ratio(remote):.2f} times as long."""


def devices(scale: Scale) -> str:
    rows = [
        _simulated(count, name, rate, side, scale.device_seconds)
        for side in scale.sides
        for name, rate in DEVICES.items()
        if side == SMALL_SIDE or rate < FAST
        for count in (scale.devices if side == SMALL_SIDE and rate < FAST else (1,))
    ]
    at_hand = [
        _at_hand(count, rate, batch, scale.device_seconds / 2)
        for count, rate in AT_HAND
        for batch in (512, 1024)
    ]
    head = ["simulated", "image", "img/s at most", "img/s", "devices busy", "object store an image"]
    return f"""## Simulated devices

The real graph on a Ray cluster of one node a device, all of them on these cores; the last third of
a run, when all of its processes have started. Pixels are there already; a device takes as long as
it would and leaves the processor alone. One device takes about as many large images as these cores
can copy; small ones show what the graph can schedule.

{report.table(head, rows, left=2)}

Predictors alone, on one node, with batches of 224×224 that are decoded already: what a device
waits for if not for decoders.

{report.table(["simulated", "batch", *head[2:5]], at_hand, left=1)}"""


def _at_hand(count: int, rate: int, batch: int, seconds: float) -> list[str]:
    images = round(count * rate * seconds)
    seen = device.simulated(count, rate, images, options=["--at-hand", "--rows", str(batch)])
    return [
        f"{count} × {rate:,}",
        str(batch),
        f"{count * rate:,}",
        f"{seen['images_per_second']:,.0f}",
        f"{seen['busy']:.1%}",
    ]


def _simulated(count: int, name: str, rate: int, side: int, seconds: float) -> list[str]:
    seen = device.simulated(count, rate, round(count * rate * seconds), side)
    return [
        f"{count} × {name}",
        f"{side}×{side}",
        f"{count * rate:,}",
        f"{seen['images_per_second']:,.0f}",
        f"{seen['busy']:.1%}",
        f"{seen['pixel_bytes_an_image'] / 1000:.1f} KB",
    ]


def growth(scale: Scale) -> str:
    rows = []
    for name, counts in scale.scale.items():
        for count in counts:
            figures = growing.medians(name, count, 1 if name == "graph" else scale.long_rounds)
            peak = f"{figures.pop('peak_mb'):,.0f} MB"
            words = ", ".join(f"{key} {value:,.4g}" for key, value in figures.items())
            rows.append([name, f"{count:,}", peak, words])
            print(rows[-1], file=sys.stderr, flush=True)
    head = ["", "count", "peak memory, driver", "seen"]
    return f"""## What grows with the archive

Made-up names and files, real code, two cores, each in a process of its own
(`benchmarks/scale.py` says what each is). Medians of {scale.long_rounds}; the graph once.

{report.table(head, rows, left=1)}"""


SECTIONS: dict[str, Callable[[Scale], str]] = {
    "pixels": pixels,
    "end-to-end": end_to_end,
    "overhead": lambda scale: overhead.no_op(scale.overhead, scale.long_rounds),
    "fingerprint": lambda scale: overhead.fingerprint(scale.fingerprinted, scale.long_rounds),
    "labels": quick_ways,
    "cores": cores,
    "start-up": start_up,
    "object-store": object_store,
    "devices": devices,
    "growth": growth,
    GPU: lambda _: gpu_acceptance(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=SECTIONS, action="append")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    scale = QUICK if options.quick else FULL
    out: Path | None = options.out
    document = out.read_text() if out is not None and out.exists() else ""
    wanted: list[str] = options.only or [name for name in SECTIONS if name != GPU]
    if "end-to-end" in wanted:
        race.make_environments()
    for name in wanted:
        section = report.stamped(SECTIONS[name](scale))
        print(section, file=sys.stderr, flush=True)
        document = report.with_section(document, section)
        if out is not None:
            out.write_text(document)
    if out is None:
        print(document, end="")


if __name__ == "__main__":
    main()
