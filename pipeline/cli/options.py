"""Options that commands share; each has one name, one meaning and one default everywhere."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pipeline.cli.declared import DECLARED, declared, names_of
from pipeline.cli.declared import paths as paths
from pipeline.cli.grouped import GroupedOption
from pipeline.cli.grouped import JobCommand as JobCommand
from pipeline.errors import SpecError
from pipeline.job_options import OF_A_NETWORK, OF_VECTORS, Group

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


def stack(*decorators: Decorator[Any]) -> Decorator[Any]:
    """Several decorators as one, the first on top."""

    def apply(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


def option(
    *names: str, group: Group | None = None, rare: bool = False, **settings: Any
) -> Decorator[Any]:
    """A click option of one command; `group` is where `--help` shows it."""
    return click.option(*names, cls=GroupedOption, group=group, rare=rare, **settings)


output = stack(
    option("--json", "as_json", is_flag=True, group=Group.OUTPUT, help="Print one JSON document."),
    option(
        "--debug",
        is_flag=True,
        group=Group.OUTPUT,
        rare=True,
        help="Show Python's traceback if the command fails.",
    ),
)

progress = option(
    "--no-progress", is_flag=True, group=Group.OUTPUT, help="Print nothing until the end."
)

dry_run = option(
    "--dry-run",
    is_flag=True,
    group=Group.RUN,
    help="Show what would be done, and stop: the same as plan.",
)

config = stack(
    option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        group=Group.RUN,
        help="Read options from a TOML file; options on the command line win.",
    ),
    option(
        "--set",
        "sets",
        multiple=True,
        metavar="KEY=VALUE",
        group=Group.RUN,
        rare=True,
        help="Set an option by its name.",
    ),
)

#: For commands that change a store, as runs do.
take_over = option("--take-over", is_flag=True, help=DECLARED["take_over"].help)

#: Which names of a listing to read.
names = declared("include", "exclude")

#: What is computed, if the command's name does not say it.
task = declared("task", "pooling")

address, source = declared("address"), declared(*names_of(Group.SOURCE))

#: How images are read and what is computed of them: all that a measurement needs.
measured = declared(*names_of(Group.SOURCE, Group.MODEL, Group.RESULT, Group.CLUSTER))

both_ends = stack(
    click.argument("src", required=False, shell_complete=paths),
    click.argument("dst", required=False, shell_complete=paths),
)

#: The label store, for commands that use nothing else.
store = click.argument("dst", shell_complete=paths)


def job_without(*names: str) -> Decorator[Any]:
    """SRC, DST and all options of a job except those of the fields `names`, and except the task."""
    return stack(both_ends, declared(*names_of(but=("task", *names))))


#: All options of a labelling job.
job = job_without("pooling")

#: The same for vectors instead of labels.
job_of_vectors = job_without("top_k", "embed")

#: The same for a task without a model.
job_without_model = job_without(*OF_A_NETWORK, *OF_VECTORS)

#: The same for a job server, which has a URL.
job_of_a_cluster = stack(
    job_without("pooling", "address"),
    option(
        "--address",
        metavar="URL",
        group=Group.CLUSTER,
        help="URL of the cluster's dashboard, such as http://head:8265. "
        "[default: RAY_API_SERVER_ADDRESS, else RAY_ADDRESS]",
    ),
)


#: Where Ray's own commands look for the url of a job server.
_JOB_SERVER = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


def _url(ctx: click.Context, param: click.Parameter, value: str) -> str:  # noqa: ARG001
    from pipeline.cluster.url import job_server_url

    return job_server_url(value)


cluster = click.option(
    "--address",
    callback=_url,
    envvar=list(_JOB_SERVER),
    required=True,
    metavar="URL",
    help="URL of the cluster's dashboard, such as http://head:8265.",
)


def job_server() -> str | None:
    """The url of a cluster's job server that the environment names."""
    return next((os.environ[name] for name in _JOB_SERVER if name in os.environ), None)


def spec_from(options: dict[str, Any]) -> Any:
    """The LabelSpec behind a command's options: config file, then --set, then flags."""
    from pipeline.spec import load_spec

    config_file = options.pop("config", None)
    sets = _pairs(options.pop("sets", ()))
    return load_spec(config_file, sets, options)


def spec_of_run(options: dict[str, Any]) -> Any:
    """The same for a run on this machine; usage errors are reported before anything is loaded."""
    from pipeline.runs.usage import check_usage

    spec = spec_from(options)
    check_usage(spec)
    return spec


def _pairs(sets: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals:
            raise SpecError("set", text, "write KEY=VALUE")
        pairs[key] = value
    return pairs
