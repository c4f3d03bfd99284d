import numpy as np
import pytest

from upstairs.inner.gaussian import BayesianLinear
from upstairs.inner.rule import Rows
from upstairs.outer.calibrate import SIZES, interpolate, interval_factors, percentile, tables_from

RULE = BayesianLinear()


def params(scale=0.1, noise=0.04):
    return {
        "weight": np.ones(1),
        "mean": np.array([[0.0, 2.0]]),
        "factor": scale * np.eye(2)[None],
        "noise": np.array([noise]),
    }


def tasks(count, rows, seed, slope=2.0, spread=0.1):
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        x = rng.normal(size=(rows, 1))
        weights = np.array([0.0, slope]) + spread * rng.normal(size=2)
        made.append((x, weights[0] + weights[1] * x[:, 0] + 0.2 * rng.normal(size=rows)))
    return made


def test_related_tasks_are_familiar_and_the_prior_is_favoured():
    tables = tables_from(RULE, [(params(), tasks(30, 40, 0))], plain=RULE, ways=0)
    assert tables["familiarity/rows"].tolist() == [s for s in SIZES if s < 40]
    assert interpolate(tables, "guard", 2, default=0.0) > 1.0

    def familiarity(made):
        scores = [
            RULE.evidence(params(), Rows(x[None, :5], y[None, :5], np.ones((1, 5), dtype=bool)))[0] for x, y in made
        ]
        return percentile(tables, 5, np.array(scores))

    related, other = familiarity(tasks(200, 5, 1)), familiarity(tasks(200, 5, 2, slope=-2.0, spread=1.0))
    assert 42 < related.mean() < 58  # percentiles of the same population are uniform
    assert other.mean() < 5


def test_odds_turn_against_a_wrong_prior():
    tables = tables_from(RULE, [(params(), tasks(30, 40, 3, slope=-2.0))], plain=RULE, ways=0)
    assert interpolate(tables, "guard", 20, default=0.0) < -1.0


def test_percentile_between_two_sizes_is_between_their_percentiles():
    tables = {
        "familiarity/rows": np.array([1, 100]),
        "familiarity/scores": np.stack([np.linspace(0, 1, 101), np.linspace(0, 2, 101)]),
    }
    found = [float(percentile(tables, rows, np.array([0.5]))[0]) for rows in (1, 10, 100, 1000)]
    np.testing.assert_allclose(found, [50.0, 37.5, 25.0, 25.0])


@pytest.mark.parametrize("rows", [1, 2])
def test_tasks_too_small_for_any_size_give_only_what_can_be_known(rows):
    tables = tables_from(RULE, [(params(), tasks(3, rows, 0))], plain=RULE, ways=0)
    assert set(tables) <= {f"familiarity/{part}" for part in ("rows", "tasks", "scores")} | {
        "guard/rows",
        "guard/value",
    }
    assert all(size < rows for size in tables.get("guard/rows", []))


def test_same_seed_same_tables():
    first, again = (tables_from(RULE, [(params(), tasks(8, 12, 0))], plain=RULE, ways=0, seed=5) for _ in range(2))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])


def test_interval_factors_bring_the_coverage_to_ninety_percent():
    def covered(factor):
        inside = []
        for x, y in tasks(300, 25, 9):
            rows = Rows(x[None, :5], y[None, :5], np.ones((1, 5), dtype=bool))
            wrong = params(noise=0.36)  # three times the true standard deviation
            predicted = RULE.predict(wrong, RULE.adapt(wrong, rows), x[None, 5:])
            reach = 1.6448536269514722 * factor * np.sqrt(predicted.variance[0])
            inside.append(np.abs(y[5:] - predicted.mean[0]) <= reach)
        return np.mean(inside)

    tables = interval_factors(RULE, [(params(noise=0.36), tasks(60, 40, 8))])
    assert covered(1.0) > 0.99
    assert abs(covered(interpolate(tables, "calibration", 5, default=1.0)) - 0.9) < 0.02


def test_few_validation_tasks_give_no_factor():
    assert interval_factors(RULE, [(params(), tasks(9, 40, 0))]) == {}


def test_the_lowest_of_few_tasks_is_no_stranger():
    line = np.sort(np.random.default_rng(0).normal(size=101))
    scores = np.array([line[0] - 0.01, line[0] - 8.0])
    few, many = (
        percentile(
            {"familiarity/rows": np.array([5]), "familiarity/tasks": np.array([n]), "familiarity/scores": line[None]},
            5,
            scores,
        )
        for n in (20, 100_000)
    )
    assert few[0] > 0.5
    assert few[1] < 0.5
    assert many[1] < few[1] + 1e-9
