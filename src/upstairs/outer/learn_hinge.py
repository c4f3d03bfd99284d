"""Learn costs and kernel of the hinge-loss machine over tasks, by gradient through libsvm's solution on query rows."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from upstairs.inner.hinge_gradient import hinge_loss
from upstairs.inner.svm_kernel import KERNELS
from upstairs.outer.host import HostStepper, Split
from upstairs.outer.loop import Outcome, run
from upstairs.outer.optimiser import Optimiser
from upstairs.outer.training import Training
from upstairs.tasks.batches import FlatRows

__all__ = ["LearnedHinge", "learn_hinge"]

STEPS, RATE, BATCH, QUERIES = 150, 0.05, 8, 30
SPREAD = 0.5
"""Deviation of the log slope from task to task."""


class LearnedHinge(NamedTuple):
    """Params of `upstairs.inner.support_vectors.SupportVectors`, and how they came about."""

    params: dict[str, np.ndarray]
    outcome: Outcome


def learn_hinge(
    x: Float[np.ndarray, "row feature"],
    y: Shaped[np.ndarray, " row"],
    offsets: Int[np.ndarray, " boundary"],
    *,
    kind: str,
    ways: int,
    shots: tuple[int, int],
    kernel: str = "rbf",
    one_scale: bool = False,
    training: Training | None = None,
    out: Shaped[np.ndarray, " task"],
    validation: FlatRows | None = None,
    names: Sequence[str] | None = None,
    seed: int = 0,
    n_jobs: int | None = 1,
) -> LearnedHinge:
    """Learn a cost a class, a scale a feature, the slope of probabilities or epsilon.

    Parameters
    ----------
    x, y, offsets, kind, ways, shots, training, out, names, seed
        As for `upstairs.outer.learn_machine.learn_machine`.
    kernel : {"linear", "rbf"}
    one_scale : bool
        Whether all features have one scale.
    validation : FlatRows, optional
        Tasks that say when to stop, instead of those in ``out``.
    n_jobs : int, optional
        Threads in which the tasks of a step are fitted, or what `joblib.parallel_config` names. None: as that says, or 1.
    """
    rows = FlatRows(x, y, offsets)
    fit, judges = (rows, validation) if validation is not None else (_some(rows, ~out), _some(rows, out))
    training = (training or Training(patience=4, validate_every=25)).filled(
        steps=STEPS, rate=RATE, batch=BATCH, queries=QUERIES
    )
    assert training.steps is not None
    assert training.batch is not None
    assert training.queries is not None
    columns = x.shape[1]
    scale = np.log(columns**-0.5)
    start: dict[str, Any] = {"scale": np.full(1 if one_scale else columns, scale)}
    start |= {"cost": np.zeros(ways if ways else 1)}
    start |= {"slope": np.asarray(0.7)} if ways else {"epsilon": np.asarray(np.log(0.1))}
    high = max(min(shots[1], int(fit.counts.max()) - 1), 1)
    stepper = HostStepper(
        functools.partial(_fit, kernel=kernel, ways=ways),
        start,
        fit,
        batch=training.batch,
        shots=(min(shots[0], high), high),
        queries=training.queries,
        gradient="given",
        optimiser=training.optimiser or Optimiser("adam", training.rate or RATE, "cosine", training.steps),
        validation=judges,
        seed=seed,
        n_jobs=n_jobs,
        names=names,
        label=f"hinge {kernel}",
    )
    outcome = run(
        stepper,
        training.steps,
        validate_every=training.validate_every,
        patience=training.patience,
        checkpoint=training.checkpoint,
        checkpoint_seconds=training.checkpoint_seconds,
        callback=training.callback,
        limits=training.limits(),
    )
    learned = outcome.params
    cost = np.exp(learned["cost"])
    usual = float(np.exp(learned["cost"].mean()))
    params = {
        "kernel": np.asarray(float(KERNELS.index(kernel))),
        "gamma": np.asarray(0.5),
        "degree": np.asarray(3.0),
        "coef0": np.asarray(0.0),
        "cost": np.asarray(usual),
        "epsilon": np.exp(learned.get("epsilon", np.asarray(np.log(0.1)))),
        "class_cost": cost / usual if ways else np.zeros(0),
        "slope": np.array([float(learned.get("slope", 0.0)), SPREAD]),
        "middle": np.ones(()),
        "columns": np.asarray(float(columns)),
        "map": np.broadcast_to(np.exp(learned["scale"]), (columns,)).copy(),
    }
    return LearnedHinge(params, outcome)


def _fit(
    params: Mapping[str, np.ndarray], split: Split, *, kernel: str, ways: int
) -> tuple[float, dict[str, np.ndarray]]:
    """Loss and gradient of one task; a support of one class teaches nothing."""
    x, y, query, target = split
    if ways and len(np.unique(y)) < 2:
        return float(np.log(2.0)), {name: np.zeros_like(value) for name, value in params.items()}
    return hinge_loss(params, x, y, query, target, kernel=kernel, regression=not ways)


def _some(rows: FlatRows, chosen: Shaped[np.ndarray, " task"]) -> FlatRows:
    each = np.repeat(chosen, rows.counts)
    return FlatRows(rows.x[each], rows.y[each], np.concatenate([[0], np.cumsum(rows.counts[chosen])]).astype(np.int64))
