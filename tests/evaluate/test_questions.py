from types import MappingProxyType

import numpy as np
import pytest
from scipy import stats

from upstairs.errors import TaskError
from upstairs.evaluate.certificate import certify
from upstairs.evaluate.result import EvaluationResult

TASKS, DRAWS = 16, 3
NAMES = ("new", "plain", "strong")


def result(metric="accuracy", groups=None, missing=(), splits=1, seed=0):
    """Three learners on sixteen tasks, three draws each, at 5 and 10 shots."""
    rng, rows = np.random.default_rng(seed), []
    for task in range(TASKS):
        level = rng.uniform(0.5, 0.6)
        for shots in (5, 10):
            for draw in range(DRAWS):
                for place, name in enumerate(NAMES):
                    value = level + 0.1 * (place == 0) + 0.02 * (place == 2) + 0.01 * shots / 5 + 0.01 * rng.normal()
                    value = np.nan if (name, task) in missing else value
                    group = f"g{task // groups}" if groups else f"task:t{task:02d}"
                    rows.append((task % splits, f"t{task:02d}", group, shots, draw, name, 10, 0.1, 0.1, value))
    keys = ("split", "task", "group", "shots", "draw", "learner", "queries", "adapt_seconds", "predict_seconds", metric)
    columns = {key: np.array(column) for key, column in zip(keys, zip(*rows, strict=True), strict=True)}
    kind = "regression" if metric in ("mse", "r2") else "classification"
    return EvaluationResult(
        MappingProxyType(columns), kind, None, metric, NAMES, ("plain", "strong"), {}, (), (), "hash"
    )


def test_a_certificate_is_about_the_error_rate():
    found = result()
    certificate = found.certificate("new")
    expected = certify(1 - found.by_task(10)[2][:, 0], loss="error rate")
    assert dict(certificate.bounds) == pytest.approx(dict(expected.bounds))
    assert (certificate.tasks, certificate.unit, certificate.loss) == (TASKS, "task", "error rate")
    assert found.certificate("new", "accuracy", 5).mean == pytest.approx(1 - found.by_task(5)[2][:, 0].mean())
    assert found.certificate("new", confidence=0.8).bound < certificate.bound
    assert found.certificate("new", method="Hoeffding").bound == certificate.bounds["Hoeffding"]


def test_groups_and_missing_tasks_of_a_certificate():
    assert result(groups=4).certificate("new").tasks == 4
    found = result(missing=[("new", 3)]).certificate("new")
    assert (found.tasks, found.missing) == (TASKS - 1, 1)


def test_a_loss_without_a_range_needs_one():
    found = result("mse")
    with pytest.raises(TaskError, match=r"'mse' has none; give the range .*high=.*clip=True"):
        found.certificate("new")
    assert found.certificate("new", high=2.0).high == 2.0
    with pytest.raises(TaskError, match="must lie in"):
        found.certificate("new", high=0.55)
    assert found.certificate("new", high=0.55, clip=True).clipped > 0
    with pytest.raises(TaskError, match="ask for a metric of which less is better"):
        result("r2").certificate("new")
    with pytest.raises(TaskError, match="more is better"):
        result("r2").certificate("new", low=0.0, high=1.0)


def test_a_certificate_is_about_one_prior_and_a_known_learner():
    with pytest.raises(TaskError, match="joins 2 splits"):
        result(splits=2).certificate("new")
    with pytest.raises(TaskError, match="no learner 'other'"):
        result().certificate("other")


def test_compare_knows_what_is_better():
    found = result().compare("new", "plain")
    assert (found.wins, found.ties, found.losses, found.rope) == (TASKS, 0, 0, 0.01)
    assert found.better > 0.99
    turned = result().compare("plain", "new", 5, "accuracy")
    assert turned.worse > 0.99
    assert result().compare("new", "plain", rope=0.5).equal == 1.0
    assert result("mse").compare("new", "plain", rope=0.01).losses == TASKS
    with pytest.raises(TaskError, match="rope must be given for 'mse'"):
        result("mse").compare("new", "plain")


def test_compare_uses_tasks_of_both_and_groups():
    assert result(missing=[("new", 3), ("plain", 4)]).compare("new", "plain").tasks == TASKS - 2
    assert result(groups=4).compare("new", "plain").tasks == 4
    with pytest.raises(TaskError, match="have no task in common"):
        result(missing=[("new", task) for task in range(TASKS)]).compare("new", "plain")


def test_ranks_agree_with_scipy_on_the_tasks_of_all():
    evaluation = result(missing=[("new", 3)])
    found = evaluation.ranks()
    values = np.delete(evaluation.by_task(10)[2], 3, axis=0)
    assert found.learners[0] == "new"
    assert found.tasks == TASKS - 1
    assert found.p == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)
    assert evaluation.ranks(5, learners=["plain", "strong"]).learners == ("strong", "plain")
    assert result("mse").ranks().learners[-1] == "new"


def test_an_effect_over_tasks_and_draws():
    found = result()
    effect = found.effect("new", "plain")
    values = found.by_task(10)[2]
    difference = values[:, 0] - values[:, 1]
    assert (effect.tasks, effect.seeds, effect.over) == (TASKS, DRAWS, "draw")
    assert "over 3 draws" in str(effect)
    assert effect.mean == pytest.approx(difference.mean())
    assert effect.error_over_tasks == pytest.approx(difference.std(ddof=1) / np.sqrt(TASKS))
    assert effect.spread_over_seeds < 0.01
    with pytest.raises(TaskError, match="over='fold' is not a column"):
        found.effect("new", "plain", over="fold")
    with pytest.raises(TaskError, match="with each of the 2 values of 'split'"):
        result(splits=2).effect("new", "plain", over="split")
