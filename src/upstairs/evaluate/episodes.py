"""Frozen episodes: which rows are support and which are query, the same for every learner, with a hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
from jaxtyping import Int

from upstairs.errors import TaskError
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.splits import class_members, task_streams
from upstairs.tasks.table import Table
from upstairs.tasks.task import Task
from upstairs.tasks.taskset import TaskSet

__all__ = ["Episode", "Episodes", "LeftOut", "Order", "Place", "freeze"]

Order: TypeAlias = str | Callable[[Task], Any] | bool | None
"""Name of a column, or a function of a task, that sorts its rows; True: as they lie; None: at random."""

POOL_WAYS, POOL_DRAWS = 5, 200


@final
@dataclass(frozen=True, slots=True)
class LeftOut:
    """What could not be measured at a number of shots, and why.

    ``count`` are episodes, ``tasks`` the names behind them (or the first hundred); ``metric`` is None where the whole
    episode was left out.
    """

    shots: int
    count: int
    reason: str
    tasks: tuple[str, ...]
    metric: str | None = None

    def __str__(self) -> str:
        what = f" for {self.metric}" if self.metric else ""
        names = ", ".join(self.tasks[:3]) + (", ..." if len(self.tasks) > 3 else "")
        return f"{self.shots} shots: {self.count} episodes left out{what}, {self.reason} ({names})"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Rows of one episode, by number: in the task, or in the class pool."""

    task: int
    shots: int
    draw: int
    support: Int[np.ndarray, " row"]
    query: Int[np.ndarray, " query"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """One episode with its rows."""

    group: str
    shots: int
    draw: int
    support: Task
    query: Task

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.support.name


@final
@dataclass(frozen=True, eq=False)
class Episodes:
    """Episodes of some test tasks, in the order of shots, task name and draw.

    Attributes
    ----------
    names, groups : tuple of str
        Of each task, sorted by name; for a class pool of each episode.
    places : tuple of Place
    left_out : tuple of LeftOut
    hash : str
        SHA-256 over names, row numbers and data.
    """

    source: tuple[Task, ...] | ClassPool
    names: tuple[str, ...]
    groups: tuple[str, ...]
    places: tuple[Place, ...]
    left_out: tuple[LeftOut, ...]
    hash: str

    def __len__(self) -> int:
        return len(self.places)

    @property
    def shots(self) -> tuple[int, ...]:
        """Numbers of shots for which there are episodes, ascending."""
        return tuple(sorted({place.shots for place in self.places}))

    def chunks(self, size: int) -> list[tuple[Place, ...]]:
        """Cut into runs of at most ``size`` episodes with equal shots."""
        found = []
        for shots in self.shots:
            alike = [place for place in self.places if place.shots == shots]
            found += [tuple(alike[start : start + size]) for start in range(0, len(alike), size)]
        return found

    def read(self, place: Place) -> Episode:
        """Fetch the rows of an episode."""
        name, group = self.names[place.task], self.groups[place.task]
        if isinstance(self.source, ClassPool):
            pool = self.source
            support, query = (
                Task(pool.X[rows].reshape(len(rows), -1), pool.y[rows], name=name, kind="classification")
                for rows in (place.support, place.query)
            )
            return Episode(group, place.shots, place.draw, support, query)
        task = self.source[place.task]
        return Episode(group, place.shots, place.draw, task.take(place.support), task.take(place.query))


def freeze(
    test: Any,
    *,
    shots: Any,
    ways: int | None = None,
    queries: int | None = 15,
    draws: int | None = None,
    random_state: Any = 0,
    order: Order = None,
) -> Episodes:
    """Draw the support and query rows of every test task once and for all.

    Every task has a random stream of its own, keyed by its name. With the same draw, the support of 5 shots contains
    that of 1 shot, and the query rows are the same for all shots as far as the task is large enough.

    Parameters
    ----------
    test : TaskSet or ClassPool
    shots : sequence of int
        Support rows: in all for a regression and for shared labels, a class for labels of a task's own.
    ways : int, optional
        Classes an episode, for labels of a task's own. None: all of the task's, and 5 (or all) of a pool.
    queries : int, optional
        Most query rows, counted like ``shots``. None: all that remain.
    draws : int, optional
        Draws of each task (by default 1), or episodes from a pool (by default 200).
    random_state : None, int or numpy generator
    order : optional
        Support rows come first in this order, query rows follow.

    Raises
    ------
    TaskError
        For an argument out of range, or if no task is large enough for any number of shots.

    Examples
    --------
    >>> tasks = TaskSet([Task(np.ones((n, 1)), np.arange(float(n)), name=f"t{n}") for n in (4, 8)])
    >>> episodes = freeze(tasks, shots=[2, 5], queries=2)
    >>> [(episodes.names[place.task], place.shots, len(place.query)) for place in episodes.places]
    [('t4', 2, 2), ('t8', 2, 2), ('t8', 5, 2)]
    >>> print(episodes.left_out[0])
    5 shots: 1 episodes left out, fewer than 6 rows (t4)
    """
    wanted = _checked(test, shots, ways, queries, draws, order)
    source: tuple[Task, ...] | ClassPool
    if isinstance(test, ClassPool):
        count = draws or POOL_DRAWS
        names = tuple(f"episode-{number:0{len(str(count - 1))}d}" for number in range(count))
        groups, source, draws = names, test, 1
        ways = min(POOL_WAYS, len(test)) if ways is None else ways
    else:
        tasks = test.canonical()
        names, groups, source, draws = tasks.names, tasks.groups, tuple(tasks), draws or 1
    streams = task_streams(random_state, names)
    per_class = isinstance(test, ClassPool) or test.labels == "own"
    places: list[Place] = []
    gone: dict[tuple[int, str], list[str]] = {}
    members = class_members(test.y)[1] if isinstance(test, ClassPool) else []
    for number, name in enumerate(names):
        sorted_rows = None
        if isinstance(source, tuple):
            sorted_rows = _sorted(source[number], order)
            members = class_members(source[number].y)[1] if per_class else []
        for draw in range(draws):
            if per_class:
                found = _by_class(members, wanted, ways, queries, streams[name], sorted_rows)
            else:
                assert isinstance(source, tuple)
                found = _by_row(len(source[number]), wanted, queries, streams[name], sorted_rows)
            for count_shots, rows in zip(wanted, found, strict=True):
                if isinstance(rows, str):
                    gone.setdefault((count_shots, rows), []).append(name)
                else:
                    places.append(Place(number, count_shots, draw, *rows))
    left_out = tuple(
        LeftOut(key[0], len(entries), key[1], tuple(dict.fromkeys(entries))[:100])
        for key, entries in sorted(gone.items())
    )
    if not places:
        raise TaskError(
            f"No test task is large enough: {'; '.join(map(str, left_out))}; ask for fewer shots or ways, or bring larger tasks."
        )
    places.sort(key=lambda place: (place.shots, place.task, place.draw))
    return Episodes(source, names, groups, tuple(places), left_out, _digest(source, names, places))


def _by_row(
    count: int, shots: Sequence[int], queries: int | None, rng: np.random.Generator, sorted_rows: np.ndarray | None
) -> list[tuple[np.ndarray, np.ndarray] | str]:
    rows = rng.permutation(count) if sorted_rows is None else sorted_rows
    return [_divided(rows, k, queries, sorted_rows is not None) or f"fewer than {k + 1} rows" for k in shots]


def _by_class(
    members: Sequence[np.ndarray],
    shots: Sequence[int],
    ways: int | None,
    queries: int | None,
    rng: np.random.Generator,
    sorted_rows: np.ndarray | None,
) -> list[tuple[np.ndarray, np.ndarray] | str]:
    priority = rng.permutation(len(members))
    if sorted_rows is None:
        shuffled = [rng.permutation(rows) for rows in members]
    else:
        shuffled = [sorted_rows[np.isin(sorted_rows, rows)] for rows in members]
    found: list[tuple[np.ndarray, np.ndarray] | str] = []
    for k in shots:
        usable = [number for number in priority if len(members[number]) > k][:ways]
        need = ways or len(members)
        if len(usable) < need:
            found.append(
                f"fewer than {need} classes of {k + 1} rows" if ways else f"a class of fewer than {k + 1} rows"
            )
            continue
        parts = [_divided(shuffled[number], k, queries, sorted_rows is not None) for number in usable]
        support, query = (np.concatenate([part[side] for part in parts if part]) for side in (0, 1))
        found.append((support, query))
    return found


def _divided(rows: np.ndarray, shots: int, queries: int | None, in_order: bool) -> tuple[np.ndarray, np.ndarray] | None:
    """First rows are support; query rows are the next ones, or at random the last ones, whatever the shots."""
    if len(rows) <= shots:
        return None
    if queries is None:
        return rows[:shots], rows[shots:]
    if in_order:
        return rows[:shots], rows[shots : shots + queries]
    return rows[:shots], rows[max(shots, len(rows) - queries) :]


def _sorted(task: Task, order: Order) -> np.ndarray | None:
    if order is None or order is False:
        return None
    if order is True:
        return np.arange(len(task))
    if callable(order):
        values = np.asarray(order(task))
    elif isinstance(task.X, Table):
        values = task.X.column(order)
    else:
        raise TaskError(
            f"order={order!r} names a column, but task {task.name!r} is an array; pass a function of the task."
        )
    if values.shape != (len(task),):
        raise TaskError(
            f"Task {task.name!r} ({len(task)} rows): order must give one value a row, but gives shape {values.shape}."
        )
    return np.argsort(values, kind="stable")


def _checked(
    test: Any, shots: Any, ways: int | None, queries: int | None, draws: int | None, order: Order
) -> tuple[int, ...]:
    if not isinstance(test, TaskSet | ClassPool):
        raise TaskError(
            f"test must be a TaskSet or a ClassPool, but is a {type(test).__name__}; wrap tasks as TaskSet([...])."
        )
    if len(test) == 0:
        raise TaskError("test holds no task; bring at least one.")
    listed = list(shots) if isinstance(shots, Iterable) else [shots]
    if not listed or any(isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1 for k in listed):
        raise TaskError(f"shots must be whole numbers of at least 1, but is {shots!r}; for example shots=[1, 5, 10].")
    for name, value in (("queries", queries), ("draws", draws)):
        if value is not None and (not isinstance(value, int | np.integer) or value < 1):
            raise TaskError(f"{name} must be a whole number of at least 1, or None, but is {value!r}.")
    own = isinstance(test, ClassPool) or test.labels == "own"
    if ways is not None and not own:
        raise TaskError(f"ways={ways} has a meaning only for class pools and labels of a task's own; leave it out.")
    if ways is not None and (not isinstance(ways, int | np.integer) or ways < 2):
        raise TaskError(f"ways must be a whole number of at least 2, or None, but is {ways!r}.")
    if order is not None and order is not False:
        if isinstance(test, ClassPool):
            raise TaskError("order has no meaning for a class pool, whose episodes are drawn at random; leave it out.")
        if (draws or 1) > 1 and ways is None:
            raise TaskError(f"order leaves nothing to draw, so draws={draws} would repeat the same rows; use draws=1.")
    return tuple(sorted({int(k) for k in listed}))


def _digest(source: tuple[Task, ...] | ClassPool, names: Sequence[str], places: Sequence[Place]) -> str:
    sha = hashlib.sha256()

    def add(*parts: Any) -> None:
        for part in parts:
            data = part if isinstance(part, bytes) else str(part).encode()
            sha.update(str(len(data)).encode() + b":" + data)

    if isinstance(source, ClassPool):
        add("pool", *_array_parts(source.X), *_array_parts(source.y))
    used = {place.task for place in places}
    for number, name in enumerate(names):
        if number in used:
            add("task", name)
            if isinstance(source, tuple):
                add(*_columns(source[number]), *_array_parts(source[number].y))
    for place in places:
        rows = (part.astype("<i8").tobytes() for part in (place.support, place.query))
        add("episode", place.task, place.shots, place.draw, *rows)
    return sha.hexdigest()


def _columns(task: Task) -> list[Any]:
    if isinstance(task.X, Table):
        return [part for name, column in task.X for part in (name, *_array_parts(column))]
    return list(_array_parts(task.X))


def _array_parts(array: np.ndarray) -> tuple[str, bytes]:
    """Shape and content of an array, the same on every machine."""
    if array.dtype == object:
        return f"text {array.shape}", "\x1f".join(
            "\x00" if cell is None else str(cell) for cell in array.tolist()
        ).encode()
    ordered = array.astype(array.dtype.newbyteorder("<")) if array.dtype.kind in "fiu" else array
    if array.dtype.kind in "US":
        return f"labels {array.shape}", "\x1f".join(map(str, array.tolist())).encode()
    return f"{ordered.dtype.str} {array.shape}", np.ascontiguousarray(ordered).tobytes()
