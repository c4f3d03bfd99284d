import numpy as np
import pytest
from scipy import stats

from upstairs.errors import TaskError
from upstairs.evaluate.statistics import (
    cluster_sums,
    holm,
    mean_interval,
    paired_bootstrap,
    ratio_interval,
    wilcoxon_holm,
)


def test_mean_interval_is_students_without_clusters():
    values = np.random.default_rng(0).normal(size=17)
    low, high = mean_interval(values)
    expected = stats.t.interval(0.95, 16, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose((low, high), expected)


def test_mean_interval_of_equal_clusters_is_that_of_their_means():
    values = np.random.default_rng(1).normal(size=24)
    clusters = [f"c{number // 3}" for number in range(24)]
    means = values.reshape(8, 3).mean(axis=1)
    expected = stats.t.interval(0.95, 7, loc=means.mean(), scale=stats.sem(means))
    np.testing.assert_allclose(mean_interval(values, clusters), expected)


def test_one_cluster_has_no_interval():
    assert np.isnan(mean_interval(np.ones(3), ["a", "a", "a"])).all()
    assert np.isnan(paired_bootstrap(np.ones((3, 2)), ["a", "a", "a"])).all()
    assert np.isnan(ratio_interval(np.ones(3), np.ones(3), ["a", "a", "a"])).all()


def test_bootstrap_covers():
    rng = np.random.default_rng(2)
    hits = 0
    for seed in range(300):
        low, high = paired_bootstrap(rng.normal(0.3, 1.0, size=(8, 1)), resamples=800, seed=seed)[0]
        hits += low <= 0.3 <= high
    assert 0.91 <= hits / 300 <= 0.985  # 0.95; the plain percentile interval covers about 0.90 at 8 tasks


def test_bootstrap_of_clusters_is_wider_where_clusters_agree():
    rng = np.random.default_rng(3)
    level = np.repeat(rng.normal(size=12), 10)
    difference = (level + 0.1 * rng.normal(size=120))[:, None]
    clusters = np.repeat([f"c{number:02d}" for number in range(12)], 10).tolist()
    naive, honest = paired_bootstrap(difference), paired_bootstrap(difference, clusters)
    assert np.diff(honest)[0, 0] > 2 * np.diff(naive)[0, 0]


def test_bootstrap_does_not_depend_on_the_order_of_tasks():
    rng = np.random.default_rng(4)
    difference = rng.normal(size=(20, 2))
    clusters = np.array([f"c{number % 7}" for number in range(20)])
    order = rng.permutation(20)
    first = paired_bootstrap(difference, clusters.tolist(), resamples=500)
    second = paired_bootstrap(difference[order], clusters[order].tolist(), resamples=500)
    np.testing.assert_allclose(first, second, rtol=1e-12)


def test_bootstrap_in_parts_equals_its_mean_and_error():
    difference = np.random.default_rng(5).normal(size=(900, 1))  # more cells than are held at once
    low, high = paired_bootstrap(difference, resamples=10_000)[0]
    expected = stats.t.interval(0.95, 899, loc=difference.mean(), scale=stats.sem(difference[:, 0]))
    np.testing.assert_allclose((low, high), expected, atol=0.005)


def test_ratio_interval_holds_the_ratio():
    rng = np.random.default_rng(6)
    below = rng.uniform(1, 2, size=40)
    above = below * rng.uniform(0.4, 0.6, size=40)
    low, high = ratio_interval(above, below)
    assert low < above.mean() / below.mean() < high
    assert high - low < 0.1


def test_holm_by_hand():
    # sorted: .005*4=.02, .01*3=.03, .03*2=.06, .04*1=.04 -> raised to .06
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.6, 0.7])), [1.0, 1.0])


def test_holm_passes_over_what_is_unknown():
    found = holm(np.array([np.nan, 0.02, 0.04]))
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], [0.04, 0.04])


def test_wilcoxon_equals_scipy():
    rng = np.random.default_rng(7)
    difference = rng.normal(0.4, 1.0, size=(25, 2))
    raw = np.array([stats.wilcoxon(column).pvalue for column in difference.T])
    np.testing.assert_allclose(wilcoxon_holm(difference), holm(raw))


def test_wilcoxon_tests_cluster_means_and_knows_no_difference():
    difference = np.array([[1.0, 0.0], [3.0, 0.0], [-2.0, 0.0], [4.0, 0.0], [5.0, 0.0]])
    clusters = ["a", "a", "b", "c", "d"]
    expected = stats.wilcoxon([2.0, -2.0, 4.0, 5.0]).pvalue
    np.testing.assert_allclose(wilcoxon_holm(difference, clusters), [min(1.0, 2 * expected), 1.0])


def test_wilcoxon_of_few_differences_with_ties_equals_scipys_permutations():
    rng = np.random.default_rng(8)
    for number in (1, 2, 5, 8):
        column = rng.choice([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 3.0], size=number)
        expected = stats.wilcoxon(column, method="auto").pvalue
        np.testing.assert_allclose(wilcoxon_holm(column[:, None]), [expected])


def test_errors():
    with pytest.raises(TaskError, match="at least one task"):
        cluster_sums(np.empty((0, 1)))
    with pytest.raises(TaskError, match="2 entries for 3 tasks"):
        cluster_sums(np.ones((3, 1)), ["a", "b"])
