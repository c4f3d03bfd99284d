"""Fits that do not depend on each other, here or in other processes as joblib is set, and what is done when one of these dies.

joblib says where: loky's processes, or the workers of Dask or Ray that `joblib.parallel_config` names. What a fit returns does not
depend on it. loky's processes are driven by joblib itself. Futures of Dask and Ray are used directly, with what joblib knows of
them: through joblib, a fit that Dask gives up is waited for without end, and a dead actor of Ray takes all other fits along.

A process may die under a fit (a lack of memory ends it, or a node is taken away). Only the fits that had been handed out and had
not returned are made again, each alone, so that a further death can be told of it. After two more deaths it is reported by name.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import pickle
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import cloudpickle
import joblib

from upstairs.errors import UpstairsError

__all__ = ["in_this_process", "on_a_cluster", "run_fits"]

Jobs: TypeAlias = Iterator[tuple[int, Any]]
"""Numbers and jobs."""

_AGAIN = 2
"""How often a fit is made again whose process died."""
_SAID = 5
"""Names in a message; of more, the number."""
_AHEAD = 2
"""Fits that wait on each core of Dask, so that it has work while results travel."""
_LOCAL = {"SequentialBackend", "ThreadingBackend", "LokyBackend", "MultiprocessingBackend"}
_DEATHS = {
    ("concurrent", "BrokenExecutor"),
    ("distributed", "KilledWorker"),
    ("ray", "WorkerCrashedError"),
    ("ray", "RayActorError"),
    ("ray", "NodeDiedError"),
    ("ray", "OutOfMemoryError"),
    ("ray", "ObjectLostError"),
    ("ray", "LocalRayletDiedError"),
}
"""Errors that say that a process died under a fit: the package, which need not be there, and the class."""
_TASK_OPTIONS = {"num_cpus", "num_gpus", "resources", "memory", "runtime_env", "scheduling_strategy", "label_selector"}
"""What ``ray_remote_args`` may say of a function; the rest is about actors."""


def run_fits(
    fit: Callable[[Any], Any],
    jobs: Iterable[Any],
    *,
    names: Callable[[int], str] | Sequence[str],
    n_jobs: int | None = None,
    prefer: Literal["threads", "processes"] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Call ``fit`` with every job, several at once.

    Parameters
    ----------
    fit : callable
        ``fit(job)``. Sent by value, so it may be defined anywhere.
    jobs : iterable
        Taken as there is room for them.
    names : callable or sequence of str
        What a message calls the job with a number: its task.
    n_jobs : int, optional
        1: here, one after the other, whatever joblib is set to. None: as `joblib.parallel_config` says, or here. Dask uses all of
        its workers for any other number.
    prefer : {"threads", "processes"}, optional
        Where `joblib.parallel_config` names no backend.

    Yields
    ------
    pair of int and value
        The number of a job and what ``fit`` returned, in the order in which fits end.

    Raises
    ------
    UpstairsError
        After all other fits, if the process of one died each time. What a fit raises is raised as it is.

    Examples
    --------
    >>> sorted(run_fits(lambda x: 2 * x, [1, 2, 3], names=["a", "b", "c"]))
    [(0, 2), (1, 4), (2, 6)]
    """
    if in_this_process(n_jobs):
        for number, job in enumerate(jobs):
            yield number, fit(job)
        return
    pool = _pool(fit, n_jobs, prefer)
    dead: _Dead = {}
    yield from pool.run(enumerate(jobs), dead)
    lost = []
    for number, (job, error) in dead.items():
        deaths = 0
        while deaths < _AGAIN:
            again: _Dead = {}
            yield from pool.run(iter([(number, job)]), again)
            if not again:
                break
            error = again[number][1]
            deaths += 1 + getattr(error, "allowed_failures", 0)  # so often Dask tried by itself before it gave up
        else:
            lost.append((number, error))
    if lost:
        called = [names(number) if callable(names) else names[number] for number, _ in lost]
        said = ", ".join(dict.fromkeys(called[:_SAID])) + (f" and {len(called) - _SAID} more" * (len(called) > _SAID))
        raise UpstairsError(
            f"The process died under the fit of {said}, and died again when the fit was made once more, alone; the usual reason is "
            "a lack of memory: give the workers more, take fewer at once, or leave this out."
        ) from lost[0][1]


def in_this_process(n_jobs: int | None) -> bool:
    """Whether fits run here, one after the other.

    Examples
    --------
    >>> in_this_process(1), in_this_process(None), in_this_process(2)
    (True, True, False)
    """
    if n_jobs == 1:
        return True
    name = _backend_name(n_jobs)
    return name != "DaskDistributedBackend" and joblib.effective_n_jobs(n_jobs) == 1


def on_a_cluster(n_jobs: int | None) -> bool:
    """Whether `joblib.parallel_config` names a backend that is not of this machine's own processes and threads.

    Examples
    --------
    >>> on_a_cluster(2)
    False
    """
    return n_jobs != 1 and _backend_name(n_jobs) not in _LOCAL and not in_this_process(n_jobs)


# --- where fits run ---------------------------------------------------------------------------------------------
_Dead: TypeAlias = dict[int, tuple[Any, BaseException]]
"""The jobs whose fits may have ended with a process, and the error that said so; a pool puts them there."""


def _pool(fit: Callable[[Any], Any], n_jobs: int | None, prefer: str | None) -> _Joblib | _Futures:
    backend, _ = joblib.parallel.get_active_backend()
    name = _backend_name(n_jobs)
    if name == "DaskDistributedBackend":
        return _on_dask(backend, cloudpickle.dumps(fit))
    if name == "RayBackend":
        return _on_ray(backend, cloudpickle.dumps(fit), joblib.effective_n_jobs(n_jobs))
    return _Joblib(fit, n_jobs, prefer)


