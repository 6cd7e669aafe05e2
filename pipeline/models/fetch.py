"""Fetches a model from any place into a checked local folder. JSON only: torch is not imported."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import BadModelError
from pipeline.models import bucket, hub
from pipeline.models.config import CONFIG, ModelConfig
from pipeline.models.digests import Digests
from pipeline.models.weights import ADAPTER, adapter, weight_files, weights_sha256
from pipeline.storage import canonical, local_path, public


@dataclass(frozen=True)
class ModelFolder:
    """A model on this machine.

    `id` is the requested model, in the spelling that means the same on every machine: a hub id, an
    absolute path, or a canonical uri. `revision` is the resolved commit of a hub model, None for
    folders. `weights_sha256` is in hex (see `weights.weights_sha256`), with the weights' size in
    bytes.
    """

    path: Path
    id: str
    revision: str | None
    weights_sha256: str
    weights_bytes: int


def fetch(model: str, revision: str | None, *, classifier: bool = True) -> ModelFolder:
    """Bring `model` to this machine and check that it is an image classifier, or a backbone.

    An existing local folder has priority; `scheme://` is a folder on storage; a name written like a
    path must be a path; anything else is a hub id. `revision` (branch, tag or commit) belongs to
    hub ids. Raises ModelError before any weights are loaded, and says how to fix it: BadModelError
    if the model itself is at fault, others if it cannot be fetched now.
    """
    path = _local(model)
    if path is None and "://" not in model:
        return _from_hub(model, revision, classifier)
    if revision is not None:
        raise BadModelError(f"{model} is a folder and has no revisions; leave out --revision")
    if path is None:
        folder, digests = bucket.copy(model)
        name = public(canonical(model)).rstrip("/")
        return _checked(folder, name, None, digests, classifier=classifier)
    return _checked(path, str(path), None, classifier=classifier)


def _local(model: str) -> Path | None:
    """The absolute path of a local folder, None for a hub id or a folder on storage."""
    if "://" in model and not model.startswith("file://"):
        return None
    path = local_path(model if "://" in model else str(Path(model).expanduser()))
    if path is not None and path.is_dir():
        return path
    if model.startswith(("file://", "/", ".", "~")) or model.count("/") > 1:
        raise BadModelError(f"no such model folder: {model}; check --model")
    return None


def _from_hub(model: str, revision: str | None, classifier: bool) -> ModelFolder:
    def check(folder: Path) -> None:
        ModelConfig.read(folder, model).check(classifier=classifier)

    folder, digests = hub.snapshot(model, revision, check)
    return _checked(folder, model, folder.name, digests, classifier=classifier)


def _checked(
    folder: Path,
    name: str,
    revision: str | None,
    digests: Digests | None = None,
    *,
    classifier: bool,
) -> ModelFolder:
    """`digests` are those of files that were just read, which need not be read again."""
    if (folder / ADAPTER).exists():
        raise adapter(name, beside=(folder / CONFIG).exists())
    config = ModelConfig.read(folder, name)
    config.check(classifier=classifier)
    files = weight_files(folder, name)
    size = sum(file.stat().st_size for file in files)
    return ModelFolder(folder, name, revision, weights_sha256(files, digests or {}), size)
