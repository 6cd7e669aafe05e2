"""Command line: one file per command, each loaded only when it is called.

Another package adds a command by an entry point of the group `nightlabel.commands`,
which names a click command: `hello = "my_package.hello:hello"`.
"""

import sys
from importlib import import_module
from io import TextIOWrapper

import click

from pipeline import __version__
from pipeline.cli.failures import exit_code_of, show_traceback

COMMANDS = {
    "label": "bring the labels at DST up to date with SRC",
    "embed": "compute vectors of images: for search, near-duplicates and heads",
    "fingerprint": "compute perceptual hashes and quality measures, without a model",
    "plan": "show what label would do",
    "verify": "check that every image has exactly one correct row",
    "runs": "list the runs of a label store",
    "errors": "list the images that failed, and how to fix them",
    "recipes": "list the recipes of a label store, and which one readers see",
    "use": "choose the recipe that readers see",
    "drop": "delete a recipe's labels",
    "move-src": "keep the labels of an archive that moved",
    "forget": "erase an image from every recipe, file and Delta version",
    "compact": "merge small files of a label store into large ones",
    "submit": "run label as a job on a Ray cluster",
    "list": "list the jobs of a Ray cluster",
    "status": "show a job's status",
    "logs": "show what a job has printed",
    "stop": "stop a job; what it labelled is committed first",
    "bench": "measure what limits the speed here",
    "doctor": "check storage, model and machine, and say how to fix problems",
    "demo": "label the sample images in this package",
    "completion": "print a script for shell completion",
}


#: Commands whose files are in a subfolder.
FOLDERS = {
    "cluster": ("submit", "list", "status", "logs", "stop"),
    "store": ("runs", "errors", "recipes", "use", "drop", "move-src", "forget", "compact"),
}

GROUP = "nightlabel.commands"


class LazyGroup(click.Group):
    """Lists its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_all_commands())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return _from_outside(ctx, cmd_name)
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(_module(cmd_name)), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        known = name in COMMANDS or name[:1] == "-" or name in _all_commands()
        if not known and not ctx.resilient_parsing:
            ctx.fail(_no_such_command(name))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_all_commands().items()))


def _module(command: str) -> str:
    folder = next((f".{one}" for one, names in FOLDERS.items() if command in names), "")
    return f"pipeline.cli{folder}.{command.replace('-', '_')}"


def _all_commands() -> dict[str, str]:
    """Our commands and those of installed packages, whose help text needs the package
    to be loaded."""
    from importlib.metadata import entry_points

    others = {
        found.name: f"of the package {found.dist.name if found.dist else found.module}"
        for found in entry_points(group=GROUP)
    }
    return COMMANDS | {name: words for name, words in others.items() if name not in COMMANDS}


def _from_outside(ctx: click.Context, name: str) -> click.Command | None:
    from importlib.metadata import entry_points

    found = next(iter(entry_points(group=GROUP, name=name)), None)
    if found is None:
        return None
    try:
        command = found.load()
    except (ImportError, AttributeError) as error:
        ctx.fail(f"the package of {name} cannot be loaded: {error}")
    if not isinstance(command, click.Command):
        ctx.fail(f"{found.value} is not a click command")
    return command


def _no_such_command(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, _all_commands(), n=1)
    meant = f"; did you mean {close[0]}?" if close else ""
    return f"no such command: {name}{meant}"


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nightlabel")
def cli() -> None:
    """rsync for labels: keep one correct label for every image of an archive.

    \b
    Example:
      nightlabel label s3://bucket/photos s3://bucket/labels
    """


def main() -> None:
    """The console command: runs `cli` and exits with the code of `pipeline.errors.Exit`."""
    sys.excepthook = show_traceback
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: help has symbols of its own
    code = exit_code_of(cli)
    if "ray" in sys.modules:
        from pipeline.engine.session import end_process

        end_process(code)
    sys.exit(code)