def _backend_name(n_jobs: int | None) -> str:
    """Name the class of joblib's present backend, and have Ray started where it is to say how large it is."""
    backend, _ = joblib.parallel.get_active_backend()
    known = [cls.__name__ for cls in type(backend).__mro__]
    name = next((name for name in known if name in {"DaskDistributedBackend", "RayBackend", *_LOCAL}), known[0])
    if name == "RayBackend" and n_jobs != 1:
        import ray

        if not ray.is_initialized():
            ray.init()
    return name


def _died(error: BaseException) -> bool:
    return any((cls.__module__.partition(".")[0], cls.__name__) in _DEATHS for cls in type(error).__mro__)


class _Joblib:
    """What joblib drives itself. If one of loky's processes dies, all of them end, and those after them are new."""

    def __init__(self, fit: Callable[[Any], Any], n_jobs: int | None, prefer: str | None) -> None:
        self.fit = fit
        hint = {} if prefer is None else {"prefer": prefer}
        self.how: dict[str, Any] = {"n_jobs": n_jobs, **hint}
        self.streams = joblib.parallel.get_active_backend(**hint)[0].supports_return_generator

    def run(self, jobs: Jobs, dead: _Dead) -> Iterator[tuple[int, Any]]:
        source = _Source(jobs)
        while not source.empty:
            handed = source.hand_out()
            try:
                for number, found in self._call(source.calls(self.fit, handed)):
                    del handed[number]
                    yield number, found
            except Exception as error:
                if not _died(error) or not handed:
                    raise
                source.close()
                dead.update({number: (job, error) for number, job in handed.items()})

    def _call(self, calls: Iterator[Any]) -> Iterator[tuple[int, Any]]:
        if self.streams:
            yield from joblib.Parallel(**self.how, return_as="generator_unordered")(calls)
            return
        size = 4 * joblib.effective_n_jobs(self.how["n_jobs"])
        while part := list(itertools.islice(calls, size)):
            yield from joblib.Parallel(**self.how)(part)


class _Source:
    """Jobs that joblib's threads take; a call of joblib that has failed takes no more."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs, self.empty = jobs, False
        self.lock = threading.Lock()
        self.open: dict[int, Any] = {}

    def hand_out(self) -> dict[int, Any]:
        self.open = {}
        return self.open

    def close(self) -> None:
        with self.lock:
            self.open = {}

    def calls(self, fit: Callable[[Any], Any], handed: dict[int, Any]) -> Iterator[Any]:
        call = joblib.delayed(_numbered)
        while True:
            with self.lock:
                taken = next(self.jobs, None) if self.open is handed else None
                if taken is None:
                    self.empty = self.empty or self.open is handed
                    return
                handed[taken[0]] = taken[1]
            yield call(fit, *taken)


def _numbered(fit: Callable[[Any], Any], number: int, job: Any) -> tuple[int, Any]:
    return number, fit(job)


@dataclass(frozen=True)
class _Futures:
    """What gives a future for each job: only the fits that died with a worker are lost, and each says so itself."""

    submit: Callable[[bytes], concurrent.futures.Future]
    room: Callable[[], int]
    stop: Callable[[concurrent.futures.Future], None]

    def run(self, jobs: Jobs, dead: _Dead) -> Iterator[tuple[int, Any]]:
        running: dict[concurrent.futures.Future, tuple[int, Any]] = {}
        try:
            while True:
                for number, job in itertools.islice(jobs, max(0, max(1, self.room()) - len(running))):
                    running[self.submit(cloudpickle.dumps(job))] = (number, job)
                if not running:
                    return
                done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    number, job = running.pop(future)
                    try:
                        packed = future.result()
                    except Exception as error:
                        if not _died(error):
                            raise
                        dead[number] = (job, error)
                        continue
                    found, failed = pickle.loads(packed)  # noqa: S301 what this module sent itself
                    if failed is not None:
                        raise failed
                    yield number, found
        finally:
            for future in running:
                self.stop(future)


def _answer(code: bytes, job: bytes) -> bytes:
    """Make a fit on a worker. Bytes keep arrays writable, and errors as they are."""
    reply: tuple[Any, Exception | None]
    with joblib.parallel_config("sequential"):
        try:
            reply = pickle.loads(code)(pickle.loads(job)), None  # noqa: S301 what this module sent itself
        except Exception as error:
            error.add_note("On the worker:\n" + traceback.format_exc())
            reply = None, error
    return cloudpickle.dumps(reply)


def _on_dask(backend: Any, code: bytes) -> _Futures:
    client = backend.client
    pool = client.get_executor(pure=False)

    def stop(future: concurrent.futures.Future) -> None:
        future.cancel()

    return _Futures(
        submit=lambda job: pool.submit(_answer, code, job, **backend.submit_kwargs),
        room=lambda: _AHEAD * sum(client.ncores().values()),
        stop=stop,
    )


def _on_ray(backend: Any, code: bytes, n_jobs: int) -> _Futures:
    import ray

    asked = {name: value for name, value in (backend.ray_remote_args or {}).items() if name in _TASK_OPTIONS}
    call = ray.remote(_answer).options(**({"num_cpus": 1, "max_retries": 0} | asked))
    kept = ray.put(code)
    references: dict[concurrent.futures.Future, Any] = {}

    def submit(job: bytes) -> concurrent.futures.Future:
        reference = call.remote(kept, job)
        future = reference.future()
        references[future] = reference
        future.add_done_callback(lambda done: references.pop(done, None))
        return future

    def stop(future: concurrent.futures.Future) -> None:
        if (reference := references.get(future)) is not None:
            ray.cancel(reference, force=True)

    return _Futures(submit, lambda: n_jobs, stop)
