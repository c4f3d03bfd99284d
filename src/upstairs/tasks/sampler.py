"""Which tasks and which rows a step uses.

The first half is a pure function of ``(seed, step)``: hashed counters in 32-bit integers, written once for NumPy and
for ``jax.numpy`` (argument ``xp``), so that the host and a compiled program draw the same numbers bit for bit, and a
run that is resumed at step s goes on as if it had never stopped. The second half draws with NumPy generators, for
evaluation: support and query rows, episodes, folds, and one independent stream for every task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Int32, Shaped, UInt32

from upstairs.errors import TaskError

__all__ = [
    "Episode",
    "Range",
    "RowDraw",
    "choose_rows",
    "choose_tasks",
    "class_members",
    "draw_episode",
    "folds",
    "integers",
    "permutation",
    "random_bits",
    "shuffled",
    "split_support_query",
    "task_streams",
    "uniform",
    "visits",
]

Range: TypeAlias = int | tuple[int, int]
"""A number, or the lowest and highest number that may be drawn (both included)."""

_ROUNDS = 24
_TASKS, _ROWS = 0x7A5C, 0x5018  # streams: what a draw is for


@dataclass(frozen=True, slots=True)
class RowDraw:
    """Row numbers inside each task; where a mask is false the number is a valid row that does not count."""

    support: Int32[Any, "*task shot"]
    support_mask: Bool[Any, "*task shot"]
    query: Int32[Any, "*task query"]
    query_mask: Bool[Any, "*task query"]


@dataclass(frozen=True, slots=True)
class Episode:
    """Rows of one N-way K-shot episode, class after class, and the class number 0 to way-1 of every row."""

    classes: Shaped[np.ndarray, " way"]
    support: Shaped[np.ndarray, " row"]
    support_way: Shaped[np.ndarray, " row"]
    query: Shaped[np.ndarray, " query"]
    query_way: Shaped[np.ndarray, " query"]


# Draws that are pure functions of (seed, counters), on host and device -------------------------------------------


def random_bits(seed: Any, *counters: Any, size: int, xp: Any = np) -> UInt32[Any, "*task {size}"]:
    """Draw ``size`` words of 32 random bits for every counter.

    Every word of ``(number of counters, seed, *counters)`` is absorbed into two 32-bit keys by the avalanche function
    of MurmurHash3 (two multiplications, three xor-shifts), and the i-th word is the same function of i and the keys.
    For given counters this is one-to-one in i, so no word occurs twice in a draw. Not for cryptography.

    Parameters
    ----------
    seed, *counters : int (0 to 2**32 - 1) or array of integers of shape (*task)
        What the numbers are for (stream, step, task); arrays broadcast.
    size : int
        Words for each combination of counters.
    xp : module
        ``numpy`` or ``jax.numpy``.

    Raises
    ------
    TaskError
        If a Python integer lies outside 0 to 2**32 - 1.

    References
    ----------
    A. Appleby, MurmurHash3 (public domain), the 32-bit finaliser.

    Examples
    --------
    >>> random_bits(0, 7, size=2).dtype, random_bits(0, np.arange(3), size=4).shape
    (dtype('uint32'), (3, 4))
    """
    first, second = (xp.asarray(np.full(1, start, np.uint32)) for start in (0x6A09E667, 0xBB67AE85))
    for word in (len(counters), seed, *counters):
        first = _avalanche(first ^ _word(word, xp)[..., None])
        second = _avalanche(second + first)
    index = xp.arange(1, size + 1, dtype=xp.uint32) * np.uint32(0x9E3779B9)
    return _avalanche(_avalanche(index + first) ^ second)


def uniform(seed: Any, *counters: Any, size: int, xp: Any = np) -> Float32[Any, "*task {size}"]:
    """Draw numbers in [0, 1) from 24 random bits each, exact in ``float32``.

    Examples
    --------
    >>> draw = uniform(0, 1, size=1000)
    >>> bool((draw >= 0).all() and (draw < 1).all())
    True
    """
    bits = random_bits(seed, *counters, size=size, xp=xp) >> np.uint32(8)
    return bits.astype(xp.float32) * np.float32(2.0**-24)


def integers(seed: Any, *counters: Any, low: Any, high: Any, size: int, xp: Any = np) -> Int32[Any, "*task {size}"]:
    """Draw whole numbers from ``low`` to ``high``, both included (each off uniform by at most 1 in 2**32 / range).

    Examples
    --------
    >>> np.unique(integers(0, 1, low=3, high=5, size=100)).tolist()
    [3, 4, 5]
    """
    low, high = (xp.asarray(bound).astype(xp.int32)[..., None] for bound in (low, high))
    span = (high - low + 1).astype(xp.uint32)
    return low + (random_bits(seed, *counters, size=size, xp=xp) % span).astype(xp.int32)


def permutation(seed: Any, *counters: Any, size: int, xp: Any = np) -> Int32[Any, "*task {size}"]:
    """Draw a random order of ``range(size)``: the stable argsort of hashed keys.

    Sorts; where only the first few places are needed, or sizes differ, `shuffled` is cheaper.

    Examples
    --------
    >>> sorted(permutation(0, 1, size=5).tolist())
    [0, 1, 2, 3, 4]
    """
    keys = random_bits(seed, *counters, size=size, xp=xp)
    return xp.argsort(keys, axis=-1, stable=True).astype(xp.int32)


def shuffled(seed: Any, *counters: Any, index: Any, n: Any, xp: Any = np) -> Int32[Any, "*task place"]:
    """Return which item stands at the places ``index`` of a random order of ``range(n)``, without making that order.

    The swap-or-not shuffle: in each of 24 rounds a random pivot k pairs x with k - x (mod n), and a hashed bit of the
    pair says whether the two change places. Each round is one-to-one on ``range(n)``, so different places hold
    different items. It needs no sort and no array as long as the task, and n may differ from task to task.

    Parameters
    ----------
    index : array of integers of shape (*task, place)
        Places from 0 to n - 1; a place beyond counts as the last one.
    n : int or array of integers of shape (*task)
        Items, fewer than 2**31; 0 counts as 1.

    References
    ----------
    V. T. Hoang, B. Morris, P. Rogaway, An enciphering scheme based on a card shuffle, CRYPTO 2012, figure 1.

    Examples
    --------
    >>> sorted(shuffled(0, 1, index=np.arange(6), n=6).tolist())
    [0, 1, 2, 3, 4, 5]
    """
    words = random_bits(seed, *counters, size=2 * _ROUNDS, xp=xp)
    n = xp.maximum(_word(n, xp)[..., None], np.uint32(1))
    pivots = words[..., :_ROUNDS] % n
    x = xp.minimum(_word(index, xp), n - np.uint32(1))
    for r in range(_ROUNDS):
        pivot = pivots[..., r : r + 1]
        partner = xp.where(pivot >= x, pivot - x, pivot + (n - x))
        pair = xp.maximum(x, partner) * np.uint32(0x9E3779B9)
        swap = _avalanche(pair + words[..., _ROUNDS + r : _ROUNDS + r + 1]) >> np.uint32(31)
        x = xp.where(swap == np.uint32(1), partner, x)
    return x.astype(xp.int32)


def choose_tasks(seed: Any, step: Any, n_tasks: int, batch: int, xp: Any = np) -> Int32[Any, "*step {batch}"]:
    """Choose the tasks of one step: walk through all tasks in random order, then again in a new order.

    After any number of steps no task was used more than one time oftener than another. A task can stand twice in a
    batch only where one walk ends inside it; `visits` then tells the two apart.

    Parameters
    ----------
    step : int or array of integers of shape (*step)
        ``(step + 1) * batch`` must stay below 2**32.
    n_tasks, batch : int
        Tasks in all, and tasks a step.

    Raises
    ------
    TaskError
        If there is no task, or the step number is too large.

    Examples
    --------
    >>> np.sort(np.concatenate([choose_tasks(0, step, n_tasks=6, batch=2) for step in range(3)])).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    place = _places(step, n_tasks, batch, xp)
    walk = place // np.uint32(n_tasks)
    return shuffled(seed, _TASKS, walk, index=(place % np.uint32(n_tasks))[..., None], n=n_tasks, xp=xp)[..., 0]


