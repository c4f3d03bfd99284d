"""Growing one tree for many tasks, against a search by brute force."""

from itertools import pairwise

import numpy as np
import pytest

from upstairs.inner.tree_nodes import descend, leaves
from upstairs.outer.grow_tree import grow_tree


def brute_gain(x, y, offsets, feature, threshold, noise, share):
    """The gain of one split of the root, by its definition."""
    weights, differences = [], []
    for start, stop in pairwise(offsets):
        low = x[start:stop, feature] <= threshold
        if low.all() or not low.any():
            continue
        weights.append(low.sum() * (~low).sum() / len(low))
        differences.append(y[start:stop][~low].mean() - y[start:stop][low].mean())
    w, d = np.array(weights), np.array(differences)
    common = (w * d).sum() ** 2 / w.sum()
    own = (w * d**2).sum() - common - noise * (len(w) - 1)
    return common - noise + share * max(own, 0.0)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_first_split_is_the_best_of_all(share):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, (60, 3)).astype(float), rng.normal(size=60)
    y += np.where(x[:, 1] > 2, 1.0, 0.0) * np.repeat([2.0, -1.0, 3.0, 1.0], 15)
    offsets = np.array([0, 15, 30, 45, 60])
    found = grow_tree(x, y[:, None], offsets, noise=np.array([0.5]), share=share, leaves=2, fewest_rows=5)
    scores = {}
    for feature in range(3):
        values = np.unique(x[:, feature])
        for threshold in 0.5 * (values[:-1] + values[1:]):
            if min((x[:, feature] <= threshold).sum(), (x[:, feature] > threshold).sum()) >= 5:
                scores[feature, threshold] = brute_gain(x, y, offsets, feature, threshold, 0.5, share)
    best = max(scores, key=scores.get)
    assert (int(found.feature[0]), float(found.threshold[0])) == best
    np.testing.assert_allclose(found.gain[0], scores[best])


def test_effects_of_opposite_sign_are_found_and_levels_are_not():
    rng = np.random.default_rng(1)
    tasks, rows = 30, 20
    x = rng.normal(size=(tasks * rows, 3))
    task = np.repeat(np.arange(tasks), rows)
    x[:, 2] = rng.normal(size=tasks)[task]  # tells tasks apart, is constant inside
    y = 5.0 * x[:, 2] + np.where(x[:, 0] > 0, 1.0, -1.0) * rng.normal(size=tasks)[task] + 0.1 * rng.normal(size=len(x))
    offsets = np.arange(0, len(x) + 1, rows)
    found = grow_tree(x, y[:, None], offsets, noise=np.array([0.01]), share=1.0, leaves=2)
    assert found.feature[0] == 0
    assert abs(found.threshold[0]) < 0.1


def test_noise_alone_grows_next_to_nothing():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(600, 4)), rng.normal(size=600)
    found = grow_tree(x, y[:, None], np.arange(0, 601, 20), noise=np.array([1.0]), share=0.0, leaves=32)
    fitted = grow_tree(
        x, (y + 3.0 * (x[:, 0] > 0))[:, None], np.arange(0, 601, 20), noise=np.array([1.0]), share=0.0, leaves=2
    )
    assert found.gain.max() < 0.05 * fitted.gain.max()


def test_trees_of_fewer_leaves_are_the_start_of_larger_ones():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(400, 2))
    y = np.sin(3 * x[:, 0]) + x[:, 1] ** 2
    offsets = np.arange(0, 401, 20)
    large = grow_tree(x, y[:, None], offsets, noise=np.array([0.01]), share=0.5, leaves=16)
    small = grow_tree(x, y[:, None], offsets, noise=np.array([0.01]), share=0.5, leaves=5)
    first, alone = large.first(4), small.first(15)
    for name in first:
        np.testing.assert_array_equal(first[name], alone[name])
    assert len(leaves(first)) == 5
    assert set(descend(first, x[None])[0].tolist()) == set(leaves(first).tolist())
