from tests.models.conftest import own_vit, vit

__all__ = ["own_vit", "vit"]
