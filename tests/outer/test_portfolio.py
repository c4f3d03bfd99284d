"""Portfolios: the greedy order on hand-worked tables, and FLAML's rule with its ties and its end."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from upstairs.outer.portfolio import greedy, greedy_within


def test_each_choice_lowers_the_mean_the_most():
    losses = np.array([[0.0, 0.4, 1.0, 0.9], [1.0, 0.4, 0.0, 0.9], [1.0, 0.4, 1.0, 0.0]])
    # alone: 2/3, .4, 2/3, .6; with 1: 0 or 2 or 3 leave .8 / 3 each: the lower mean loss (3: .6) decides the tie
    assert greedy(losses, 4) == [1, 3, 0, 2]
    assert greedy(losses, 2, weights=np.array([1.0, 0.0, 0.0])) == [0, 1]
    assert greedy(losses, 1, so_far=np.array([0.0, 0.0, 1.0])) == [3]


def test_a_cell_that_was_not_tried_helps_nobody():
    losses = np.array([[np.nan, 0.5], [0.0, 0.5], [0.6, 0.5]])
    # filled with the worst, 1: means 1.6 / 3 and .5
    assert greedy(losses, 2) == [1, 0]


def test_the_rule_of_flaml():
    # excess over .01: A .29+.09=.38, B .04+.19=.23, C .19+0=.19, D (default) .39+.29
    regrets = np.array([[0.0, 0.05, 0.2, 0.4], [0.3, 0.2, 0.0, 0.3], [0.1, 0.0, 0.01, 0.0]])
    # C first (.19), then A (all within .01: 0), then the end, and the default is appended
    assert greedy_within(regrets, bound=0.01, default=3) == [2, 0, 3]
    assert greedy_within(regrets, bound=0.01) == [2, 0]
    # a default that was chosen is not appended twice
    assert greedy_within(regrets, bound=0.01, default=0) == [2, 0]


def test_ties_are_decided_by_mean_regret_and_end_the_portfolio():
    # nothing exceeds .5: a tie of all, decided by the mean (1: .15); excess is 0, so it ends
    regrets = np.array([[0.2, 0.1], [0.3, 0.2]])
    assert greedy_within(regrets, bound=0.5) == [1]
    # 0 first (.09, a tie with 1; means .05 and .055); adding either of the others leaves excess .09 and .055 as means:
    # a tie whose mean is no lower than .05 ends the portfolio
    regrets = np.array([[0.1, 0.1, 0.1], [0.0, 0.01, 0.01]])
    assert greedy_within(regrets, bound=0.01, default=2) == [0, 2]


def test_a_missing_cell_is_no_choice_for_flaml_rule():
    regrets = np.array([[0.0, np.nan], [0.3, 0.0]])
    assert greedy_within(regrets) == [0, 1]


@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 6))
def test_longer_portfolios_are_never_worse(seed, tasks, settings):
    losses = np.random.default_rng(seed).random((tasks, settings))
    order = greedy(losses, settings)
    assert sorted(order) == list(range(settings))
    means = np.minimum.accumulate(losses[:, order], axis=1).mean(axis=0)
    assert (np.diff(means) <= 1e-12).all()
    assert np.isclose(means[0], losses.mean(axis=0).min())
