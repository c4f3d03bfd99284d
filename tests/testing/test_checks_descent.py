"""The conformance checks on learned descent; labels of a task's own go the way that those of 'maml' do."""

from __future__ import annotations

import upstairs as up
from upstairs.testing import cases_for, parametrize_with_meta_checks

META = up.MetaGradientDescent(steps=3, training=up.Training(steps=400))
SURE = {
    "check_does_no_harm": "as for 'maml': the trained model is too sure of itself on unrelated tasks, and guard leaves more than 1.05"
}
SINGLE = 1e-5
"""Precision of what is computed in float32."""
CASES = [
    *cases_for(META, ["regression"], tolerance=SINGLE, setting=("steps", 2), bad_setting=("steps", 0)),
    *cases_for(META, ["shared"], tolerance=SINGLE, expected_failures=SURE),
]


@parametrize_with_meta_checks(CASES)
def test_learned_descent(meta_learner, check):
    check(meta_learner)
