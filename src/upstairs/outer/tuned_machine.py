"""Tune a support vector machine whose expectations are known by gradient through the solved machine, on query rows.

What is learned of the machine: its costs, how far expectation and deviations count, the slope of probabilities, epsilon, and the
curved parts of the kernel with a scale for every feature. Several forms of the kernel are tuned; held-out tasks say which is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from upstairs.inner.traced import Spec
from upstairs.inner.traced_machine import TracedMachine
from upstairs.outer.draws import Draw
from upstairs.outer.loop import Outcome
from upstairs.outer.training import Training, train

__all__ = ["RATE", "STEPS", "Form", "LearnedMachine", "best", "described", "moved", "trained", "tuned"]

STEPS, RATE = 400, 0.03
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


def tuned(
    rule: TracedMachine,
    start: Mapping[str, np.ndarray],
    fit: tuple[Draw, Mapping[str, Any]],
    judges: tuple[Draw, Mapping[str, Any]] | None,
    training: Training,
    seed: int,
    names: Sequence[str] | None,
    judge_rule: TracedMachine | None = None,
) -> Outcome:
    """Tune the machine from ``start``; ``judge_rule`` judges episodes of another number of classes."""
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


def described(form: Form, outcome: Outcome) -> dict[str, Any]:
    """What has to be known to learn on."""
    found: dict[str, Any] = {"form": [list(form.parts), form.dimensions]}
    found |= outcome.told
    return found | {name: float(outcome.params[name]) for name in _CHANGES}


def moved(
    settings: Mapping[str, Any], params: Mapping[str, np.ndarray], mean: np.ndarray, factor: np.ndarray
) -> dict[str, np.ndarray]:
    """Expectations that were learned anew, with the changes that the machine was tuned with."""
    change = {name: np.asarray(settings[name]) for name in _CHANGES}
    mean = mean * np.exp(change["lift"]) + change["level"] * np.eye(1, mean.shape[-1])
    return {**params, "mean": mean, "factor": factor * np.exp(change["spread"])}


def trained(form: Form) -> tuple[str, ...]:
    """Names of what is tuned."""
    return (
        _TUNED
        + tuple(name for name in ("rbf", "poly") if name in form.parts)
        + (() if form.dimensions < 0 else ("map",))
    )


def best(found: Sequence[tuple[Form, Outcome]]) -> tuple[Form, Outcome, list[dict[str, Any]]]:
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
