"""A run on disk: everything that the next step depends on, so that a run goes on as if it had never stopped."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from upstairs.errors import StorageError
from upstairs.storage import read_folder, write_folder

__all__ = ["Progress", "read_checkpoint", "write_checkpoint"]

_README = "A run of upstairs that can be resumed: give the same folder, tasks and settings to meta_fit again.\n"


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    ``state`` are the stepper's arrays (params, moments), ``best`` the params of the best validation so far,
    ``losses`` (step,) the training loss of every step, ``checks`` (validation, 2) the losses of the validations and
    ``check_steps`` (validation,) after how many steps they were made; ``seconds`` is wall time, all calls together.
    """

    state: Mapping[str, np.ndarray]
    best: Mapping[str, np.ndarray]
    step: int = 0
    best_step: int = 0
    best_loss: float | None = None
    waited: int = 0
    seconds: float = 0.0
    finished: str = ""
    losses: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    check_steps: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    checks: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float64))

    def with_(self, **changes: Any) -> Progress:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


_NUMBERS = ("step", "best_step", "best_loss", "waited", "seconds", "finished")
_TABLES = ("losses", "check_steps", "checks")


def write_checkpoint(folder: str | os.PathLike[str], fingerprint: str, progress: Progress) -> None:
    """Put a run into a folder; a kill at any moment leaves the earlier checkpoint or this one.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_checkpoint(root + "/run", "abc", Progress({"w": np.ones(2)}, {}, step=7))
    ...     found = read_checkpoint(root + "/run", "abc")
    >>> found.step, found.state["w"].tolist()
    (7, [1.0, 1.0])
    """
    document = {"type": "run", "fingerprint": fingerprint} | {name: getattr(progress, name) for name in _NUMBERS}
    arrays = {f"state/{name}": array for name, array in progress.state.items()}
    arrays |= {f"best/{name}": array for name, array in progress.best.items()}
    arrays |= {f"tables/{name}": getattr(progress, name) for name in _TABLES}
    write_folder(folder, document, arrays, _README)


def read_checkpoint(folder: str | os.PathLike[str], fingerprint: str) -> Progress | None:
    """Read a run, or return None where none was begun.

    Raises
    ------
    StorageError
        If the folder holds a run with other tasks or settings, or something else.
    """
    if not (Path(folder) / "prior.json").is_file():
        return None
    document, arrays = read_folder(folder)
    if document.get("type") != "run":
        raise StorageError(
            f"checkpoint='{folder}' must be a run's own folder, and it holds something else; give another."
        )
    if document["fingerprint"] != fingerprint:
        raise StorageError(
            f"checkpoint='{folder}' holds a run with other tasks, settings or random_state; give another folder, or the "
            "same tasks and settings to resume it."
        )

    def group(prefix: str) -> dict[str, np.ndarray]:
        return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}

    numbers = {name: document[name] for name in _NUMBERS}
    tables: dict[str, Any] = group("tables/")
    return Progress(group("state/"), group("best/"), **numbers, **tables)
