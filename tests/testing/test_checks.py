"""The conformance checks: they pass on this library's meta-learners, and they catch what they are there to catch."""

from __future__ import annotations

import upstairs as up
from upstairs.testing import cases_for, parametrize_with_meta_checks

CASES = cases_for(
    up.MetaNeuralNetwork(prior_mean="linear"),
    setting=("prior_weight", 4.0),
    bad_setting=("prior_weight", -1.0),
)


@parametrize_with_meta_checks(CASES)
def test_meta_neural_network(meta_learner, check):
    check(meta_learner)
