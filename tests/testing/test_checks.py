"""The conformance checks: they pass on this library's meta-learners, and they catch what they are there to catch."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import upstairs as up
from upstairs.learners.guard import Verdict
from upstairs.testing import CHECKS, cases_for, checks_for, parametrize_with_meta_checks
from upstairs.testing.checks import check_unknown_label
from upstairs.testing.checks_use import check_does_no_harm

CASES = cases_for(
    up.MetaNeuralNetwork(prior_mean="linear"),
    setting=("prior_weight", 4.0),
    bad_setting=("prior_weight", -1.0),
)


@parametrize_with_meta_checks(CASES)
def test_meta_neural_network(meta_learner, check):
    check(meta_learner)


def test_every_check_applies_somewhere_and_says_what_it_wants():
    used = {check.__name__ for case in CASES for check in checks_for(case)}
    assert used == {check.__name__ for check in CHECKS}
    assert len(CHECKS) >= 25
    assert all(check.__doc__ for check in CHECKS)


def test_expected_failures_are_strict_and_must_exist():
    case = dataclasses.replace(CASES[0], expected_failures={"check_pickle": "wanted here"})
    for mark in (
        parametrize_with_meta_checks([case]),
        parametrize_with_meta_checks([CASES[0]], expected_failures={"check_pickle": "wanted here"}),
    ):
        params = mark.mark.args[1]
        marked = {param.id: param.marks[0] for param in params if param.marks}
        assert list(marked) == ["MetaNeuralNetwork-regression-check_pickle"]
        assert next(iter(marked.values())).kwargs == {"reason": "wanted here", "strict": True}
    with pytest.raises(up.UpstairsError, match="'check_nothing', which is no check"):
        parametrize_with_meta_checks(CASES, expected_failures={"check_nothing": "?"})


def test_bare_meta_learners_get_small_cases():
    params = parametrize_with_meta_checks([up.MetaNeuralNetwork()]).mark.args[1]
    assert {param.id.split("-")[1] for param in params} == {"regression", "shared", "own"}
    with pytest.raises(up.TaskError, match="kinds must be among regression, shared, own"):
        cases_for(up.MetaNeuralNetwork(), ["ranking"])


def _forgets(self, X, y):
    self.prior_ = up.Prior(self.prior_.family, self.prior_.settings, self.prior_.arrays)
    return self.learner().fit(X, y)


def _first_only(self, tasks):
    return [self.adapt(*tasks[0]) for _ in tasks]


def _peeks(self, X, return_std=False):
    mean, std = _PREDICT(self, X, return_std=True)
    return (mean - mean.mean(), std) if return_std else mean - mean.mean()


def _counts(self, X, return_std=False):
    _SEEN.append(1)
    mean, std = _PREDICT(self, X, return_std=True)
    return (mean + len(_SEEN), std) if return_std else mean + len(_SEEN)


def _copied(prior):
    return up.Prior(prior.family, prior.settings, prior.arrays)


def _without_prior(self, prior, settings):
    return up.PriorNeuralNetworkRegressor(
        None, **({"guard": False} | {k: v for k, v in settings.items() if k != "kind"})
    )


_SEEN: list[int] = []
_PREDICT = up.PriorNeuralNetworkRegressor.predict
_REGRESSOR, _CLASSIFIER = up.PriorNeuralNetworkRegressor, up.PriorNeuralNetworkClassifier
BROKEN = [
    ("check_prior_is_untouched", up.MetaNeuralNetwork, "adapt", _forgets, "put another prior"),
    ("check_adapt_has_no_memory", _REGRESSOR, "predict", _counts, "another task before"),
    ("check_ways_to_adapt_agree", up.MetaNeuralNetwork, "adapt_many", _first_only, "adapt_many differs from adapt"),
    ("check_task_order", up.TaskSet, "canonical", lambda self: self, "in another order"),
    ("check_query_rows_apart", _REGRESSOR, "predict", _peeks, "one by one"),
    ("check_adapt_needs_meta_fit", up.MetaNeuralNetwork, "adapt", lambda self, X, y: None, "was accepted"),
    ("check_clone_keeps_prior", up.Prior, "__sklearn_clone__", _copied, "clone made another prior"),
    ("check_pipeline_and_search", up.Prior, "__sklearn_clone__", _copied, "Pipeline copied the prior"),
    ("check_explicit_setting_wins", _REGRESSOR, "_settings", lambda self, scale: {}, "the prior won"),
    ("check_meta_partial_fit", up.MetaNeuralNetwork, "meta_partial_fit", lambda self, tasks: self, "changed nothing"),
    ("check_familiarity", _REGRESSOR, "familiarity_", 50.0, "familiarity is 50 for unrelated tasks"),
    ("check_beats_base_learner", up.MetaNeuralNetwork, "_new_learner", _without_prior, "does not clearly beat"),
    ("check_messages_name_the_argument", _REGRESSOR, "_settings", lambda self, scale: {}, "prior_weight=-1.0"),
]


@pytest.mark.parametrize(("name", "owner", "attribute", "broken", "said"), BROKEN, ids=[entry[0] for entry in BROKEN])
def test_a_broken_meta_learner_is_caught(monkeypatch, name, owner, attribute, broken, said):
    check = next(check for check in CHECKS if check.__name__ == name)
    check(CASES[0].meta, CASES[0])
    monkeypatch.setattr(owner, attribute, broken)
    with pytest.raises(AssertionError, match=said):
        check(CASES[0].meta, CASES[0])


def test_a_guard_that_never_acts_is_caught(monkeypatch):
    keep = Verdict(True, "always")
    monkeypatch.setattr("upstairs.learners.adaptation.decide", lambda *args: keep)
    with pytest.raises(AssertionError, match="unrelated tasks is"):
        check_does_no_harm(CASES[0].meta, CASES[0])


def test_labels_that_are_guessed_are_caught(monkeypatch):
    monkeypatch.setattr(_CLASSIFIER, "_more_targets", lambda self, y: np.zeros(len(y), dtype=np.int64))
    with pytest.raises(AssertionError, match="a label unknown to the prior must raise PriorMismatchError"):
        check_unknown_label(CASES[1].meta, CASES[1])
