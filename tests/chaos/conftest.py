"""The models of the integration tests."""

from tests.integration.conftest import slow_model, tiny_model

__all__ = ["slow_model", "tiny_model"]
