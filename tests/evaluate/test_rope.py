import numpy as np
import pytest

from upstairs.errors import TaskError
from upstairs.evaluate.rope import bayesian_signed_rank, practical_difference, win_tie_loss

# twelve differences, and what baycomp 1.0.3 says of them (SignedRankTest, prior .5 at zero, 200,000 draws, seed 1)
DIFFERENCES = np.array([-0.021, 0.004, -0.035, -0.012, 0.008, -0.051, -0.006, 0.015, -0.028, -0.002, -0.017, 0.001])
BAYCOMP = {
    0.0: (0.976895, 0.0, 0.023105),
    0.01: (0.551865, 0.44809, 0.000045),
    0.02: (0.057725, 0.942275, 0.0),
}


@pytest.mark.parametrize("rope", BAYCOMP)
def test_probabilities_are_those_of_baycomp(rope):
    np.testing.assert_allclose(bayesian_signed_rank(DIFFERENCES, rope), BAYCOMP[rope], atol=0.008)


def test_one_difference_by_hand():
    # weights w of the difference and 1 - w of zero, w ~ Beta(1, 1/2). Means: w^2 at 1, 2 w (1 - w) at 1/2, (1 - w)^2 at 0.
    # Beyond .4 has most weight if 2 w - w^2 > 1/2: w > 1 - sqrt(1/2), which has the probability sqrt(1 - w) = 2 ** -.25
    below, inside, above = bayesian_signed_rank(np.array([1.0]), 0.4, draws=100_000)
    assert (below, above) == (0.0, pytest.approx(2**-0.25, abs=0.005))
    assert inside == pytest.approx(1 - above)


def test_draws_do_not_depend_on_the_order_of_tasks_and_turn_with_the_sign():
    found = bayesian_signed_rank(DIFFERENCES, 0.01, draws=5000)
    assert bayesian_signed_rank(DIFFERENCES[::-1].copy(), 0.01, draws=5000) == found
    assert sum(found) == pytest.approx(1.0)
    np.testing.assert_allclose(bayesian_signed_rank(-DIFFERENCES, 0.01, draws=20_000)[::-1], found, atol=0.03)


def test_many_tasks_are_drawn_in_parts():
    differences = np.random.default_rng(0).normal(0.1, 1.0, size=3000)
    found = bayesian_signed_rank(differences, draws=2000)
    assert found[2] > 0.99


def test_no_difference_at_all():
    assert bayesian_signed_rank(np.zeros(5), draws=500) == (0.5, 0.0, 0.5)
    assert bayesian_signed_rank(np.zeros(5), 0.01, draws=500) == (0.0, 1.0, 0.0)


def test_the_ends_of_the_region_are_ties():
    assert win_tie_loss(np.array([-0.25, 0.25, 0.0, 0.5]), 0.25) == (0, 3, 1)
    assert win_tie_loss(np.array([-0.25, 0.25, 0.0])) == (1, 1, 1)


def test_a_cluster_counts_once():
    differences = np.array([-1.0, -3.0, 0.5, 0.5])
    assert win_tie_loss(differences, 0.1, clusters=["a", "a", "b", "b"]) == (1, 0, 1)
    alone = bayesian_signed_rank(np.array([-2.0, 0.5]), 0.1, draws=1000)
    assert bayesian_signed_rank(differences, 0.1, clusters=["a", "a", "b", "b"], draws=1000) == alone


def test_better_is_what_the_metric_calls_better():
    low, high = np.full(10, 0.1), np.full(10, 0.3)
    less = practical_difference(low, high, 0.01, learner="new", against="old", metric="mse")
    more = practical_difference(low, high, 0.01, higher=True)
    assert (less.better, less.wins, less.losses) == (more.worse, more.losses, more.wins)
    assert (less.wins, less.mean) == (10, pytest.approx(-0.2))
    assert "new against old on 10 tasks, mse within 0.01 counts as equal: better with probability" in str(less)


def test_arguments_are_checked():
    with pytest.raises(TaskError, match=r"rope must be at least 0, but is -0\.1"):
        win_tie_loss(DIFFERENCES, -0.1)
    with pytest.raises(TaskError, match="prior must be above 0 and draws at least 1"):
        bayesian_signed_rank(DIFFERENCES, prior=0.0)
