"""What the storage tests share: a document, arrays, and ways to look at a folder and to damage it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

DOCUMENT = {"type": "ridge", "settings": {"alpha": 0.1, "tags": ["a", "ü"], "depth": None, "on": True}}
ARRAYS = {
    "mean": np.arange(6.0).reshape(2, 3),
    "count": np.array(3, dtype=np.int64),
    "none": np.empty((0, 4), np.float32),
}
OTHER = {"mean": np.full(7, 2.5)}


def snapshot(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, Any]) -> None:
    assert list(found) == sorted(wanted)
    for name, array in found.items():
        assert array.dtype == wanted[name].dtype
        assert array.shape == wanted[name].shape
        assert array.tobytes() == wanted[name].tobytes()


def change(path: Path, **keys: Any) -> None:
    """Edit prior.json by hand; a key given as None is taken out."""
    document = json.loads((path / "prior.json").read_bytes())
    document.update(keys)
    (path / "prior.json").write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


def put_arrays(path: Path, content: bytes) -> None:
    """Replace the arrays file by other content under the hash that fits it."""
    digest = hashlib.sha256(content).hexdigest()
    name = f"arrays-{digest[:16]}.safetensors"
    (path / name).write_bytes(content)
    change(path, arrays={"file": name, "sha256": digest})
