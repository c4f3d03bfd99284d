from __future__ import annotations

import numpy as np
import pytest

from upstairs.errors import PriorMismatchError
from upstairs.inner.forgetful_mixture import MAPS, ForgetfulMixture
from upstairs.inner.rule import Categorical, Gaussian
from upstairs.inner.running_scale import scale_learn, scale_of, scale_start, standardised

SMALL = {"frequencies": 10, "forgetting": (1.0, 0.95)}


def test_running_scale_is_the_weighted_one_and_does_not_depend_on_chunks() -> None:
    rng = np.random.default_rng(0)
    x = 1e3 + rng.standard_normal((40, 3))
    x[rng.random((40, 3)) < 0.2] = np.nan
    weight = ~np.isnan(x) * 0.9 ** np.arange(39, -1, -1.0)[:, None]
    mean = np.nansum(weight * x, axis=0) / weight.sum(axis=0)
    spread = np.sqrt(np.nansum(weight * (x - mean) ** 2, axis=0) / weight.sum(axis=0))
    for chunk in (1, 7, 40):
        state = scale_start(3)
        for first in range(0, 40, chunk):
            state = scale_learn(state, x[first : first + chunk], 0.9)
        np.testing.assert_allclose(state["mean"], mean, rtol=1e-12)
        np.testing.assert_allclose(scale_of(state), spread, rtol=1e-8)


def test_a_constant_or_missing_column_is_zero() -> None:
    x = np.column_stack([np.full(5, 0.1), np.full(5, np.nan), np.arange(5.0)])
    z = standardised(scale_learn(scale_start(3), x, 0.99), x)
    np.testing.assert_array_equal(z[:, :2], 0.0)
    assert z[-1, 2] > 1.0


def _stream(mixture: ForgetfulMixture, x: np.ndarray, y: np.ndarray, chunk: int) -> tuple[np.ndarray, dict]:
    params = mixture.params(x.shape[1], seed=0)
    state, said = mixture.start(params), []
    for first in range(0, len(y), chunk):
        found = mixture.predict(params, state, x[first : first + chunk])
        said.append(found.probability[0] if isinstance(found, Categorical) else found.mean[0])
        state = mixture.learn(params, state, x[first : first + chunk], y[first : first + chunk])
    return np.concatenate(said), state


def test_weights_are_fixed_share_of_the_likelihood() -> None:
    rng = np.random.default_rng(1)
    mixture = ForgetfulMixture(2, share=0.1, **SMALL)
    params = mixture.params(2, seed=0)
    x, y = rng.standard_normal((30, 2)), rng.integers(0, 2, 30)
    state = mixture.learn(params, mixture.start(params), x, y)
    weight = state["weight"]
    each = mixture._probabilities(params, state, x[:2])
    np.testing.assert_allclose(each.sum(axis=2), 1.0)
    for i in range(2):
        weight = weight * each[:, i, y[i]]
        weight = 0.9 * weight / weight.sum() + 0.1 / len(weight)
    np.testing.assert_allclose(mixture.learn(params, state, x[:2], y[:2])["weight"], weight)


@pytest.mark.parametrize("chunk", [1, 25])
def test_a_switched_world_is_learned_again_and_forgetting_wins(chunk: int) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((400, 2))
    y = ((x[:, 0] > 0) == (np.arange(400) < 200)).astype(int)
    said, state = _stream(ForgetfulMixture(2, **SMALL), x, y, chunk)
    right = said.argmax(axis=1) == y
    assert right[100:200].mean() > 0.9
    assert right[300:].mean() > 0.9
    weight = state["weight"].reshape(len(MAPS), 2, 2).sum(axis=(0, 1))
    assert weight[1] > 0.9


def test_maps_see_what_they_are_for_and_columns_without_scale_do_no_harm() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((500, 2)) * [1e6, 1e-6] + [1e7, 3.0]
    z = (x - [1e7, 3.0]) / [1e6, 1e-6]
    y = (z[:, 0] * z[:, 1] > 0).astype(int) + 2 * (np.square(z).sum(axis=1) > 4)
    said, _ = _stream(ForgetfulMixture(4, **SMALL), x, y, 20)
    assert np.isfinite(said).all()
    assert (said.argmax(axis=1) == y)[250:].mean() > 0.75


def test_regression_follows_a_drift_with_a_spread_that_is_not_too_small() -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((800, 1))
    slope = np.where(np.arange(800) < 400, 10.0, -10.0)
    y = 500.0 + slope * x[:, 0] + rng.standard_normal(800)
    mixture = ForgetfulMixture(0, **SMALL)
    said, state = _stream(mixture, x, y, 10)
    assert np.sqrt(np.mean(np.square(said - y)[650:])) < 2.0
    found = mixture.predict(mixture.params(1, seed=0), state, x[:1])
    assert isinstance(found, Gaussian)
    assert 0.7 < np.sqrt(found.variance[0, 0]) < 4.0  # careful: the stated noise is worth ten of some forty rows


def test_a_constant_target_and_no_rows_are_predicted() -> None:
    mixture = ForgetfulMixture(0, **SMALL)
    params = mixture.params(1, seed=0)
    state = mixture.start(params)
    nothing = mixture.predict(params, state, np.ones((2, 1)))
    np.testing.assert_array_equal(nothing.mean, 0.0)
    for _ in range(3):
        state = mixture.learn(params, state, np.ones((5, 1)), np.full(5, 7.0))
    found = mixture.predict(params, state, np.array([[1.0], [np.nan]]))
    np.testing.assert_allclose(found.mean, 7.0)
    assert (found.variance > 0).all()


def test_a_new_class_is_as_if_it_had_been_known() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((60, 2)), rng.integers(0, 2, 60)
    two, three = ForgetfulMixture(2, **SMALL), ForgetfulMixture(3, **SMALL)
    params = two.params(2, seed=0)
    wide = three.widened(two.learn(params, two.start(params), x, y), np.array([0, 2]))
    known = three.learn(params, three.start(params), x, 2 * y)
    for name, value in known.items():
        if name != "weight":
            np.testing.assert_allclose(wide[name], value, atol=1e-12)


def test_many_columns_take_a_choice_of_products() -> None:
    params = ForgetfulMixture(2, products=7).params(20, seed=0)
    assert len(params["first"]) == 7
    assert len(ForgetfulMixture(2).params(1, seed=0)["first"]) == 1


def test_rates_out_of_range_are_named() -> None:
    with pytest.raises(PriorMismatchError, match=r"holds 1\.2"):
        ForgetfulMixture(2, forgetting=(1.2,)).params(1, seed=0)
