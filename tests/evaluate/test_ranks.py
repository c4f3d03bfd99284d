import itertools

import numpy as np
import pytest
from scipy import stats

from upstairs.errors import TaskError
from upstairs.evaluate.ranks import critical_difference, friedman, rank_analysis
from upstairs.evaluate.statistics import holm

# Demsar (2006), table 6: ranks of C4.5, C4.5+m, C4.5+cf, C4.5+m+cf on fourteen data sets
DEMSAR = np.array(
    [
        [4, 3, 2, 1], [1, 2, 3, 4], [4, 1, 2, 3], [4, 1, 3, 2], [4, 2, 3, 1], [1, 2.5, 4, 2.5], [3, 2, 4, 1],
        [2.5, 2.5, 4, 1], [4, 3, 2, 1], [2.5, 2.5, 2.5, 2.5], [4, 2.5, 1, 2.5], [3, 2, 4, 1], [4, 1, 2, 3], [3, 1, 4, 2],
    ]
)  # fmt: skip
# accuracy of four learners on fifteen tasks, and what autorank 1.3.0 (Friedman, Nemenyi) says of them
ACCURACY = np.array(
    [
        [0.742, 0.775, 0.8, 0.785], [0.764, 0.771, 0.821, 0.75], [0.789, 0.83, 0.834, 0.787],
        [0.737, 0.776, 0.81, 0.755], [0.719, 0.75, 0.784, 0.748], [0.775, 0.785, 0.815, 0.804],
        [0.845, 0.82, 0.895, 0.862], [0.813, 0.833, 0.841, 0.847], [0.754, 0.781, 0.791, 0.742],
        [0.663, 0.717, 0.75, 0.681], [0.727, 0.757, 0.783, 0.715], [0.739, 0.773, 0.779, 0.807],
        [0.624, 0.67, 0.679, 0.685], [0.765, 0.782, 0.745, 0.76], [0.701, 0.738, 0.725, 0.744],
    ]
)  # fmt: skip


def test_mean_ranks_and_critical_difference_of_demsar():
    found = rank_analysis(DEMSAR, ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"])
    assert found.learners == ("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5")
    np.testing.assert_allclose(found.mean_ranks, [1.964, 2.0, 2.893, 3.143], atol=5e-4)
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    assert found.nemenyi.min() > 0.05  # 3.143 - 1.964 is less than 1.25
    assert found.cliques("nemenyi") == (found.learners,)
    assert critical_difference(14, 4, 0.10) == pytest.approx(1.12, abs=0.005)  # table 5a has 2.291


def test_the_quantiles_are_those_of_demsars_table():
    for learners, quantile in ((2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)):
        expected = quantile * np.sqrt(learners * (learners + 1) / (6 * 20))
        assert critical_difference(20, learners) == pytest.approx(expected, rel=5e-4)


def test_ranks_are_those_of_autorank():
    found = rank_analysis(1 - ACCURACY, list("abcd"))
    assert found.learners == ("c", "b", "d", "a")
    np.testing.assert_allclose(found.mean_ranks, [1.533333, 2.4, 2.533333, 3.533333], atol=1e-6)
    assert found.critical_difference == pytest.approx(1.2110455722915183, rel=1e-4)
    assert found.p == pytest.approx(0.00041548115593381685)


def test_friedman_equals_scipy_with_and_without_ties():
    for values in (ACCURACY, DEMSAR, np.round(ACCURACY, 1)):
        expected = stats.friedmanchisquare(*values.T)
        np.testing.assert_allclose(friedman(values), (expected.statistic, expected.pvalue))
    assert friedman(np.ones((5, 3))) == (0.0, 1.0)


def test_pairs_equal_scipys_wilcoxon_with_holm_over_all_pairs():
    found = rank_analysis(1 - ACCURACY, list("abcd"))
    columns = [ACCURACY[:, "abcd".index(name)] for name in found.learners]
    pairs = list(itertools.combinations(range(4), 2))
    raw = np.array([stats.wilcoxon(columns[j] - columns[i]).pvalue for i, j in pairs])
    for (i, j), p in zip(pairs, holm(raw).tolist(), strict=True):
        assert found.wilcoxon[i, j] == found.wilcoxon[j, i] == pytest.approx(p)


def test_nemenyi_and_its_critical_difference_agree():
    found = rank_analysis(1 - ACCURACY, list("abcd"))
    gaps = np.abs(found.mean_ranks[:, None] - found.mean_ranks)
    np.testing.assert_array_equal(found.nemenyi < 0.05, gaps > found.critical_difference)
    assert found.cliques("nemenyi") == (("c", "b", "d"), ("b", "d", "a"))


def test_nemenyis_p_values_equal_scipys():
    found = rank_analysis(1 - ACCURACY, list("abcd"))
    gap = found.mean_ranks[3] - found.mean_ranks[0]
    expected = stats.studentized_range.sf(gap * np.sqrt(6 * 15 / 20) * np.sqrt(2), 4, np.inf)
    assert found.nemenyi[0, 3] == pytest.approx(expected, rel=1e-6)


def test_cliques_are_the_largest_runs_without_a_difference():
    rng = np.random.default_rng(0)
    found = rank_analysis(np.array([0.0, 0.01, 1.0, 1.01]) + 0.1 * rng.normal(size=(20, 4)), list("abcd"))
    assert sorted(map(sorted, found.cliques())) == [["a", "b"], ["c", "d"]]
    assert "Not told apart at 0.05 (Wilcoxon, Holm)" in str(found)


def test_a_cluster_counts_once():
    clusters = [f"c{number // 3:02d}" for number in range(15)]
    grouped = rank_analysis(1 - ACCURACY, list("abcd"), clusters=clusters)
    alone = rank_analysis((1 - ACCURACY).reshape(5, 3, 4).mean(axis=1), list("abcd"))
    assert grouped.tasks == 5
    np.testing.assert_allclose(grouped.mean_ranks, alone.mean_ranks)
    np.testing.assert_allclose(grouped.wilcoxon, alone.wilcoxon)


def test_arguments_are_checked():
    with pytest.raises(TaskError, match="needs a task, two learners and a level"):
        critical_difference(10, 1)
    with pytest.raises(TaskError, match="two learners or more"):
        rank_analysis(ACCURACY[:, :1], ["a"])
    with pytest.raises(TaskError, match="at least 2 independent tasks, but there is 1"):
        rank_analysis(ACCURACY[:1], list("abcd"))
    with pytest.raises(TaskError, match="losses must be finite"):
        rank_analysis(np.array([[0.1, np.nan], [0.2, 0.3]]), ["a", "b"])
