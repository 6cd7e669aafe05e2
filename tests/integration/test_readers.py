"""Two real nights and another model's, on local disk: every reader at every commit."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.store.delta.actions import LiveFile
from pipeline.store.delta.table import Table
from pipeline.store.parts import Part
from tests.integration.conftest import Ran
from tests.parts.models.tiny import archive, image_bytes
from tests.runs.test_store_readers import look, plainly


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Readers look after every commit of a run in this process; the versions they saw."""
    versions: list[int] = []
    commit = Table.commit

    def watched(
        self: Table, added: Sequence[Part] = (), removed: Sequence[LiveFile | Part] = ()
    ) -> None:
        commit(self, added, removed)
        look()
        versions.append(self.version)

    monkeypatch.setattr(Table, "commit", watched)
    return versions


@pytest.mark.slow
def test_readers_at_every_commit_of_real_nights(
    here: Callable[..., Ran],
    looks: list[int],
    tmp_path: Path,
    tiny_model: Path,
    other_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    def put(images: dict[str, bytes]) -> None:
        for name, data in images.items():
            path = tmp_path / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def night(model: Path, *options: Any) -> None:
        arguments = ["label", "photos", "labels", "--model", model, "--commit-seconds", 0.1]
        ran = here(*arguments, "--no-progress", *options)
        assert ran.code == 0, ran.err
        plainly()

    put(archive(60))
    night(tiny_model)
    first = len(looks)
    put(archive(60, first=100) | {name: image_bytes(1000 + n) for n, name in enumerate(archive(5))})
    (tmp_path / "photos" / list(archive(7))[-1]).unlink()
    night(tiny_model, "--delete")
    assert len(looks) - first >= 4  # a part, what is gone, the fence, the merge
    night(other_model, "--new-recipe", "--promote")
    assert here("compact", "labels").code == 0
    plainly()
