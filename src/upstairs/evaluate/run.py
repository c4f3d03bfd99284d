"""Measure learners and baselines on the same frozen episodes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from upstairs.errors import TaskError
from upstairs.evaluate.episodes import Episodes, LeftOut, Order, freeze
from upstairs.evaluate.measure import Part, measure
from upstairs.evaluate.metrics import metrics_for
from upstairs.evaluate.prepare import Entry, Plan, check_learners, plans, situation, target_scale
from upstairs.evaluate.record import Fit, Record
from upstairs.evaluate.result import KEYS, EvaluationResult
from upstairs.learners.baselines import Situated
from upstairs.outer.fits import in_this_process, run_fits
from upstairs.outer.threads import threads_for, total_rows

__all__ = ["evaluate"]

CHUNK = 256
"""Episodes that are adapted in one go; the same for any ``n_jobs``, as results must not depend on it."""


def evaluate(
    learners: Any,
    test: Any,
    *,
    train: Any = None,
    shots: Any = (1, 5, 10),
    ways: int | None = None,
    queries: int | None = 15,
    draws: int | None = None,
    baselines: Any = "auto",
    metric: str | None = None,
    random_state: Any = 0,
    n_jobs: int | None = 1,
    progress: Callable[[int, int], None] | None = None,
    order: Order = None,
    seeds: int | Sequence[int] | None = None,
    record: str | os.PathLike[str] | None = None,
) -> EvaluationResult:
    """Measure learners beside baselines on test tasks that none of them has seen.

    Support and query rows are drawn once, from a random stream of each task, and are the same for every learner and seed.

    Parameters
    ----------
    learners : mapping of name to learner
        A meta-learner (fitted, or unfitted and then fitted to ``train``), any object with ``adapt(X, y)`` that
        returns a fitted estimator, or an unfitted scikit-learn estimator (fitted to every support; where its
        ``random_state`` is None it gets one of the task's own). May be empty: only baselines are measured.
    test : TaskSet or ClassPool
        Held-out tasks, or held-out classes from which episodes are drawn.
    train : TaskSet or ClassPool, optional
        Training tasks, for unfitted meta-learners and for the baselines that learn from them.
    shots : int or sequence of int
        Support rows: in all for a regression and for labels that tasks share, a class for labels of a task's own.
    ways : int, optional
        Classes an episode, for labels of a task's own. None: all of the task's, and 5 of a class pool.
    queries : int, optional
        Most query rows, counted like ``shots``. None: all that remain (needed where a class is rare).
    draws : int, optional
        Draws of each task, by default 1; for a class pool the number of episodes, by default 200.
    baselines : "auto", sequence of str, or None
        "auto": all that apply. Names are those in `upstairs.learners.baselines.BASELINES`; "tuned" is the slow one.
    metric : str, optional
        The primary metric. By default "mse" (regression), "auc" (two shared classes) or "accuracy".
    random_state : int, numpy generator, or None
    n_jobs : int, optional
        Processes; the records do not depend on it, but for the seconds. None: as `joblib.parallel_config` says (which may name
        Dask or Ray), or 1.
    progress : callable, optional
        Called with the number of episodes measured and to be measured.
    order : optional
        Earlier rows are support and later ones query. A column name, a function of a task that gives a value a row,
        or True: rows as they lie. None: at random.
    seeds : int or sequence of int, optional
        Fit unfitted learners once a seed (an integer: so many, from 0), as their ``random_state``; estimators get it where theirs is
        None. Records have a column ``seed``, and those of learners that no seed changes stand there for each: see
        `EvaluationResult.effect`.
    record : path-like, optional
        A folder that holds what was measured and the priors that were learned, as soon as they are there. The same call
        goes on after a kill and fits nothing again that was done; `upstairs.evaluate.replay` repeats the whole.

    Returns
    -------
    EvaluationResult

    Raises
    ------
    TaskError
        For tasks in both sets, tasks that are all too small, or an argument out of range.
    StorageError
        If ``record`` is of another evaluation, or cannot be read or written.
    UpstairsError
        If a learner fails on an episode; names learner, task and shots. If the process died each time that a learner was
        measured on some tasks; names these.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from upstairs.tasks import Task, TaskSet
    >>> rng = np.random.default_rng(0)
    >>> def line(name):
    ...     x = rng.normal(size=(30, 1))
    ...     return Task(x, 3.0 * x[:, 0] + rng.normal() + 0.1 * rng.normal(size=30), name=name)
    >>> tasks = TaskSet([line(f"t{number}") for number in range(20)])
    >>> train, _, test = tasks.split(valid=0, test=0.5, random_state=0)
    >>> result = evaluate({"ridge": Ridge()}, test, train=train, shots=[2], baselines=["linear Gaussian prior"])
    >>> [row.learner for row in result.table(2)]
    ['linear Gaussian prior', 'ridge']
    """
    check_learners(learners)
    at = situation(learners, test, train)
    known = metrics_for(at.kind, at.labels, len(at.classes))
    if metric is not None and metric not in known:
        raise TaskError(
            f"metric={metric!r} is not measured on such tasks; choose one of {', '.join(map(repr, known))}."
        )
    seed = _number(random_state)
    episodes = freeze(
        test, shots=_listed(shots), ways=ways, queries=queries, draws=draws, random_state=seed, order=order
    )
    notes: list[str] = []
    drawn = _seeds(seeds)
    planned = plans(learners, baselines, at, train, notes, drawn)
    if not planned:
        raise TaskError(
            "There is nothing to measure: learners is empty and no baseline applies; pass learners={'name': learner}."
        )
    protocol = {
        "shots": _listed(shots), "ways": ways, "queries": queries, "draws": draws, "baselines": _names(baselines),
        "metric": metric, "random_state": seed, "order": _said(order), "seeds": drawn,
    }  # fmt: skip
    with Record(record, protocol, planned, episodes.hash, train) as kept:
        scale = target_scale(test, train) if at.kind == "regression" else 1.0
        measured = _run(planned, episodes, at, scale, seed, n_jobs, progress, kept, train, test)
    columns, fallbacks = _columns(planned, measured, known, drawn)
    notes += [
        f"{name!r} fell back in {count} of {len(episodes)} episodes: {why}" for (name, why), count in fallbacks.items()
    ]
    primary = metric or known[0]
    if np.isnan(columns[primary]).all():
        raise TaskError(
            f"{primary} could not be measured on any of {len(episodes)} episodes (one class among the query rows?); ask for more "
            "query rows (queries=None), or for another metric."
        )
    names = tuple(dict.fromkeys(plan.name for plan in planned))
    return EvaluationResult(
        columns=MappingProxyType(columns),
        kind=at.kind,
        labels=at.labels,
        metric=primary,
        learners=names,
        baselines=tuple(plan.name for plan in planned if plan.baseline),
        meta_seconds=MappingProxyType(_mean_of(planned, [fit.seconds for fit, _ in measured])),
        left_out=(*episodes.left_out, *_unmeasured(columns, names[0], 1 if drawn is None else len(drawn))),
        notes=tuple(notes),
        episodes_hash=episodes.hash,
        scale=scale,
        bins=MappingProxyType(_bins(planned, measured)),
        megabytes=MappingProxyType(_megabytes(planned, measured)),
    )


# --- measuring --------------------------------------------------------------------------------------------------
Measured: TypeAlias = list[tuple[Fit, list[Part]]]
"""Of each plan: the fit, and a part for each chunk of episodes."""


def _run(
    planned: Sequence[Plan],
    episodes: Episodes,
    at: Situated,
    scale: float,
    seed: int,
    n_jobs: int | None,
    progress: Any,
    kept: Record,
    train: Any,
    test: Any,
) -> Measured:
    """Measure what the record does not hold yet; a learner that has been measured everywhere is not fitted again."""
    chunks = episodes.chunks(CHUNK)
    fits: dict[int, Fit] = {}
    parts = {key: part for key, part in kept.parts.items() if key[1] < len(chunks)}

    def fitted(number: int) -> Entry:
        entry = kept.entry(number)
        if entry is None:
            with threads_for(total_rows(train)):
                entry = planned[number].ready()
            kept.keep_fit(number, entry)
        fits[number] = Fit(entry.seconds, entry.megabytes)
        return entry

    missing = [[n for n in range(len(chunks)) if (number, n) not in parts] for number in range(len(planned))]
    lazily = kept and in_this_process(n_jobs)  # what was fitted last is measured before the next is fitted
    ready = {} if lazily else {number: fitted(number) for number in range(len(planned)) if missing[number]}

    def jobs() -> Iterator[tuple[int, int, Entry]]:
        for number, wanted in enumerate(missing):
            entry = (ready.get(number) or fitted(number)) if wanted else None
            for chunk in wanted:
                assert entry is not None
                yield number, chunk, entry

    rows, places = total_rows(test), [(number, chunk) for number, wanted in enumerate(missing) for chunk in wanted]

    def measured(job: tuple[int, int, Entry]) -> Part:
        _, chunk, entry = job
        with threads_for(rows):  # also where this runs in another process
            return measure(entry, [episodes.read(place) for place in chunks[chunk]], at, scale, seed)

    def named(place: int) -> str:
        number, chunk = places[place]
        tasks = dict.fromkeys(repr(episodes.names[each.task]) for each in chunks[chunk])
        return f"{planned[number].name!r} on {_some(list(tasks))}"

    with threads_for(rows):
        done = sum(len(chunks[chunk]) for _, chunk in parts)
        for place, part in run_fits(measured, jobs(), names=named, n_jobs=n_jobs):
            number, chunk = places[place]
            kept.keep_part(number, chunk, part)
            parts[number, chunk] = part
            done += len(chunks[chunk])
            if progress is not None:
                progress(done, len(planned) * len(episodes))
    return [
        (fits.get(number) or kept.fit(number), [parts[number, chunk] for chunk in range(len(chunks))])
        for number in range(len(planned))
    ]


# --- the result -------------------------------------------------------------------------------------------------
def _columns(
    planned: Sequence[Plan], measured: Measured, known: Sequence[str], seeds: Sequence[int] | None
) -> tuple[dict[str, np.ndarray], Counter]:
    """Turn records into columns, in the order of chunks, learners, seeds and episodes."""
    records: list[dict[str, Any]] = []
    for chunk in range(len(measured[0][1])):
        for plan, (_, parts) in zip(planned, measured, strict=True):
            for seed in seeds if plan.seed is None and seeds is not None else [plan.seed]:
                extra = {} if seed is None else {"seed": seed}
                records += [record | extra for record in parts[chunk].records]
    keys = KEYS if seeds is None else (*KEYS, "seed")
    columns = {name: np.array([record[name] for record in records]) for name in keys}
    columns |= {name: np.array([record.get(name, np.nan) for record in records], dtype=np.float64) for name in known}
    own = [record for _, parts in measured for part in parts for record in part.records]
    fallbacks = Counter((record["learner"], record["fallback"][:120]) for record in own if "fallback" in record)
    return columns, fallbacks


def _bins(planned: Sequence[Plan], measured: Measured) -> dict[str, dict[int, np.ndarray]]:
    """Sum the bins of confidence by learner and number of shots."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for plan, (_, parts) in zip(planned, measured, strict=True):
        for part in parts:
            if part.bins.any():
                shots = part.records[0]["shots"]
                of = found.setdefault(plan.name, {})
                of[shots] = of.get(shots, 0.0) + part.bins
    return found


def _megabytes(planned: Sequence[Plan], measured: Measured) -> dict[str, tuple[float, float]]:
    """Peak of memory while learning from the training tasks, and while adapting."""
    fits = _mean_of(planned, [fit.megabytes for fit, _ in measured])
    adapted = [float(np.fmax.reduce([part.megabytes for part in parts])) for _, parts in measured]
    return {name: (fits[name], value) for name, value in _mean_of(planned, adapted).items()}


def _mean_of(planned: Sequence[Plan], values: Sequence[float]) -> dict[str, float]:
    """Mean over the seeds of each learner."""
    found: dict[str, list[float]] = {}
    for plan, value in zip(planned, values, strict=True):
        found.setdefault(plan.name, []).append(value)
    return {name: float(np.mean(of)) for name, of in found.items()}


def _unmeasured(columns: Mapping[str, np.ndarray], learner: str, seeds: int) -> list[LeftOut]:
    """Count the episodes whose query rows do not allow a metric."""
    found = []
    reasons = {"auc": "one class among the query rows", "r2": "one query row, or all query targets equal"}
    for metric, reason in reasons.items():
        if metric in columns:
            gone = np.isnan(columns[metric]) & (columns["learner"] == learner)
            for shots in np.unique(columns["shots"][gone]).tolist():
                tasks = columns["task"][gone & (columns["shots"] == shots)].tolist()
                found.append(LeftOut(shots, len(tasks) // seeds, reason, tuple(dict.fromkeys(tasks))[:100], metric))
    return found


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"task{'s' * (len(names) > 1)} {', '.join(names[:most])}{more}"


def _listed(shots: Any) -> list[Any]:
    return list(shots) if isinstance(shots, Iterable) else [shots]


def _seeds(seeds: Any) -> list[int] | None:
    if seeds is None:
        return None
    found = list(range(seeds)) if isinstance(seeds, int | np.integer) and not isinstance(seeds, bool) else seeds
    if not isinstance(found, Sequence) or len(set(found)) < max(len(found), 2):
        raise TaskError(f"seeds must be a number of at least 2, or so many different integers, but is {seeds!r}.")
    return [int(seed) for seed in found]


def _names(baselines: Any) -> Any:
    return baselines if baselines is None or isinstance(baselines, str) else list(baselines)


def _said(order: Order) -> Any:
    """Write an order as a JSON value."""
    return {"function": getattr(order, "__qualname__", type(order).__name__)} if callable(order) else order


def _number(random_state: Any) -> int:
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    return int(np.random.SeedSequence(random_state).entropy)  # type: ignore[arg-type]
