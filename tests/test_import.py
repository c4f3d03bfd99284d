"""Importing the package is cheap and loads nothing that a caller may not need."""

import subprocess
import sys

import upstairs

HEAVY = ("jax", "scipy", "pandas", "matplotlib", "sklearn", "polars", "pyarrow", "numpy")


def test_import_loads_nothing_heavy():
    code = f"import sys, upstairs; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.strip() == "[]"


def test_every_public_name_exists():
    for name in upstairs.__all__:
        assert getattr(upstairs, name) is not None
    assert set(upstairs.__all__) <= set(dir(upstairs))
