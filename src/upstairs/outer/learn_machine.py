"""Learn the prior of support vector machines over tasks with the same columns.

In two steps. Empirical Bayes says what to expect of a new task: a mean decision function, and the directions in which tasks
differ (`upstairs.outer.choose`). Then what is special to the machine is tuned (`upstairs.outer.tuned_machine`). There every task is
described by expectations that were learned without it, so that they are worth as much as on a new task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from upstairs.inner.columns import features
from upstairs.inner.traced_machine import TracedMachine, curved_start, natural
from upstairs.outer.choose import choose, relearn
from upstairs.outer.draws import TaskDraw, flat_data
from upstairs.outer.loop import Outcome
from upstairs.outer.training import Training
from upstairs.outer.tuned_machine import RATE, STEPS, Form, LearnedMachine, best, described, moved, trained, tuned
from upstairs.tasks.batches import FlatRows

__all__ = ["learn_machine", "relearn_machine"]

BATCH, QUERIES = 16, 30
FEWEST_TO_TUNE = 15
"""With fewer tasks the second step, unless it is asked for, learns more about them than about new ones."""
LEVEL = 1.0
"""Standard deviation of the level of one of several classes against the others, in log odds."""


class _Told(NamedTuple):
    """Rows as expectations describe them: features, the expected decision, and coordinates of deviations."""

    x: Float[np.ndarray, "row column"]
    features: int
    rank: int


def learn_machine(
    x: Float[np.ndarray, "row feature"],
    y: Shaped[np.ndarray, " row"],
    offsets: Int[np.ndarray, " boundary"],
    groups: Shaped[np.ndarray, " task"],
    *,
    kind: str,
    ways: int,
    shots: tuple[int, int],
    forms: Sequence[Form],
    prior_mean: str = "auto",
    training: Training | None = None,
    validation: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    out: Shaped[np.ndarray, " task"],
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> LearnedMachine:
    """Learn over tasks with a target of one meaning.

    Parameters
    ----------
    x, y, offsets, groups, kind, ways, prior_mean
        As for `upstairs.outer.choose.choose`; targets are standardised.
    shots
        Least and most support rows.
    forms
        Of the kernel, the simplest first; held-out tasks choose.
    training
        Of the second step.
    validation
        Tasks that say when to stop and what to choose.
    out
        Without them: which training tasks (true) do.
    names
        Of the tasks.
    seed
        Draws folds and rows.
    """
    choice = choose(
        x,
        y,
        offsets,
        groups,
        kind=kind,
        ways=ways,
        shots=shots,
        prior_mean="none" if prior_mean == "linear" else prior_mean,
        average=False,
        random_state=seed,
    )
    expected = _expectations(choice.params)
    counts = np.diff(offsets)
    owner = np.repeat(np.arange(len(counts)), counts)
    held = np.zeros(len(counts), dtype=np.int64)
    for number, (_, tasks) in enumerate(choice.folds):
        held[tasks] = number
    parts = [_expectations(params) for params, _ in choice.folds]
    rank = max(part["factor"].shape[2] for part in (*parts, expected))
    fit = np.flatnonzero(~out) if validation is None else np.arange(len(counts))
    few = training is None and len(counts) < FEWEST_TO_TUNE and forms[0].parts == ("linear",)
    forms = forms[:1] if few else forms
    told = {form.name: _told(parts, held[owner], x, rank, bool(set(form.parts) - {"linear"})) for form in forms}
    high = max(min(shots[1], int(counts[fit].max()) - 1), 1)
    training = (training or Training(patience=4)).filled(steps=STEPS, rate=RATE, batch=BATCH, queries=QUERIES)
    assert training.batch is not None
    assert training.queries is not None
    draw = TaskDraw(training.batch, (min(shots[0], high), high), training.queries)
    found: list[tuple[Form, Outcome]] = []
    for form in forms:
        wide = told[form.name]
        if validation is None:
            judges = _rows_of(wide.x, y, offsets, np.flatnonzero(out))
        else:
            curved = wide.features > 0
            judged = _told([expected], np.zeros(len(validation[1]), np.int64), validation[0], rank, curved)
            judges = FlatRows(judged.x, validation[1], validation[2])
        rule = TracedMachine(ways if kind == "classification" else 0, form.parts, form.dimensions, trained(form))
        start = _start(rule, wide, expected, len(expected["mean"]))
        if few:
            found.append((form, _as_expected(start, len(counts))))
            continue
        found.append(
            (
                form,
                tuned(
                    rule,
                    start,
                    (draw, flat_data(_rows_of(wide.x, y, offsets, fit))),
                    (draw, flat_data(judges)),
                    training.within(form.name) if len(forms) > 1 else training,
                    seed,
                    None if names is None else [names[int(task)] for task in fit],
                ),
            )
        )
    form, outcome, report = best(found)
    told_by = {name: array for name, array in outcome.params.items() if name not in ("mean", "factor")}
    reason = f"{choice.reason}; kernel: {form.name}, {outcome.reason}; params of step {outcome.best_step}"
    settings = described(form, outcome)
    folds = [(_joined(_expectations(params), told_by), tasks) for params, tasks in choice.folds]
    settings["expectations"] = choice.settings
    settings["kernels"] = report
    return LearnedMachine(_joined(expected, told_by), settings, choice.report, reason, folds)


def relearn_machine(
    settings: Mapping[str, Any],
    params: Mapping[str, np.ndarray],
    x: Float[np.ndarray, "row feature"],
    y: Shaped[np.ndarray, " row"],
    offsets: Int[np.ndarray, " boundary"],
) -> dict[str, np.ndarray]:
    """Learn the expectations anew from (more) tasks, and keep what was learned of the machine and its kernel.

    Parameters
    ----------
    settings, params
        Of an earlier `LearnedMachine`.
    x, y, offsets
        Encoded rows of all tasks.
    """
    expected = _expectations(relearn(settings["expectations"], {**params, "weight": np.ones(1)}, x, y, offsets))
    return moved(settings, params, expected["mean"], expected["factor"])


def _as_expected(start: Mapping[str, np.ndarray], tasks: int) -> Outcome:
    """What empirical Bayes says, and nothing more."""
    empty = np.zeros(0)
    reason = f"as expected: {tasks} tasks are too few to learn costs from (fewer than {FEWEST_TO_TUNE})"
    return Outcome(dict(start), 0, 0, None, empty, empty.astype(np.int64), np.zeros((0, 2)), 0.0, reason)


def _expectations(params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One Gaussian prior over weights as mean and factor, one line a latent, and the pooled model."""
    found = {name: array for name, array in params.items() if name.startswith(("pooled/", "hidden/"))}
    mean, factor = params["mean"][0], params["factor"][0]
    if "noise" in params:
        found["noise"] = np.asarray(params["noise"][0])
        mean, factor = mean[None], factor[None]
    if len(mean) > 1:  # a class against all others has a level of its own, which scores of classes together have not
        level = np.zeros((*factor.shape[:2], 1))
        level[:, 0] = LEVEL
        factor = np.concatenate([factor, level], axis=2)
    return found | {"mean": mean, "factor": factor}


