from tests.model.conftest import pictures, small

__all__ = ["pictures", "small"]
