"""The table of experience: comparable losses, and tables that are taken apart and put together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import upstairs as up


def table(**changes):
    fields = {
        "settings": [{}, {"C": 1.0}, {"C": 10.0}],
        "names": ["a", "b", "c"],
        "scores": {"accuracy": [[0.9, 0.8, 0.5], [0.4, 0.6, -np.inf], [0.7, 0.7, np.nan]], "r": np.eye(3)},
        "groups": ["x", "x", "y"],
        "fingerprints": ["1", "2", "3"],
        "features": np.arange(6.0).reshape(3, 2),
    }
    return up.Experience(**(fields | changes))


def test_regrets_and_losses():
    np.testing.assert_allclose(table().regrets, [[0, 0.1, 0.4], [0.2, 0, 0.2], [0, 0, np.nan]])
    np.testing.assert_allclose(table().losses, np.sqrt(table().regrets))  # accuracies are comparable as they are
    np.testing.assert_allclose(table().full_losses[2], [0, 0, 0])
    # others in units of the median regret (.1, .2, 0), at most 1; where the median is 0, any regret counts 1
    other = table(scores={"r2": table().score})
    np.testing.assert_allclose(other.losses, [[0, 1, 1], [1, 0, 1], [0, 0, np.nan]])
    assert table().by("r").regrets[0].tolist() == [0, 1, 1]


def test_parts():
    known = table()
    assert known.without(["b"]).names == ("a", "c")
    assert known.filter(lambda name: name > "a").groups == ("x", "y")
    assert known.apart_from("3").names == ("a", "b")
    assert known.apart_from("1", "x").names == ("c",)
    assert known.select([2, 0]).settings == ({"C": 10.0}, {})
    with pytest.raises(up.TaskError, match="no task 'z'"):
        known.without(["z"])


def test_tables_are_merged_by_content_and_newer_scores_win():
    other = up.Experience(
        [{"C": 1.0}, {"C": 5.0}],
        ["renamed", "d"],
        {"accuracy": [[0.1, np.nan], [0.3, 0.2]], "r": np.zeros((2, 2))},
        ["x", "z"],
        ["2", "4"],
        np.ones((2, 2)),
    )
    both = table().merge(other)
    assert both.names == ("a", "b", "c", "d")
    assert both.settings == ({}, {"C": 1.0}, {"C": 10.0}, {"C": 5.0})
    want = [
        [0.9, 0.8, 0.5, np.nan],
        [0.4, 0.1, -np.inf, np.nan],
        [0.7, 0.7, np.nan, np.nan],
        [np.nan, 0.3, np.nan, 0.2],
    ]
    np.testing.assert_allclose(both.score, want)
    with pytest.raises(up.TaskError, match="measured alike"):
        table().merge(other.by("r"))


def test_storage_is_exact():
    known = table()
    again = up.Experience.restored(*known.stored())
    np.testing.assert_array_equal(again.score, known.score)
    assert (again.settings, again.names, again.groups, again.measure) == (
        known.settings,
        known.names,
        known.groups,
        known.measure,
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scores": np.zeros((2, 3))}, r"scores\['score'\] must have one row a task"),
        ({"names": ["a", "a", "c"]}, "'a' stands twice"),
        ({"settings": [{}, {"C": 1.0}, {"C": 1.0}]}, "setting must stand once"),
        ({"features": np.full((3, 2), np.nan)}, "features must be finite"),
        ({"groups": ["x"]}, "groups must have one entry a task"),
        ({"measure": "auc"}, "measure='auc' must be one of the scores"),
        ({"scores": np.full((3, 3), -np.inf)}, "Task 'a': no setting has a score"),
        ({"scores": np.full((3, 3), np.inf)}, r"must be finite, NaN \(not tried\)"),
    ],
)
def test_what_breaks_a_rule_is_named(changes, said):
    with pytest.raises(up.TaskError, match=said):
        table(**changes)


def test_scattered_trials_are_brought_to_common_settings():
    rng = np.random.default_rng(0)
    log = pd.DataFrame({"data": np.repeat(["a", "b"], 80), "C": 10 ** rng.uniform(-3, 3, 160), "kind": ["x", "y"] * 80})
    best = np.where(log["data"] == "a", -1.0, 1.0)
    log["auc"] = 0.9 - 0.02 * (np.log10(log["C"]) - best) ** 2 - 0.1 * (log["kind"] == "y")
    known = up.Experience.from_trials(log, task="data", score="auc", measure="roc_auc", candidates=60)
    assert known.names == ("a", "b")
    assert known.score.shape == (2, 60)
    for row, at in enumerate((-1.0, 1.0)):
        found = known.settings[int(np.argmax(known.score[row]))]
        assert abs(np.log10(found["C"]) - at) < 0.7
        assert found["kind"] == "x"
    with pytest.raises(up.TaskError, match="no column 'log loss'"):
        up.Experience.from_trials(log, task="data", score="log loss")
