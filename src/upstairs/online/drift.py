"""Streams whose drift is known: worlds of a synthetic family that change at once, little by little, or come back.

What changes is the concept (what is expected of y given X), the inputs (their mean moves and the concept stays), or both. Worlds are
those of `upstairs.tasks.synthetic`, so that a prior that was learned on tasks of the same family fits them.

References
----------
.. [1] Gama, J. et al. (2014). A survey on concept drift adaptation. ACM Computing Surveys 46 (kinds of drift).
.. [2] Finn, C. et al. (2019). Online meta-learning. ICML (tasks whose band of amplitudes grows).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from jaxtyping import Float, Int, Shaped

from upstairs.errors import TaskError
from upstairs.online.metrics import Segment
from upstairs.online.stream import chunks
from upstairs.tasks.family import Concept, Family
from upstairs.tasks.synthetic import Sinusoids
from upstairs.tasks.table import Table
from upstairs.tasks.task import Task
from upstairs.tasks.taskset import TaskSet

__all__ = ["Stream", "abrupt", "gradual", "in_turn", "incremental", "recurring", "sinusoid_bands"]

BANDS = (5.0, 7.0, 9.0, 11.0, 13.0)
"""Largest amplitudes of the sinusoids of [2]_, in their order."""


@final
@dataclass(frozen=True, eq=False)
class Stream:
    """Rows in their order, and what is true of them.

    Attributes
    ----------
    X : array of shape (row, feature), or Table
    y : array of shape (row,)
    world : array of shape (row,)
        Number of the world that each row is of; where one world becomes another row by row, of the nearer one.
    changes : array of shape (change,)
        First row at which each new world may hold.
    widths : array of shape (change,)
        Rows that each change takes; 0 where it is abrupt.
    order : tuple of int
        Worlds in the order in which they hold: one more than changes.
    """

    X: Any
    y: Shaped[np.ndarray, " row"]
    world: Int[np.ndarray, " row"]
    changes: Int[np.ndarray, " change"]
    widths: Int[np.ndarray, " change"]
    order: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.y)

    def __iter__(self) -> Iterator[tuple[Any, Shaped[np.ndarray, " row"]]]:
        return self.chunks()

    def chunks(self, rows: int = 10) -> Iterator[tuple[Any, Shaped[np.ndarray, " row"]]]:
        """Chunks (X, y) of ``rows`` rows, for `upstairs.online.stream.prequential`."""
        if not isinstance(self.X, Table):
            yield from chunks(self.X, self.y, rows)
            return
        for numbers, y in chunks(np.arange(len(self)), self.y, rows):
            yield self.X.take(numbers), y

    @property
    def segments(self) -> list[Segment]:
        """Stretches between changes, each with its world; a change that takes a while belongs to the stretch that it begins."""
        borders = [0, *self.changes.tolist(), len(self)]
        return [Segment(*found) for found in zip(borders[:-1], borders[1:], self.order, strict=True)]


def abrupt(
    family: Family,
    worlds: int = 2,
    length: int | Sequence[int] = 300,
    *,
    of: str = "task",
    shift: float = 2.0,
    random_state: int = 0,
) -> Stream:
    """Worlds one after another, each of which begins at once.

    Parameters
    ----------
    family : Family
        Of `upstairs.tasks.synthetic`.
    worlds : int
    length : int or sequence of int
        Rows of every stretch, or of each.
    of : {"task", "inputs", "both"}
        What differs between worlds: the concept, the mean of the inputs, or both.
    shift : float
        How far the mean of the inputs of every world but the first lies from where it was at first, in units of X; in a direction
        that is drawn. Of no use where only the task drifts.
    random_state : int

    Raises
    ------
    TaskError
        If an argument is out of range.

    Examples
    --------
    >>> from upstairs.tasks.synthetic import SharedSubspace
    >>> stream = abrupt(SharedSubspace(), worlds=3, length=50)
    >>> stream.X.shape, stream.changes.tolist(), stream.world[[49, 50]].tolist()
    ((150, 10), [50, 100], [0, 1])
    """
    return _stream(family, tuple(range(_count("worlds", worlds))), length, 0, "mixture", of, shift, random_state)


def gradual(
    family: Family,
    worlds: int = 2,
    length: int | Sequence[int] = 300,
    width: int = 100,
    *,
    of: str = "task",
    shift: float = 2.0,
    random_state: int = 0,
) -> Stream:
    """Worlds one after another; at the beginning of each, rows of the last one are mixed in.

    In the ``width`` rows after a change the probability that a row is of the new world grows evenly from 0 to 1.

    Parameters
    ----------
    family, worlds, length, of, shift, random_state
        As in `abrupt`.
    width : int
        Rows that a change takes, at most the length of a stretch.

    Examples
    --------
    >>> from upstairs.tasks.synthetic import SharedSubspace
    >>> world = gradual(SharedSubspace(), length=400, width=200).world
    >>> bool(0.05 < world[400:500].mean() < 0.45), bool(0.55 < world[500:600].mean() < 0.95), int(world[600:].min())
    (True, True, 1)
    """
    return _stream(family, tuple(range(_count("worlds", worlds))), length, width, "mixture", of, shift, random_state)


def incremental(
    family: Family,
    worlds: int = 2,
    length: int | Sequence[int] = 300,
    width: int = 100,
    *,
    of: str = "task",
    shift: float = 2.0,
    random_state: int = 0,
) -> Stream:
    """Worlds one after another; at the beginning of each, the last one becomes it row by row, through all that lies between.

    Parameters
    ----------
    family, worlds, length, of, shift, random_state
        As in `abrupt`.
    width : int
        Rows that a change takes, at most the length of a stretch.

    Examples
    --------
    >>> from upstairs.tasks.synthetic import SharedSubspace
    >>> stream = incremental(SharedSubspace(), length=100, width=60, of="inputs", shift=5.0)
    >>> np.flatnonzero(np.diff(stream.world)).tolist(), stream.changes.tolist(), stream.widths.tolist()
    ([129], [100], [60])
    """
    return _stream(family, tuple(range(_count("worlds", worlds))), length, width, "between", of, shift, random_state)


def recurring(
    family: Family,
    worlds: int = 3,
    stretches: int = 9,
    length: int | Sequence[int] = 300,
    width: int = 0,
    *,
    of: str = "task",
    shift: float = 2.0,
    random_state: int = 0,
) -> Stream:
    """Worlds that come back: each once, then drawn at random, never the same twice in a row.

    Parameters
    ----------
    family, length, of, shift, random_state
        As in `abrupt`.
    worlds : int
        At least 2.
    stretches : int
        In all, at least one for each world.
    width : int
        Rows in which rows of the last world are mixed in, as in `gradual`; 0: worlds begin at once.

    Examples
    --------
    >>> from upstairs.tasks.synthetic import HiddenRule
    >>> stream = recurring(HiddenRule(), worlds=2, stretches=4, length=20)
    >>> stream.order, len(stream)
    ((0, 1, 0, 1), 80)
    """
    if not (_is_count(stretches) and _is_count(worlds) and 2 <= worlds <= stretches):
        raise TaskError(
            f"worlds={worlds!r} must be at least 2, and stretches={stretches!r} at least as many, so that worlds can come back."
        )
    rng = np.random.default_rng([_seed(random_state), 2])
    order = list(range(worlds))
    while len(order) < stretches:
        order.append(int(rng.choice([world for world in range(worlds) if world != order[-1]])))
    return _stream(family, tuple(order), length, width, "mixture", of, shift, random_state)


def in_turn(tasks: Iterable[Task]) -> Stream:
    """Put the rows of tasks one after another; every task is a world.

    Examples
    --------
    >>> stream = in_turn(sinusoid_bands(tasks=2, rows=10))
    >>> len(stream), stream.changes[:3].tolist(), stream.segments[1]
    (100, [10, 20, 30], Segment(first=10, end=20, world=1))
    """
    found = list(tasks)
    if not found:
        raise TaskError("tasks must hold one task at least, but is empty.")
    tables = [task.X for task in found]
    framed = isinstance(tables[0], Table)
    X = Table.concatenate(tables) if framed else np.concatenate(tables)
    lengths = np.array([len(task) for task in found])
    changes = np.cumsum(lengths)[:-1]
    world = np.repeat(np.arange(len(found)), lengths)
    y = np.concatenate([task.y for task in found])
    return Stream(X, y, world, changes, np.zeros(len(changes), dtype=np.int64), tuple(range(len(found))))


def sinusoid_bands(
    tasks: int = 10,
    rows: int = 50,
    bands: Sequence[float] = BANDS,
    *,
    noise: float = 0.0,
    random_state: int = 0,
) -> TaskSet:
    """Waves whose band of amplitudes grows: tasks in the order in which they come, their band as ``group``.

    Amplitudes lie evenly between 0 and the end of the band, phases between 0 and pi, x between -5 and 5.

    Parameters
    ----------
    tasks : int
        Of every band.
    rows : int
        Of every task.
    bands : sequence of float
        Largest amplitude of each.
    noise : float
        Standard deviation added to y.
    random_state : int

    Raises
    ------
    TaskError
        If an argument is out of range.

    Examples
    --------
    >>> found = sinusoid_bands(tasks=2, rows=20)
    >>> len(found), found[0].group, found[-1].group
    (10, 'amplitude 0 to 5', 'amplitude 0 to 13')
    """
    _count("tasks", tasks)
    if not len(bands):
        raise TaskError("bands must hold one largest amplitude at least, such as (5, 7), but is empty.")
    found = []
    for number, most in enumerate(bands):
        family = Sinusoids(noise=noise, amplitudes=(0.0, float(most)))
        for place, task in enumerate(family.sample(tasks, rows, random_state=[_seed(random_state), number])):
            name = f"band {number + 1}, task {place + 1:03d}"
            found.append(Task(task.X, task.y, name=name, kind=task.kind, group=f"amplitude 0 to {most:g}"))
    return TaskSet(found)


def _stream(
    family: Family,
    order: tuple[int, ...],
    length: int | Sequence[int],
    width: int,
    way: Literal["mixture", "between"],
    of: str,
    shift: float,
    random_state: int,
) -> Stream:
    """Draw worlds, then rows in the order of the worlds; ``way`` says what happens while one becomes another."""
    lengths = _lengths(length, len(order))
    if not (_is_count(width) or width == 0) or width > lengths.min():
        raise TaskError(f"width={width!r} must be a number of rows from 0 to the length of a stretch, {lengths.min()}.")
    if of not in ("task", "inputs", "both"):
        raise TaskError(f"of={of!r} must be 'task', 'inputs' or 'both'.")
    if not np.isfinite(shift) or shift < 0:
        raise TaskError(f"shift={shift!r} must be at least 0: how far the mean of the inputs moves, in units of X.")
    seed, total = _seed(random_state), int(lengths.sum())
    concepts, means = _worlds(family, max(order) + 1, of, shift, np.random.default_rng([seed, 0]))
    rng = np.random.default_rng([seed, 1])
    changes = np.cumsum(lengths)[:-1]
    now = np.repeat(order, lengths)
    before = np.repeat([order[0], *order[:-1]], lengths)
    age = np.arange(total) - np.repeat([0, *changes], lengths)
    first = np.arange(total) < lengths[0]
    share = np.where(first | (age >= width), 1.0, (age + 0.5) / max(width, 1))
    if way == "mixture":
        share = (rng.random(total) < share).astype(np.float64)
    world = np.where(share >= 0.5, now, before)
    if way == "mixture":
        X, y = family.rows(_at(concepts, world), total, rng, means[world])
    else:
        concept = family.between(_at(concepts, before), _at(concepts, now), share)
        shifts = means[before] + share[:, None] * (means[now] - means[before])
        X, y = family.rows(concept, total, rng, shifts)
    return Stream(X, y, world, changes, np.full(len(changes), width), order)


def _worlds(
    family: Family, worlds: int, of: str, shift: float, rng: np.random.Generator
) -> tuple[Concept, Float[np.ndarray, "world feature"]]:
    """Concepts and means of the inputs, with a first axis of worlds."""
    drawn = [family.concept(rng) for _ in range(worlds)]
    if of == "inputs":
        drawn = drawn[:1] * worlds
    concepts = {key: np.stack([concept[key] for concept in drawn]) for key in drawn[0]}
    means = rng.normal(size=(worlds, family.columns))
    means *= shift / np.linalg.norm(means, axis=1, keepdims=True)
    means[0] = 0.0
    return concepts, np.zeros_like(means) if of == "task" else means


def _at(concepts: Concept, world: Int[np.ndarray, " row"]) -> Concept:
    return {key: array[world] for key, array in concepts.items()}


def _lengths(length: int | Sequence[int], stretches: int) -> Int[np.ndarray, " stretch"]:
    given = [length] * stretches if isinstance(length, int | np.integer) else list(length)
    if len(given) != stretches or not all(_is_count(entry) for entry in given):
        raise TaskError(
            f"length={length!r} must be a number of rows, or one of at least 1 for each of the {stretches} stretches."
        )
    return np.array(given, dtype=np.int64)


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)


def _count(name: str, value: Any) -> int:
    if not _is_count(value):
        raise TaskError(f"{name}={value!r} must be a whole number of at least 1.")
    return int(value)


def _seed(random_state: Any) -> int:
    if not isinstance(random_state, int | np.integer) or random_state < 0:
        raise TaskError(f"random_state={random_state!r} must be a whole number of at least 0.")
    return int(random_state)
