"""Doctor: checks everything a run needs; each check says what was found, or how to fix it."""

import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

from pydantic import BaseModel, ConfigDict

from pipeline.errors import NightlabelError
from pipeline.runs.inspection import Inspection, inspect
from pipeline.spec import LabelSpec, make_spec
from pipeline.storage import public
from pipeline.words import DEFAULT_TASK

PACKAGES = (
    "ray",
    "torch",
    "transformers",
    "pyarrow",
    "deltalake",
    "obstore",
    "pillow",
    "simplejpeg",
)
FORMATS = ("jpg", "webp", "avif", "jpg_2000")
PROBE = "_nightlabel/doctor"


class Finding(BaseModel):
    """One check: passed or not, and what was found. A warning does not make a check fail."""

    model_config = ConfigDict(frozen=True)

    check: str
    ok: bool
    found: str
    warnings: list[str] = []


class Sampled(Finding):
    """The check of a sample, with its counts; None if the source cannot be listed."""

    sample: Inspection | None = None


def examine(
    src: str | None,
    dst: str | None,
    model: str | None,
    address: str | None,
    *,
    allow_private: bool = False,
    sample: int = 0,
    task: str = DEFAULT_TASK,
    pooling: str | None = None,
) -> list[Finding]:
    """Run every check that is possible; arguments that are not given are not checked.

    With `sample`, this many images of `src` are read and decoded as well. A model is checked for
    `task`, with `pooling` if it gives vectors.
    """
    checks: list[tuple[str, Callable[[], str]]] = [
        ("versions", _versions),
        ("cores", _cores),
        ("memory", _memory),
        ("device", _device),
        ("image formats", _formats),
        ("resizing", _resizing),
    ]
    checks += [(f"read {public(src)}", lambda: _source(src, allow_private))] if src else []
    checks += [(f"write {dst}", lambda: _store(dst))] if dst else []
    asked = {"src": "photos", "dst": "labels", "model": model, "task": task, "pooling": pooling}
    checks += [(f"model {model}", lambda: _model(make_spec(**asked)))] if model else []
    checks += [("cluster", lambda: _cluster(address))] if address else []
    findings = [_find(name, check) for name, check in checks]
    return findings + ([_sample(src, sample, allow_private)] if src and sample else [])


def _find(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(check=name, ok=True, found=check())
    except NightlabelError as error:
        return Finding(check=name, ok=False, found=str(error))


def _versions() -> str:
    return ", ".join([f"python {platform.python_version()}", *_installed()])


def _installed() -> Iterator[str]:
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            raise NightlabelError(f"{package} is not installed: pip install {package}") from None


def _cores() -> str:
    from pipeline.engine.session import cores

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cores()} cores, {memory:.0f} GiB of memory"


def _memory() -> str:
    """The memory that decoders share, checked with the locks that they would use."""
    from pipeline.engine.memory_budget import budget_here
    from pipeline.isolation.memory_locks import lock_file

    lock_file()
    return str(budget_here(make_spec(src="photos", dst="labels")))


def _device() -> str:
    from pipeline.engine.session import gpu_here
    from pipeline.models.backends.loading import (
        device_name,
        pick_device,
        pick_precision,
        torch_in_words,
        unused_gpu,
    )
    from pipeline.models.backends.openvino_engine import has_runtime, multiplies_bytes, runtime_name

    device = pick_device()
    text = f"{device_name(device)}, --precision auto is {pick_precision('auto', device)}"
    if device.type == "cpu":
        text += (
            f", by {runtime_name()}" if has_runtime() else ", by torch: install openvino for speed"
        )
        text += "" if multiplies_bytes() else ", int8 is no faster (the CPU lacks VNNI)"
        if other := unused_gpu():
            text += f"; {other} is not supported and not used"
        elif gpu_here():
            text += (
                f"; a driver of a GPU is loaded, but {torch_in_words()} finds no GPU: install a "
                "PyTorch that is made for the GPU and its driver"
            )
    return text


def _formats() -> str:
    from pipeline.images import supported_formats

    return ", ".join(supported_formats())


def _resizing() -> str:
    from pipeline.images import resizing

    return resizing()


def _source(src: str, allow_private: bool) -> str:
    from pipeline.sources import open_source

    source = open_source(_spec_of(src, allow_private))
    source.check()
    first = next((page for s in source.shards() for page in source.refs(s)), None)
    text = f"{first.refs.num_rows if first else 0} images in the first page"
    for uri, why in first.unreadable.items() if first else ():
        text += f"; cannot read {public(uri)}: {why}"
    return text


def _spec_of(src: str, allow_private: bool) -> LabelSpec:
    dst = f"{src.rstrip('/')}-labels"
    return make_spec(src=src, dst=dst, allow_private=allow_private)


def _sample(src: str, wanted: int, allow_private: bool) -> Sampled:
    check = f"sample {public(src)}"
    try:
        seen = inspect(_spec_of(src, allow_private), wanted)
    except NightlabelError as error:
        return Sampled(check=check, ok=False, found=str(error))
    return Sampled(
        check=check,
        ok=seen.mostly_well,
        found=seen.in_words(),
        warnings=seen.warnings(),
        sample=seen,
    )


def _store(dst: str) -> str:
    from pipeline.storage import Folder, canonical

    folder = Folder(canonical(dst))
    folder.ensure()
    folder.probe_conditional_put()
    folder.put(PROBE, b"well")
    folder.delete([PROBE])
    return "writes, deletes, and refuses to create what exists"


def _model(spec: LabelSpec) -> str:
    """The task's description of its model, which it loads as a run would."""
    from pipeline.tasks import task_for

    return task_for(spec).describe_model(spec)


def _cluster(address: str | None) -> str:
    from pipeline.engine.placement import place
    from pipeline.engine.session import nodes, session

    with session(address) as resources:
        placement = place(resources, None, nodes=nodes())
        cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
        return f"{cpus:.0f} CPUs, {gpus:.0f} GPUs: {placement.predictors[1]} predictors"
