"""Trials on disk, one line each, written when they end: a killed run loses what was under way and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from upstairs.errors import StorageError
from upstairs.outer.trials import Settings
from upstairs.plain import json_value

__all__ = ["Journal", "Record", "settings_key"]

_HEADER = {"upstairs": "trials", "version": 1}


@dataclass(frozen=True)
class Record:
    """What a trial came to: ``scores`` by name and ``seconds`` of a fit, or ``failure``."""

    scores: Mapping[str, float]
    seconds: float
    failure: str = ""


@final
class Journal:
    """A file of trials that grows line by line.

    A line names the data set by content, the plan (estimator, folds, seed) and the settings, so that one file serves
    any number of data sets, and a trial that stands in it is never made again.

    Parameters
    ----------
    path : path-like, optional
        Made with its first line. None: nothing is written.
    plan : str
        What, beside data and settings, a score depends on.

    Raises
    ------
    StorageError
        If the file is something else, or cannot be read or written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Journal(folder + "/trials.jsonl", "plan") as journal:
    ...         journal.add("data", {"alpha": 1.0}, Record({"r2": 0.5}, 0.01))
    ...     Journal(folder + "/trials.jsonl", "plan").known["data", '{"alpha": 1.0}'].scores
    {'r2': 0.5}
    """

    def __init__(self, path: str | os.PathLike[str] | None, plan: str) -> None:
        self.path = None if path is None else Path(path)
        self.plan = plan
        self.known: dict[tuple[str, str], Record] = {}
        self._file: Any = None
        if self.path is not None and self.path.exists():
            self._read(self.path)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def add(self, data: str, settings: Settings, record: Record) -> None:
        """Keep one trial, on disk before this returns."""
        self.known[data, settings_key(settings)] = record
        if self.path is None:
            return
        line = {"data": data, "plan": self.plan, "settings": json_value(settings), "scores": dict(record.scores)}
        line |= {"seconds": record.seconds} | ({"failure": record.failure} if record.failure else {})
        try:
            self._opened().write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise StorageError(
                f"checkpoint '{self.path}' must be writable, and writing failed with '{error}'; what was written "
                "before is kept: free disk space or correct the permissions, then call again."
            ) from error

    def _opened(self) -> Any:
        if self._file is None:
            assert self.path is not None
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 closed by __exit__
            if self._file.tell() == 0:
                self._file.write(json.dumps(_HEADER).encode() + b"\n")
            else:
                self._file.write(b"" if self._ends_a_line(self.path) else b"\n")
        return self._file

    @staticmethod
    def _ends_a_line(path: Path) -> bool:
        with open(path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _read(self, path: Path) -> None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StorageError(f"checkpoint '{path}' must be a readable file, but: {error}.") from error
        first, *lines = content.split(b"\n")
        if content and _parsed(first) != _HEADER:
            raise StorageError(f"checkpoint '{path}' must be a file of trials, and it is something else; give another.")
        for line in lines:
            entry = _parsed(line)
            if isinstance(entry, dict) and entry.get("plan") == self.plan:
                record = Record(entry["scores"], entry["seconds"], entry.get("failure", ""))
                self.known[entry["data"], settings_key(entry["settings"])] = record


def settings_key(settings: Settings) -> str:
    """Write settings in one way, whatever order they came in.

    Examples
    --------
    >>> settings_key({"b": 1, "a": (2,)}) == settings_key({"a": [2], "b": 1})
    True
    """
    return json.dumps(json_value(settings), sort_keys=True)


def _parsed(line: bytes) -> Any:
    """Read a line; None for one that a kill cut off."""
    try:
        return json.loads(line)
    except ValueError:
        return None
