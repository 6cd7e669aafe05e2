from tests.store.stores import folder

__all__ = ["folder"]
