"""Models of the Hugging Face hub: safetensors and JSON only, from the cache when offline."""

import logging
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import BadModelError, ModelError, printable
from pipeline.models import weights
from pipeline.models.config import CONFIG
from pipeline.models.digests import Digests, hub_digest
from pipeline.storage import guarded_folder, private_folder

#: Seconds to wait for the hub's answer; its client would wait forever.
TIMEOUT_S = 10.0

_INSTEAD = "set HF_HOME to a folder of your own, or give a copy of the model with --model FOLDER"

_COMMIT = re.compile(r"[0-9a-f]{40}")


def snapshot(
    model: str, revision: str | None, check: Callable[[Path], None]
) -> tuple[Path, Digests]:
    """A folder with the model at one commit, whose name is that commit, and its files' digests.

    A cached commit costs no request; a branch or tag is requested, and taken from the cache if the
    hub is out of reach. `check` sees config.json before weights are downloaded. Damaged files in
    the cache are downloaded again. Raises BadModelError: unknown, gated, pickled only; ModelError:
    out of reach and not cached; UnsafeFolderError.
    """
    _check_place()
    if _COMMIT.fullmatch(revision or "") and (cached := _cached(model, revision)):
        return cached
    info = _info(model, revision)
    if info is None:
        if cached := _cached(model, revision):
            return cached
        raise ModelError(
            f"the Hugging Face hub is out of reach, and {model} is neither a folder nor cached "
            "here; give a copy of the model with --model FOLDER"
        )
    names = {file.rfilename for file in info.siblings or ()}
    if weights.ADAPTER in names and CONFIG not in names:
        raise weights.adapter(model, beside=False)
    # By the requested name, so that the cache remembers which commit it meant.
    config, _ = _download(model, revision, [CONFIG])
    check(config)
    if not names & {weights.SINGLE, weights.INDEX}:
        raise weights.no_safetensors(model, names)
    return _download(model, config.name, weights.PATTERNS)


def _info(model: str, revision: str | None) -> Any:
    """The hub's information on the model (`siblings`), or None if it is out of reach."""
    from huggingface_hub import HfApi, errors

    try:
        return HfApi().model_info(model, revision=revision, timeout=TIMEOUT_S)
    except errors.HFValidationError:
        raise BadModelError(f"{model} is neither a folder nor a hub id such as org/name") from None
    except errors.GatedRepoError:
        raise _gated(model) from None
    except errors.RepositoryNotFoundError:
        raise BadModelError(
            f"{model} is neither a folder here nor a model on the Hugging Face hub; check --model "
            "(for a private one set HF_TOKEN)"
        ) from None
    except errors.RevisionNotFoundError:
        raise BadModelError(f"{model} has no revision {revision}; check --revision") from None
    except (errors.OfflineModeIsEnabled, _http_error()):
        return None


def _check_place() -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    try:
        guarded_folder(Path(HF_HUB_CACHE), _INSTEAD)
    except FileNotFoundError:
        with suppress(OSError):  # the download reports what is wrong
            private_folder(Path(HF_HUB_CACHE), _INSTEAD)


def _cached(model: str, revision: str | None) -> tuple[Path, Digests] | None:
    """The complete cached folder of a commit, or of the commit last seen at a branch."""
    from huggingface_hub import errors, snapshot_download

    try:
        folder = Path(
            snapshot_download(
                model, revision=revision, allow_patterns=[CONFIG], local_files_only=True
            )
        )
        weights.weight_files(folder, model)
    except (errors.LocalEntryNotFoundError, errors.HFValidationError, ModelError):
        return None
    digests, damaged = _checked(folder, weights.PATTERNS)
    if damaged:
        _drop(damaged, model)
        return None
    return folder, digests


def _download(model: str, revision: str | None, patterns: Sequence[str]) -> tuple[Path, Digests]:
    folder = _downloaded(model, revision, patterns)
    digests, damaged = _checked(folder, patterns)
    if not damaged:
        return folder, digests
    _drop(damaged, model)
    digests, damaged = _checked(_downloaded(model, revision, patterns), patterns)
    if not damaged:
        return folder, digests
    raise ModelError(
        f"{model} arrived damaged from the Hugging Face hub ({damaged[0].name}); run again "
        "later, or give a copy with --model FOLDER"
    )


def _checked(folder: Path, patterns: Sequence[str]) -> tuple[Digests, list[Path]]:
    """The digests of the files that we use in a snapshot, and the files that have changed."""
    files = [file for file in folder.iterdir() if weights.matches(file.name, patterns)]
    for place in {folder, *(file.resolve().parent for file in files)}:
        guarded_folder(place, _INSTEAD)
    digests: Digests = {}
    damaged = []
    for file in files:
        digest = hub_digest(file)
        if digest is None:
            damaged.append(file)
        else:
            digests[file.name] = digest
    return digests, damaged


def _drop(damaged: Sequence[Path], model: str) -> None:
    for file in damaged:
        file.resolve().unlink(missing_ok=True)
        file.unlink(missing_ok=True)
    logging.getLogger("nightlabel").warning(
        "nightlabel: %s was damaged in the Hugging Face cache (%s): downloading it again",
        printable(model),
        printable(damaged[0].name),
    )


def _downloaded(model: str, revision: str | None, patterns: Sequence[str]) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(
            snapshot_download(
                model,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=["*/*"],
                etag_timeout=TIMEOUT_S,
            )
        )
    except errors.GatedRepoError:
        raise _gated(model) from None
    except (_http_error(), OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"{model} could not be downloaded: {reason}; run again to continue, "
            "or give a copy with --model FOLDER"
        ) from None


def _gated(model: str) -> BadModelError:
    return BadModelError(f"{model} is gated; accept its terms on the hub and set HF_TOKEN")


def _http_error() -> type[Exception]:
    # The base of its client's errors: httpx's in one version of the hub, httpx2's in another.
    from huggingface_hub import errors

    base: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    return base
