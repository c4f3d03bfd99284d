from __future__ import annotations

import numpy as np
import pytest

from upstairs.outer.laplace_em import learn_logistic


def _family(ways: int, tasks: int = 60, rows: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    phi = np.concatenate([np.ones((tasks, rows, 1)), rng.standard_normal((tasks, rows, 2))], axis=2)
    latents = 1 if ways == 2 else ways
    mean = np.linspace(-1.0, 1.0, latents * 3).reshape(latents, 3)
    weights = mean + rng.standard_normal((tasks, latents, 3)) * [1.0, 0.5, 0.0]
    score = np.einsum("tnp,tlp->tnl", phi, weights)
    if ways == 2:
        score = np.concatenate([np.zeros_like(score), score], axis=2)
    y = (score + rng.gumbel(size=score.shape)).argmax(axis=2)
    mask = np.arange(rows) < rng.integers(5, rows + 1, tasks)[:, None]
    return phi * mask[..., None], y * mask, mask, mean


@pytest.mark.parametrize("ways", [2, 3])
def test_learning_raises_the_approximate_evidence_and_finds_the_mean(ways: int) -> None:
    phi, y, mask, mean = _family(ways)
    found = learn_logistic(phi, y, mask, ways, strength=2.0, target=0.01, ridge=0.1)
    assert found.history[-1] > found.history[0]
    assert np.diff(found.history[-3:]).min() > -0.5
    center = mean - mean.mean(axis=0) if ways > 2 else mean
    mine = found.mean - found.mean.mean(axis=0) if ways > 2 else found.mean
    np.testing.assert_allclose(mine, center, atol=0.45)
    assert found.covariance[0, 0, 0] > found.covariance[0, 2, 2]


def test_only_chosen_columns_differ_between_tasks() -> None:
    phi, y, mask, _ = _family(2)
    found = learn_logistic(phi, y, mask, 2, random=np.array([0]), diagonal=True)
    assert found.covariance[0, 0, 0] > 0
    assert found.covariance[0, 1:, :].sum() == 0
