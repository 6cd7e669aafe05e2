"""A model, wherever it lies, as a checked local folder. JSON only: torch is not imported."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ModelError
from pipeline.models import bucket, hub
from pipeline.models.config import ModelConfig
from pipeline.models.weights import ADAPTER, weight_files, weights_sha256
from pipeline.storage import canonical, local_path, public


@dataclass(frozen=True)
class ModelFolder:
    """A model on this machine.

    `id` is what was asked for, in the spelling that means the same on every machine: a hub id,
    an absolute path, or a canonical uri. `revision` is the resolved commit of a hub model, None
    for folders. `weights_sha256` is in hex (see `weights.weights_sha256`), of so many bytes.
    """

    path: Path
    id: str
    revision: str | None
    weights_sha256: str
    weights_bytes: int


def fetch(model: str, revision: str | None) -> ModelFolder:
    """Bring `model` to this machine and check that it is an image classifier.

    An existing local folder wins; `scheme://` is a folder on storage; what is written like a
    path must be one; anything else is a hub id. `revision` (branch, tag or commit) belongs to
    hub ids. Raises ModelError before any weights are loaded, with the mend in its one line.
    """
    path = _local(model)
    if path is None and "://" not in model:
        return _from_hub(model, revision)
    if revision is not None:
        raise ModelError(f"{model} is a folder and has no revisions; leave out --revision")
    if path is None:
        return _checked(bucket.copy(model), public(canonical(model)).rstrip("/"), None)
    return _checked(path, str(path), None)


def _local(model: str) -> Path | None:
    """The absolute path of a local folder, None for a hub id or a folder on storage."""
    if "://" in model and not model.startswith("file://"):
        return None
    path = local_path(model if "://" in model else str(Path(model).expanduser()))
    if path is not None and path.is_dir():
        return path
    if model.startswith(("file://", "/", ".", "~")) or model.count("/") > 1:
        raise ModelError(f"no such model folder: {model}; check --model")
    return None


def _from_hub(model: str, revision: str | None) -> ModelFolder:
    def check(folder: Path) -> None:
        ModelConfig.read(folder, model).check()

    folder = hub.snapshot(model, revision, check)
    return _checked(folder, model, folder.name)


def _checked(folder: Path, name: str, revision: str | None) -> ModelFolder:
    config = ModelConfig.read(folder, name)
    config.check()
    if (folder / ADAPTER).exists():
        raise ModelError(
            f"{name} has an adapter ({ADAPTER}); merge it into the model (peft: merge_and_unload) "
            "and save that"
        )
    files = weight_files(folder, name)
    size = sum(file.stat().st_size for file in files)
    return ModelFolder(folder, name, revision, weights_sha256(files), size)
