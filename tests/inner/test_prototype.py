import numpy as np
import pytest

from upstairs.inner.prototype import Prototype
from upstairs.inner.rule import Rows

RULE = Prototype()


def rows(x, y):
    return Rows(np.asarray(x, float)[None], np.asarray(y)[None], np.ones((1, len(y)), dtype=bool))


def params(width, pull=0.0, temperature=1.0, anchor=0.0):
    return {
        "transform": np.eye(width),
        "anchor": np.full((1, width), anchor),
        "pull": np.asarray(pull),
        "temperature": np.asarray(temperature),
        "center": np.zeros(width),
        "spread": np.ones(width),
    }


def test_hand_worked_probabilities():
    state = RULE.adapt(params(1), rows([[0.0], [2.0], [5.0]], [0, 0, 1]))
    predicted = RULE.predict(params(1), state, np.array([[[2.0]]])).probability[0, 0]
    weight = np.exp(-np.array([1.0, 9.0]))  # squared distances to the means 1 and 5
    np.testing.assert_allclose(predicted, weight / weight.sum(), atol=1e-14)


def test_pull_shrinks_the_mean_like_rows_at_the_anchor():
    p = params(1, pull=2.0, anchor=10.0)
    state = RULE.adapt(p, rows([[1.0], [3.0], [0.0]], [0, 0, 1]))
    probability = RULE.predict(p, state, np.array([[[6.0]]])).probability[0, 0]
    weight = np.exp(-np.array([(6 - 6.0) ** 2, (6 - 20 / 3) ** 2]))  # (1 + 3 + 20) / 4 and (0 + 20) / 3
    np.testing.assert_allclose(probability, weight / weight.sum(), atol=1e-14)


@pytest.mark.parametrize("pull", [0.0, 1.5])
def test_update_equals_all_rows_at_once(pull):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 3)), np.array([0, 1, 2] * 3)
    p = params(3, pull=pull)
    part = RULE.update(p, RULE.adapt(p, rows(x[:4], y[:4])), rows(x[4:], y[4:]))
    whole = RULE.adapt(p, rows(x, y))
    for name in whole:
        np.testing.assert_allclose(part[name], whole[name], atol=1e-12)


def test_padding_and_batch_change_nothing():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 6, 3)), np.array([[0, 1, 0, 1, 0, 0], [0, 1, 1, 0, 1, 0]])
    mask = np.array([[True] * 4 + [False] * 2, [True] * 6])
    batch = Rows(np.where(mask[..., None], x, 0.0), np.where(mask, y, 0), mask)
    p = params(3, pull=0.5)
    together = RULE.predict(p, RULE.adapt(p, batch), x).probability
    alone = RULE.predict(p, RULE.adapt(p, rows(x[0, :4], y[0, :4])), x[:1]).probability
    np.testing.assert_allclose(together[0], alone[0], atol=1e-14)
    np.testing.assert_allclose(RULE.evidence(p, batch)[0], RULE.evidence(p, rows(x[0, :4], y[0, :4]))[0], atol=1e-14)


def test_own_params_work_for_one_row_a_class_and_constant_rows():
    p = RULE.own_params(np.zeros((2, 3)), np.array([0, 1]), 2)
    assert all(np.isfinite(value).all() for value in p.values())
    probability = RULE.predict(p, RULE.adapt(p, rows(np.zeros((2, 3)), [0, 1])), np.zeros((1, 1, 3))).probability
    np.testing.assert_allclose(probability, 0.5)
