"""From a store of tasks that does not fit into memory to a prior by gradients.

Some row groups are read first: the encoder and the scale of the targets are learned on their rows, and some of their tasks are held out
to say when to stop. All other tasks are trained on, a window of row groups at a time (`upstairs.outer.feed`).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from upstairs.errors import PriorMismatchError
from upstairs.learners.learn import Plan
from upstairs.learners.learn_shared import Material, trained_prior
from upstairs.learners.seen import HELD_OUT, Seen, encoded, held_rows, seen_of
from upstairs.learners.trained import network
from upstairs.prior import Prior
from upstairs.tasks.batches import concatenate_columns
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.store import StoreEntries
from upstairs.tasks.taskset import TaskSet

__all__ = ["STREAM_CELLS", "is_streamed", "learn_from_store"]

STREAM_CELLS = 20_000_000
"""A store with so many cells (rows times columns) and more is trained on as it is read; a smaller one is read whole."""
MOST_HELD = 1000
SAMPLE_STRETCHES = 4
"""Row groups that encoder and scale are learned on, at least."""


def is_streamed(tasks: TaskSet) -> bool:
    """Whether tasks lie in a store that is too large to be read whole."""
    entries = tasks._entries
    if not isinstance(entries, StoreEntries):
        return False
    width = max(columns if isinstance(columns, int) else len(columns) for columns in entries.columns)
    return int(entries.rows.sum()) * width >= STREAM_CELLS


def learn_from_store(tasks: TaskSet, validation: Any, settings: dict[str, Any], plan: Plan) -> Prior:
    """Make a prior from a large store.

    Parameters
    ----------
    tasks : TaskSet
        Of `StoreEntries`, with the same columns; targets or labels mean the same in all.
    validation : TaskSet or None
        Tasks that are held out; None: up to a thousand of the store, with all that belong to their groups.
    settings : dict
        Of the prior so far.
    plan : Plan

    Raises
    ------
    PriorMismatchError
        If the columns of two tasks differ.
    """
    from upstairs.outer.draws import WindowDraw
    from upstairs.outer.feed import Feed

    entries = tasks._entries
    assert isinstance(entries, StoreEntries)
    if len(entries.columns) > 1:
        one, other, *_ = entries.columns
        raise PriorMismatchError(
            f"This learner needs tasks with the same columns, but the store has tasks with {one} and with {other}; filter them, or use a "
            "learner for different columns."
        )
    sample, held_ones = _sample(entries, plan.seed, 0 if validation is not None else MOST_HELD)
    some = _in_memory(tasks, sample)
    described, _, encoder = encoded(some, plan.categorical)
    settings |= described | {"classes": tasks.classes}
    chosen = np.ones(len(entries), dtype=bool)
    if validation is None:
        groups = np.array(tasks.groups, dtype=object)
        chosen = ~np.isin(groups, groups[held_ones])
        held = _encoded_alike(_in_memory(tasks, held_ones), encoder, settings)
    else:
        found = held_rows(validation, encoder, settings)
        assert found is not None
        held = found
    net = network(plan, (encoder.width,), encoder, max(len(tasks.classes), 1))
    encode = functools.partial(_encode, encoder, settings)

    def feed(batch: int) -> Feed:
        return Feed(entries, chosen, encode, batch=batch, seed=plan.seed)

    rows = entries.rows
    names = entries.names
    material = Material(WindowDraw, feed, int(rows.max()), names, (len(rows), int(rows.sum())))
    return trained_prior(material, held, settings, plan, net)


def _sample(entries: StoreEntries, seed: int, most_held: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose row groups at random: numbers of all their tasks, and of those among them that are held out."""
    codes = entries.stretches()
    unique, counts = np.unique(codes, return_counts=True)
    order = np.random.default_rng([seed, 2]).permutation(len(unique))
    wanted = min(most_held, max(1, round(HELD_OUT * len(entries))))
    enough = int(np.searchsorted(np.cumsum(counts[order]), wanted)) + 1
    part = unique[order[: max(enough, SAMPLE_STRETCHES)]]
    sample = np.flatnonzero(np.isin(codes, part))
    first = np.flatnonzero(np.isin(codes, unique[order[:enough]]))
    held = np.random.default_rng([seed, 5]).permutation(first)[:wanted] if most_held else first[:0]
    return sample, np.sort(held)


def _in_memory(tasks: TaskSet, numbers: np.ndarray) -> TaskSet:
    """Read some tasks, row group after row group."""
    entries = tasks._entries
    assert isinstance(entries, StoreEntries)
    order = numbers[np.argsort(entries.stretches()[numbers], kind="stable")]
    return TaskSet.over(tuple(tasks[order]), tasks.kind, tasks.labels).canonical()


def _encoded_alike(tasks: TaskSet, encoder: Encoder, settings: dict[str, Any]) -> Seen:
    return seen_of(tasks, encoder.encode(concatenate_columns(list(tasks))), settings)


def _encode(encoder: Encoder, settings: dict[str, Any], X: Any, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and targets of the rows of a row group, as the device takes them."""
    x = encoder.encode(X).astype(np.float32)
    if settings["kind"] == "regression":
        center, scale = settings["target"]
        return x, ((y - center) / scale).astype(np.float32)
    classes = np.array(settings["classes"])
    return x, np.searchsorted(classes, y).astype(np.int32)
