"""Options that commands share; each has one name, one meaning and one default everywhere."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from pipeline.errors import SpecError

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


def stack(*decorators: Decorator[Any]) -> Decorator[Any]:
    """Several decorators as one, the first on top."""

    def apply(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


def _option(*names: str, **settings: Any) -> Decorator[Any]:
    return click.option(*names, **{"default": None} | settings)


def _flag(name: str, text: str) -> Decorator[Any]:
    return click.option(name, is_flag=True, default=None, help=text)


def paths(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Let the shell complete files and folders, which what may also be a uri often is."""
    return [CompletionItem(incomplete, type="file")]


#: May stand alone, or have codes after a `=`.
RETRY_ERRORS = "--retry-errors"


class JobCommand(click.Command):
    """A command with the options of a job.

    Click would take the word after an option of optional value for it: SRC, where it comes next.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        options = [f"{word}=all" if word == RETRY_ERRORS else word for word in args[:end]]
        return super().parse_args(ctx, [*options, *args[end:]])


output = stack(
    click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout."),
    click.option("--debug", is_flag=True, help="Show the traceback of a failure."),
)

progress = click.option("--no-progress", is_flag=True, help="Say nothing until the end.")

config = stack(
    _option(
        "--config",
        type=click.Path(path_type=Path),
        help="Options as a TOML file; flags win.",
    ),
    click.option(
        "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Set any option by its name."
    ),
)

source = stack(
    _option("--include", multiple=True, metavar="GLOB", help="Take only these names."),
    _option("--exclude", multiple=True, metavar="GLOB", help="Leave these names out."),
    _option("--limit", type=int, help="Take only the first N listed objects."),
    _option(
        "--modified-since",
        metavar="DATE|DURATION",
        help="Take only objects as new as 2026-01-31, 2026-01-31T06:30 or 7d; and those whose time "
        "is unknown.",
    ),
    _option(
        "--default-excludes/--no-default-excludes",
        help="Leave out thumbnails and bins that systems make (@eaDir, ._*, …). "
        "[--default-excludes]",
    ),
    _flag("--strict-listing", "Exit 1 if a folder cannot be read, not just name it."),
    _option(
        "--manifest/--no-manifest",
        help="Read SRC as a list: .txt .lst .csv .tsv .jsonl .json .parquet (default: by name).",
    ),
    _flag("--check-changes", "Ask the store for etags that a manifest lacks."),
    _flag("--allow-private", "Read web addresses that are not public (your own network's) too."),
)

_network = stack(
    _option(
        "--model",
        metavar="ID|FOLDER",
        help="Hub id or folder. [google/vit-base-patch16-224]",
        shell_complete=paths,
    ),
    _option("--revision", help="Revision of a hub model."),
    _option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8"]),
        help="auto: fp16 on a GPU, fp32 on a CPU. int8: faster on CPUs with VNNI. [auto]",
    ),
)

_top_k = _option("--top-k", type=int, help="How many labels to keep for an image. [5]")

_pooling = _option(
    "--pooling",
    type=click.Choice(["cls", "mean", "pooler", "projection"]),
    help="Which vector: cls (class token), mean (of patches), pooler (the network's own), "
    "projection (CLIP's). [the first that it has: projection, cls, pooler, mean]",
)

_vector_dtype = _option(
    "--vector-dtype",
    type=click.Choice(["float16", "float32"]),
    help="What the numbers of a vector are rounded to; float16 takes half the bytes. [float16]",
)

_embed = _option(
    "--embed",
    type=click.Choice(["cls", "mean", "pooler"]),
    help="Keep a vector beside each label, of the same pass: see embed --pooling. [none]",
)

#: What is done to each image, whatever is asked of it.
images = stack(
    _option(
        "--decode",
        type=click.Choice(["exact", "fast"]),
        help="fast: large JPEGs at a smaller scale, not quite the reference's pixels. [exact]",
    ),
    _option("--exif/--no-exif", help="Turn images upright as EXIF says. [--exif]"),
    _option("--max-pixels", type=int, help="Larger images become errors. [178956970]"),
    _option("--max-bytes", type=int, help="Larger files become errors. [268435456]"),
    _option(
        "--max-seconds",
        type=float,
        help="Images that take longer, to read from the web or to decode, become errors. [60]",
    ),
    _option(
        "--node-memory",
        type=int,
        metavar="BYTES",
        help="Memory that labelling may use on each node; large images wait for their share of it. "
        "[all of the node's, or of its cgroup]",
    ),
)

#: What labels, with or without a vector beside them.
model = stack(_network, _top_k, _embed, _vector_dtype, images)

#: What gives vectors alone.
backbone = stack(_network, _pooling, _vector_dtype, images)

task = stack(
    _option(
        "--task",
        metavar="NAME",
        help="What is asked of each image: classify, embed, fingerprint. [classify]",
    ),
    _pooling,
)

address = _option(
    "--address",
    metavar="HOST:PORT",
    help="A Ray cluster, such as head:6379, or local: one here. [RAY_ADDRESS, else local]",
)

wait_for_nodes = _option(
    "--wait-for-nodes",
    type=float,
    metavar="SECONDS",
    help="What a cluster that lacks nodes, or starts from none, gets to bring them. [60]",
)

placement = stack(
    address,
    _option("--predictors", metavar="N|MIN:MAX", help="Predictors. [all GPUs, else by cores]"),
    _option(
        "--gpus-per-predictor",
        type=float,
        metavar="SHARE",
        help="Predict on GPUs; 0.5: two predictors share one. [1 where there are any]",
    ),
    wait_for_nodes,
    _option("--batch-size", type=int, help="Images a forward pass."),
    _flag("--compile", "Compile the network for its device: slow to start once, then faster."),
)

run = stack(
    _flag("--new-recipe", "Label beside the labels of another model or setting."),
    _flag("--promote", "Let readers see this recipe at the end, if all is labelled (exit 0)."),
    _option(
        RETRY_ERRORS,
        metavar="[=CODE,…]",
        help="Try images with permanent errors again; with =CODE,… only those. [none]",
    ),
    _flag("--delete", "Remove rows of images that are no longer listed."),
    _flag("--take-over", "Fence a run that holds the store, and go on in its place."),
    _flag("--partial-ok", "Exit 0 where 4 would say that objects remain."),
    _option("--max-images", type=int, help="Stop after labelling N (exit 4)."),
    _option(
        "--max-errors",
        metavar="N|P%",
        help="Exit 3 if more images than this fail. [1%, or 100 where more than that succeed; "
        "always if fewer than half succeed]",
    ),
    _option("--deadline", metavar="6h|06:30", help="Stop then, all committed (exit 4)."),
    _option("--commit-seconds", type=float, help="How often rows become true. [30]"),
)

telling = stack(
    _option(
        "--events",
        metavar="FILE|URI",
        help="Write what happens as JSON lines; into a folder, a file for each run.",
        shell_complete=paths,
    ),
    _option("--notify", metavar="URL", help="POST how the run ended, signed, to this address."),
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
    help="Dashboard of the cluster's head, such as http://head:8265.",
)

both_ends = stack(
    click.argument("src", required=False, shell_complete=paths),
    click.argument("dst", required=False, shell_complete=paths),
)

#: The label store of commands that look at nothing else.
store = click.argument("dst", shell_complete=paths)

#: All that makes a labelling job.
job = stack(both_ends, source, model, placement, run, telling)

#: The same for vectors in the place of labels.
job_of_vectors = stack(both_ends, source, backbone, placement, run, telling)

#: The same for a task without a model.
job_without_model = stack(both_ends, source, images, address, wait_for_nodes, run, telling)


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
    """The same for a run from here; what is bad usage is refused before anything is loaded."""
    from pipeline.flow.usage import check_usage

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
