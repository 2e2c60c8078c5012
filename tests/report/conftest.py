"""The tables of public layouts, which the tests of the import have."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def foreign() -> Any:
    """`foreign.weights("dinov2", width=24, …)`: random weights of a tiny network in a project's own names."""
    spec = importlib.util.spec_from_file_location("tables", Path(__file__).parents[1] / "models" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Foreign(module.TABLES, module.Size, module.filled)