def visits(step: Any, n_tasks: int, batch: int, xp: Any = np) -> Int32[Any, "*step {batch}"]:
    """Tell how often each task of ``choose_tasks(seed, step, ...)`` had been chosen before.

    Task and visit together never repeat in a run; as ``step`` of `choose_rows` they give fresh rows each time, also
    when a batch is larger than the number of tasks.

    Examples
    --------
    >>> visits(1, n_tasks=3, batch=2).tolist()
    [0, 1]
    """
    return (_places(step, n_tasks, batch, xp) // np.uint32(n_tasks)).astype(xp.int32)


def choose_rows(
    seed: Any, step: Any, task: Any, counts: Any, support: int, query: int, xp: Any = np, *, shots: Any = None
) -> RowDraw:
    """Choose disjoint support and query rows, at random without replacement, for a batch of tasks of unequal size.

    A task with too few rows gives up query rows first, but keeps one (when ``query`` is not 0), then support rows.
    What is drawn for a task depends on nothing else in the batch, and its query rows do not depend on ``shots`` as
    long as the task is large enough.

    Parameters
    ----------
    step, task : int or array of integers of shape (*task)
        Number of the step (or of the visit, see `visits`) and of the task.
    counts : array of integers of shape (*task)
        Rows of each task.
    support, query : int
        Width of the two parts of the result.
    shots : array of integers of shape (*task), optional
        Support rows wanted for each task, at most ``support``; all of them by default.

    Examples
    --------
    >>> draw = choose_rows(0, 5, np.arange(2), np.array([9, 3]), support=3, query=4)
    >>> draw.support.shape, draw.support_mask.sum(axis=1).tolist(), draw.query_mask.sum(axis=1).tolist()
    ((2, 3), [3, 2], [4, 1])
    """
    counts = xp.asarray(counts).astype(xp.int32)
    wanted = xp.asarray(support if shots is None else shots).astype(xp.int32)
    n_support = xp.maximum(xp.minimum(xp.minimum(wanted, support), counts - min(query, 1)), 0)
    n_query = xp.minimum(counts - n_support, query)
    front = xp.arange(support, dtype=xp.int32)
    back = xp.arange(query, dtype=xp.int32)
    last = (counts - 1)[..., None]
    front_place = xp.broadcast_to(front, (*last.shape[:-1], support))
    places = xp.concatenate([front_place, xp.maximum(last - back, 0)], axis=-1)
    rows = shuffled(seed, _ROWS, step, task, index=places, n=counts, xp=xp)
    support_mask = front < n_support[..., None]
    query_mask = back < n_query[..., None]
    return RowDraw(rows[..., :support], support_mask, rows[..., support:], query_mask)


def _avalanche(x: Any) -> Any:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def _word(value: Any, xp: Any) -> Any:
    if isinstance(value, int | np.integer):
        if not 0 <= value < 2**32:
            raise TaskError(f"Seeds and counters must lie between 0 and 2**32 - 1, but one is {value}; reduce it.")
        value = np.uint32(value)
    return xp.asarray(value).astype(xp.uint32)


def _places(step: Any, n_tasks: int, batch: int, xp: Any) -> Any:
    if n_tasks < 1 or batch < 1:
        raise TaskError(f"n_tasks={n_tasks} and batch={batch} must be at least 1.")
    if isinstance(step, int | np.integer) and (int(step) + 1) * batch > 2**32:
        raise TaskError(f"step={step} times batch={batch} must stay below 2**32; use a new seed and start at step 0.")
    return _word(step, xp)[..., None] * np.uint32(batch) + xp.arange(batch, dtype=xp.uint32)


# Draws on the host, for evaluation --------------------------------------------------------------------------------


def split_support_query(
    task_y: Shaped[np.ndarray, " all"],
    kind: str,
    labels: str | None,
    shots: Range,
    queries: int | None,
    rng: np.random.Generator,
    ways: Range | None = None,
    order: Shaped[np.ndarray, " all"] | None = None,
    *,
    name: str = "task",
) -> tuple[Shaped[np.ndarray, " row"], Shaped[np.ndarray, " query"]]:
    """Divide the rows of one task into support and query.

    Regression and shared labels: ``shots`` rows in all. Own labels: N-way K-shot, as `draw_episode`. The rows are
    random, or with ``order`` the support comes first in that order and the query after it.

    Parameters
    ----------
    task_y : array of shape (all,)
        Targets or labels of all rows.
    kind, labels : str
        As in `Task` and `TaskSet`.
    shots, ways : int or (low, high)
        Support rows (a class, for own labels) and, for own labels, classes; a range is drawn, never beyond what the
        task has. ``ways=None``: all classes.
    queries : int or None
        Most query rows (a class, for own labels); None: all that remain.
    rng : numpy.random.Generator
    order : array of shape (all,), optional
        Sorts the rows (a time); ties keep their place.
    name : str
        Names the task in an error.

    Raises
    ------
    TaskError
        If the task has not ``shots`` rows and one query row (or ``ways`` classes that do).

    Examples
    --------
    >>> y = np.arange(6.0)
    >>> support, query = split_support_query(y, "regression", None, 2, None, np.random.default_rng(0), order=-y)
    >>> support.tolist(), query.tolist()
    ([5, 4], [3, 2, 1, 0])
    """
    if labels == "own" and kind == "classification":
        _, members = class_members(task_y)
        draw = draw_episode(members, ways, shots, queries, rng, order=order, name=name)
        return draw.support, draw.query
    if ways is not None:
        raise TaskError(f"Task {name!r}: ways={ways} has a meaning only for classes of the task's own; leave it out.")
    return _divide(np.arange(len(task_y)), shots, queries, rng, order, f"Task {name!r}")


def draw_episode(
    members: Sequence[np.ndarray],
    ways: Range | None,
    shots: Range,
    queries: int | None,
    rng: np.random.Generator,
    *,
    order: Shaped[np.ndarray, " all"] | None = None,
    name: str = "pool",
) -> Episode:
    """Draw one N-way K-shot episode from the rows of each class (see `class_members`).

    Ranges of ``shots`` are drawn for each class. With ``ways`` given, classes with too few rows are passed over; with
    ``ways=None`` (all classes) they are an error. Other arguments and errors are those of `split_support_query`.

    Examples
    --------
    >>> classes, members = class_members(np.repeat(["a", "b", "c"], 4))
    >>> episode = draw_episode(members, ways=2, shots=1, queries=2, rng=np.random.default_rng(0))
    >>> episode.support_way.tolist(), episode.query_way.tolist()
    ([0, 1], [0, 0, 1, 1])
    """
    need = _bounds("shots", shots)[0] + (queries != 0)
    usable = np.array([number for number, rows in enumerate(members) if len(rows) >= need], dtype=int)
    low, high = (len(members), len(members)) if ways is None else _bounds("ways", ways)
    if len(usable) < max(low, 1):
        raise TaskError(
            f"Task {name!r} ({sum(map(len, members))} rows, {len(members)} classes): shots={shots}, ways={ways} need "
            f"{max(low, 1)} classes of at least {need} rows, but {len(usable)} are that large (the smallest has "
            f"{min(map(len, members), default=0)}); ask for fewer shots or ways, or drop the task or its small classes."
        )
    n_ways = int(rng.integers(low, min(high, len(usable)) + 1))
    chosen = rng.permutation(usable)[:n_ways]
    parts = [_divide(members[number], shots, queries, rng, order, f"Task {name!r}") for number in chosen]
    support, query = ([part[side] for part in parts] for side in (0, 1))
    support_way, query_way = (np.repeat(np.arange(n_ways), [len(rows) for rows in side]) for side in (support, query))
    return Episode(chosen, np.concatenate(support), support_way, np.concatenate(query), query_way)


def class_members(labels: Shaped[np.ndarray, " row"]) -> tuple[Shaped[np.ndarray, " class"], list[np.ndarray]]:
    """Return the sorted classes and the row numbers of each."""
    classes, codes = np.unique(labels, return_inverse=True)
    return classes, np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])


