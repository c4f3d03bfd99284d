import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, log_loss, r2_score, roc_auc_score

from upstairs.errors import TaskError
from upstairs.evaluate.metrics import (
    METRICS,
    classification_scores,
    metrics_for,
    regression_scores,
    score,
)
from upstairs.outer.ranks import area_under_curve


class Says:
    """A model that answers what it was told."""

    def __init__(self, **answers):
        for name, answer in answers.items():
            setattr(self, name, answer if name == "classes_" else lambda X, answer=answer: answer)


class Density:
    def predict(self, X, return_std=False):
        mean = np.zeros(len(X))
        return (mean, np.full(len(X), 2.0)) if return_std else mean


def test_classification_equals_scikit_learn():
    rng = np.random.default_rng(0)
    codes, probability = rng.integers(2, size=40), rng.dirichlet([1, 1], size=40).round(1)
    probability = np.clip(probability, 0.05, 0.95)
    found = classification_scores(codes, probability, binary=True)
    assert found["auc"] == pytest.approx(roc_auc_score(codes, probability[:, 1]))
    assert found["log_loss"] == pytest.approx(log_loss(codes, probability))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(codes, probability.argmax(axis=1)))


def test_regression_equals_scikit_learn_and_the_normal_density():
    rng = np.random.default_rng(1)
    y, mean = rng.normal(size=30), rng.normal(size=30)
    std = rng.uniform(0.5, 2, size=30)
    interval = np.column_stack([mean - std, mean + std])
    found = regression_scores(y, mean, std, interval)
    assert found["r2"] == pytest.approx(r2_score(y, mean))
    assert found["nlpd"] == pytest.approx(np.mean(0.5 * np.log(2 * np.pi * std**2) + (y - mean) ** 2 / (2 * std**2)))
    assert found["coverage"] == pytest.approx(np.mean(np.abs(y - mean) <= std))


def test_one_class_or_equal_targets_have_no_answer():
    assert np.isnan(area_under_curve(np.zeros(3, dtype=int), np.arange(3.0)))
    assert np.isnan(regression_scores(np.ones(2), np.zeros(2))["r2"])


def test_a_scale_divides_targets_and_moves_the_density():
    y = np.array([1.0, 3.0])
    one, two = (score(Density(), y, y, kind="regression", labels=None, classes=(), scale=s).values for s in (1.0, 2.0))
    assert two["mse"] == pytest.approx(one["mse"] / 4)
    assert two["nlpd"] == pytest.approx(one["nlpd"] - np.log(2.0))
    assert two["coverage"] == one["coverage"] == 1.0


def test_interval_of_the_model_wins():
    model = Says(predict=np.zeros(2), predict_interval=np.array([[-1.0, 1.0], [-1.0, 1.0]]))
    model.predict_interval = lambda X, coverage: np.array([[-1.0, 1.0], [-1.0, 1.0]])
    found = score(
        model, np.zeros(2), np.array([0.5, 5.0]), kind="regression", labels=None, classes=(), scale=1.0
    ).values
    assert found["coverage"] == 0.5
    assert "nlpd" not in found


def test_classes_are_matched_by_label():
    model = Says(predict_proba=np.array([[0.9, 0.1], [0.3, 0.7]]), classes_=np.array(["c", "a"]))
    found = score(
        model,
        np.zeros(2),
        np.array(["c", "a"]),
        kind="classification",
        labels="own",
        classes=("a", "b", "c"),
        scale=1.0,
    ).values
    assert found["accuracy"] == 1.0
    assert found["log_loss"] == pytest.approx(-np.mean(np.log([0.9, 0.7])))


def test_labels_alone_give_accuracy_and_auc():
    model = Says(predict=np.array([1, 0, 1]), classes_=np.array([0, 1]))
    y = np.array([1, 0, 0])
    found = score(model, y, y, kind="classification", labels="shared", classes=(0, 1), scale=1.0).values
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["auc"] == 0.75
    assert "log_loss" not in found


def test_answers_of_a_wrong_shape_or_not_finite():
    for answer, said in ((np.zeros(3), "shape"), (np.array([0.0, np.nan]), "query row 1")):
        with pytest.raises(ValueError, match=said):
            score(Says(predict=answer), np.zeros(2), np.zeros(2), kind="regression", labels=None, classes=(), scale=1.0)
    y = np.array(["z"])
    with pytest.raises(TaskError, match="'z' is not among"):
        score(Says(predict=y), y, y, kind="classification", labels="own", classes=("a",), scale=1.0)


def test_which_metrics_and_which_way():
    assert metrics_for("regression", None, 0)[0] == "mse"
    assert metrics_for("classification", "own", 0)[0] == "accuracy"
    assert metrics_for("classification", "shared", 3)[0] == "accuracy"
    assert METRICS["auc"].loss(0.8) < METRICS["auc"].loss(0.7)
    assert METRICS["mse"].loss(0.7) < METRICS["mse"].loss(0.8)
    assert METRICS["coverage"].loss(0.88) < METRICS["coverage"].loss(1.0)
    assert METRICS["coverage"].said == "0.9 is right"
