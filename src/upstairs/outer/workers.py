"""Processes that do one call at a time, each with a deadline: a call that overruns ends with its process, alone.

A fit in compiled code cannot be interrupted from within, so a bound on its time needs a process of its own that can be
ended. The processes are started by command and not by forking or by importing the caller's script again: threads and
devices of the caller do not matter, and a script needs no ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Generic, TypeAlias, TypeVar

import cloudpickle

__all__ = ["Batch", "Outcome", "run_bounded", "run_here"]

Item = TypeVar("Item")
Maker: TypeAlias = Callable[[Any], Callable[[Any], Any]]
"""Reads the data of a batch once and returns the call that is made for each of its items."""

_AGAIN = 2
"""How often a call is made again whose process died, each time in a new one."""
_LENGTH = 8
_CHECK_SECONDS = 0.05
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Batch(Generic[Item]):
    """Calls that share data: ``data`` travels to a process once, then each of ``items`` in turn."""

    data: Any
    items: Sequence[Item]


@dataclass(frozen=True)
class Outcome:
    """What became of item ``item`` of batch ``batch``: a value, or the reason why there is none.

    ``failure`` is empty, ``"timeout"``, ``"died"`` (the process ended, as a lack of memory ends it, three times) or the
    error's own words; ``seconds`` is wall time.
    """

    batch: int
    item: int
    value: Any
    seconds: float
    failure: str = ""


def run_bounded(
    make: Maker, batches: Sequence[Batch], *, workers: int = 1, seconds: float | None = None
) -> Iterator[Outcome]:
    """Make every call of every batch, in several processes, none for longer than it may take.

    Parameters
    ----------
    make : callable
        ``make(data)`` returns a function of one item. Sent by value, so it may be defined anywhere.
    batches : sequence of Batch
        Batches are dealt out in order; a batch stays in one process.
    workers : int
        Processes at once, each with one thread for OpenMP and BLAS.
    seconds : float, optional
        Wall time that one call may take. Starting a process and reading the data of a batch do not count.

    Yields
    ------
    Outcome
        In the order in which calls end.

    Examples
    --------
    >>> found = run_bounded(lambda base: lambda x: base // x, [Batch(10, (1, 2)), Batch(7, (0,))])
    >>> [(o.batch, o.item, o.value, o.failure.partition(":")[0]) for o in found]
    [(0, 0, 10, ''), (0, 1, 5, ''), (1, 0, None, 'ZeroDivisionError')]
    """
    waiting = list(enumerate(batches))[::-1]
    lock, results = threading.Lock(), queue.SimpleQueue[Outcome | BaseException | None]()
    code = cloudpickle.dumps(make)

    def take() -> tuple[int, Batch] | None:
        with lock:
            return waiting.pop() if waiting else None

    lines = [_Line(code, take, results) for _ in range(max(1, min(workers, len(batches))))]
    open_lines = len(lines)
    try:
        for line in lines:
            line.thread.start()
        while open_lines:
            try:
                found = results.get(timeout=None if seconds is None else _CHECK_SECONDS)
            except queue.Empty:
                found = ()  # type: ignore[assignment]
            if seconds is not None:
                for line in lines:
                    line.end_if_older(seconds)
            if found is None:
                open_lines -= 1
            elif isinstance(found, BaseException):
                raise found
            elif found != ():
                yield found
    finally:
        with lock:
            waiting.clear()
        for line in lines:
            line.close()


def run_here(make: Maker, batch: Batch) -> list[Outcome]:
    """Make every call of a batch in this process.

    Examples
    --------
    >>> [outcome.value for outcome in run_here(lambda base: lambda x: base // x, Batch(10, (1, 2)))]
    [10, 5]
    """
    call, _, unread = _measured(make, batch.data)
    found = [(None, 0.0, unread) if unread else _measured(call, item) for item in batch.items]
    return [Outcome(0, position, *each) for position, each in enumerate(found)]


@dataclass(eq=False)
class _Line:
    """One process after another, and the thread that talks to the present one."""

    code: bytes
    take: Callable[[], tuple[int, Batch] | None]
    results: Any
    process: subprocess.Popen | None = None
    since: float | None = None
    overran: bool = False
    closed: bool = False
    thread: threading.Thread = field(init=False)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._work, daemon=True)

    def end_if_older(self, seconds: float) -> None:
        """End the process if its present call has taken longer than that."""
        with self.lock:
            if self.process is not None and self.since is not None and time.monotonic() - self.since > seconds:
                self.overran = True
                self.process.kill()

    def close(self) -> None:
        """End the process now; nothing more is started."""
        with self.lock:
            self.closed = True
            if self.process is not None:
                self.process.kill()
        if self.thread.is_alive():
            self.thread.join()

    def _work(self) -> None:
        try:
            while (taken := self.take()) is not None:
                number, batch = taken
                known = None
                for position, item in enumerate(batch.items):
                    outcome: tuple[Any, float, str] = (None, 0.0, "died")
                    for _ in range(1 + _AGAIN):
                        if self.closed:
                            return
                        process = self._process()
                        unread = ""
                        if known is not process:
                            outcome = self._call(process, (self.code, batch.data), bounded=False)
                            unread = outcome[2]
                            known = None if unread else process
                        if not unread:
                            outcome = self._call(process, (item,), bounded=True)
                        if outcome[2] != "died":
                            break
                    self.results.put(Outcome(number, position, *outcome))
        except BaseException as error:
            self.results.put(error)
        finally:
            with self.lock:
                last, self.process = self.process, None
            if last is not None:
                _ended(last)
            self.results.put(None)

    def _process(self) -> subprocess.Popen:
        with self.lock:
            if self.process is None and not self.closed:
                self.process = _started()
            assert self.process is not None
            return self.process

    def _call(self, process: subprocess.Popen, message: Any, *, bounded: bool) -> tuple[Any, float, str]:
        start = time.monotonic()
        with self.lock:
            self.since, self.overran = start if bounded else None, False
        try:
            _send(process.stdin, message)
            value, seconds, failure = _receive(process.stdout)
            alive = True
        except (EOFError, OSError):
            value, seconds, failure, alive = None, time.monotonic() - start, "died", False
        with self.lock:
            self.since = None
            if self.overran or not alive:  # also where the answer came at the last moment: the process is ended by now
                self.process = None
        if self.process is None:
            _ended(process)
        if not alive and self.overran:
            failure = "timeout"
        return value, seconds, failure


def _started() -> subprocess.Popen:
    paths = [path for path in sys.path if path]
    known = os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | dict.fromkeys(_ONE_THREAD, "1")
    command = [sys.executable, "-c", "from upstairs.outer.workers import _serve; _serve()"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=known
    )


def _ended(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _send(stream: BinaryIO | Any, message: Any) -> None:
    packed = cloudpickle.dumps(message)
    stream.write(len(packed).to_bytes(_LENGTH, "little") + packed)
    stream.flush()


def _receive(stream: BinaryIO | Any) -> Any:
    length = stream.read(_LENGTH)
    if len(length) < _LENGTH:
        raise EOFError
    packed = stream.read(int.from_bytes(length, "little"))
    return pickle.loads(packed)  # noqa: S301 what this module sent itself


def _serve() -> None:
    """Answer calls on standard input until it ends; what a call prints goes nowhere."""
    import warnings

    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    questions = sys.stdin.buffer
    with contextlib.suppress(EOFError, BrokenPipeError):
        _answer(questions, answers)


def _answer(questions: BinaryIO, answers: BinaryIO) -> None:
    """Read data (with the code that takes them) or an item of the last data; answer each."""
    call: Callable[[Any], Any] | None = None
    while True:
        message = _receive(questions)
        if len(message) == 2:
            code, data = message
            call, seconds, failure = _measured(lambda given: pickle.loads(code)(given), data)  # noqa: B023, S301
            _send(answers, (None, seconds, failure))
        else:
            assert call is not None
            _send(answers, _measured(call, message[0]))


def _measured(call: Callable[[Any], Any], item: Any) -> tuple[Any, float, str]:
    """Return what a call returned, its seconds, and the words of its error."""
    start = time.monotonic()
    value, failure = None, ""
    try:
        value = call(item)
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
    return value, time.monotonic() - start, failure
