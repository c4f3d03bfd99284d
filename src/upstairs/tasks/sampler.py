"""Which tasks and which rows a step uses: a pure function of ``(seed, step)``.

Hashed counters in 32-bit integers, written once for NumPy and for ``jax.numpy`` (argument ``xp``), so that the host
and a compiled program draw the same numbers bit for bit, and a run that is resumed at step s goes on as if it had
never stopped. Draws with NumPy generators, for evaluation, are in ``splits``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt32

from upstairs.errors import TaskError

__all__ = [
    "RowDraw",
    "choose_rows",
    "choose_tasks",
    "integers",
    "permutation",
    "random_bits",
    "shuffled",
    "uniform",
    "visits",
]

_ROUNDS = 24
_TASKS, _ROWS = 0x7A5C, 0x5018  # streams: what a draw is for


@dataclass(frozen=True, slots=True)
class RowDraw:
    """Row numbers inside each task; where a mask is false the number is a valid row that does not count."""

    support: Int32[Any, "*task shot"]
    support_mask: Bool[Any, "*task shot"]
    query: Int32[Any, "*task query"]
    query_mask: Bool[Any, "*task query"]


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
    x = xp.minimum(_word(index, xp), n - np.uint32(1))
    pivots = words[..., :_ROUNDS] % n
    x = xp.broadcast_to(x, np.broadcast_shapes(x.shape, (*pivots.shape[:-1], 1)))
    rounds = (xp.moveaxis(pivots, -1, 0)[..., None], xp.moveaxis(words[..., _ROUNDS:], -1, 0)[..., None])

    def once(x: Any, one: tuple[Any, Any]) -> tuple[Any, None]:
        pivot, word = one
        partner = xp.where(pivot >= x, pivot - x, pivot + (n - x))
        swap = _avalanche(xp.maximum(x, partner) * np.uint32(0x9E3779B9) + word) >> np.uint32(31)
        return xp.where(swap == np.uint32(1), partner, x), None

    if xp is np:
        for one in zip(*rounds, strict=True):
            x, _ = once(x, one)
    else:
        import jax

        x, _ = jax.lax.scan(once, x, rounds)  # one small body: compiles in a third of the time, and runs faster too
    return x.astype(xp.int32)


def choose_tasks(seed: Any, step: Any, n_tasks: Any, batch: int, xp: Any = np) -> Int32[Any, "*step {batch}"]:
    """Choose the tasks of one step: walk through all tasks in random order, then again in a new order.

    After any number of steps no task was used more than one time oftener than another. A task can stand twice in a
    batch only where one walk ends inside it; `visits` then tells the two apart.

    Parameters
    ----------
    step : int or array of integers of shape (*step)
        ``(step + 1) * batch`` must stay below 2**32.
    n_tasks : int or array of integers
        Tasks in all; in a compiled program an array, so that another number needs no other program.
    batch : int
        Tasks a step.

    Raises
    ------
    TaskError
        If there is no task, or the step number is too large.

    Examples
    --------
    >>> np.sort(np.concatenate([choose_tasks(0, step, n_tasks=6, batch=2) for step in range(3)])).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    place, count = _places(step, n_tasks, batch, xp), _word(n_tasks, xp)
    return shuffled(seed, _TASKS, place // count, index=(place % count)[..., None], n=n_tasks, xp=xp)[..., 0]


def visits(step: Any, n_tasks: Any, batch: int, xp: Any = np) -> Int32[Any, "*step {batch}"]:
    """Tell how often each task of ``choose_tasks(seed, step, ...)`` had been chosen before.

    Task and visit together never repeat in a run; as ``step`` of `choose_rows` they give fresh rows each time, also
    when a batch is larger than the number of tasks.

    Examples
    --------
    >>> visits(1, n_tasks=3, batch=2).tolist()
    [0, 1]
    """
    return (_places(step, n_tasks, batch, xp) // _word(n_tasks, xp)).astype(xp.int32)


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


def _places(step: Any, n_tasks: Any, batch: int, xp: Any) -> Any:
    if batch < 1 or (isinstance(n_tasks, int | np.integer) and n_tasks < 1):
        raise TaskError(f"n_tasks={n_tasks} and batch={batch} must be at least 1.")
    if isinstance(step, int | np.integer) and (int(step) + 1) * batch > 2**32:
        raise TaskError(f"step={step} times batch={batch} must stay below 2**32; use a new seed and start at step 0.")
    return _word(step, xp)[..., None] * np.uint32(batch) + xp.arange(batch, dtype=xp.uint32)
