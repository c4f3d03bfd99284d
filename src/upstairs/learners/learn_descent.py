"""From losses to a prior: train an update rule on runs down some of them, keep what runs best down the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from upstairs.errors import TaskError
from upstairs.learners.descents import gradient_for
from upstairs.learners.rules import DESCENT
from upstairs.outer.training import Part, Training, train_in_turns
from upstairs.prior import Prior
from upstairs.values import stored

if TYPE_CHECKING:
    from upstairs.inner.descent import Descent
    from upstairs.inner.loss_descent import LossDescent
    from upstairs.inner.trajectory import Objective
    from upstairs.outer.problems import Problems

__all__ = ["DescentPlan", "learn_on_losses"]

HELD_OUT, FEWEST = 0.2, 3
TASK_CLIP = 1.0


@dataclass(frozen=True)
class DescentPlan:
    """What a user asked of a learned descent on losses."""

    descent: Descent
    steps: int
    shortest: int | None
    objective: Objective
    learn_start: bool
    first_order: bool
    rescale: float
    penalty: float | None
    gradient: str
    training: Training | None
    seed: int


def learn_on_losses(families: Sequence[Problems], validation: Sequence[Problems] | None, plan: DescentPlan) -> Prior:
    """Make a prior from one or more families of losses.

    Parameters
    ----------
    families
        Each of at least 3 problems, or drawn as they are needed. Several take turns, and need a rule that serves any
        weights.
    validation
        On which the best step of the training is chosen, a family for each; None: a fifth of the problems, which are then
        not trained on, or others that are drawn.
    plan
        What is learned, and how.

    Raises
    ------
    TaskError
        For too few problems, or validation problems of another form.
    """
    import jax

    training = (plan.training or Training()).filled(steps=1000, rate=3e-3, batch=32, task_clip=TASK_CLIP)
    judges: list[Problems | None] = [None] * len(families) if validation is None else list(validation)
    forms = [family.shapes for family in families]
    if validation is not None and [judge.shapes for judge in validation] != forms:
        raise TaskError(
            "validation: its weights have other shapes than those of the problems; pass problems of the same form, in the same order."
        )
    parts = [_part(family, judge, plan, training) for family, judge in zip(families, judges, strict=True)]
    shapes = [jax.eval_shape(lambda part=part: part.rule.init(jax.random.key(0), None)) for part in parts]
    if any(found != shapes[0] for found in shapes[1:]):
        raise TaskError(
            f"The {len(families)} families have weights of different shapes, but what {type(plan.descent).__name__} learns depends on "
            "them; use a rule that serves any weights ('network', 'lstm', or 'sgd' and 'adam' with per='all'), without learn_start."
        )
    numbers = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes[0]))
    gradient, how = gradient_for(plan.gradient, numbers, plan.steps, windows=True)
    outcome = train_in_turns(parts, training, seed=plan.seed, gradient=gradient, title="learning to descend")
    settings: dict[str, Any] = {
        "kind": "loss",
        "rule": DESCENT,
        "outer": outcome.told,
        "descent": stored(plan.descent),
        "steps": plan.steps,
        "objective": stored(plan.objective),
        "learn_start": plan.learn_start,
        "shapes": [[[name, list(shape)] for name, shape in family.shapes] for family in families],
        "gradient": how,
        "choice": f"{type(plan.descent).__name__}, gradient {how}: {outcome.reason}; params of step {outcome.best_step}",
        "report": [
            {"name": f"step {step}", "loss": float(loss), "error": float(error)}
            for step, (loss, error) in zip(outcome.check_steps.tolist(), outcome.checks, strict=True)
        ],
    }
    arrays = {f"params/{name}": array for name, array in outcome.params.items()}
    counts = [family.count for family in families]
    return Prior("gradient-descent", settings, arrays, {"problems": counts, "seconds": outcome.seconds})


def _part(problems: Problems, judges: Problems | None, plan: DescentPlan, training: Training) -> Part:
    """Hold some problems out where none are given, and set up what a step draws."""
    from upstairs.inner.loss_descent import LossDescent

    if problems.count is not None and problems.count < FEWEST:
        raise TaskError(
            f"Problems: there are {problems.count}, but learning over problems needs at least {FEWEST}; bring more."
        )
    fit = problems
    if judges is None and problems.count is not None:
        order = np.random.default_rng([plan.seed, 3]).permutation(problems.count)
        held = min(max(1, round(HELD_OUT * problems.count)), problems.count - 1)
        fit, judges = problems.select(np.sort(order[held:])), problems.select(np.sort(order[:held]))
    judges = problems if judges is None else judges
    rule = LossDescent(
        fit.loss,
        fit.shapes,
        plan.descent,
        plan.steps,
        plan.shortest,
        plan.objective,
        plan.learn_start,
        plan.first_order,
        plan.rescale,
        fit.name,
        fit.judge,
        plan.penalty,
        plan.gradient == "implicit",
    )
    assert training.batch is not None
    batch = training.batch if fit.count is None else min(training.batch, fit.count)
    many = 64 if judges.count is None else min(64, judges.count)
    judge_rule = dataclasses.replace(rule, loss=judges.loss, judge=judges.judge, name=judges.name)
    validation = judges.draw(many), judges.arrays()
    return Part(rule, fit.shapes, fit.draw(batch), fit.arrays(), validation, judge_rule, _first(rule, fit, plan.seed))


def _first(rule: LossDescent, problems: Problems, seed: int) -> dict[str, np.ndarray] | None:
    """Params before learning where the start is learned: it begins at the one that the problems have."""
    if not rule.learn_start:
        return None
    import jax

    from upstairs.outer.problems import named

    start = problems.start(jax.random.key(seed)) if callable(problems.start) else problems.start
    params = {name: np.asarray(array) for name, array in rule.init(jax.random.key(seed)).items()}
    return params | {f"start/{name}": np.asarray(array) for name, array in named(start).items()}
