"""What is filled in where a training leaves something open."""

from __future__ import annotations

import optax
import pytest

import upstairs as up
from upstairs.learners.learn import Plan
from upstairs.learners.trained import training_of
from upstairs.outer.optimiser import Optimiser


def plan(method: str, training: up.Training | None) -> Plan:
    return Plan(method, {}, "auto", training, "auto", None, None, (), 0)


def test_a_transformer_is_trained_by_muon_unless_something_else_was_asked_for() -> None:
    found = training_of(plan("in-context", None), steps=100, rate=0.1)
    assert isinstance(found.optimiser, Optimiser)
    assert (found.optimiser.name, found.optimiser.steps, found.optimiser.warmup) == ("muon", 100, 10)
    own = optax.sgd(0.1)
    assert training_of(plan("in-context", up.Training(optimiser=own)), steps=100, rate=0.1).optimiser is own
    for method, training in (("in-context", up.Training(rate=0.003)), ("maml", None)):
        found = training_of(plan(method, training), steps=100, rate=0.1)
        assert found.optimiser is None
        assert found.rate == pytest.approx(0.1 if training is None else 0.003)
