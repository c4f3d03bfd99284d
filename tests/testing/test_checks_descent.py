"""The conformance checks on learned descent; labels of a task's own go the way that those of 'maml' do."""

from __future__ import annotations

import dataclasses
import os

import upstairs as up
from upstairs.testing import cases_for, parametrize_with_meta_checks

LONG = bool(os.environ.get("UPSTAIRS_LONG"))
"""Whether the check that is known to fail is gone through: half a minute more."""
META, QUICK = (up.MetaGradientDescent(steps=3, training=up.Training(steps=steps)) for steps in (400, 40))
SURE = {
    "check_does_no_harm": "as for 'maml': the trained model is too sure of itself on unrelated tasks, and guard leaves more than 1.05"
}
SINGLE = 1e-5
"""Precision of what is computed in float32."""
REGRESSION = cases_for(
    META, ["regression"], tolerance=SINGLE, setting=("steps", 2), bad_setting=("steps", 0), quick=QUICK
)
SHARED = cases_for(META, ["shared"], tolerance=SINGLE, expected_failures=SURE, quick=QUICK)
CASES = [*REGRESSION, *(SHARED if LONG else [dataclasses.replace(case, unrelated=None) for case in SHARED])]


@parametrize_with_meta_checks(CASES)
def test_learned_descent(meta_learner, check):
    check(meta_learner)
