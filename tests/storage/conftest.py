from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from stored import ARRAYS, DOCUMENT

from upstairs import storage
from upstairs.storage import write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "prior"
    write_folder(path, DOCUMENT, ARRAYS, "# A prior\n")
    return path


@pytest.fixture(scope="module")
def unchecked() -> Any:
    """The module as a user has it: without the check of argument types that tests may turn on at import."""
    loader = importlib.machinery.SourceFileLoader("unchecked_storage", storage.__file__)
    spec = importlib.util.spec_from_loader("unchecked_storage", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
