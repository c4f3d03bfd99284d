"""What every training by gradients shares: its network, its precision, and what is said about how it went."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from upstairs.errors import UnsolvedWarning
from upstairs.learners.learn import Plan
from upstairs.learners.networks import Purpose, check_alone, net_for, net_settings
from upstairs.learners.rules import needs_net, traced_class
from upstairs.outer.loop import Outcome
from upstairs.outer.optimiser import Optimiser
from upstairs.outer.training import Training
from upstairs.tasks.encoder import Encoder

if TYPE_CHECKING:
    from upstairs.inner.traced import TracedRule
    from upstairs.nets.build import Net
    from upstairs.outer.draws import Draw

__all__ = ["check_solved", "computing", "described_outcome", "effort", "network", "training_of"]

MOST_UNSOLVED = 0.1
"""Share of the first gradient of a task's problem that may be left where a rule relies on its solution."""
MUON_RATE = 0.015
"""Of a transformer, where nothing else is asked for."""
HEAVY_DRAWS = 40
"""Draws a size for the tables of a prior whose every prediction takes long."""


def network(plan: Plan, shape: tuple[int, ...], encoder: Encoder, outputs: int) -> Net | None:
    """Return the network that a plan asks for, or None for a method without."""
    if plan.method == "prototype":
        net = net_for(plan.net, shape, encoder.width, outputs, "prototype features")
        check_alone(net, plan.method)
        return net
    if not needs_net(plan.method):
        return None
    if plan.net is None:
        raise ValueError(
            f"method={plan.method!r} learns a network, but there is to be none (net=); use net='auto', or method='bayesian-linear'."
        )
    purpose: Purpose = "prototype features" if traced_class(plan.method).features else "predictions"
    return net_for(plan.net, shape, encoder.width, outputs, purpose)


def training_of(plan: Plan, **defaults: Any) -> Training:
    """Fill in what a plan leaves open; a transformer is trained by Muon, unless a rate or an optimiser was given."""
    said = plan.training or Training()
    training = said.filled(**defaults)
    if plan.method != "in-context" or said.rate is not None or said.optimiser is not None:
        return training
    steps = training.steps or 1
    muon = Optimiser("muon", MUON_RATE, "cosine", steps, warmup=min(500, steps // 10), clip=1.0)
    return dataclasses.replace(training, optimiser=muon)


def computing(net: Net | None, training: Training | None) -> Net | None:
    """Return the network that is trained: one that computes in bfloat16, if that was asked for."""
    if training is None or training.precision == "float32":
        return net
    if net is None:
        raise ValueError("Training: precision='bfloat16' is for methods with a network (net=); leave it at 'float32'.")
    from upstairs.nets import precision

    return precision.computing(net, training.precision)


def check_solved(rule: TracedRule, draw: Draw, data: Mapping[str, Any], params: Mapping[str, np.ndarray]) -> None:
    """Warn where a rule is only right at the solution of a task's problem, and its steps do not reach it."""
    from upstairs.outer.scan import unsolved

    left = unsolved(rule, draw, data, params)
    if left > MOST_UNSOLVED:
        warnings.warn(
            f"The inner problem of held-out tasks is not solved: after the inner steps {100 * left:.0f} % of its first gradient is "
            f"left (at most {100 * MOST_UNSOLVED:.0f} % is right), so that the outer gradient is not that of the solution; use more "
            "steps, a larger regulariser, or another rate of descent (options=).",
            UnsolvedWarning,
            stacklevel=2,
        )


def described_outcome(
    plan: Plan,
    outcome: Outcome,
    net: Net | None,
    inputs: tuple[int, ...],
    ways: int,
    judges: int,
    what: Literal["tasks", "classes"],
) -> dict[str, Any]:
    """Say in settings how a training went."""
    found: dict[str, Any] = {} if net is None else {"net": net_settings(net)}
    if plan.method != "prototype":
        found["spec"] = [list(inputs), ways]
    name = "" if net is None else f" with the network {net_settings(net)['name']}"
    best = "" if outcome.best_loss is None else f", where {judges} held-out {what} are predicted best"
    found["choice"] = f"{plan.method}{name}: {outcome.reason}; params of step {outcome.best_step}{best}"
    found["report"] = [
        {"name": f"step {step}", "loss": float(loss), "error": float(error)}
        for step, (loss, error) in zip(outcome.check_steps.tolist(), outcome.checks, strict=True)
    ]
    return found


def effort(net: Net | None) -> dict[str, int]:
    """How many draws the tables of a prior are made of, where a prediction takes long."""
    return {"draws": HEAVY_DRAWS} if net is not None and len(net.inputs) > 1 else {}
