"""`nightlabel forget`"""

from typing import TYPE_CHECKING

import click

from pipeline.cli import options
from pipeline.cli.console.output import say, say_json
from pipeline.errors import Exit

if TYPE_CHECKING:
    from pipeline.runs.forget import Forgotten

#: Data outside the store, which forget cannot delete.
OUT_OF_REACH = (
    "not reached: backups, copies, older object versions that the bucket keeps, unfinished "
    "multipart uploads, event files and logs, readers' caches"
)


@click.command()
@click.argument("dst")
@click.argument("uri", metavar="URI|LIST")
@options.take_over
@options.output
def forget(dst: str, uri: str, take_over: bool, as_json: bool, debug: bool) -> int:  # noqa: ARG001
    """Erase an image's rows from DST: every recipe, every file, every Delta version.

    URI is an image's address or local path (photos.zip!/a/b.jpg for one in an archive); LIST is a
    local file of them (.txt, .csv, .jsonl, .parquet). The image itself is not deleted. Older Delta
    versions can no longer be read, as the receipt says. If this command is killed, run it again.

    \b
    Example:
      nightlabel forget s3://bucket/labels s3://bucket/photos/jane.jpg
      nightlabel forget s3://bucket/labels erase.txt --json

    Exit: 0 erased or nothing found, 1 some Parquet files in DST cannot be read, 2 no such list,
    5 a run is writing.
    """
    from pipeline.runs import forget as flow

    done = flow.forget(dst, uri, take_over=take_over)
    if as_json:
        say_json(done.model_dump(mode="json") | {"found": done.found, "not_reached": OUT_OF_REACH})
    else:
        _say_receipt(done)
    return Exit.FAILED if done.not_read else Exit.OK


def _say_receipt(done: "Forgotten") -> None:
    images = f"{done.objects:,} image" + ("s" if done.objects > 1 else "")
    if done.found:
        rows = sum(done.rows.values())
        say(f"erased {rows:,} rows of {images}" + ("" if rows else ", which only old files held"))
        for recipe, rows in sorted(done.rows.items()):
            say(f"  {recipe}: {rows:,} rows")
        say(f"files rewritten: {done.files_rewritten:,}; deleted: {done.files_deleted:,}")
        say(f"Delta log files deleted: {done.log_files_deleted:,}")
        if done.oldest_version:
            oldest = done.oldest_version
            say(f"oldest readable Delta version: {oldest}; readers of versions before it lose them")
    else:
        say(f"nothing found: no file in this store holds a row of the {images} given")
        say("a uri must match exactly; a folder or a pattern matches nothing")
    for path in done.named_in:
        say(f"may still contain its name, and was not changed: {path}")
    for path in done.not_read:
        say(
            "not a file of a run, and may contain it; delete it if it is yours, and run forget "
            f"again: {path}"
        )
    say(OUT_OF_REACH)
    say("if SRC still lists it, the next run labels it again: delete it there, or --exclude it")
