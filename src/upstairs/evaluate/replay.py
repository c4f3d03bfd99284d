"""Repeat an evaluation from its record."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from upstairs.errors import StorageError, TaskError
from upstairs.evaluate.episodes import Order
from upstairs.evaluate.prepare import Kept
from upstairs.evaluate.record import kept_prior, read_record
from upstairs.evaluate.result import EvaluationResult
from upstairs.evaluate.run import evaluate

__all__ = ["replay"]


def replay(
    record: str | os.PathLike[str],
    test: Any,
    *,
    train: Any = None,
    learners: Mapping[str, Any] | None = None,
    order: Order = None,
    n_jobs: int | None = 1,
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationResult:
    """Measure again what `evaluate` measured with ``record=``: the same protocol, the same priors, the same episodes.

    On the same machine with the same versions the numbers are the same to the last bit; the record itself is only read.

    Parameters
    ----------
    record : path-like
    test : TaskSet or ClassPool
        The test tasks of the record.
    train : TaskSet or ClassPool, optional
        The training tasks of the record, where baselines learned from them.
    learners : mapping of name to learner, optional
        Learners that a record does not hold: all but meta-learners of this library, and those with a network that is code.
    order : callable, optional
        The function of the record, if its rows were sorted by one.
    n_jobs, progress
        As in `evaluate`.

    Raises
    ------
    StorageError
        If there is no such record, or a learner is neither in it nor in ``learners``.
    TaskError
        If the test tasks are others than those of the record.
    """
    says = read_record(record)
    given = dict(learners or {})
    found: dict[str, Any] = {}
    for number, (name, seed, baseline, _) in enumerate(says["learners"]):
        if baseline or name in given:
            if name in given:
                found[name] = given[name]
            continue
        prior = kept_prior(record, number)
        if prior is None:
            raise StorageError(
                f"record '{record}' does not hold the learner {name!r} (only meta-learners of this library that were fitted); pass "
                f"learners={{{name!r}: ...}}."
            )
        found.setdefault(name, Kept({})).by_seed[seed] = prior
    if isinstance(says["order"], dict) and order is None:
        raise TaskError(
            f"The rows of the record were sorted by the function {says['order']['function']!r}; pass it as order=."
        )
    protocol = {name: says[name] for name in ("shots", "ways", "queries", "draws", "baselines", "metric", "seeds")}
    result = evaluate(
        found,
        test,
        train=train,
        random_state=says["random_state"],
        order=says["order"] if order is None else order,
        n_jobs=n_jobs,
        progress=progress,
        **protocol,
    )
    if result.episodes_hash != says["episodes"]:
        raise TaskError(
            f"These are not the test tasks of the record (episodes {result.episodes_hash[:12]}, in the record {says['episodes'][:12]}); "
            "pass the same tasks."
        )
    return result
