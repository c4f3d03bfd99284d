import numpy as np
import pytest

from upstairs.errors import TaskError
from upstairs.evaluate.effects import effect_over_tasks_and_seeds


def test_components_by_hand():
    # means of tasks 1, 4, of seeds 2, 3, of all 2.5; what is left is .5 in every cell
    # squares: tasks 2 (1.5^2 + 1.5^2) / 1 = 9, seeds 2 (.5^2 + .5^2) / 1 = 1, rest 4 * .25 / 1 = 1
    found = effect_over_tasks_and_seeds(np.array([[1.0, 1.0], [3.0, 5.0]]))
    assert (found.mean, found.tasks, found.seeds) == (2.5, 2, 2)
    assert (found.var_tasks, found.var_seeds, found.var_rest) == (4.0, 0.0, 1.0)
    assert found.error_over_tasks == pytest.approx(1.5)  # as for the two means 1 and 4
    assert found.spread_over_seeds == pytest.approx(np.sqrt(0.5))  # of 2 and 3
    assert found.error == pytest.approx(1.5)


def test_both_parts_are_plain_statistics_of_means():
    values = np.random.default_rng(0).normal(size=(9, 4))
    found = effect_over_tasks_and_seeds(values)
    assert found.error_over_tasks == pytest.approx(values.mean(axis=1).std(ddof=1) / 3)
    assert found.spread_over_seeds == pytest.approx(values.mean(axis=0).std(ddof=1))


def test_components_are_found_again():
    rng = np.random.default_rng(1)
    values = 0.3 + rng.normal(0, 2.0, (400, 1)) + rng.normal(0, 1.0, (1, 200)) + rng.normal(0, 0.5, (400, 200))
    found = effect_over_tasks_and_seeds(values)
    np.testing.assert_allclose((found.var_tasks, found.var_seeds, found.var_rest), (4.0, 1.0, 0.25), rtol=0.25)


def test_the_error_covers_new_tasks_and_seeds():
    rng, hits = np.random.default_rng(2), 0
    for _ in range(400):
        values = rng.normal(0, 1, (12, 1)) + rng.normal(0, 1, (1, 12)) + rng.normal(0, 1, (12, 12))
        found = effect_over_tasks_and_seeds(values)
        hits += abs(found.mean) <= 2.1 * found.error
    assert 0.92 <= hits / 400 <= 0.99  # with the error over tasks alone it would be about .86


def test_one_seed_says_nothing_about_seeds():
    found = effect_over_tasks_and_seeds(np.array([[1.0], [2.0], [3.0]]))
    assert found.error_over_tasks == pytest.approx(1 / np.sqrt(3))
    assert np.isnan([found.spread_over_seeds, found.error, found.var_seeds]).all()


def test_a_cluster_counts_once():
    values = np.random.default_rng(3).normal(size=(6, 3))
    grouped = effect_over_tasks_and_seeds(values, ["a", "a", "b", "b", "c", "c"])
    assert grouped == effect_over_tasks_and_seeds(values.reshape(3, 2, 3).mean(axis=1))
    assert "over 3 tasks" in str(grouped)


def test_values_must_be_known():
    with pytest.raises(TaskError, match="differences must be finite"):
        effect_over_tasks_and_seeds(np.array([[np.nan, 1.0]]))
