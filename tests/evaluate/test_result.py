import json
from types import MappingProxyType

import numpy as np
import pytest
from scipy import stats

from upstairs.errors import TaskError
from upstairs.evaluate.episodes import LeftOut
from upstairs.evaluate.result import EvaluationResult

TASKS = [f"t{number:02d}" for number in range(12)]


def result(shift=0.0, learners=("new", "plain", "strong"), split=0, metric="mse", tasks=TASKS, groups=None, draws=2):
    rng = np.random.default_rng(0)
    rows = []
    for number, task in enumerate(tasks):
        base = rng.uniform(1, 2)
        for draw in range(draws):
            for name, factor in zip(learners, (0.5, 1.0, 0.8), strict=False):
                value = base * factor + 0.01 * rng.normal() + shift
                group = groups[number] if groups else f"task:{task}"
                rows.append((split, task, group, 5, draw, name, 10, 0.002, 0.001, value))
    keys = ("split", "task", "group", "shots", "draw", "learner", "queries", "adapt_seconds", "predict_seconds", metric)
    columns = {key: np.array(column) for key, column in zip(keys, zip(*rows, strict=True), strict=True)}
    return EvaluationResult(
        MappingProxyType(columns),
        "regression",
        None,
        metric,
        tuple(learners),
        tuple(name for name in learners if name != "new"),
        {"new": 1.5},
        (LeftOut(5, 3, "fewer than 6 rows", ("a", "b")),),
        ("a note",),
        "hash",
    )


def test_draws_are_averaged_inside_a_task_first():
    found = result()
    names, _, values = found.by_task(5)
    assert names == TASKS
    here = (found.columns["task"] == "t03") & (found.columns["learner"] == "plain")
    assert values[3, 1] == pytest.approx(found.columns["mse"][here].mean())


def test_rows_are_paired_with_the_best_baseline():
    found = result()
    new, strong, plain = found.table(5)
    assert (new.learner, strong.learner, plain.learner) == ("new", "strong", "plain")
    assert strong.reference
    assert not new.reference
    values = found.by_task(5)[2]
    assert new.difference == pytest.approx((values[:, 0] - values[:, 2]).mean())
    assert new.difference_low < new.difference < new.difference_high < 0
    assert new.p == pytest.approx(stats.wilcoxon(values[:, 0] - values[:, 2]).pvalue)
    assert (new.wins, new.ties, new.losses) == (12, 0, 0)
    assert (plain.wins, plain.losses) == (0, 12)
    assert np.isnan(plain.p)
    assert np.isnan(strong.difference)
    assert (new.meta_seconds, new.milliseconds) == (1.5, pytest.approx(2.0))


def test_higher_is_better_turns_wins():
    found = result(metric="accuracy")
    assert [row.learner for row in found.table(5)] == ["plain", "strong", "new"]
    assert next(row for row in found.table(5) if row.learner == "new").losses == 12


def test_coverage_has_no_winner():
    rows = result(metric="coverage").table(5)
    assert all((row.wins, row.losses) == (0, 0) and np.isnan(row.p) for row in rows)
    assert rows[0].mean == min((row.mean for row in rows), key=lambda mean: abs(mean - 0.9))


def test_without_baselines_the_best_learner_is_the_reference():
    rows = result(learners=("new",)).table(5)
    assert rows[0].reference
    assert np.isnan(rows[0].difference)


def test_groups_widen_intervals():
    alone = result().table(5)[2]
    grouped = result(groups=[f"g{number // 6}" for number in range(12)]).table(5)[2]
    assert grouped.high - grouped.low > alone.high - alone.low


def test_ratio():
    found = result()
    values = found.by_task(5)[2]
    ratio = found.ratio("new", "plain", 5)
    assert float(ratio) == pytest.approx(values[:, 0].mean() / values[:, 1].mean())
    assert ratio.low <= ratio.value <= ratio.high
    with pytest.raises(TaskError, match="no learner 'old'"):
        found.ratio("old", "plain", 5)


def test_text_is_aligned_and_complete():
    text = str(result().summary())
    lines = text.splitlines()
    assert lines[0].startswith("mse (lower is better)")
    start = next(number for number, line in enumerate(lines) if line.startswith("new *"))
    ends = {len(line) for line in lines[start : start + 3]} | {len(lines[2])}
    assert len(ends) == 1
    assert "5 shots, 12 tasks; differences from 'strong'" in text
    assert "note: a note" in text
    assert "3 episodes left out" in text


def test_there_and_back_through_json():
    found = result()
    again = EvaluationResult.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.table(5) == found.table(5) or str(again.table(5)) == str(found.table(5))
    assert again.left_out == found.left_out
    assert again.to_dict() == found.to_dict()


def test_nan_becomes_none_in_json():
    found = result()
    found.columns["mse"][0] = np.nan
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["columns"]["mse"][0] is None


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_frames(library):
    frame = result().to_frame(library)
    assert frame.shape == (72, 10)
    with pytest.raises(TaskError, match="library must be"):
        result().to_frame("excel")


def test_tasks_of_several_splits_count_once():
    joined = EvaluationResult.concatenate([result(), result(shift=1.0)])
    assert joined.columns["split"].tolist() == [0] * 72 + [1] * 72
    assert joined.table(5)[0].tasks == 12
    values, first = joined.by_task(5)[2], result().by_task(5)[2]
    np.testing.assert_allclose(values, first + 0.5)
    assert joined.meta_seconds["new"] == 3.0
    assert joined.notes == ("a note [2 splits]",)
    other = EvaluationResult.concatenate([result(), result(tasks=[f"u{number}" for number in range(3)])])
    assert other.table(5)[0].tasks == 15


def test_episodes_of_pools_are_new_ones_in_every_split():
    part = result(tasks=["episode-0", "episode-1"])
    assert EvaluationResult.concatenate([part, part]).table(5)[0].tasks == 4


def test_what_cannot_be_joined():
    with pytest.raises(TaskError, match="at least one"):
        EvaluationResult.concatenate([])
    with pytest.raises(TaskError, match="same metric"):
        EvaluationResult.concatenate([result(), result(metric="accuracy")])
    with pytest.raises(TaskError, match="'strong' is not in all"):
        EvaluationResult.concatenate([result(), result(learners=("new", "plain"))])


def test_unknown_shots_and_metrics():
    with pytest.raises(TaskError, match="shots=7 was not measured"):
        result().table(7)
    with pytest.raises(TaskError, match="metric='auc' was not measured"):
        result().summary("auc")
