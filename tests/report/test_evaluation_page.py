"""The page about an evaluation: what it says first, its tables and pictures."""

import dataclasses
import sys

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge

import upstairs as up
from upstairs.errors import TaskError
from upstairs.evaluate.negative_transfer import Group
from upstairs.report import evaluation_report, plot_differences, plot_familiarity, plot_reliability, plot_shots
from upstairs.report.evaluation_page import evaluation_verdict
from upstairs.report.prior_contents import prior_parts, prior_weights
from upstairs.report.task_parts import transfer_parts

TRAIN, _, TEST = (
    up.tasks.synthetic.SharedSubspace().sample(22, 30, random_state=0).split(valid=0.0, test=10 / 22, random_state=0)
)


@pytest.fixture(scope="module")
def measured():
    train, test = TRAIN, TEST
    meta = up.MetaNeuralNetwork(method="bayesian-linear", net=None, prior_mean="linear", shots=5).meta_fit(train)
    result = up.evaluate(
        {"mine <b>": meta, "ridge": Ridge()}, test, train=train, shots=[2, 8], baselines=["no-meta", "pooled"]
    )
    return meta, test, result


def test_the_verdict_is_against_who_knows_the_task_alone(measured):
    _, _, result = measured
    first, *more = evaluation_verdict(result)
    assert first.startswith("Learning from the other tasks helps here: with 8 rows the mse of mine <b> is")
    assert "(no-meta)" in first
    assert [sentence.split(":")[0] for sentence in more] == ["2 rows", "8 rows"]
    assert all("better than the best baseline" in sentence for sentence in more)
    turned = {**result.columns, "mse": 1.0 / result.columns["mse"]}
    worse = dataclasses.replace(result, columns=turned, _cells={})
    assert evaluation_verdict(worse)[0].startswith("Learning from the other tasks does not help here")
    same = {**result.columns, "mse": np.ones(len(result.columns["mse"]))}
    equal = dataclasses.replace(result, columns=same, _cells={})
    assert evaluation_verdict(equal)[0].startswith("Whether learning from the other tasks helps cannot be told here")
    alone = dataclasses.replace(result, baselines=result.learners)
    with pytest.raises(TaskError, match="Every learner of this result is a baseline"):
        evaluation_verdict(alone)


def test_a_page_has_everything_and_loads_nothing(measured):
    meta, test, result = measured
    familiarity = {task.name: model.familiarity_ for task, model in zip(test, meta.adapt_many(test), strict=True)}
    curve = up.evaluate.task_curve(meta, TRAIN, test, sizes=[4, 8], orders=2, shots=8)
    text = evaluation_report(
        result,
        title="Shops & <prices>",
        familiarity=familiarity,
        transfer=result.negative_transfer("mine <b>", test, guarded="ridge"),
        curve=curve,
        prior=prior_parts(meta),
        about=[("tasks", "12 and 10")],
        reproduce="upstairs report a.csv",
    )
    for said in (
        "Shops &amp; &lt;prices&gt;",
        "mine &lt;b&gt;",
        "2 rows",
        "Task by task",
        "Familiarity",
        "Where the prior hurts",
        "Would more tasks help?",
        "With twice as many tasks (24 instead of 12)",
        "With guard=True",
        "Which learners can be told apart, with 8 rows",
        "Calibration",
        "What the prior knows",
        "Largest weights",
        "Cost",
        "upstairs report a.csv",
        result.episodes_hash[:12],
    ):
        assert said in text, said
    assert text.count("<svg") == 5
    assert text.count('role="img" aria-label="') == 5
    assert "<script" not in text
    assert "src=" not in text
    assert len(text) < 300_000
    assert evaluation_report(result, title="short").count("<svg") == 3


def test_without_matplotlib_the_page_says_so(measured, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    text = evaluation_report(measured[2], title="no pictures")
    assert "There is no picture: Pictures need matplotlib" in text
    assert "<svg" not in text


def test_weights_are_named_and_sorted(measured):
    what, cells = prior_weights(measured[0].prior_)
    assert what == "columns and target in standard deviations"
    assert "constant" in [name for name, _, _ in cells]
    sizes = [abs(mean) + spread for _, mean, spread in cells]
    assert sizes == sorted(sizes, reverse=True)


def test_pictures_show_what_was_measured(measured):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    _, _, result = measured
    ax = plot_shots(result, learners=["ridge", "pooled"])
    assert [line.get_label() for line in ax.lines] == ["ridge", "pooled"]
    np.testing.assert_allclose(
        ax.lines[0].get_ydata(), [row.mean for s in (2, 8) for row in result.table(s) if row.learner == "ridge"]
    )
    marks = plot_differences(result, "ridge", "pooled", 8)
    assert sum(len(dots.get_offsets()) for dots in marks.collections) == 10
    with pytest.raises(TaskError, match="There is no learner 'me'"):
        plot_differences(result, "me", "pooled", 8)
    with pytest.raises(TaskError, match="There is no learner 'me'"):
        plot_shots(result, learners=["me"])
    with pytest.raises(TaskError, match="holds none of the test tasks"):
        plot_familiarity(result, {"x": 3.0}, "ridge", "pooled", 8)
    from matplotlib import pyplot

    pyplot.close("all")


def test_what_lies_between_zero_and_one_has_a_certificate(measured):
    result = measured[2]
    shares = np.clip(result.columns["mse"] / (1.0 + result.columns["mse"]), 0.0, 1.0)
    accuracy = dataclasses.replace(result, metric="accuracy", columns={**result.columns, "accuracy": shares}, _cells={})
    text = evaluation_report(accuracy, title="certified")
    assert "What can be promised" in text
    assert "mine &lt;b&gt; with 8 rows. With 95 % confidence the mean error rate of new tasks is at most" in text
    assert "What can be promised" not in evaluation_report(result, title="an error without end")


def test_probabilities_have_a_picture_and_causes_a_table(measured):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    tasks = up.tasks.synthetic.HiddenRule().sample(8, 40, random_state=0)
    result = up.evaluate({"trees": RandomForestClassifier(5)}, tasks, shots=[10], baselines=["no-meta"], queries=30)
    text = evaluation_report(result, title="classes")
    assert "Calibration error" in text
    assert f"{result.calibration_error('trees'):.3f}" in text
    line = plot_reliability(result, 10).lines[1]
    rows, confidence, right = result.bins["trees"][10][result.bins["trees"][10][:, 0] >= 10].T
    np.testing.assert_allclose(line.get_ydata(), right / rows)
    np.testing.assert_allclose(line.get_xdata(), confidence / rows)
    with pytest.raises(TaskError, match="No probabilities were measured of 'ridge'"):
        plot_reliability(measured[2], 8, learners=["ridge"])
    found = measured[2].negative_transfer("mine <b>", TEST)
    groups = (Group(("log10 rows above 2",), 6, 4, 0.125), Group(("log10 rows at most 2",), 4, 0, -0.5))
    said = " ".join(
        part.text for part in transfer_parts(dataclasses.replace(found, groups=groups, explained=0.3, p=0.01))
    )
    assert "log10 rows above 2" in said
    assert "4 of 6" in said
    assert "+0.125" in said
    from matplotlib import pyplot

    pyplot.close("all")
