"""From losses to a prior: train an update rule on runs down some of them, keep what runs best down the others."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from upstairs.errors import TaskError
from upstairs.learners.descents import gradient_for
from upstairs.outer.training import Training, train
from upstairs.prior import Prior
from upstairs.values import stored

if TYPE_CHECKING:
    from upstairs.inner.descent import Descent
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
    gradient: str
    training: Training | None
    seed: int


def learn_on_losses(problems: Problems, validation: Problems | None, plan: DescentPlan) -> Prior:
    """Make a prior from a family of losses.

    Parameters
    ----------
    problems
        At least 3, or drawn as they are needed.
    validation
        On which the best step of the training is chosen; None: a fifth of ``problems``, which are then not trained on,
        or others that are drawn.
    plan
        What is learned, and how.

    Raises
    ------
    TaskError
        For too few problems, or validation problems of another form.
    """
    import jax

    from upstairs.inner.loss_descent import LossDescent

    if problems.count is not None and problems.count < FEWEST:
        raise TaskError(
            f"Problems: there are {problems.count}, but learning over problems needs at least {FEWEST}; bring more."
        )
    if validation is not None and validation.shapes != problems.shapes:
        raise TaskError(
            "validation: its weights have other shapes than those of the problems; use problems of one form."
        )
    fit, judges = problems, problems if validation is None else validation
    if validation is None and problems.count is not None:
        order = np.random.default_rng([plan.seed, 3]).permutation(problems.count)
        held = min(max(1, round(HELD_OUT * problems.count)), problems.count - 1)
        fit, judges = problems.select(np.sort(order[held:])), problems.select(np.sort(order[:held]))
    training = (plan.training or Training()).filled(steps=1000, rate=3e-3, batch=32, task_clip=TASK_CLIP)
    assert training.batch is not None
    batch = training.batch if fit.count is None else min(training.batch, fit.count)
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
    )
    params = jax.eval_shape(lambda: rule.init(jax.random.key(0)))
    numbers = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
    gradient, how = gradient_for(plan.gradient, numbers, plan.steps, windows=True)
    of_judges = dataclasses.replace(rule, loss=judges.loss, name=judges.name)
    many = 64 if judges.count is None else min(64, judges.count)
    outcome = train(
        rule,
        fit.shapes,
        fit.draw(batch),
        fit.arrays(),
        training,
        validation=(judges.draw(many), judges.arrays()),
        judge_rule=of_judges,
        seed=plan.seed,
        gradient=gradient,
        title="learning to descend",
    )
    settings: dict[str, Any] = {
        "kind": "loss",
        "descent": stored(plan.descent),
        "steps": plan.steps,
        "objective": stored(plan.objective),
        "learn_start": plan.learn_start,
        "shapes": [[name, list(shape)] for name, shape in fit.shapes],
        "gradient": how,
        "choice": f"{type(plan.descent).__name__}, gradient {how}: {outcome.reason}; params of step {outcome.best_step}",
        "report": [
            {"name": f"step {step}", "loss": float(loss), "error": float(error)}
            for step, (loss, error) in zip(outcome.check_steps.tolist(), outcome.checks, strict=True)
        ],
    }
    arrays = {f"params/{name}": array for name, array in outcome.params.items()}
    return Prior("gradient-descent", settings, arrays, {"problems": problems.count, "seconds": outcome.seconds})
