"""Tiny models, made once for all tests of models."""

from pathlib import Path

import pytest

from tests.models import tiny


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_vit(tmp_path_factory.mktemp("models") / "vit")


@pytest.fixture(scope="session")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_resnet(tmp_path_factory.mktemp("models") / "resnet")


@pytest.fixture(scope="session")
def convnext(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_convnext(tmp_path_factory.mktemp("models") / "convnext")


@pytest.fixture
def own_vit(tmp_path: Path) -> Path:
    """A model that the test may spoil."""
    return tiny.save_vit(tmp_path / "vit")
