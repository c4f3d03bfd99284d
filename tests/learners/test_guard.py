import numpy as np

from upstairs.inner.gaussian import BayesianLinear
from upstairs.learners.guard import FEWEST_ROWS, decide

RULE = BayesianLinear()
PRIOR = {
    "weight": np.ones(1),
    "mean": np.array([[0.0, 2.0]]),
    "factor": 0.1 * np.eye(2)[None],
    "noise": np.array([0.04]),
}
NO_TABLES = {}


def rows(slope, count, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 1))
    return x, slope * x[:, 0] + 0.2 * rng.normal(size=count)


def test_a_fitting_task_keeps_the_prior():
    assert all(decide(RULE, RULE, PRIOR, *rows(2.0, 20, seed), 0, NO_TABLES).keep for seed in range(20))


def test_a_task_that_contradicts_the_prior_drops_it():
    verdict = decide(RULE, RULE, PRIOR, *rows(-2.0, 20), 0, NO_TABLES)
    assert not verdict.keep
    assert verdict.reason.startswith("dropped the prior: rows say -")


def test_too_few_rows_keep_the_prior_and_say_so():
    verdict = decide(RULE, RULE, PRIOR, *rows(-2.0, FEWEST_ROWS - 1), 0, NO_TABLES)
    assert verdict.keep
    assert "too few" in verdict.reason


def test_odds_of_other_tasks_can_outweigh_the_rows():
    x, y = rows(1.2, 6)
    alone = decide(RULE, RULE, PRIOR, x, y, 0, NO_TABLES)
    favoured = decide(RULE, RULE, PRIOR, x, y, 0, {"guard/rows": np.array([6]), "guard/value": np.array([1e3])})
    doomed = decide(RULE, RULE, PRIOR, *rows(2.0, 6), 0, {"guard/rows": np.array([6]), "guard/value": np.array([-1e3])})
    assert favoured.keep
    assert not doomed.keep
    assert "other tasks say +0.0" in alone.reason
