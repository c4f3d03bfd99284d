"""Would more tasks help? The error over the number of training tasks, measured and carried on, with its uncertainty."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from sklearn.base import clone

from upstairs.errors import TaskError, UpstairsError
from upstairs.evaluate.curve_result import TaskCurve
from upstairs.evaluate.metrics import METRICS
from upstairs.evaluate.run import evaluate
from upstairs.outer.fits import run_fits
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.taskset import TaskSet

__all__ = ["task_curve"]


def task_curve(
    meta: Any,
    train: Any,
    test: Any,
    *,
    sizes: Sequence[int] | None = None,
    orders: int = 5,
    shots: Any = (5,),
    metric: str | None = None,
    random_state: int = 0,
    n_jobs: int | None = 1,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> TaskCurve:
    """Learn from more and more of the training tasks, and measure each prior on the same frozen episodes.

    Every order is a random permutation of the training tasks (of whole groups, where there are groups), and its first
    tasks are the subsets, so that each contains the one before. The last size is all tasks, which is fitted once.

    Parameters
    ----------
    meta : meta-learner
        An unfitted copy learns from each subset. A ``random_state`` of None is set, so that results can be repeated.
    train, test : TaskSet or ClassPool
    sizes : sequence of int, optional
        Numbers of tasks (groups, where there are groups); all of them is added. By default six, evenly on a log
        scale, from a twelfth (at least five).
    orders : int
        Two or more. The fits are ``orders * (len(sizes) - 1) + 1``.
    shots : int or sequence of int
        Support rows, as in `upstairs.evaluate`: a curve for each.
    metric : str, optional
        One of which less or more is better. By default the primary one of such tasks.
    random_state : int
    n_jobs : int, optional
        Processes; the values do not depend on it. None: as `joblib.parallel_config` says, or 1.
    progress : callable, optional
        Called with the number of fits done and to do.
    **settings
        Handed on to `upstairs.evaluate`: ``ways``, ``queries``, ``draws``, ``order``.

    Returns
    -------
    TaskCurve

    Raises
    ------
    TaskError
        For an argument out of range, or fewer than six training tasks (or groups).
    UpstairsError
        If a fit fails; names the number of tasks and the order.

    Examples
    --------
    >>> import upstairs as up
    >>> rng = np.random.default_rng(0)
    >>> def line(name):
    ...     x = rng.normal(size=(20, 3))
    ...     return up.Task(x, x @ [3.0, 2.0, 1.0] + rng.normal() + rng.normal(size=20), name=name)
    >>> train, _, test = up.TaskSet([line(f"t{n}") for n in range(30)]).split(valid=0, test=0.5, random_state=0)
    >>> meta = up.MetaNeuralNetwork("bayesian-linear", net=None, prior_mean="linear")
    >>> curve = task_curve(meta, train, test, sizes=[4, 8], orders=2)
    >>> curve
    TaskCurve(mse at 5 shots, 4 to 15 tasks, 2 orders, 15 test tasks)
    >>> curve.predict(30).tasks
    30
    """
    if not isinstance(train, TaskSet | ClassPool):
        raise TaskError(
            f"train must be a TaskSet or a ClassPool, but is a {type(train).__name__}; wrap tasks as TaskSet([...])."
        )
    if not hasattr(meta, "meta_fit") or isinstance(meta, type):
        raise TaskError(f"meta must be a meta-learner with meta_fit and adapt, but is {meta!r}; pass one, unfitted.")
    for name in ("train", "baselines", "learners"):
        if name in settings:
            raise TaskError(f"{name}= has no place in task_curve, which measures one meta-learner; leave it out.")
    if isinstance(train, TaskSet):
        train = train.canonical()
    names: Sequence[str] = train.groups if isinstance(train, TaskSet) else tuple(train.groups.tolist())
    units = sorted(set(names))
    wanted = _sizes(sizes, len(units))
    if isinstance(orders, bool) or not isinstance(orders, int | np.integer) or orders < 2:
        raise TaskError(f"orders must be a whole number of at least 2, but is {orders!r}; for example orders=5.")
    permutations = [np.random.default_rng([random_state, number]).permutation(len(units)) for number in range(orders)]
    jobs = [(order, size) for size in wanted[:-1] for order in range(orders)] + [(0, wanted[-1])]

    def measure(job: tuple[int, int]) -> tuple[Any, float]:
        order, size = job
        chosen = {units[number] for number in permutations[order][:size].tolist()}
        rows = np.array([number for number, name in enumerate(names) if name in chosen])
        part = train[rows] if isinstance(train, TaskSet) else train.select(rows)
        start = time.perf_counter()
        try:
            fitted = _fresh(meta, random_state).meta_fit(part)
        except Exception as error:
            raise UpstairsError(
                f"The fit on {size} tasks (order {order}) failed, {type(error).__name__}: {error} A larger first size "
                "may help: pass sizes=."
            ) from error
        seconds = time.perf_counter() - start
        return evaluate(
            {"curve": fitted},
            test,
            train=train,
            shots=shots,
            metric=metric,
            random_state=random_state,
            baselines=None,
            **settings,
        ), seconds

    called = [f"the curve on {size} tasks (order {order})" for order, size in jobs]
    results: dict[tuple[int, int], Any] = {}
    for number, each in run_fits(measure, jobs, names=called, n_jobs=n_jobs):
        results[jobs[number]] = each
        if progress is not None:
            progress(len(results), len(jobs))
    for order in range(1, orders):
        results[order, wanted[-1]] = results[0, wanted[-1]]
    grouped = len(units) < len(names)
    return _joined(results, wanted, orders, ("classes" if isinstance(train, ClassPool) else "tasks", grouped))


def _joined(
    results: Mapping[tuple[int, int], tuple[Any, float]], sizes: Sequence[int], orders: int, what: tuple[str, bool]
) -> TaskCurve:
    first = results[0, sizes[-1]][0]
    if isinstance(METRICS[first.metric].goal, float):
        raise TaskError(
            f"metric={first.metric!r} has no direction that is better; choose one of "
            f"{', '.join(repr(name) for name in first.metrics if isinstance(METRICS[name].goal, str))}."
        )
    names, groups, values = {}, {}, {}
    for shots in first.shots:
        every = np.stack(
            [[results[o, size][0].by_task(shots)[2][:, 0] for size in sizes] for o in range(orders)]
        )  # (order, size, task)
        whole = ~np.isnan(every).any(axis=(0, 1))
        if not whole.any():
            raise TaskError(
                f"{first.metric} could not be measured at {shots} shots; ask for more query rows (queries=None)."
            )
        said, clusters, _ = first.by_task(shots)
        names[shots] = tuple(name for name, keep in zip(said, whole.tolist(), strict=True) if keep)
        groups[shots] = tuple(name for name, keep in zip(clusters, whole.tolist(), strict=True) if keep)
        values[shots] = np.ascontiguousarray(every[:, :, whole])
    return TaskCurve(
        sizes=tuple(sizes),
        unit="groups" if what[1] else what[0],
        metric=first.metric,
        values=MappingProxyType(values),
        names=MappingProxyType(names),
        groups=MappingProxyType(groups),
        seconds=np.array([[results[o, size][1] for size in sizes] for o in range(orders)]),
        episodes_hash=first.episodes_hash,
    )


def _sizes(sizes: Sequence[int] | None, units: int) -> list[int]:
    if units < 6:
        raise TaskError(f"train must hold at least 6 tasks (or groups) for a curve, but holds {units}; bring more.")
    if sizes is None:
        start = min(max(5, units // 12), units // 2)
        return sorted(set(np.round(np.geomspace(start, units, 6)).astype(int).tolist()))
    listed = sorted({int(size) for size in sizes})
    if len(set(listed) - {units}) < 2 or listed[0] < 1 or listed[-1] > units:
        raise TaskError(
            f"sizes must be two or more whole numbers from 1 to less than all {units} tasks (or groups), but is {list(sizes)!r}; "
            f"for example sizes={[units // 4, units // 2]}."
        )
    return [*[size for size in listed if size < units], units]


def _fresh(meta: Any, random_state: int) -> Any:
    copy = clone(meta, safe=False)
    free = [key for key, value in copy.get_params(deep=False).items() if key == "random_state" and value is None]
    return copy.set_params(random_state=random_state) if free else copy