def folds(groups: Sequence[str], n_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Divide tasks into folds that leave whole groups out.

    Groups are shuffled from their sorted order, then the largest goes to the emptiest fold, and so on: folds are
    even in number of tasks, and the same whatever order the tasks come in.

    Parameters
    ----------
    groups : sequence of str
        Group of each task (``TaskSet.groups``), or its name where there are no groups.
    n_folds : int
        From 2 to the number of groups.
    seed : int

    Returns
    -------
    list of (train, test)
        Task numbers, ascending; every task is in one test part.

    Raises
    ------
    TaskError
        If there are fewer groups than folds.

    Examples
    --------
    >>> [test.tolist() for _, test in folds(["a", "b", "a", "c"], n_folds=3, seed=0)]
    [[0, 2], [3], [1]]
    """
    names, codes, sizes = np.unique(np.asarray(groups, dtype=str), return_inverse=True, return_counts=True)
    if not 2 <= n_folds <= len(names):
        raise TaskError(
            f"n_folds={n_folds} must lie between 2 and the number of groups, {len(names)} (in {len(codes)} tasks); "
            "ask for fewer folds or bring more groups."
        )
    shuffled_groups = np.random.default_rng(seed).permutation(len(names))
    fold_of, filled = np.zeros(len(names), dtype=int), np.zeros(n_folds, dtype=int)
    for number in shuffled_groups[np.argsort(-sizes[shuffled_groups], kind="stable")]:
        fold_of[number] = np.argmin(filled)
        filled[fold_of[number]] += sizes[number]
    task_fold = fold_of[codes]
    return [(np.flatnonzero(task_fold != fold), np.flatnonzero(task_fold == fold)) for fold in range(n_folds)]


def task_streams(random_state: Any, names: Sequence[str]) -> dict[str, np.random.Generator]:
    """Return one independent generator for every task name, whatever the order or number of tasks.

    Parameters
    ----------
    random_state : None, int, numpy.random.Generator or numpy.random.RandomState
        None draws fresh entropy; a generator gives one number and moves on.
    names : sequence of str

    Examples
    --------
    >>> one, other = task_streams(0, ["a", "b"]), task_streams(0, ["b"])
    >>> bool(one["b"].random() == other["b"].random())
    True
    """
    if isinstance(random_state, np.random.Generator):
        entropy: Any = int(random_state.integers(2**63))
    elif isinstance(random_state, np.random.RandomState):
        entropy = int(random_state.randint(2**31))
    else:
        entropy = np.random.SeedSequence(random_state).entropy

    def stream(name: str) -> np.random.Generator:
        key = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], dtype="<u4")
        return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=tuple(key.tolist())))

    return {name: stream(name) for name in names}


def _bounds(argument: str, value: Range) -> tuple[int, int]:
    low, high = value if isinstance(value, tuple) else (value, value)
    if not 0 <= low <= high:
        raise TaskError(f"{argument}={value!r} must be a number of at least 0, or a pair (low, high) with low <= high.")
    return int(low), int(high)


def _divide(
    rows: np.ndarray, shots: Range, queries: int | None, rng: np.random.Generator, order: np.ndarray | None, who: str
) -> tuple[np.ndarray, np.ndarray]:
    low, high = _bounds("shots", shots)
    most = len(rows) - (queries != 0)
    if low > most:
        need = low + (queries != 0)
        raise TaskError(
            f"{who} ({len(rows)} rows): shots={shots} needs at least {need} rows, support and query together; "
            f"ask for fewer shots, or drop small tasks with tasks.filter(min_rows={need})."
        )
    n_support = int(rng.integers(low, min(high, most) + 1))
    rows = rng.permutation(rows) if order is None else rows[np.argsort(np.asarray(order)[rows], kind="stable")]
    return rows[:n_support], rows[n_support:] if queries is None else rows[n_support : n_support + queries]
