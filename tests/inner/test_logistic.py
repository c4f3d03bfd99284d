from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from upstairs.inner.logistic import BayesianLogistic, find_mode, latents_of
from upstairs.inner.rule import Rows

RULE = BayesianLogistic()


def _prior(seed: int, ways: int, columns: int = 3, components: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    latents = 1 if ways == 2 else ways
    return {
        "weight": rng.dirichlet(np.ones(components)),
        "mean": 0.5 * rng.standard_normal((components, latents, columns + 1)),
        "factor": 0.7 * rng.standard_normal((components, latents, columns + 1, columns + 1)),
    }


def _rows(seed: int, counts: list[int], ways: int, columns: int = 3, longest: int | None = None) -> Rows:
    rng = np.random.default_rng(seed)
    longest = max(counts) if longest is None else longest
    x, y = np.zeros((len(counts), longest, columns)), np.zeros((len(counts), longest), dtype=np.int64)
    mask = np.zeros((len(counts), longest), dtype=bool)
    for t, count in enumerate(counts):
        x[t, :count], y[t, :count] = rng.standard_normal((count, columns)), rng.integers(0, ways, count)
        mask[t, :count] = True
    return Rows(x, y, mask)


@pytest.mark.parametrize("latents", [1, 3])
def test_mode_has_no_gradient_and_the_curvature_is_the_second_derivative(latents: int) -> None:
    rng = np.random.default_rng(0)
    design, start = 2.0 * rng.standard_normal((1, 15, latents, 4)), rng.standard_normal((1, 15, latents))
    onehot = latents_of(rng.integers(0, max(latents, 2), (1, 15)), latents)
    mode = find_mode(design, start, onehot, np.ones((1, 15), dtype=bool))
    assert mode.gradient.max() < 1e-8

    def objective(z: np.ndarray) -> float:
        score = start[0] + np.einsum("nlr,lr->nl", design[0], z.reshape(latents, 4))
        if latents == 1:
            fit = (onehot[0] * score - np.logaddexp(0, score)).sum()
        else:
            fit = (onehot[0] * score).sum() - np.logaddexp.reduce(score, axis=1).sum()
        return float(fit - 0.5 * z @ z)

    size, step = latents * 4, 1e-4
    eye = np.eye(size) * step
    curvature = np.empty((size, size))
    z = mode.z[0]
    for i in range(size):
        for j in range(size):
            four = [objective(z + a * eye[i] + b * eye[j]) * a * b for a in (1, -1) for b in (1, -1)]
            curvature[i, j] = -sum(four) / (4 * step * step)
    np.testing.assert_allclose(mode.lower[0] @ mode.lower[0].T, curvature, atol=1e-4)


def test_own_params_equal_an_l2_logistic_regression() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((30, 3))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    y = (x[:, 0] + rng.standard_normal(30) > 0).astype(np.int64)
    params = RULE.own_params(x, y, 2)
    state = RULE.adapt(params, Rows(x[None], y[None], np.ones((1, 30), dtype=bool)))
    wide = np.column_stack([3.0 * np.ones(30), x])  # the level with standard deviation 3
    model = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=1000).fit(wide, y)
    expected = model.coef_[0] * np.array([3.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(state["mean"][0, 0, 0], expected, atol=1e-4)


@pytest.mark.parametrize(("ways", "components"), [(2, 1), (2, 2), (4, 1), (3, 2)])
def test_batch_equals_single_and_padding_changes_nothing(ways: int, components: int) -> None:
    params = _prior(0, ways, components=components)
    counts = [7, 1, 0, 20]
    batch = _rows(3, counts, ways, longest=24)
    query = np.random.default_rng(9).standard_normal((4, 5, 3))
    together = RULE.predict(params, RULE.adapt(params, batch), query).probability
    evidence = RULE.evidence(params, batch)
    np.testing.assert_allclose(together.sum(axis=2), 1.0, atol=1e-12)
    assert together.shape == (4, 5, ways)
    for t, count in enumerate(counts):
        alone = Rows(batch.x[t : t + 1, :count], batch.y[t : t + 1, :count], batch.mask[t : t + 1, :count])
        single = RULE.predict(params, RULE.adapt(params, alone), query[t : t + 1]).probability
        np.testing.assert_allclose(together[t], single[0], rtol=0, atol=1e-10)
        np.testing.assert_allclose(evidence[t], RULE.evidence(params, alone)[0], rtol=0, atol=1e-9)


def test_one_class_in_the_support_is_valid() -> None:
    params = _prior(6, 2)
    support = _rows(7, [5], 2)
    ones = Rows(support.x, np.ones_like(support.y), support.mask)
    probability = RULE.predict(params, RULE.adapt(params, ones), support.x).probability
    before = RULE.predict(params, RULE.adapt(params, _rows(0, [0], 2)), support.x).probability
    assert probability[0, :, 1].mean() > before[0, :, 1].mean()


def test_an_extreme_prior_still_converges() -> None:
    params = _prior(8, 2)
    params["factor"] = params["factor"] * 100.0
    support = _rows(9, [12, 3], 2)
    state = RULE.adapt(params, support)
    assert np.isfinite(state["mean"]).all()


@pytest.mark.parametrize("ways", [2, 3])
def test_more_columns_than_rows_have_the_same_most_probable_weights(ways: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((9, 20)), np.arange(9) % ways
    known = RULE.own_params(x, y, ways)
    assert known["factor"].shape[-1] == 9
    scale = np.zeros((21, 21))
    scale[0, 0] = 3.0
    scale[1:, 1:] = np.diag(1 / x.std(axis=0))
    scale[0, 1:] = -x.mean(axis=0) / x.std(axis=0)
    whole = known | {"factor": np.broadcast_to(scale, (*known["factor"].shape[:2], 21, 21))}
    rows = Rows(x[None], y[None], np.ones((1, 9), dtype=bool))
    few, all_ = (RULE.adapt(params, rows)["mean"] for params in (known, whole))
    np.testing.assert_allclose(few, all_, atol=1e-7)
