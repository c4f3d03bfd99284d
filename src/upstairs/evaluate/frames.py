"""A result as a data frame, as JSON, as a file; and several results as one."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from upstairs.errors import MissingExtraError, StorageError, TaskError
from upstairs.evaluate.episodes import LeftOut
from upstairs.evaluate.result import EvaluationResult
from upstairs.storage import write_file

__all__ = ["as_frame", "joined", "read_result", "result_document", "result_of", "write_result"]

_PLAIN = ("kind", "labels", "metric", "episodes_hash", "scale")


def as_frame(columns: Mapping[str, Any], library: str) -> Any:
    """Make a data frame of columns (arrays or lists).

    Raises
    ------
    MissingExtraError
        If the library is not installed.
    TaskError
        If it is another than "pandas", "polars" or "pyarrow".

    Examples
    --------
    >>> as_frame({"a": np.arange(3)}, "pyarrow").num_rows
    3
    """
    data = {name: column.tolist() if isinstance(column, np.ndarray) else column for name, column in columns.items()}
    try:
        if library == "pandas":
            import pandas as pd

            return pd.DataFrame(data)
        if library == "polars":
            import polars as pl

            return pl.DataFrame(data)
        if library == "pyarrow":
            import pyarrow as pa

            return pa.table(data)
    except ImportError as error:
        raise MissingExtraError(
            f"to_frame(library={library!r}) needs {library}; install it: pip install {library}."
        ) from error
    raise TaskError(f"library must be 'pandas', 'polars' or 'pyarrow', but is {library!r}.")


def result_document(result: EvaluationResult) -> dict[str, Any]:
    """Write a result as JSON values; NaN becomes None."""
    said = {name: getattr(result, name) for name in _PLAIN}
    said |= {name: list(getattr(result, name)) for name in ("learners", "baselines", "notes")}
    said |= {"meta_seconds": dict(result.meta_seconds), "left_out": [asdict(entry) for entry in result.left_out]}
    for entry in said["left_out"]:
        entry["tasks"] = list(entry["tasks"])
    said["megabytes"] = {name: [_finite(value) for value in pair] for name, pair in result.megabytes.items()}
    said["bins"] = {
        name: {str(shots): np.asarray(bins).tolist() for shots, bins in of.items()} for name, of in result.bins.items()
    }
    columns = {name: [_finite(value) for value in column.tolist()] for name, column in result.columns.items()}
    return said | {"columns": columns}


def result_of(document: Mapping[str, Any]) -> EvaluationResult:
    """Undo `result_document`."""
    columns = {
        name: np.array([math.nan if value is None else value for value in values])
        for name, values in document["columns"].items()
    }
    bins = {
        name: {int(shots): np.array(values) for shots, values in of.items()}
        for name, of in document.get("bins", {}).items()
    }
    megabytes = {name: (_number(pair[0]), _number(pair[1])) for name, pair in document.get("megabytes", {}).items()}
    return EvaluationResult(
        columns=columns,
        learners=tuple(document["learners"]),
        baselines=tuple(document["baselines"]),
        meta_seconds=dict(document["meta_seconds"]),
        left_out=tuple(LeftOut(**{**entry, "tasks": tuple(entry["tasks"])}) for entry in document["left_out"]),
        notes=tuple(document["notes"]),
        bins=bins,
        megabytes=megabytes,
        **{name: document[name] for name in _PLAIN},
    )


def write_result(result: EvaluationResult, path: str | os.PathLike[str]) -> None:
    """Write a result to a JSON file; see `EvaluationResult.save`.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    text = json.dumps({"upstairs": "result", "version": 1, **result_document(result)}, allow_nan=False)
    try:
        write_file(Path(path), text.encode())
    except OSError as error:
        raise StorageError(f"path '{path}' must be a file that can be written, but: {error}.") from error


def read_result(path: str | os.PathLike[str]) -> EvaluationResult:
    """Read what `write_result` wrote; see `EvaluationResult.load`."""
    try:
        document = json.loads(Path(path).read_bytes())
        if document.get("upstairs", "result") != "result" or document.get("version", 1) != 1:
            raise ValueError("it says that it is something else, or of another version")
        return result_of(document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(
            f"path '{path}' must be a file that EvaluationResult.save wrote, but: {type(error).__name__}: {error}."
        ) from error


def joined(results: Sequence[EvaluationResult]) -> EvaluationResult:
    """Join the results of several splits; see `EvaluationResult.concatenate`."""
    if not results:
        raise TaskError("concatenate needs at least one result, but got none.")
    first = results[0]
    for other in results[1:]:
        for name in ("kind", "labels", "metric"):
            if getattr(other, name) != getattr(first, name):
                raise TaskError(
                    f"Results to join must have the same {name}, but have {getattr(first, name)!r} and {getattr(other, name)!r}."
                )
        if set(other.learners) != set(first.learners):
            odd = sorted(set(other.learners) ^ set(first.learners))[0]
            raise TaskError(
                f"Results to join must have the same learners, but {odd!r} is not in all; leave it out of both."
            )
    splits, start = [], 0
    for result in results:
        splits.append(result.columns["split"] + start)
        start += int(result.columns["split"].max()) + 1
    parts = [_own_names(result, number) for number, result in enumerate(results)]
    columns = {"split": np.concatenate(splits)}
    for name in dict.fromkeys(name for part in parts for name in part if name != "split"):
        columns[name] = np.concatenate([part.get(name, np.full(len(part["task"]), np.nan)) for part in parts])
    notes = [note for result in results for note in result.notes]
    return replace(
        first,
        columns=MappingProxyType(columns),
        meta_seconds={name: sum(result.meta_seconds.get(name, 0.0) for result in results) for name in first.learners},
        left_out=tuple(entry for result in results for entry in result.left_out),
        notes=tuple(
            note if notes.count(note) < 2 else f"{note} [{notes.count(note)} splits]" for note in dict.fromkeys(notes)
        ),
        episodes_hash=hashlib.sha256("".join(result.episodes_hash for result in results).encode()).hexdigest(),
        scale=float(np.mean([result.scale for result in results])),
        bins=_summed(results),
        megabytes=_largest(results),
        _cells={},
    )


def _summed(results: Sequence[EvaluationResult]) -> dict[str, dict[int, np.ndarray]]:
    found: dict[str, dict[int, np.ndarray]] = {}
    for result in results:
        for name, of in result.bins.items():
            for shots, bins in of.items():
                own = found.setdefault(name, {})
                own[shots] = own[shots] + bins if shots in own else bins
    return found


def _largest(results: Sequence[EvaluationResult]) -> dict[str, tuple[float, float]]:
    names = dict.fromkeys(name for result in results for name in result.megabytes)
    pairs = {name: [result.megabytes[name] for result in results if name in result.megabytes] for name in names}
    tops = {name: np.fmax.reduce(np.array(of), axis=0).tolist() for name, of in pairs.items()}
    return {name: (top[0], top[1]) for name, top in tops.items()}


def _own_names(result: EvaluationResult, number: int) -> dict[str, np.ndarray]:
    """Columns of a part; episodes of a class pool are new ones in every split and get names of their own."""
    columns = dict(result.columns)
    if all(name.startswith("episode-") for name in set(columns["task"].tolist())):
        for name in ("task", "group"):
            columns[name] = np.array([f"split-{number}/{entry}" for entry in columns[name].tolist()])
    return columns


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
