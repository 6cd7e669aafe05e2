"""Makes click options from the fields of `JobOptions`: name, type, words and default."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import click
from click.shell_completion import CompletionItem

from pipeline.cli.grouped import GroupedOption
from pipeline.job_options import Group, JobOptions, Option


@dataclass(frozen=True, slots=True)
class Declared:
    """One field that is an option."""

    field: str
    kind: Any
    default: Any
    words: Option

    @property
    def name(self) -> str:
        return f"--{self.field.replace('_', '-')}"

    @property
    def switch(self) -> bool:
        """Whether it is written `--name/--no-name`."""
        return self.kind is bool and self.default is not False

    @property
    def help(self) -> str:
        """Its help text, with its default in brackets."""
        default = self.words.default or _in_words(self.name, self.default)
        return f"{self.words.help} [default: {default}]" if default else self.words.help


def names_of(*groups: Group, but: tuple[str, ...] = ()) -> list[str]:
    """The fields of these groups, of all if none is given."""
    wanted = groups or tuple(Group)
    return [name for name, one in DECLARED.items() if one.words.group in wanted and name not in but]


def declared(*names: str) -> Callable[[Any], Any]:
    """A decorator that adds the options of these fields, in this order."""

    def add(command: Any) -> Any:
        for name in reversed(names):
            command = _click_option(DECLARED[name])(command)
        return command

    return add


def paths(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Let the shell complete files and folders; values that may be a uri are often local paths."""
    return [CompletionItem(incomplete, type="file")]


def _click_option(one: Declared) -> Callable[[Any], Any]:
    """If not given it is None, so that the default of a config file or of the field applies."""
    settings: dict[str, Any] = {"metavar": one.words.metavar}
    if one.kind is bool:
        settings = {} if one.switch else {"is_flag": True}
    elif get_origin(one.kind) is Literal:
        settings |= {"type": click.Choice(get_args(one.kind))}
    elif get_origin(one.kind) is tuple:
        settings |= {"multiple": True}
    elif one.kind in (int, float):
        settings |= {"type": one.kind}
    return click.option(
        f"{one.name}/--no-{one.name[2:]}" if one.switch else one.name,
        cls=GroupedOption,
        default=None,
        help=one.help,
        group=one.words.group,
        rare=one.words.rare,
        shell_complete=paths if one.words.path else None,
        **settings,
    )


def _options() -> Iterator[Declared]:
    for field, annotation in JobOptions.__annotations__.items():
        found = [word for word in get_args(annotation)[1:] if isinstance(word, Option)]
        if found:
            yield Declared(field, _plain(annotation), getattr(JobOptions, field), found[0])


def _plain(kind: Any) -> Any:
    """The type without limits and None; text if several types are left."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        kinds = [one for one in get_args(kind) if one is not NoneType]
        return _plain(kinds[0]) if len(kinds) == 1 else str
    return kind


def _in_words(name: str, default: object) -> str:
    if default is True:
        return name
    if isinstance(default, float):
        return f"{default:g}"
    return str(default) if default else ""


#: Every option of a job by its field's name, in the order of `JobOptions`.
DECLARED: Final = {one.field: one for one in _options()}