def _told(
    parts: Sequence[Mapping[str, np.ndarray]],
    part: Int[np.ndarray, " row"],
    x: Float[np.ndarray, "row feature"],
    rank: int,
    curved: bool,
) -> _Told:
    """Describe rows: features (if the kernel has curved parts), and for every latent expectation and deviations."""
    latents = len(parts[0]["mean"])
    columns = x.shape[1] if curved else 0
    found = np.zeros((len(x), columns + latents * (1 + rank)))
    found[:, :columns] = x[:, :columns]
    for number, params in enumerate(parts):
        rows = np.flatnonzero(part == number)
        phi = features(params, x[rows][None])[0]
        found[rows, columns : columns + latents] = phi @ params["mean"].T
        for latent, factor in enumerate(params["factor"]):
            start = columns + latents + latent * rank
            found[rows, start : start + factor.shape[1]] = phi @ factor
    return _Told(found, columns, rank)


def _start(rule: TracedMachine, told: _Told, expected: Mapping[str, np.ndarray], latents: int) -> dict[str, np.ndarray]:
    """Params on described rows that stand for the expectations as they are."""
    columns = told.x.shape[1]
    mean = np.zeros((latents, 1 + columns))
    factor = np.zeros((latents, 1 + columns, told.rank))
    for latent in range(latents):
        mean[latent, 1 + told.features + latent] = 1.0
        begin = 1 + told.features + latents + latent * told.rank
        factor[latent, begin : begin + told.rank] = np.eye(told.rank)
    # what one class against the others says of no row in particular
    level = 2.0 / latents - 1.0 if latents > 1 else 0.0
    found = {"mean": mean, "factor": factor, "level": np.asarray(level)}
    if rule.ways == 0:
        noise = np.log(expected["noise"])
        found |= {"cost": np.array([-noise]), "noise": noise, "epsilon": np.asarray(np.log(0.02)) + 0.5 * noise}
        found |= {"lift": np.zeros(()), "spread": np.zeros(())}
    else:  # half a margin a unit of log odds, and about the curvature of the log loss
        half = np.asarray(np.log(0.5))
        found |= {"cost": np.full(2, np.log(0.8)), "slope": -half, "lift": half, "spread": half}
    found |= {name: np.asarray(array, np.float64) for name, array in curved_start(rule, max(told.features, 1)).items()}
    if rule.ways == 0 and "rbf" in found:
        found["rbf"] = found["rbf"] + np.log(expected["noise"])
    if "linear" not in rule.parts:
        found["spread"] = np.full((), -6.0)
    return found


def _joined(expected: Mapping[str, np.ndarray], told_by: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Put expectations and what was learned of the machine together, for raw features."""
    params = {name: np.asarray(value, np.float64) for name, value in told_by.items()}
    pooled = {name: array for name, array in expected.items() if name.startswith(("pooled/", "hidden/"))}
    return natural({**params, "mean": expected["mean"], "factor": expected["factor"]}, np) | pooled


def _rows_of(x: np.ndarray, y: np.ndarray, offsets: np.ndarray, tasks: np.ndarray) -> FlatRows:
    rows = np.concatenate([np.arange(offsets[task], offsets[task + 1]) for task in tasks])
    counts = np.diff(offsets)[tasks]
    return FlatRows(x[rows], y[rows], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
