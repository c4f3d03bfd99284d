"""Feed training from a store: the next window of tasks is read while the steps of this one are made.

A pass goes through all row groups of a store in a new random order. Some row groups at a time are a window: their tasks are shuffled,
and every step takes the next of them; those that do not fill a batch wait for the next pass. All of it is a function of seed and
step, so that a run that is resumed goes on with the same bits, and no more than two windows are in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Bool, Int

from upstairs.errors import TaskError
from upstairs.outer.draws import roomy
from upstairs.outer.sources import Put, Source
from upstairs.tasks.store import StoreEntries

__all__ = ["Feed", "Window"]

AT_ONCE = 8
"""Row groups of a window."""


class Window(NamedTuple):
    """Which row groups are fed together, from which step on and up to which."""

    first: int
    until: int
    number: int
    """Of the pass."""
    stretches: tuple[int, ...]


@dataclass(frozen=True)
class _Tasks:
    """Where the tasks of each row group stand: numbers, first rows, counts of rows."""

    numbers: Int[np.ndarray, " task"]
    starts: Int[np.ndarray, " task"]
    counts: Int[np.ndarray, " task"]


@final
class Feed(Source):
    """Windows of tasks of a store.

    Parameters
    ----------
    entries : StoreEntries
    chosen : array of bool of shape (task,)
        The tasks to train on; others are passed over.
    encode : callable
        Turns raw rows (X, y) of a row group into float32 features, and float32 targets or int32 class numbers.
    batch : int
        Tasks a step.
    seed : int
    at_once : int
        Row groups of a window.

    Raises
    ------
    TaskError
        If no window has a whole batch.
    """

    def __init__(
        self,
        entries: StoreEntries,
        chosen: Bool[np.ndarray, " task"],
        encode: Callable[[Any, np.ndarray], tuple[np.ndarray, np.ndarray]],
        *,
        batch: int,
        seed: int,
        at_once: int = AT_ONCE,
    ) -> None:
        self._entries, self._encode, self._batch, self._seed, self._at_once = entries, encode, batch, seed, at_once
        self._chosen = chosen
        codes = entries.stretches()
        numbers = np.flatnonzero(chosen)
        order = numbers[np.argsort(codes[numbers], kind="stable")]
        self._codes, first = np.unique(codes[order], return_index=True)
        starts, counts = entries.starts, entries.rows
        self._tasks = [_Tasks(part, starts[part], counts[part]) for part in np.split(order, first[1:])]
        sizes = np.sort(np.array([[len(tasks.numbers), tasks.counts.sum()] for tasks in self._tasks]), axis=0)[::-1]
        self._room = tuple(roomy(int(size)) for size in sizes[:at_once].sum(axis=0))
        self._passes: list[list[Window]] = []
        self._now: tuple[Window, Any] | None = None
        self._next: tuple[Window, Future] | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="upstairs-feed")
        if not self._windows(0):
            raise TaskError(
                f"A window of {at_once} row groups of the store has fewer than batch={batch} training tasks; use a smaller batch."
            )

    @property
    def steps(self) -> int:
        """Steps of the first pass."""
        return self._windows(0)[-1].until

    def at(self, step: int, put: Put) -> tuple[Any, int]:
        """Return the window of a step, and begin to read the next."""
        if self._now is None or not self._now[0].first <= step < self._now[0].until:
            window = self._window(step)
            begun = time.perf_counter()
            ready = self._next is not None and self._next[0] == window
            host = self._next[1].result() if self._next is not None and ready else self._read(window)
            self._now = window, put(host)
            self.waited += time.perf_counter() - begun
            following = self._window(window.until)
            self._next = following, self._reader.submit(self._read, following)
        return self._now[1], self._now[0].until

    def named(self) -> Mapping[str, np.ndarray]:
        """Name the tasks by their content, and the encoding by what it makes of the first row group."""
        prints = "".join(self._entries.lines["print"].to_pylist()).encode()
        x, y = self._encode(*self._entries.stretch(int(self._codes[0])))
        settings = np.array([self._batch, self._at_once], np.int64)
        return {
            "prints": np.frombuffer(prints, np.uint8),
            "chosen": self._chosen,
            "feed": settings,
            "x": x[:100],
            "y": y[:100],
        }

    def _windows(self, number: int) -> list[Window]:
        """Windows of a pass."""
        while len(self._passes) <= number:
            done = len(self._passes)
            step = self._passes[-1][-1].until if self._passes else 0
            order = np.random.default_rng([self._seed, 3, done]).permutation(len(self._tasks)).tolist()
            found = []
            for start in range(0, len(order), self._at_once):
                part = tuple(order[start : start + self._at_once])
                steps = sum(len(self._tasks[place].numbers) for place in part) // self._batch
                if steps:
                    found.append(Window(step, step + steps, done, part))
                    step += steps
            if not found:
                return []
            self._passes.append(found)
        return self._passes[number]

    def _window(self, step: int) -> Window:
        number = 0
        while self._windows(number)[-1].until <= step:
            number += 1
        return next(window for window in self._windows(number) if window.first <= step < window.until)

    def _read(self, window: Window) -> dict[str, np.ndarray]:
        """Read the rows of a window and lay its tasks one after another in the order of their steps."""
        tasks_room, rows_room = self._room
        parts = [self._tasks[place] for place in window.stretches]
        numbers, counts = (np.concatenate([getattr(p, name) for p in parts]) for name in ("numbers", "counts"))
        order = np.random.default_rng([self._seed, 4, window.number, window.first]).permutation(len(numbers))
        ends = np.cumsum(counts[order])
        begin = np.empty(len(order), np.int64)
        begin[order] = ends - counts[order]  # of each task, in the order of row groups
        x = y = None
        done = 0
        for place, part in zip(window.stretches, parts, strict=True):
            own_x, own_y = self._encode(*self._entries.stretch(int(self._codes[place])))
            if x is None:
                x, y = np.zeros((rows_room, own_x.shape[1]), own_x.dtype), np.zeros(rows_room, own_y.dtype)
            source = _ranges(part.starts, part.counts)
            target = _ranges(begin[done : done + len(part.numbers)], part.counts)
            x[target], y[target] = own_x[source], own_y[source]  # type: ignore[index]
            done += len(part.numbers)
        assert x is not None
        assert y is not None
        offsets = np.full(tasks_room + 1, ends[-1], np.int32)
        offsets[0] = 0
        offsets[1 : len(ends) + 1] = ends
        ids = np.zeros(tasks_room, np.int32)
        ids[: len(order)] = numbers[order]
        of = {"x": x, "y": y, "offsets": offsets, "ids": ids}
        return of | {"first": np.asarray(window.first, np.uint32), "visit": np.asarray(window.number, np.int32)}


def _ranges(starts: Int[np.ndarray, " task"], counts: Int[np.ndarray, " task"]) -> Int[np.ndarray, " row"]:
    """Numbers from each start on, as many as its count, one after another.

    Examples
    --------
    >>> _ranges(np.array([5, 1]), np.array([2, 3])).tolist()
    [5, 6, 1, 2, 3]
    """
    ends = np.cumsum(counts)
    return np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1])
