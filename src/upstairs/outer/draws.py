"""What a step draws on the device: tasks and rows from flat rows, or N-way K-shot episodes from a class pool."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from upstairs.errors import TaskError
from upstairs.inner.traced import TaskRows
from upstairs.tasks.batches import FlatRows
from upstairs.tasks.sampler import choose_rows, choose_tasks, integers, shuffled, visits

__all__ = ["Draw", "EpisodeDraw", "TaskDraw", "WindowDraw", "flat_data", "pool_data", "roomy"]

_SHOTS, _CLASSES = 0x51075, 0xC1A55


class Draw(abc.ABC):
    """A pure function of (data, seed, step); frozen and hashable, so that it can be part of a compiled program."""

    batch: int

    @abc.abstractmethod
    def __call__(self, data: Mapping[str, Any], seed: Any, step: Any) -> tuple[Array, Any, Any]:
        """Return task numbers (task,), and what a rule's ``outer_loss`` takes: support and query rows as a rule.

        Each has a leading task axis.
        """


@final
@dataclass(frozen=True)
class TaskDraw(Draw):
    """Some tasks a step, in random order without repetition; support and query rows of a task are disjoint.

    Draws from `flat_data`.

    Parameters
    ----------
    batch : int
        Tasks a step.
    shots : (int, int)
        Least and most support rows; drawn for each task.
    queries : int
        Most query rows.
    """

    batch: int
    shots: tuple[int, int]
    queries: int

    def __call__(self, data: Mapping[str, Any], seed: Any, step: Any) -> tuple[Array, TaskRows, TaskRows]:
        """Gather the rows of a step."""
        data = {name: jnp.asarray(array) for name, array in data.items()}
        chosen = choose_tasks(seed, step, data["tasks"], self.batch, jnp)
        number = visits(step, data["tasks"], self.batch, jnp)
        return (chosen, *_rows_of(self, data, seed, number, chosen, chosen))


@final
@dataclass(frozen=True)
class WindowDraw(Draw):
    """The next tasks of a window that `upstairs.outer.feed.Feed` laid out; rows are drawn as `TaskDraw` draws them.

    Parameters
    ----------
    batch, shots, queries
        As of `TaskDraw`.
    """

    batch: int
    shots: tuple[int, int]
    queries: int

    def __call__(self, data: Mapping[str, Any], seed: Any, step: Any) -> tuple[Array, TaskRows, TaskRows]:
        """Gather the rows of a step."""
        data = {name: jnp.asarray(array) for name, array in data.items()}
        place = (jnp.asarray(step, jnp.uint32) - data["first"]) * np.uint32(self.batch)
        places = place.astype(jnp.int32) + jnp.arange(self.batch, dtype=jnp.int32)
        ids = data["ids"][places]
        number = jnp.broadcast_to(data["visit"], ids.shape)
        return (ids, *_rows_of(self, data, seed, number, ids, places))


def _rows_of(
    draw: TaskDraw | WindowDraw, data: Mapping[str, Any], seed: Any, number: Any, ids: Any, places: Any
) -> tuple[TaskRows, TaskRows]:
    """Draw support and query rows of the tasks at some places of flat data; ``ids`` and ``number`` say which draw it is."""
    shots = _shots(draw.shots, seed, number, ids)
    begin = data["offsets"][places]
    counts = data["offsets"][places + 1] - begin
    rows = choose_rows(seed, number, ids, counts, draw.shots[1], draw.queries, jnp, shots=shots)
    parts = []
    for index, mask in ((rows.support, rows.support_mask), (rows.query, rows.query_mask)):
        where = begin[:, None] + index
        parts.append(TaskRows(data["x"][where], data["y"][where], mask))
    return parts[0], parts[1]


@final
@dataclass(frozen=True)
class EpisodeDraw(Draw):
    """Some N-way K-shot episodes a step, from the classes of a pool, or of one task a time (`pool_data`).

    Classes stand in random order, so that a class number means nothing beyond its episode. An episode of a task with
    fewer classes than ``ways`` has fewer; its task number, for errors, is that of its first class.

    Parameters
    ----------
    batch : int
        Episodes a step.
    ways : int
        Classes an episode.
    shots : (int, int)
        Least and most support rows a class; drawn for each episode.
    queries : int
        Most query rows a class.
    rotations : int
        1, or 4: images turned by 90, 180 and 270 degrees count as further classes.
    """

    batch: int
    ways: int
    shots: tuple[int, int]
    queries: int
    rotations: int = 1

    def __post_init__(self) -> None:
        if self.rotations not in (1, 4):
            raise TaskError(f"rotations must be 1 or 4, but is {self.rotations}.")

    def __call__(self, data: Mapping[str, Any], seed: Any, step: Any) -> tuple[Array, TaskRows, TaskRows]:
        """Gather the examples of a step."""
        data = {name: jnp.asarray(array) for name, array in data.items()}
        tasks, classes = len(data["owners"]) - 1, len(data["counts"]) * self.rotations
        if tasks == 1 and classes < self.ways:
            raise TaskError(f"ways={self.ways} asks for more classes than the pool has, {classes}; ask for fewer.")
        episode = jnp.asarray(step, jnp.uint32) * np.uint32(self.batch) + jnp.arange(self.batch, dtype=jnp.uint32)
        owner = choose_tasks(seed, step, tasks, self.batch, jnp) if tasks > 1 else jnp.zeros(self.batch, jnp.int32)
        first = data["owners"][owner] * self.rotations
        available = data["owners"][owner + 1] * self.rotations - first
        place = jnp.arange(self.ways, dtype=jnp.int32)
        places = jnp.broadcast_to(place, (self.batch, self.ways))
        chosen = first[:, None] + shuffled(seed, _CLASSES, episode, index=places, n=available, xp=jnp)
        base, turn = chosen // self.rotations, chosen % self.rotations
        shots = _shots(self.shots, seed, episode, owner)
        counts = data["counts"][base]
        rows = choose_rows(
            seed, episode[:, None], chosen, counts, self.shots[1], self.queries, jnp, shots=jnp.reshape(shots, (-1, 1))
        )
        real = (place < available[:, None])[..., None]
        parts = []
        for index, mask in ((rows.support, rows.support_mask), (rows.query, rows.query_mask)):
            x = data["x"][base[..., None], index]
            x = x.astype(jnp.float32) / 255.0 if x.dtype == jnp.uint8 else x
            if self.rotations > 1:
                x = _turned(x, turn[..., None])
            x = x.reshape(self.batch, -1, *x.shape[3:])
            y = jnp.broadcast_to(place[:, None], index.shape[1:])
            y = jnp.broadcast_to(y.reshape(-1), (self.batch, y.size))
            parts.append(TaskRows(x, y, (mask & real).reshape(self.batch, -1)))
        return base[:, 0], parts[0], parts[1]


def flat_data(rows: FlatRows, room: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
    """Arrays for `TaskDraw`: features in float32, targets in float32 or class numbers in int32.

    Parameters
    ----------
    rows : FlatRows
    room : (int, int), optional
        Tasks and rows that there is to be room for, by default a little more than there are: parts of one data set,
        and data sets of about the same size, then share a compiled program.

    Examples
    --------
    >>> rows = FlatRows(np.zeros((70, 2)), np.zeros(70), np.array([0, 30, 70]))
    >>> {name: array.shape for name, array in flat_data(rows).items()}
    {'x': (80, 2), 'y': (80,), 'offsets': (3,), 'tasks': ()}
    """
    tasks, count = (roomy(size) for size in ((len(rows), len(rows.y)) if room is None else room))
    y = rows.y.astype(np.int32 if rows.y.dtype.kind in "iub" else np.float32)
    return {
        "x": np.pad(rows.x.astype(np.float32), ((0, count - len(y)), (0, 0))),
        "y": np.pad(y, (0, count - len(y))),
        "offsets": np.pad(rows.offsets.astype(np.int32), (0, tasks - len(rows)), mode="edge"),
        "tasks": np.asarray(len(rows), np.int32),
    }


def roomy(size: int) -> int:
    """Round up to one of four sizes between two powers of two, so that data of about the same size share a program."""
    grain = 1 << max(0, int(size - 1).bit_length() - 3)
    return -(-size // grain) * grain


def pool_data(
    x: Shaped[np.ndarray, "row ..."],
    codes: Int[np.ndarray, " row"],
    inputs: tuple[int, ...] | None = None,
    owners: Int[np.ndarray, " class"] | None = None,
) -> dict[str, np.ndarray]:
    """Arrays for `EpisodeDraw` from examples and their class numbers 0, 1, ...; bytes stay bytes (0 to 255).

    Parameters
    ----------
    x : array of shape (row, ...)
    codes : array of shape (row,)
    inputs : tuple of int, optional
        The shape that one example is to have, such as ``(28, 28, 1)``.
    owners : array of shape (class,), optional
        The task that every class belongs to, in ascending order; None: any classes may meet in an episode.

    Examples
    --------
    >>> data = pool_data(np.arange(6.0)[:, None], np.array([1, 0, 1, 0, 0, 1]))
    >>> data["x"][..., 0].tolist(), data["counts"].tolist()
    ([[1.0, 3.0, 4.0], [0.0, 2.0, 5.0]], [3, 3])
    """
    counts = np.bincount(codes)
    shape = x.shape[1:] if inputs is None else inputs
    kept = x if x.dtype == np.uint8 else x.astype(np.float32)
    out = np.zeros((len(counts), roomy(int(counts.max())), *shape), kept.dtype)
    order = np.argsort(codes, kind="stable")
    place = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    out[codes[order], place] = kept[order].reshape(len(order), *shape)
    sizes = [len(counts)] if owners is None else np.unique(owners, return_counts=True)[1].tolist()
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return {"x": out, "counts": counts.astype(np.int32), "owners": bounds}


def _shots(shots: tuple[int, int], seed: Any, *counters: Any) -> Any:
    """Draw the number of support rows of every task, where it may differ."""
    low, high = shots
    if low == high:
        return jnp.full(jnp.broadcast_shapes(*(jnp.shape(counter) for counter in counters)), high, jnp.int32)
    return integers(seed, _SHOTS, *counters, low=low, high=high, size=1, xp=jnp)[..., 0]


def _turned(x: Float[Array, "task way row height width channel"], turn: Int[Array, "task way 1"]) -> Array:
    """Turn every image by its number of quarters."""
    turn = turn[..., None, None, None]
    across = jnp.swapaxes(x, -3, -2)
    half = x[..., ::-1, ::-1, :]
    quarters = jnp.where(turn % 4 == 1, across[..., ::-1, :, :], across[..., ::-1, :])
    return jnp.where(turn % 2 == 1, quarters, jnp.where(turn == 2, half, x))
