"""The options of a job, each declared once: name, type, default, help words and help group.

`LabelSpec` takes its fields from here, and the command line its options. No pydantic here: a
shell that completes options waits for what this imports.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal

from annotated_types import Ge, Gt, Le, MinLen

from pipeline.errors import ErrorCode
from pipeline.words import DEFAULT_TASK

DEFAULT_MODEL: Final = "google/vit-base-patch16-224"

#: Pillow's own limit for a decompression bomb (2 × `PIL.Image.MAX_IMAGE_PIXELS`).
MAX_PIXELS: Final = 178_956_970
MAX_BYTES: Final = 256 * 2**20
#: Most images take milliseconds, the longest strip that is allowed some 10 s.
MAX_SECONDS: Final = 60.0

#: The vector of an image that is taken from a network: see `models.pooling`.
Pooling = Literal["cls", "mean", "pooler", "projection"]

#: The options that only tasks which give vectors know.
OF_VECTORS: Final = ("pooling", "vector_dtype", "embed")

#: The options that a task without a network refuses.
OF_A_NETWORK: Final = (
    "model",
    "revision",
    "precision",
    "top_k",
    "predictors",
    "gpus_per_predictor",
    "batch_size",
    "compile",
)


class Group(StrEnum):
    """What an option is for. `--help` shows the groups in this order."""

    SOURCE = "Source"
    MODEL = "Model"
    RESULT = "Result"
    RUN = "Run"
    CLUSTER = "Cluster"
    OUTPUT = "Output"


@dataclass(frozen=True, slots=True)
class Option:
    """The words of an option. Its name, type, limits and default are those of its field."""

    group: Group
    help: str
    metavar: str | None = None
    #: The default in words, where the field's own says nothing.
    default: str | None = None
    #: Rarely used: shown after the others of its group.
    rare: bool = False
    #: The shell completes files and folders.
    path: bool = False


SOURCE, MODEL, RESULT = Group.SOURCE, Group.MODEL, Group.RESULT
RUN, CLUSTER, OUTPUT = Group.RUN, Group.CLUSTER, Group.OUTPUT

Positive = Annotated[int, Gt(0)]
Text = Annotated[str, MinLen(1)]


class JobOptions:
    """One field an option, `_` for `-`. A field without `Option` is an argument.

    A plain `bool` is a flag; one that is true by default, or may be None, is `--name/--no-name`.
    """

    src: Text
    dst: Text

    include: Annotated[
        tuple[str, ...], Option(SOURCE, "Read only files whose names match.", metavar="GLOB")
    ] = ()
    exclude: Annotated[
        tuple[str, ...], Option(SOURCE, "Skip files whose names match.", metavar="GLOB")
    ] = ()
    limit: Annotated[
        Positive | None, Option(SOURCE, "Read only the first N listed files.", metavar="N")
    ] = None
    modified_since: Annotated[
        str | None,
        Option(
            SOURCE,
            "Skip files older than this: 2026-01-31, 2026-01-31T06:30 or 7d. Files whose time is "
            "unknown are read.",
            metavar="DATE|DURATION",
        ),
    ] = None
    default_excludes: Annotated[
        bool,
        Option(
            SOURCE,
            "Skip thumbnails and trash folders that systems create (@eaDir, ._*, …).",
            rare=True,
        ),
    ] = True
    strict_listing: Annotated[
        bool,
        Option(SOURCE, "Exit 1 if a folder cannot be read, instead of a warning.", rare=True),
    ] = False
    manifest: Annotated[
        bool | None,
        Option(
            SOURCE,
            "Read SRC as a list of images: .txt .lst .csv .tsv .jsonl .json .parquet.",
            default="by the name of SRC",
        ),
    ] = None
    check_changes: Annotated[
        bool,
        Option(SOURCE, "Ask the store for the etags that a list does not give.", rare=True),
    ] = False
    allow_private: Annotated[
        bool,
        Option(SOURCE, "Allow web addresses that are not public, such as those of your network."),
    ] = False

    task: Annotated[
        Text, Option(RESULT, "What to compute: classify, embed or fingerprint.", metavar="NAME")
    ] = DEFAULT_TASK
    model: Annotated[
        Text,
        Option(
            MODEL, "Hugging Face model id, or a model's folder.", metavar="ID|FOLDER", path=True
        ),
    ] = DEFAULT_MODEL
    revision: Annotated[
        str | None,
        Option(MODEL, "Branch, tag or commit of a Hugging Face model.", metavar="REV"),
    ] = None
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16", "int8"],
        Option(
            MODEL,
            "Number format of the weights. auto: fp16 on a GPU, fp32 on a CPU; on CPUs, bf16 "
            "is faster with AMX, and int8 with VNNI.",
        ),
    ] = "auto"
    top_k: Annotated[Positive, Option(RESULT, "Labels to keep for each image.", metavar="N")] = 5
    pooling: Annotated[
        Pooling | None,
        Option(
            RESULT,
            "Which vector: cls (class token), mean (of patches), pooler (the network's own) or "
            "projection (CLIP's).",
            default="the first of projection, cls, pooler, mean that the model has",
        ),
    ] = None
    embed: Annotated[
        Literal["cls", "mean", "pooler"] | None,
        Option(
            RESULT,
            "Keep a vector beside each label, computed in the same pass.",
            default="none",
        ),
    ] = None
    vector_dtype: Annotated[
        Literal["float16", "float32"],
        Option(RESULT, "Round the numbers of vectors to this; float16 takes half the bytes."),
    ] = "float16"
    exif: Annotated[
        bool, Option(RESULT, "Rotate images as their EXIF orientation says.", rare=True)
    ] = True
    decode: Annotated[
        Literal["exact", "fast"],
        Option(
            RESULT,
            "fast: decode large JPEGs at a smaller scale; pixels differ slightly from the "
            "reference's.",
        ),
    ] = "exact"
    max_pixels: Annotated[
        Positive,
        Option(RESULT, "Record larger images as errors (too_large).", metavar="N", rare=True),
    ] = MAX_PIXELS
    max_bytes: Annotated[
        Positive,
        Option(RESULT, "Record larger files as errors (too_large).", metavar="BYTES", rare=True),
    ] = MAX_BYTES
    max_seconds: Annotated[
        float,
        Gt(0),
        Option(
            RESULT,
            "Record images that take longer to download from the web or to decode as errors.",
            metavar="SECONDS",
            rare=True,
        ),
    ] = MAX_SECONDS
    node_memory: Annotated[
        Positive | None,
        Option(
            CLUSTER,
            "Memory to use on each node. Large images wait until enough of it is free.",
            metavar="BYTES",
            default="all that the node or its cgroup has",
            rare=True,
        ),
    ] = None

    address: Annotated[
        str | None,
        Option(
            CLUSTER,
            "Ray cluster to run on, such as head:6379; local: start Ray on this machine.",
            metavar="HOST:PORT",
            default="RAY_ADDRESS, else local",
        ),
    ] = None
    predictors: Annotated[
        str | None,
        Option(
            CLUSTER,
            "Number of predictors, or minimum and maximum; without a GPU each also decodes.",
            metavar="N|MIN:MAX",
            default="one per GPU, else one per core",
        ),
    ] = None
    gpus_per_predictor: Annotated[
        Annotated[float, Gt(0), Le(1)] | None,
        Option(
            CLUSTER,
            "GPUs for each predictor; 0.5: two predictors share one.",
            metavar="SHARE",
            default="1 if there are any",
        ),
    ] = None
    wait_for_nodes: Annotated[
        float,
        Ge(0),
        Option(CLUSTER, "Seconds to wait for nodes to join.", metavar="SECONDS"),
    ] = 60.0
    batch_size: Annotated[
        Positive | None,
        Option(
            CLUSTER,
            "Images in one forward pass.",
            metavar="N",
            default="depends on device and model",
            rare=True,
        ),
    ] = None
    compile: Annotated[
        bool,
        Option(MODEL, "Compile the network for its device: starts slower, then runs faster."),
    ] = False
    commit_seconds: Annotated[
        float,
        Gt(0),
        Option(RUN, "Seconds between commits.", metavar="SECONDS", rare=True),
    ] = 30.0

    new_recipe: Annotated[
        bool, Option(RUN, "Add the labels of another model or setting beside those in DST.")
    ] = False
    promote: Annotated[
        bool,
        Option(RUN, "Make this recipe the one that readers see, if the run completes (exit 0)."),
    ] = False
    retry_errors: Annotated[
        bool | tuple[ErrorCode, ...],
        Option(
            RUN,
            "Try images with permanent errors again; with =CODE,… only those errors.",
            metavar="[=CODE,…]",
            default="none",
        ),
    ] = False
    delete: Annotated[bool, Option(RUN, "Delete the rows of images that are no longer listed.")] = (
        False
    )
    take_over: Annotated[
        bool, Option(RUN, "Take DST over from a run that is writing; its next commit fails.")
    ] = False
    partial_ok: Annotated[
        bool, Option(RUN, "Exit 0 instead of 4 if images remain to be labelled.")
    ] = False
    max_images: Annotated[
        Positive | None, Option(RUN, "Stop after N images (exit 4).", metavar="N")
    ] = None
    max_errors: Annotated[
        str | None,
        Option(
            RUN,
            "Exit 3 if more images than this fail.",
            metavar="N|P%",
            default="1% or 100, whichever is more; but never more than succeed",
        ),
    ] = None
    deadline: Annotated[
        str | None,
        Option(RUN, "Stop by then, with everything committed (exit 4).", metavar="DURATION|HH:MM"),
    ] = None

    events: Annotated[
        Text | None,
        Option(
            OUTPUT,
            "Write events as JSON lines. In a folder, each run gets its own file.",
            metavar="FILE|URI",
            path=True,
        ),
    ] = None
    notify: Annotated[
        str | None,
        Option(OUTPUT, "POST the result of the run, signed, to this web address.", metavar="URL"),
    ] = None
