"""Each family is what it says, and its optimum is one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from upstairs.errors import TaskError
from upstairs.tasks.synthetic import Family, HiddenRule, SharedSubspace, Sinusoids, Unrelated

FAMILIES = [Sinusoids(), SharedSubspace(), HiddenRule(), Unrelated(), Unrelated("classification")]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: f"{family.name}-{family.kind}")
def test_sampling_is_repeatable_and_grows_at_the_end(family: Family) -> None:
    few, many = family.sample(3, rows=(4, 9), random_state=5), family.sample(8, rows=(4, 9), random_state=5)
    for a, b in zip(few, many, strict=False):
        assert a.name == b.name
        assert np.array_equal(a.X, b.X)
        assert np.array_equal(a.y, b.y)
    assert not np.array_equal(few[0].X, family.sample(1, rows=len(few[0]), random_state=6)[0].X)
    assert few.kind == family.kind
    assert few.labels == ("shared" if family.kind == "classification" else None)


@pytest.mark.parametrize("rows", [0, (3, 2), (0, 4)])
def test_rows_must_be_a_range(rows: object) -> None:
    with pytest.raises(TaskError, match="rows="):
        Sinusoids().sample(2, rows=rows)  # type: ignore[arg-type]


def test_row_ranges_reach_both_ends() -> None:
    assert set(Sinusoids().sample(60, rows=(3, 5)).rows.tolist()) == {3, 4, 5}


# Sinusoids --------------------------------------------------------------------------------------------------------


def test_sinusoids_follow_the_published_protocol() -> None:
    tasks = list(Sinusoids().sample(1500, rows=3, random_state=0))
    x = np.concatenate([task.X[:, 0] for task in tasks])
    assert stats.kstest(x, stats.uniform(-5, 10).cdf).pvalue > 1e-3
    waves = []
    for task in tasks:
        a, b = np.linalg.lstsq(np.stack([np.sin(task.X[:, 0]), -np.cos(task.X[:, 0])], 1), task.y, rcond=None)[0]
        waves.append((np.hypot(a, b), np.arctan2(b, a)))
    amplitude, phase = np.array(waves).T
    assert stats.kstest(amplitude, stats.uniform(0.1, 4.9).cdf).pvalue > 1e-3
    assert stats.kstest(phase, stats.uniform(0, np.pi).cdf).pvalue > 1e-3


def test_two_rows_fix_a_wave() -> None:
    family = Sinusoids()
    for task in family.sample(10, rows=20, random_state=1):
        np.testing.assert_allclose(family.best(task.X[:2], task.y[:2], task.X), task.y, atol=1e-6)


def test_the_error_without_rows_is_the_integral_over_the_family() -> None:
    amplitude, phase, x = np.meshgrid(*(np.linspace(0, 1, 201)[1::2] for _ in range(3)))
    amplitude, phase, x = 0.1 + 4.9 * amplitude, np.pi * phase, 10 * x - 5
    best = Sinusoids().best(np.empty((0, 1)), np.empty(0), x.reshape(-1, 1)).reshape(x.shape)
    error = ((amplitude * np.sin(x - phase) - best) ** 2).mean()
    assert error == pytest.approx(Sinusoids().prior_error(), rel=1e-3)
    assert Sinusoids(noise=0.3).prior_error() == pytest.approx(Sinusoids().prior_error() + 0.09)


def test_the_posterior_mean_of_a_noisy_wave_cannot_be_stretched_or_shifted() -> None:
    """The residual of a posterior mean is uncorrelated with every function of the support, the mean included."""
    family = Sinusoids(noise=0.3)
    guess, truth = [], []
    for task in family.sample(400, rows=7, random_state=2):
        guess.append(family.best(task.X[:2], task.y[:2], task.X[2:]))
        truth.append(task.y[2:])
    mean, y = np.array(guess), np.array(truth)
    for direction in (np.ones_like(mean), mean, y.mean() + np.sign(mean)):
        moment = ((y - mean) * direction).mean(axis=1)
        assert abs(moment.mean()) < 4 * moment.std() / np.sqrt(len(moment))
    assert 0.09 < ((y - mean) ** 2).mean() < 0.5 * family.prior_error()


# Shared subspace --------------------------------------------------------------------------------------------------


def test_subspace_best_is_the_gaussian_posterior_over_all_weights() -> None:
    family = SharedSubspace(features=4, rank=2)
    mean, covariance, noise = family.prior()
    task = family.sample(1, rows=12)[0]
    seen, new = (np.column_stack([np.ones(len(X)), X]) for X in (task.X[:5], task.X[5:]))
    kernel = seen @ covariance @ seen.T + noise * np.eye(5)
    expected = new @ mean + new @ covariance @ seen.T @ np.linalg.solve(kernel, task.y[:5] - seen @ mean)
    np.testing.assert_allclose(family.best(task.X[:5], task.y[:5], task.X[5:]), expected, atol=1e-10)


def test_subspace_prior_has_the_stated_rank_spread_and_moments() -> None:
    family = SharedSubspace(features=6, rank=3, noise=0.2, spread=1.5)
    mean, covariance, noise = family.prior()
    assert np.linalg.matrix_rank(covariance) == 3
    assert np.trace(covariance) == pytest.approx(1.5**2)
    assert noise == pytest.approx(0.04)
    weights = []
    for task in family.sample(800, rows=60, random_state=0):
        weights.append(np.linalg.lstsq(np.column_stack([np.ones(60), task.X]), task.y, rcond=None)[0])
    assert np.abs(np.mean(weights, axis=0) - mean).max() < 0.2
    assert np.abs(np.cov(np.array(weights).T) - covariance).max() < 0.2


def test_subspace_bayes_error_is_exact_without_rows_and_met_by_best() -> None:
    family = SharedSubspace()
    assert family.bayes_error(0) == pytest.approx(family.noise**2 + family.spread**2)
    for rows in (1, 4):
        errors = [
            ((family.best(task.X[:rows], task.y[:rows], task.X[rows:]) - task.y[rows:]) ** 2).mean()
            for task in family.sample(500, rows=30, random_state=1)
        ]
        assert abs(np.mean(errors) - family.bayes_error(rows)) < 4 * np.std(errors) / np.sqrt(len(errors))
    assert family.bayes_error(2000, draws=20) == pytest.approx(family.noise**2, rel=0.01)


@pytest.mark.parametrize("bad", [{"rank": 0}, {"rank": 12}, {"noise": 0.0}])
def test_subspace_refuses_impossible_settings(bad: dict[str, float]) -> None:
    with pytest.raises(TaskError, match=next(iter(bad))):
        SharedSubspace(**bad)  # type: ignore[arg-type]


# Hidden rule ------------------------------------------------------------------------------------------------------


def test_hidden_rule_lies_in_its_subspace_and_nowhere_else() -> None:
    family = HiddenRule(separation=3.0)
    np.testing.assert_allclose(family.basis.T @ family.basis, np.eye(3), atol=1e-12)
    task = family.sample(1, rows=6000)[0]
    inside = task.X @ family.basis
    outside = task.X - inside @ family.basis.T
    means = np.array([outside[task.y == label].mean(axis=0) for label in (0, 1)])
    assert np.abs(means).max() < 0.1
    assert np.linalg.eigvalsh(np.cov(outside.T))[3:] == pytest.approx(np.ones(17), abs=0.15)
    assert np.trace(np.cov(inside.T)) > 9


def test_tasks_turn_the_same_corners() -> None:
    family = HiddenRule(separation=6.0, seed=3)
    assert np.unique(np.abs(family.centres)).tolist() == [6.0]
    assert len(np.unique(family.centres.reshape(-1, 3), axis=0)) == 4
    distances = []
    for task in family.sample(3, rows=400):
        inside = task.X @ family.basis
        distances.append(np.sort(np.linalg.norm(inside, axis=1)).mean())
        assert abs(task.y.mean() - 0.5) < 1e-9
    np.testing.assert_allclose(distances, 6 * np.sqrt(3), rtol=0.03)
    first, second = (task.X[task.y == 0].mean(axis=0) @ family.basis for task in family.sample(2, rows=400))
    assert np.linalg.norm(first - second) > 1


def test_hidden_rule_belongs_to_the_seed_of_the_family() -> None:
    assert np.array_equal(HiddenRule(seed=1).basis, HiddenRule(seed=1).basis)
    assert not np.allclose(HiddenRule(seed=1).basis, HiddenRule(seed=2).basis)


def test_oracle_of_two_corners_has_a_closed_form() -> None:
    family = HiddenRule(clusters=1, separation=1.0)
    edge = np.linalg.norm(family.centres[0] - family.centres[1])
    assert family.oracle_accuracy() == pytest.approx(stats.norm.cdf(edge / 2), abs=0.004)


def test_best_learns_the_turn_and_stays_below_the_oracle() -> None:
    family = HiddenRule()
    accuracy = []
    for rows in (2, 20):
        hits = []
        for task in family.sample(20, rows=70, random_state=1):
            probability = family.best(task.X[:rows], task.y[:rows], task.X[20:], turns=1000)
            np.testing.assert_allclose(probability.sum(axis=1), 1)
            hits.append((probability.argmax(axis=1) == task.y[20:]).mean())
        accuracy.append(np.mean(hits))
    assert 0.7 < accuracy[0] < accuracy[1] < family.oracle_accuracy() + 0.005
    assert accuracy[1] > family.oracle_accuracy() - 0.03


def test_more_classes_share_the_corners() -> None:
    family = HiddenRule(classes=4, clusters=2, features=7)
    task = family.sample(1, rows=40)[0]
    assert task.X.shape == (40, 7)
    assert np.bincount(task.y).tolist() == [10] * 4
    with pytest.raises(TaskError, match="clusters=3"):
        HiddenRule(classes=4, clusters=3)


# Unrelated --------------------------------------------------------------------------------------------------------


def test_unrelated_tasks_say_nothing_about_each_other() -> None:
    weights = []
    for task in Unrelated(features=3, noise=0.0).sample(600, rows=8):
        weights.append(np.linalg.lstsq(np.column_stack([np.ones(8), task.X]), task.y, rcond=None)[0])
    found = np.array(weights)
    signs = np.sign(found)
    assert np.abs(signs.mean(axis=0)).max() < 0.15
    assert np.abs(np.corrcoef(signs.T) - np.eye(4)).max() < 0.15
    sizes = np.log10(np.linalg.norm(found[:, 1:], axis=1))
    assert np.quantile(sizes, 0.9) - np.quantile(sizes, 0.1) > 1.3


@pytest.mark.parametrize("rows", [2, 5])
def test_unrelated_classifications_have_both_classes(rows: int) -> None:
    assert all(task.classes == (0, 1) for task in Unrelated("classification").sample(100, rows=rows))


def test_unrelated_noise_is_a_share_of_the_signal() -> None:
    ratios = []
    for task in Unrelated(noise=0.5).sample(20, rows=2000):
        design = np.column_stack([np.ones(2000), task.X])
        weights = np.linalg.lstsq(design, task.y, rcond=None)[0]
        ratios.append((task.y - design @ weights).std() / np.linalg.norm(weights[1:]))
    np.testing.assert_allclose(ratios, 0.5, rtol=0.08)
