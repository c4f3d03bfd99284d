"""Learn the prior of support vector machines over tasks with the same columns.

In two steps. Empirical Bayes says what to expect of a new task: a mean decision function, and the directions in which tasks
differ (`upstairs.outer.choose`). Then what is special to the machine, its costs, how far expectation and deviations count,
the slope of probabilities, epsilon, and the curved parts of the kernel with a scale for every feature, is learned by
gradient through the solved machine, on query rows. There every task is described by expectations that were learned without
it, so that they are worth as much as on a new task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from upstairs.inner.columns import features
from upstairs.inner.traced import Spec
from upstairs.inner.traced_machine import TracedMachine, curved_start, natural
from upstairs.outer.choose import choose, relearn
from upstairs.outer.draws import Draw, EpisodeDraw, TaskDraw, flat_data, pool_data
from upstairs.outer.loop import Outcome
from upstairs.outer.metric import Classes, choose_metric, relearn_metric
from upstairs.outer.training import Training, train
from upstairs.tasks.batches import FlatRows

__all__ = [
    "Form",
    "LearnedMachine",
    "learn_machine",
    "learn_own_machine",
    "relearn_machine",
    "relearn_own_machine",
]

STEPS, RATE, BATCH, QUERIES = 400, 0.03, 16, 30
FEWEST_TO_TUNE = 15
"""With fewer tasks the second step, unless it is asked for, learns more about them than about new ones."""
LEVEL = 1.0
"""Standard deviation of the level of one of several classes against the others, in log odds."""
_BETTER = 0.995
"""A form with more to it is used if its loss on held-out tasks is at most so much of that of a simpler one."""
_CHANGES = ("lift", "spread", "level")
_TUNED = ("cost", "lift", "spread", "level", "slope", "epsilon")


@dataclass(frozen=True)
class Form:
    """Which parts the kernel has.

    ``parts`` are names of `upstairs.inner.learned_kernel.PARTS`; ``dimensions`` as for `TracedMachine`.
    """

    parts: tuple[str, ...] = ("linear",)
    dimensions: int = 0

    @property
    def name(self) -> str:
        """For reports."""
        return " + ".join(self.parts)


class LearnedMachine(NamedTuple):
    """A prior, how it was chosen, and pairs of params and tasks that these have not seen."""

    params: dict[str, np.ndarray]
    settings: dict[str, Any]
    report: list[dict[str, Any]]
    reason: str
    folds: list[tuple[dict[str, np.ndarray], np.ndarray]]


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
        rule = TracedMachine(ways if kind == "classification" else 0, form.parts, form.dimensions, _trained(form))
        start = _start(rule, wide, expected, len(expected["mean"]))
        if few:
            found.append((form, _as_expected(start, len(counts))))
            continue
        found.append(
            (
                form,
                _tuned(
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
    form, outcome, report = _best(found)
    told_by = {name: array for name, array in outcome.params.items() if name not in ("mean", "factor")}
    reason = f"{choice.reason}; kernel: {form.name}, {outcome.reason}; params of step {outcome.best_step}"
    settings = _described(form, outcome)
    folds = [(_joined(_expectations(params), told_by), tasks) for params, tasks in choice.folds]
    settings["expectations"] = choice.settings
    settings["kernels"] = report
    return LearnedMachine(_joined(expected, told_by), settings, choice.report, reason, folds)


def learn_own_machine(
    classes: Classes,
    *,
    raw_scale: Float[np.ndarray, " feature"],
    shots: tuple[int, int],
    ways: int,
    forms: Sequence[Form],
    training: Training | None = None,
    validation: Classes | None = None,
    out: Shaped[np.ndarray, " way"],
    seed: int = 0,
) -> LearnedMachine:
    """Learn over tasks with classes of their own: a metric in which kernels are computed, then as `learn_machine`.

    Parameters
    ----------
    classes, raw_scale, validation
        As for `upstairs.outer.metric.choose_metric`.
    shots
        Least and most support rows a class.
    ways
        Classes of a task in training.
    forms, training, out, seed
        As for `learn_machine`; ``out`` has one entry a class.
    """
    choice = choose_metric(classes, raw_scale=raw_scale, shots=shots, ways=ways, validation=validation, seed=seed)
    fit = classes if validation is not None else classes.select(np.flatnonzero(~out))
    judges = validation if validation is not None else classes.select(np.flatnonzero(out))
    transform = relearn_metric(fit, choice.settings, raw_scale)["transform"]
    training = (training or Training(patience=4)).filled(steps=STEPS, rate=RATE, batch=8, queries=10)
    assert training.batch is not None
    assert training.queries is not None
    judged_ways = min(ways, int(np.bincount(judges.owner).max(initial=0)))
    found: list[tuple[Form, Outcome]] = []
    for form in forms:
        rule = TracedMachine(ways, form.parts, form.dimensions, _trained(form), own=True)
        start = {name: np.array(value) for name, value in rule.init(_key(seed), Spec((len(transform),), ways)).items()}
        start["factor"] = _metric_factor(transform)
        if "map" in start and start["map"].ndim == 1:
            start["map"] = np.sqrt(np.square(transform).sum(axis=1))
        judge = None
        if judged_ways >= 2:
            judge = (EpisodeDraw(20, judged_ways, shots, 15), _pool(judges))
        found.append(
            (
                form,
                _tuned(
                    rule,
                    start,
                    (EpisodeDraw(training.batch, ways, shots, training.queries), _pool(fit)),
                    judge,
                    training.within(form.name) if len(forms) > 1 else training,
                    seed,
                    None,
                    TracedMachine(max(judged_ways, 2), form.parts, form.dimensions, _trained(form), own=True),
                ),
            )
        )
    form, outcome, report = _best(found)

    def joined(transform: np.ndarray) -> dict[str, np.ndarray]:
        params = {name: np.asarray(value, np.float64) for name, value in outcome.params.items()}
        return _placed(natural({**params, "factor": _metric_factor(transform)}, np), classes.x)

    settings = _described(form, outcome)
    reason = f"{choice.sentence}; kernel: {form.name}, {outcome.reason}; params of step {outcome.best_step}"
    settings["metric"] = choice.settings
    params = joined(relearn_metric(classes, choice.settings, raw_scale)["transform"])
    described: list[dict[str, Any]] = [
        {"name": f"{entry['metric']} distances, pull {entry['pull']:g}", "loss": entry["log_loss"]}
        for entry in choice.report
    ]
    settings["kernels"] = report
    return LearnedMachine(params, settings, described, reason, [(joined(transform), np.flatnonzero(out))])


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
    return _again(settings, params, expected["mean"], expected["factor"])


def relearn_own_machine(
    settings: Mapping[str, Any],
    params: Mapping[str, np.ndarray],
    classes: Classes,
    raw_scale: Float[np.ndarray, " feature"],
) -> dict[str, np.ndarray]:
    """Learn the metric anew from (more) classes, and keep the rest."""
    transform = relearn_metric(classes, settings["metric"], raw_scale)["transform"]
    return _placed(_again(settings, params, np.zeros_like(params["mean"]), _metric_factor(transform)), classes.x)


def _again(
    settings: Mapping[str, Any], params: Mapping[str, np.ndarray], mean: np.ndarray, factor: np.ndarray
) -> dict[str, np.ndarray]:
    change = {name: np.asarray(settings[name]) for name in _CHANGES}
    mean = mean * np.exp(change["lift"]) + change["level"] * np.eye(1, mean.shape[-1])
    return {**params, "mean": mean, "factor": factor * np.exp(change["spread"])}


def _tuned(
    rule: TracedMachine,
    start: Mapping[str, np.ndarray],
    fit: tuple[Draw, Mapping[str, Any]],
    judges: tuple[Draw, Mapping[str, Any]] | None,
    training: Training,
    seed: int,
    names: Sequence[str] | None,
    judge_rule: TracedMachine | None = None,
) -> Outcome:
    columns = start["mean"].shape[-1] - 1
    return train(
        rule,
        Spec((columns,), rule.ways),
        *fit,
        training,
        validation=judges,
        judge_rule=judge_rule or rule,
        monitor="error" if rule.ways == 0 else "loss",
        seed=seed,
        start=start,
        names=names,
        title=f"support vector machine, {' + '.join(rule.parts)}",
    )


def _described(form: Form, outcome: Outcome) -> dict[str, Any]:
    """What has to be known to learn on."""
    found: dict[str, Any] = {"form": [list(form.parts), form.dimensions]}
    found |= outcome.told
    return found | {name: float(outcome.params[name]) for name in _CHANGES}


def _as_expected(start: Mapping[str, np.ndarray], tasks: int) -> Outcome:
    """What empirical Bayes says, and nothing more."""
    empty = np.zeros(0)
    reason = f"as expected: {tasks} tasks are too few to learn costs from (fewer than {FEWEST_TO_TUNE})"
    return Outcome(dict(start), 0, 0, None, empty, empty.astype(np.int64), np.zeros((0, 2)), 0.0, reason)


def _trained(form: Form) -> tuple[str, ...]:
    return (
        _TUNED
        + tuple(name for name in ("rbf", "poly") if name in form.parts)
        + (() if form.dimensions < 0 else ("map",))
    )


def _best(found: Sequence[tuple[Form, Outcome]]) -> tuple[Form, Outcome, list[dict[str, Any]]]:
    """The simplest form that no other clearly beats on held-out tasks."""
    report: list[dict[str, Any]] = []
    for form, outcome in found:
        told = {} if outcome.best_loss is None else {"loss": float(outcome.best_loss)}
        report.append({"name": f"kernel {form.name}", **told, "step": outcome.best_step})
    form, outcome = found[0]
    for other, reached in found[1:]:
        if reached.best_loss is None or outcome.best_loss is None:
            continue
        if reached.best_loss < outcome.best_loss * (_BETTER if outcome.best_loss > 0 else 1.0):
            form, outcome = other, reached
    return form, outcome, report


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


def _placed(params: dict[str, np.ndarray], x: Float[np.ndarray, "row feature"]) -> dict[str, np.ndarray]:
    """Say where training rows lie in the kernel's directions."""
    z = features(params, x[None])[0] @ params["factor"][0]
    spread = z.std(axis=0)
    return params | {"center": z.mean(axis=0), "spread": np.maximum(spread, 1e-9 + 1e-3 * float(spread.max()))}


def _metric_factor(transform: Float[np.ndarray, "feature dimension"]) -> Float[np.ndarray, "1 column rank"]:
    """Intercept and the metric's directions."""
    factor = np.zeros((1, 1 + transform.shape[0], 1 + transform.shape[1]))
    factor[0, 0, 0] = 1.0
    factor[0, 1:, 1:] = transform
    return factor


def _rows_of(x: np.ndarray, y: np.ndarray, offsets: np.ndarray, tasks: np.ndarray) -> FlatRows:
    rows = np.concatenate([np.arange(offsets[task], offsets[task + 1]) for task in tasks])
    counts = np.diff(offsets)[tasks]
    return FlatRows(x[rows], y[rows], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def _pool(classes: Classes) -> dict[str, np.ndarray]:
    alone = len(np.unique(classes.owner)) == 1
    return pool_data(classes.x, classes.y, (classes.x.shape[1],), None if alone else classes.owner)


def _key(seed: int) -> Any:
    import jax

    return jax.random.key(seed)
