"""Option groups: click options with a group, and commands whose `--help` shows options by group."""

from collections.abc import Iterator, Sequence
from typing import Any

import click

from pipeline.job_options import Group

#: May be given alone, or with codes after a `=`.
_RETRY_ERRORS = "--retry-errors"


class GroupedOption(click.Option):
    """An option that belongs to a group; a rare one is shown after the others."""

    def __init__(
        self, *args: Any, group: Group | None, rare: bool = False, **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        self.group, self.rare = group, rare


class JobCommand(click.Command):
    """A command with the options of a job.

    If an option's value is optional, Click would take the next word, which may be SRC, as its
    value.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        options = [f"{word}=all" if word == _RETRY_ERRORS else word for word in args[:end]]
        return super().parse_args(ctx, [*options, *args[end:]])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, members in in_groups(self.get_params(ctx)):
            records = [one.get_help_record(ctx) for one in members]
            with formatter.section(title):
                formatter.write_dl([record for record in records if record])


def in_groups(params: Sequence[click.Parameter]) -> Iterator[tuple[str, list[click.Option]]]:
    """The options by group, the rare ones last; an option without a group belongs to
    the last one."""
    options = [one for one in params if isinstance(one, click.Option)]
    last = [*Group][-1]
    for group in Group:
        members = [one for one in options if (getattr(one, "group", None) or last) is group]
        if members:
            yield group.value, sorted(members, key=lambda one: getattr(one, "rare", False))
