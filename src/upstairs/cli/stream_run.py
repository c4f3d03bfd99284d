"""A stream that is followed: predict a piece, then learn what labels have come; all that is known goes into a folder and back."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float
from sklearn.exceptions import NotFittedError

from upstairs.cli.stream_cells import Features, Labels
from upstairs.errors import StorageError, TaskError
from upstairs.learners.registry import save
from upstairs.online.forgetful import ForgetfulClassifier, ForgetfulRegressor
from upstairs.online.learner import OnlineMetaLearner
from upstairs.online.naive import Average, NoChange
from upstairs.online.summary import NO_WORLD, StreamSummary, begin_summary, with_rows

__all__ = ["STATE", "Run", "follow", "restored", "saved"]

STATE = "stream.json"
"""File beside a saved model that says how far its stream was followed."""
SCHEMA = 1


@final
@dataclass(frozen=True)
class Run:
    """A stream as far as it has been followed.

    Attributes
    ----------
    model : estimator, or None
        None: chosen when the first piece comes.
    features, labels
        How cells are read.
    naive : (NoChange, Average)
        What the model is held against.
    late : tuple of (first row, cells)
        Pieces that were predicted and whose labels have not come.
    summary : StreamSummary, or None
    rows : int
        Predicted.
    changes : tuple of dict
        That the model declared, at rows of the stream.
    seconds : float
        Spent predicting and learning.
    source, read : str, int
        What was read last, and how many rows of it.
    """

    model: Any
    features: Features
    labels: Labels
    naive: tuple[NoChange, Average] | None = None
    late: tuple[tuple[int, dict[str, list[Any]]], ...] = ()
    summary: StreamSummary | None = None
    rows: int = 0
    changes: tuple[dict[str, Any], ...] = ()
    seconds: float = 0.0
    source: str = ""
    read: int = 0

    @property
    def columns(self) -> list[str]:
        """Names of the columns of predictions."""
        found = ["row", "prediction", "std" if self.labels.kind == "regression" else "probability"]
        return [*found, "world"] if _has_worlds(self.model) else found


@final
@dataclass(frozen=True)
class Said:
    """Predictions of a piece: targets or labels, their spread or probability, and the world that held."""

    guess: list[Any] = field(default_factory=list)
    sure: list[Any] = field(default_factory=list)
    world: int = NO_WORLD


def follow(run: Run, cells: Mapping[str, list[Any]], delay: int) -> tuple[Run, list[list[Any]]]:
    """Predict a piece, and learn the one whose labels come now.

    Parameters
    ----------
    run : Run
    cells : dict from column to cells
    delay : int
        Pieces by which labels are late.

    Returns
    -------
    run, lines : Run, list of lists
        Lines of predictions, as ``run.columns`` names them.

    Raises
    ------
    TaskError
        For a cell that cannot be read; nothing of the piece is learned then.
    """
    cells = {name: [_plain(cell) for cell in cells[name]] for name in (*run.features.names, run.labels.target)}
    run = _with_labels(run, cells)
    X, y = run.features.read(cells, run.rows), run.labels.read(cells[run.labels.target], run.rows)
    begun = time.perf_counter()
    said = _predicted(run, X)
    spent = time.perf_counter() - begun
    summary = run.summary
    assert summary is not None
    guesses = [said.guess, *(_naive_said(learner, len(y)) for learner in run.naive or ())]
    loss = np.stack([_loss(guess, y, summary.classifies) for guess in guesses])
    summary = with_rows(summary, loss, said.world, sum(value is not None for value in y))
    lines = _lines(run, said, len(y))
    late = (*run.late, (run.rows, cells))
    run = replace(
        run, summary=summary, rows=run.rows + len(y), read=run.read + len(y), late=late, seconds=run.seconds + spent
    )
    while len(run.late) > delay:
        run = _learned(run)
    return run, lines


def _plain(cell: Any) -> Any:
    """A cell that JSON can hold."""
    return cell if cell is None or isinstance(cell, str | int | float) else str(cell)


def _with_labels(run: Run, cells: Mapping[str, list[Any]]) -> Run:
    """Choose a model and its summary when the first piece comes."""
    labels = run.labels.settled(cells[run.labels.target])
    if run.summary is not None:
        return replace(run, labels=labels)
    if labels.kind is None:
        raise TaskError(
            f"The first {len(cells[labels.target])} rows have no {labels.target!r}, so that it cannot be told what it is; say "
            "--kind regression or --kind classification."
        )
    classifies = labels.kind == "classification"
    model = run.model
    if model is None:
        model = OnlineMetaLearner(ForgetfulClassifier() if classifies else ForgetfulRegressor())
    average = "most frequent label" if classifies else "mean so far"
    summary = begin_summary([type(model).__name__, "no change", average], classifies)
    return replace(
        run, labels=labels, model=model, summary=summary, naive=(NoChange(labels.kind), Average(labels.kind))
    )


def _predicted(run: Run, X: Any) -> Said:
    with suppress(NotFittedError):
        if run.labels.kind == "classification":
            probability = run.model.predict_proba(X)
            chosen = probability.argmax(axis=1)
            guess = np.asarray(run.model.classes_)[chosen].tolist()
            sure = probability[np.arange(len(chosen)), chosen].tolist()
        else:
            mean, std = run.model.predict(X, return_std=True)
            guess, sure = mean.tolist(), std.tolist()
        return Said(guess, sure, _world(run.model))
    return Said()


def _has_worlds(model: Any) -> bool:
    return hasattr(type(model), "world_")


def _world(model: Any) -> int:
    """Number of the world that holds: the first one before anything was learned."""
    if not _has_worlds(model):
        return NO_WORLD
    with suppress(NotFittedError):
        return int(model.world_)
    return 0


def _naive_said(learner: NoChange | Average, rows: int) -> list[Any]:
    with suppress(NotFittedError):
        return learner.predict(np.empty((rows, 1))).tolist()
    return []


def _loss(guess: Sequence[Any], y: Sequence[Any], classifies: bool) -> Float[np.ndarray, " row"]:
    if not guess:
        return np.full(len(y), np.nan)
    if classifies:
        pairs = zip(guess, y, strict=True)
        return np.array([np.nan if true is None else float(said != true) for said, true in pairs])
    return np.square(np.array([np.nan if true is None else true for true in y]) - np.array(guess))


def _lines(run: Run, said: Said, rows: int) -> list[list[Any]]:
    guess, sure = (said.guess, said.sure) if said.guess else ([""] * rows, [""] * rows)
    world = [said.world if said.world != NO_WORLD else ""] if "world" in run.columns else []
    return [[run.rows + row, guess[row], sure[row], *world] for row in range(rows)]


def _learned(run: Run) -> Run:
    """Learn the oldest piece whose labels have come."""
    (first, cells), *late = run.late
    run = replace(run, late=tuple(late))
    y = run.labels.read(cells[run.labels.target], first)
    known = [place for place, value in enumerate(y) if value is not None]
    if not known:
        return run
    some = {name: [values[place] for place in known] for name, values in cells.items()}
    targets = np.array([y[place] for place in known])
    X = run.features.read(some, first)
    had, before = len(_declared(run.model)), 0
    with suppress(NotFittedError, AttributeError):
        before = run.model.rows_seen_
    begun = time.perf_counter()
    run.model.partial_fit(X, targets)
    spent = time.perf_counter() - begun
    for learner in run.naive or ():
        learner.partial_fit(X, targets)
    since = run.rows - first - len(y)
    new = [
        {**change, "at": first + known[min(change["at"] - before, len(known)) - 1] + 1 + since}
        for change in _declared(run.model)[had:]
    ]
    return replace(run, changes=(*run.changes, *new), seconds=run.seconds + spent)


def _declared(model: Any) -> list[dict[str, Any]]:
    """Changes that a model has declared; none where it cannot, or has learned nothing."""
    with suppress(NotFittedError, AttributeError):
        return list(model.changes_)
    return []


def saved(run: Run, folder: Path) -> bool:
    """Write the model, and beside it how far its stream was followed; False if there is nothing to write yet.

    A kill at any moment leaves a folder that goes on from this state or from the last one: what belongs to both stands in the
    file while the model is replaced, by the number of rows that it has learned.
    """
    if run.summary is None or not run.model.__sklearn_is_fitted__():
        return False
    key, state = str(run.model.rows_seen_), _state(run)
    if (folder / STATE).is_file():
        _put(folder / STATE, {"schema": SCHEMA, "states": {**_states(folder / STATE), key: state}})
    save(run.model, folder)
    _put(folder / STATE, {"schema": SCHEMA, "states": {key: state}})
    return True


def restored(folder: Path, model: Any) -> Run | None:
    """Read what `saved` wrote beside a model; None if there is nothing.

    Raises
    ------
    StorageError
        If it is damaged, or does not belong to the model.
    """
    if not (folder / STATE).is_file():
        return None
    state = _states(folder / STATE).get(str(model.rows_seen_))
    if state is None:
        raise StorageError(
            f"'{folder}' holds a model that has learned {model.rows_seen_} rows, but {STATE} is of another; delete {STATE} to "
            "begin a new stream with this model."
        )
    try:
        return _run(state, model)
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(
            f"'{folder / STATE}' is damaged ({type(error).__name__}: {error}); copy the folder again."
        ) from error


def _states(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        states = document["states"]
        if document["schema"] != SCHEMA or not isinstance(states, dict):
            raise ValueError("of another version")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"'{path}' is damaged ({error}); copy the folder again, or delete this file.") from error
    return states


def _put(path: Path, document: Any) -> None:
    part = path.with_name(f".{path.name}-{secrets.token_hex(4)}.tmp")
    try:
        part.write_text(json.dumps(document), encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageError(f"'{path}' cannot be written ({error.strerror}); give another folder.") from error


def _state(run: Run) -> dict[str, Any]:
    summary, naive = run.summary, run.naive
    assert summary is not None
    assert naive is not None
    newest, average = getattr(naive[0], "newest_", None), naive[1]
    bins = summary.bins
    return {
        "features": [
            list(run.features.names),
            {k: list(v) for k, v in run.features.categories.items()},
            run.features.form,
        ],
        "labels": [run.labels.target, run.labels.kind, run.labels.numbers, run.labels.known and list(run.labels.known)],
        "naive": [newest, getattr(average, "mean_", None), [*map(list, getattr(average, "counts_", {}).items())]],
        "late": [[first, cells] for first, cells in run.late],
        "rows": run.rows,
        "changes": list(run.changes),
        "seconds": run.seconds,
        "source": [run.source, run.read],
        "summary": {
            "names": list(summary.names),
            "width": summary.width,
            "rows": summary.rows,
            "labels": summary.labels,
            "loss": summary.loss[:, :bins].tolist(),
            "counted": summary.counted[:, :bins].tolist(),
            "world": summary.world[:bins].tolist(),
            "worlds": [[world, *held] for world, held in summary.worlds.items()],
        },
    }


def _run(state: Mapping[str, Any], model: Any) -> Run:
    names, categories, form = state["features"]
    target, kind, numbers, known = state["labels"]
    newest, mean, counts = state["naive"]
    naive = NoChange(kind), Average(kind)
    if newest is not None:
        naive[0].newest_ = newest
    if mean is not None:
        naive[1].mean_ = (int(mean[0]), float(mean[1]))
    if counts:
        naive[1].counts_ = {label: count for label, count in counts}
    kept = state["summary"]
    blank = begin_summary(kept["names"], kind == "classification")
    loss, counted, world = blank.loss.copy(), blank.counted.copy(), blank.world.copy()
    bins = len(kept["world"])
    loss[:, :bins], counted[:, :bins], world[:bins] = kept["loss"], kept["counted"], kept["world"]
    worlds = {number: (rows, count, total) for number, rows, count, total in kept["worlds"]}
    summary = replace(
        blank,
        width=kept["width"],
        rows=kept["rows"],
        labels=kept["labels"],
        loss=loss,
        counted=counted,
        world=world,
        worlds=worlds,
    )
    return Run(
        model,
        Features(tuple(names), categories, form),
        Labels(target, kind, numbers, known and tuple(known)),
        naive,
        tuple((first, cells) for first, cells in state["late"]),
        summary,
        state["rows"],
        tuple(state["changes"]),
        state["seconds"],
        *state["source"],
    )
