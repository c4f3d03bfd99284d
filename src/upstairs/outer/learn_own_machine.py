"""Learn the prior of support vector machines over tasks with classes of their own: a metric, and the machine in it.

Validation classes choose the metric in which kernels are computed (`upstairs.outer.metric`); what is special to the machine is then
tuned on episodes of classes (`upstairs.outer.tuned_machine`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Shaped

from upstairs.inner.columns import features
from upstairs.inner.traced import Spec
from upstairs.inner.traced_machine import TracedMachine, natural
from upstairs.outer.draws import EpisodeDraw, pool_data
from upstairs.outer.loop import Outcome
from upstairs.outer.metric import Classes, choose_metric, relearn_metric
from upstairs.outer.training import Training
from upstairs.outer.tuned_machine import RATE, STEPS, Form, LearnedMachine, best, described, moved, trained, tuned

__all__ = ["learn_own_machine", "relearn_own_machine"]


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
        rule = TracedMachine(ways, form.parts, form.dimensions, trained(form), own=True)
        start = {
            name: np.array(value)
            for name, value in rule.init(jax.random.key(seed), Spec((len(transform),), ways)).items()
        }
        start["factor"] = _metric_factor(transform)
        if "map" in start and start["map"].ndim == 1:
            start["map"] = np.sqrt(np.square(transform).sum(axis=1))
        judge = None
        if judged_ways >= 2:
            judge = (EpisodeDraw(20, judged_ways, shots, 15), _pool(judges))
        found.append(
            (
                form,
                tuned(
                    rule,
                    start,
                    (EpisodeDraw(training.batch, ways, shots, training.queries), _pool(fit)),
                    judge,
                    training.within(form.name) if len(forms) > 1 else training,
                    seed,
                    None,
                    TracedMachine(max(judged_ways, 2), form.parts, form.dimensions, trained(form), own=True),
                ),
            )
        )
    form, outcome, report = best(found)

    def joined(transform: np.ndarray) -> dict[str, np.ndarray]:
        params = {name: np.asarray(value, np.float64) for name, value in outcome.params.items()}
        return _placed(natural({**params, "factor": _metric_factor(transform)}, np), classes.x)

    settings = described(form, outcome)
    reason = f"{choice.sentence}; kernel: {form.name}, {outcome.reason}; params of step {outcome.best_step}"
    settings["metric"] = choice.settings
    params = joined(relearn_metric(classes, choice.settings, raw_scale)["transform"])
    tried: list[dict[str, Any]] = [
        {"name": f"{entry['metric']} distances, pull {entry['pull']:g}", "loss": entry["log_loss"]}
        for entry in choice.report
    ]
    settings["kernels"] = report
    return LearnedMachine(params, settings, tried, reason, [(joined(transform), np.flatnonzero(out))])


def relearn_own_machine(
    settings: Mapping[str, Any],
    params: Mapping[str, np.ndarray],
    classes: Classes,
    raw_scale: Float[np.ndarray, " feature"],
) -> dict[str, np.ndarray]:
    """Learn the metric anew from (more) classes, and keep the rest."""
    transform = relearn_metric(classes, settings["metric"], raw_scale)["transform"]
    return _placed(moved(settings, params, np.zeros_like(params["mean"]), _metric_factor(transform)), classes.x)


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


def _pool(classes: Classes) -> dict[str, np.ndarray]:
    alone = len(np.unique(classes.owner)) == 1
    return pool_data(classes.x, classes.y, (classes.x.shape[1],), None if alone else classes.owner)
