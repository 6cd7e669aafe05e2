"""`nightlabel demo`"""

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli import options
from pipeline.cli.console.output import say, say_json, say_table
from pipeline.cli.console.progress import listener
from pipeline.cli.console.quiet import quiet_libraries
from pipeline.cli.summary import say_summary

if TYPE_CHECKING:
    from pipeline.store.reader import LabelStore


@click.command()
@click.argument("dst", default="nightlabel-demo", type=click.Path(path_type=Path))
@options.progress
@options.output
def demo(dst: Path, no_progress: bool, as_json: bool, debug: bool) -> int:
    """Label the sample images in this package with the small ViT beside them.

    Needs no network and no account. Writes labels to DST, by default ./nightlabel-demo.

    \b
    Example:
      nightlabel demo
    """
    from pipeline import demo as archive
    from pipeline.runs.label import label
    from pipeline.spec import make_spec
    from pipeline.store.reader import LabelStore

    src = archive.images()
    spec = make_spec(src=str(src), dst=str(dst), model=str(archive.model()))
    with quiet_libraries(debug=debug), listener(silent=no_progress) as listen:
        summary = label(spec, listen)
    store = LabelStore(str(dst))
    right, known = _accuracy(store, src, archive.known_labels())
    if as_json:
        say_json(
            {
                "run": summary.model_dump(mode="json"),
                "labels": dict(store.label_counts()),
                "right": right,
                "known": known,
            }
        )
        return summary.exit_code
    say_summary(summary)
    say("")
    counts = [(name or "(no label)", count) for name, count in store.label_counts()]
    say_table(counts, "labels")
    say(f"\n{right} of {known} labels are right ({right / known:.1%})\n")
    say(_next_steps(dst))
    return summary.exit_code


def _accuracy(store: "LabelStore", src: Path, known: dict[str, str]) -> tuple[int, int]:
    from pipeline.storage import canonical, join

    folder = canonical(str(src))
    truth = {join(folder, name): label for name, label in known.items()}
    rows = store.to_table(["uri", "label"])
    labels = dict(zip(rows["uri"].to_pylist(), rows["label"].to_pylist(), strict=True))
    return sum(labels.get(uri) == label for uri, label in truth.items()), len(truth)


def _next_steps(dst: Path) -> str:
    python, nightlabel = _called("python"), _called("nightlabel")
    current = f"{dst}/_nightlabel/current.json"
    recipe = f"pandas.read_json('{current}', typ='series').recipe"
    return f"""Read them (the first needs `pip install pandas`):
  {python} -c "import pandas; print(pandas.read_parquet('{dst}/recipe=' + {recipe}))"
  {python} -c "import nightlabel; print(nightlabel.LabelStore('{dst}').to_table(['uri', 'label']))"

Next:
  {nightlabel} demo                                  again: nothing is labelled twice
  {nightlabel} label FOLDER LABELS --model MODEL     your images, your model
  {nightlabel} verify FOLDER LABELS                  check that every image has one correct row"""


def _called(name: str) -> str:
    """How to call a command of this environment: by its name if it is on the path."""
    here = Path(sys.executable).with_name(name)
    return name if shutil.which(name) == str(here) else os.path.relpath(here)
