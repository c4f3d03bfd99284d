"""Meta decision trees: the split measure against a search over all splits, pruning, and the counts of leaves."""

from __future__ import annotations

import numpy as np
import pytest

from upstairs.inner.tree_nodes import depths, leaves
from upstairs.outer.leaf_counts import MetaTree, learned_counts, own_tree, trusted_tree
from upstairs.outer.meta_tree import attributes, best_split, counted, grow, meta_tree, price


def info(right: np.ndarray) -> float:
    return 1.0 - right.mean(axis=0).max()


def every_split(x, right, least):
    """The paper's measure, split after split."""
    found = []
    for column in range(x.shape[1]):
        for threshold in np.unique(x[:, column])[:-1]:
            left = x[:, column] <= threshold
            if min(left.sum(), (~left).sum()) >= least:
                share = left.mean()
                gain = info(right) - share * info(right[left]) - (1 - share) * info(right[~left])
                found.append((gain, column, frozenset(np.flatnonzero(left))))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_the_best_split_is_that_of_a_search_over_all(seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 6, size=(30, 3)) / 4.0  # equal values, which no split may part
    right, least = rng.random((30, 4)) < rng.random(4), int(rng.integers(1, 8))
    gain, column, threshold = best_split(x, right, least)
    found = every_split(x, right, least)
    assert gain / 30 == pytest.approx(max(value for value, *_ in found), abs=1e-12)
    if gain:
        side = frozenset(np.flatnonzero(x[:, column] <= threshold))
        assert (gain, column, side) in [(round(30 * value), *rest) for value, *rest in found]


def test_attributes_do_not_depend_on_the_number_of_classes():
    even = [attributes(np.full((1, 1, classes), 1 / classes))[0] for classes in (2, 5)]
    np.testing.assert_allclose(even, [[0.5, 1.0], [0.2, 1.0]])
    np.testing.assert_array_equal(attributes(np.eye(3)[:, None]), np.tile([1.0, 0.0], (3, 1)))
    np.testing.assert_array_equal(attributes(np.ones((1, 1, 1))), [[1.0, 0.0]])  # a task of one class


def meta_rows(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The first base classifier is right where its entropy (attribute 1) is low, the second elsewhere."""
    rng = np.random.default_rng(seed)
    x = rng.random((rows, 4))
    low = x[:, 1] < 0.4
    return x, rng.random((rows, 2)) < np.where(np.stack([low, ~low], axis=1), 0.95, 0.5)


def test_the_tree_finds_where_each_is_right_and_beats_both():
    tree = own_tree(*meta_rows(600, 0), ("first", "second"))
    assert tree.n_leaves == 2
    assert tree.export_text().startswith("entropy of first <= 0.4")
    x, right = meta_rows(5000, 1)
    served = right[np.arange(len(x)), tree.trusted(x)].mean()
    assert served > right.mean(axis=0).max() + 0.1


@pytest.mark.parametrize("seed", range(5))
def test_where_one_is_always_best_the_tree_is_one_leaf(seed):
    rng = np.random.default_rng(seed)
    x, right = rng.random((500, 6)), rng.random((500, 3)) < [0.7, 0.8, 0.9]
    tree = own_tree(x, right, ("a", "b", "c"))
    assert (tree.n_leaves, tree.choice.tolist()) == (1, [2])


def test_leaves_keep_their_rows_and_the_order_of_rows_does_not_matter():
    rng = np.random.default_rng(0)
    x, right = rng.random((300, 6)).round(2), rng.random((300, 3)) < 0.6
    tree = grow(x, right, least=12, depth=4)
    rows, hits = counted(tree, x, right)
    at = leaves(tree)
    assert len(at) > 3
    assert rows[at].min() >= 12
    assert rows[at].sum() == rows[0] == 300
    np.testing.assert_array_equal(hits[at].sum(axis=0), right.sum(axis=0))
    assert depths(tree).max() <= 4
    order = rng.permutation(300)
    again = grow(x[order], right[order], least=12, depth=4)
    for name, array in tree.items():
        np.testing.assert_array_equal(again[name], array)


def test_no_leaf_is_kept_for_less_than_its_price():
    rng = np.random.default_rng(1)
    x, right = rng.random((400, 6)), rng.random((400, 3)) < 0.6
    nodes, rows, hits = meta_tree(x, right, least=5)
    at = leaves(nodes)
    assert len(rows) == len(nodes["feature"]) == 2 * len(at) - 1
    assert len(at) == 1 or hits[at].max(axis=1).sum() - hits[0].max() > price(400) * (len(at) - 1)


def test_counts_of_other_tasks_and_own_ones_add_up_to_the_posterior():
    x, right = meta_rows(50, 0)
    nodes, _, _ = meta_tree(*meta_rows(2000, 1))
    start_rows = np.array([4.0, 10.0, 20.0])
    start_right = start_rows[:, None] * [[0.5, 0.5], [0.9, 0.4], [0.3, 0.9]]
    own = own_tree(x, right, ("first", "second"))
    tree, used = trusted_tree(own, nodes, (start_rows, start_right), x, right)
    assert used
    low = x[:, 1] <= nodes["threshold"][0]
    for node, mask in ((1, low), (2, ~low)):
        wanted = (start_right[node] + right[mask].sum(axis=0)) / (start_rows[node] + mask.sum())
        found = (tree.prior_right[node] + tree.right[node]) / (tree.prior_rows[node] + tree.rows[node])
        np.testing.assert_allclose(found, wanted)
        assert tree.choice[node] == wanted.argmax()


def test_a_tree_of_other_tasks_gives_way_to_a_much_better_one():
    x, right = meta_rows(400, 0)
    one_leaf = {"feature": [-1.0], "threshold": [0.0], "left": [-1.0], "right": [-1.0]}
    nodes = {name: np.array(values) for name, values in one_leaf.items()}
    own = own_tree(x, right, ("first", "second"))
    tree, used = trusted_tree(own, nodes, (np.array([50.0]), np.array([[40.0, 10.0]])), x, right)
    assert (tree, used) == (own, False)


def test_tasks_that_differ_count_for_little_and_tasks_that_are_alike_for_much():
    rng = np.random.default_rng(0)
    rows = np.full((200, 1), 40.0)
    alike = learned_counts(rows, rng.binomial(40, 0.8, size=(200, 1, 2)).astype(float))[0]
    apart = learned_counts(rows, rng.binomial(40, rng.beta(2, 1, size=(200, 1, 2))).astype(float))[0]
    assert alike[0] > 100
    assert 2 < apart[0] < 4
    nobody, right = learned_counts(np.zeros((3, 1)), np.zeros((3, 1, 2)))  # a leaf that no task reaches
    assert np.isfinite(nobody).all()
    np.testing.assert_allclose(right / nobody[:, None], 0.5)


def test_equals_are_decided_in_favour_of_the_first():
    nodes = {name: np.array([-1.0]) for name in ("feature", "left", "right")} | {"threshold": np.zeros(1)}
    counts = (np.array([3.0]), np.array([[0.1 + 0.2, 0.3]]))  # equal but for rounding
    tree = MetaTree(nodes, ("a", "b"), np.array([0.0]), np.zeros((1, 2)), *counts)
    assert tree.choice.tolist() == [0]
