"""Calibration: bins by hand, the Brier score by scikit-learn, and the error of true and of boastful probabilities."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import brier_score_loss

import upstairs as up
from upstairs.errors import TaskError
from upstairs.evaluate.calibration import calibration_error, confidence_bins
from upstairs.evaluate.metrics import classification_scores


def test_bins_by_hand():
    probability = np.array([[0.95, 0.05], [0.3, 0.7], [0.0, 1.0], [0.62, 0.38]])
    bins = confidence_bins(np.array([0, 0, 1, 0]), probability)
    assert bins[:, 0].tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 0, 2]
    np.testing.assert_allclose(bins[9], [2, 1.95, 2])
    np.testing.assert_allclose(bins[7], [1, 0.7, 0])
    assert calibration_error(bins) == pytest.approx((0.05 + 0.7 + 0.38) / 4)
    assert np.isnan(calibration_error(np.zeros((10, 3))))


def test_true_probabilities_are_calibrated_and_sharper_ones_are_not():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=20_000)
    codes = (rng.uniform(size=len(p)) < p).astype(int)
    boast = np.where(p > 0.5, 0.5 + 0.5 * p, 0.5 * p)
    errors = [calibration_error(confidence_bins(codes, np.stack([1 - q, q], axis=1))) for q in (p, boast)]
    assert errors[0] < 0.01
    assert errors[1] > 0.1


def test_brier_equals_scikit_learn():
    rng = np.random.default_rng(1)
    codes, probability = rng.integers(3, size=30), rng.dirichlet([1, 1, 1], size=30)
    found = classification_scores(codes, probability)["brier"]
    assert found == pytest.approx(brier_score_loss(codes, probability, scale_by_half=False))


def test_an_evaluation_adds_the_rows_of_all_episodes_up():
    tasks = up.tasks.synthetic.HiddenRule().sample(6, 30, random_state=0)
    result = up.evaluate(
        {"trees": RandomForestClassifier(5)}, tasks, shots=[4, 12], baselines=None, queries=10, draws=2
    )
    bins = result.bins["trees"]
    assert {shots: of[:, 0].sum() for shots, of in bins.items()} == {
        shots: result.columns["queries"][result.columns["shots"] == shots].sum() for shots in result.shots
    }
    right = (result.columns["accuracy"] * result.columns["queries"])[result.columns["shots"] == 12].sum()
    assert bins[12][:, 2].sum() == pytest.approx(right)
    assert result.calibration_error("trees") == calibration_error(bins[result.shots[-1]])
    both = up.EvaluationResult.concatenate([result, result])
    np.testing.assert_array_equal(both.bins["trees"][4], 2 * bins[4])
    with pytest.raises(TaskError, match="There is no learner 'other'"):
        result.calibration_error("other")
