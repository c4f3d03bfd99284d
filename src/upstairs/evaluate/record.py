"""An evaluation on disk while it runs: what was measured, line by line, and the priors that were learned.

A folder: ``evaluation.json`` says what is measured; ``parts.jsonl`` gets a line when a learner is fitted and one when it has
been measured on some hundred episodes; ``priors/`` holds the meta-learners of this library. A kill loses what was under way.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np

from upstairs.errors import PriorMismatchError, StorageError
from upstairs.evaluate.measure import Part
from upstairs.evaluate.prepare import Entry, Plan
from upstairs.learners.registry import load, save
from upstairs.storage import write_file
from upstairs.tasks.fingerprint import fingerprint
from upstairs.tasks.pool import ClassPool

__all__ = ["Fit", "Record", "kept_prior", "read_record"]

_VERSION = 1
_WITH = ("upstairs", "numpy", "scipy", "scikit-learn", "jax")
"""Packages that numbers depend on."""
_SAYS, _PARTS, _PRIORS = "evaluation.json", "parts.jsonl", "priors"


@final
@dataclass(frozen=True)
class Fit:
    """What learning from the training tasks cost."""

    seconds: float = 0.0
    megabytes: float = math.nan


@final
class Record:
    """What of an evaluation is on disk.

    Parameters
    ----------
    path : path-like, optional
        Folder. None: nothing is kept.
    protocol : mapping
        What is measured, as JSON values.
    planned : sequence of Plan
    episodes : str
        Hash of the frozen episodes.
    train : TaskSet, ClassPool or None

    Raises
    ------
    StorageError
        If the folder holds another evaluation, or something else, or cannot be read or written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        protocol: Mapping[str, Any],
        planned: Sequence[Plan],
        episodes: str,
        train: Any,
    ) -> None:
        self.parts: dict[tuple[int, int], Part] = {}
        self._path = None if path is None else Path(path)
        self._planned = planned
        self._fits: dict[int, Fit] = {}
        self._file: Any = None
        if self._path is None:
            return
        says = {
            "upstairs": "evaluation",
            "version": _VERSION,
            **protocol,
            "episodes": episodes,
            "train": _content(train),
            "learners": [[plan.name, plan.seed, plan.baseline, plan.said] for plan in planned],
            "versions": {name: version(name) for name in _WITH},
        }
        says = json.loads(json.dumps(says))
        if (self._path / _SAYS).exists():
            _check(self._path, read_record(self._path), says)
            self._read(self._path / _PARTS)
        elif self._path.exists() and (not self._path.is_dir() or any(self._path.iterdir())):
            raise StorageError(
                f"record '{self._path}' must be a new or empty folder, or one that evaluate(record=...) wrote before, but it "
                "holds something else; give another."
            )
        else:
            with _writing(self._path):
                self._path.mkdir(parents=True, exist_ok=True)
                write_file(self._path / _SAYS, json.dumps(says, indent=1).encode())

    def __bool__(self) -> bool:
        return self._path is not None

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def fit(self, number: int) -> Fit:
        """What fitting a learner cost when it was fitted."""
        return self._fits.get(number, Fit())

    def entry(self, number: int) -> Entry | None:
        """A learner that was fitted before and kept, or None."""
        if self._path is None or number not in self._fits or not self._planned[number].keeps:
            return None
        learner = kept_prior(self._path, number)
        plan, fit = self._planned[number], self._fits[number]
        return learner and Entry(plan.name, learner, "adapt", fit.seconds, fit.megabytes, seed=plan.seed)

    def keep_fit(self, number: int, entry: Entry) -> None:
        """Keep what fitting cost, and the prior of a meta-learner."""
        if self._path is None:
            return
        if self._planned[number].keeps:
            save(entry.learner, self._path / _PRIORS / str(number))
        self._fits[number] = Fit(entry.seconds, entry.megabytes)
        self._add({"learner": number, "seconds": entry.seconds, "megabytes": _number(entry.megabytes)})

    def keep_part(self, number: int, chunk: int, part: Part) -> None:
        """Keep what was measured on one chunk of episodes, on disk before this returns."""
        if self._path is None:
            return
        records = [{name: _number(value) for name, value in record.items()} for record in part.records]
        line = {"learner": number, "chunk": chunk, "records": records, "bins": part.bins.tolist()}
        self._add(line | {"megabytes": _number(part.megabytes)})

    def _add(self, line: dict[str, Any]) -> None:
        assert self._path is not None
        path = self._path / _PARTS
        with _writing(self._path):
            if self._file is None:
                cut_off = path.exists() and not path.read_bytes().endswith(b"\n")
                self._file = open(path, "ab", buffering=0)  # noqa: SIM115 closed by __exit__
                self._file.write(b"\n" if cut_off else b"")
            self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")

    def _read(self, path: Path) -> None:
        for text in path.read_bytes().split(b"\n") if path.exists() else ():
            try:
                line = json.loads(text)
            except ValueError:
                continue  # cut off by a kill
            megabytes = math.nan if line["megabytes"] is None else line["megabytes"]
            if "chunk" not in line:
                self._fits[line["learner"]] = Fit(line["seconds"], megabytes)
                continue
            records = [{k: math.nan if v is None else v for k, v in record.items()} for record in line["records"]]
            self.parts[line["learner"], line["chunk"]] = Part(records, np.array(line["bins"]), megabytes)


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what a record says about its evaluation.

    Raises
    ------
    StorageError
        If there is no such record, or it is damaged or of another version.
    """
    file = Path(path) / _SAYS
    try:
        says = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise StorageError(f"'{file}' must be the record of an evaluation, but: {error}.") from error
    if not isinstance(says, dict) or says.get("upstairs") != "evaluation" or says.get("version") != _VERSION:
        raise StorageError(
            f"'{file}' must be the record of an evaluation in version {_VERSION}, but is something else."
        )
    return says


def kept_prior(path: str | os.PathLike[str], number: int) -> Any:
    """Load the meta-learner with this number; None where it was not kept, or needs a network that is code."""
    folder = Path(path) / _PRIORS / str(number)
    if not folder.exists():
        return None
    try:
        return load(folder)
    except PriorMismatchError:
        return None


class _writing:
    """Say of an OSError which record it was, and what to do."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise StorageError(
                f"record '{self._path}' must be writable, and writing failed with '{error}'; what was written before is kept: free disk "
                "space or correct the permissions, then call again."
            ) from error


def _check(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    odd = [name for name in now if before.get(name) != now[name]]
    if odd:
        name = odd[0]
        words = {"episodes": "test tasks (or rows)", "train": "training tasks", "learners": "learners"}
        if name in words:
            raise StorageError(
                f"record '{path}' was made with other {words[name]}; give another folder, or the same {words[name]}."
            )
        raise StorageError(
            f"record '{path}' was made with {name}={before.get(name)!r}, and now {name}={now[name]!r}; give another folder, or the same."
        )


def _content(tasks: Any) -> str | None:
    """Name training tasks by their content, whatever their order."""
    if tasks is None:
        return None
    if isinstance(tasks, ClassPool):
        parts = [fingerprint(tasks.X.reshape(len(tasks.X), -1), tasks.y)]
    else:
        parts = [f"{task.name}/{task.group}/{fingerprint(task.X, task.y)}" for task in tasks.canonical()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
