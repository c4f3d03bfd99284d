"""Streams whose drift is known: what is said of them is true of their rows."""

import numpy as np
import pandas as pd
import pytest

import upstairs as up
from upstairs.errors import TaskError
from upstairs.online.drift import Stream, abrupt, gradual, in_turn, incremental, recurring, sinusoid_bands
from upstairs.online.stream import prequential
from upstairs.tasks.synthetic import HiddenRule, SharedSubspace, Sinusoids, Unrelated

LINES = SharedSubspace(features=3, noise=1e-6, spread=3.0)


def weights(stream: Stream, rows: np.ndarray) -> np.ndarray:
    """Weights over ``[1, x]`` that rows without noise are of."""
    X = np.column_stack([np.ones(len(rows)), stream.X[rows]])
    return np.linalg.lstsq(X, stream.y[rows], rcond=None)[0]


def misfit(stream: Stream, rows: np.ndarray) -> float:
    X = np.column_stack([np.ones(len(rows)), stream.X[rows]])
    return float(np.abs(X @ weights(stream, rows) - stream.y[rows]).max())


def test_an_abrupt_change_is_where_it_is_said_to_be() -> None:
    stream = abrupt(LINES, worlds=3, length=[40, 50, 60])
    assert stream.changes.tolist() == [40, 90]
    assert [(part.first, part.end, part.world) for part in stream.segments] == [(0, 40, 0), (40, 90, 1), (90, 150, 2)]
    for part in stream.segments:
        rows = np.arange(part.first, part.end)
        assert (stream.world[rows] == part.world).all()
        assert misfit(stream, rows) < 1e-4
    assert misfit(stream, np.arange(30, 50)) > 0.1


def test_rows_of_a_gradual_change_are_of_the_one_world_or_the_other() -> None:
    stream = gradual(LINES, length=400, width=300, random_state=3)
    shares = [stream.world[start : start + 100].mean() for start in (400, 500, 600)]
    assert shares[0] < 0.35 < shares[1] < 0.65 < shares[2] < 1.0
    assert stream.world[:400].max() == 0
    assert stream.world[700:].min() == 1
    for world in (0, 1):
        assert misfit(stream, np.flatnonzero(stream.world == world)) < 1e-4
    assert stream.widths.tolist() == [300]


def test_an_incremental_change_goes_through_all_that_lies_between() -> None:
    stream = incremental(LINES, length=5000, width=5000)
    ends = [weights(stream, np.arange(4900)), weights(stream, np.arange(9990, 10_000))]
    middle = weights(stream, np.arange(7450, 7550))
    np.testing.assert_allclose(middle, np.mean(ends, axis=0), atol=0.1)
    assert np.flatnonzero(np.diff(stream.world)).tolist() == [7499]


@pytest.mark.parametrize("make", [abrupt, gradual, incremental])
def test_inputs_move_and_the_concept_stays(make) -> None:
    stream = make(LINES, length=2000, of="inputs", shift=3.0)
    assert misfit(stream, np.arange(len(stream))) < 1e-4
    means = stream.X[:2000].mean(axis=0), stream.X[2200:].mean(axis=0)
    assert np.linalg.norm(means[1] - means[0]) == pytest.approx(3.0, abs=0.2)
    both = make(LINES, length=2000, of="both", shift=3.0)
    assert np.linalg.norm(both.X[2200:].mean(axis=0) - both.X[:2000].mean(axis=0)) == pytest.approx(3.0, abs=0.2)
    assert misfit(both, np.arange(len(both))) > 0.1
    still = make(LINES, length=2000, of="task", shift=3.0)
    assert np.linalg.norm(still.X[2200:].mean(axis=0)) < 0.2


def test_worlds_come_back() -> None:
    stream = recurring(LINES, worlds=3, stretches=12, length=20, random_state=1)
    assert stream.order[:3] == (0, 1, 2)
    assert len(stream.order) == 12
    assert all(one != other for one, other in zip(stream.order[:-1], stream.order[1:], strict=True))
    for world in range(3):
        assert misfit(stream, np.flatnonzero(stream.world == world)) < 1e-4
    mixed = recurring(LINES, worlds=2, stretches=4, length=50, width=40)
    assert len(set(mixed.world[60:80].tolist())) == 2


@pytest.mark.parametrize(
    "family", [HiddenRule(classes=4), Unrelated("classification"), Unrelated(), Sinusoids(noise=0.1)]
)
def test_every_family_has_every_drift(family) -> None:
    for of in ("task", "inputs", "both"):
        streams = [
            abrupt(family, length=30, of=of),
            gradual(family, length=30, width=30, of=of),
            incremental(family, length=30, width=20, of=of),
            recurring(family, worlds=2, stretches=3, length=30, width=5, of=of),
        ]
        for stream in streams:
            assert stream.X.shape == (len(stream), family.columns)
            assert np.isfinite(stream.X).all()
            assert (stream.y.dtype.kind == "i") == (family.kind == "classification")


def test_labels_follow_a_rule_that_turns_and_rows_that_move() -> None:
    """The classes are told apart as well as by someone who knows the turn, wherever the rows are."""
    family = HiddenRule(features=3, separation=6.0)
    turns = np.stack([family.concept(np.random.default_rng(seed))["turn"] for seed in (0, 1)])
    half = family.between({"turn": turns[:1]}, {"turn": turns[1:]}, np.array([0.5]))["turn"][0]
    np.testing.assert_allclose(half @ half.T, np.eye(3), atol=1e-12)
    X, y = family.rows({"turn": half}, 500, np.random.default_rng(2), np.array([1.0, 0.0, 0.0]))
    centres = family.centres @ half.T @ family.basis.T
    distance = np.square(X[:, None, None] - centres).sum(axis=-1).min(axis=-1)
    assert (distance.argmin(axis=1) == y).mean() > 0.99


def test_the_same_seed_gives_the_same_stream() -> None:
    one, same, other = (gradual(LINES, random_state=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.X, same.X)
    np.testing.assert_array_equal(one.y, same.y)
    assert not np.array_equal(one.y, other.y)


def test_a_prior_of_the_family_fits_the_worlds() -> None:
    family = SharedSubspace()
    meta = up.MetaNeuralNetwork(method="bayesian-linear", net=None, prior_mean="linear", shots=10)
    meta.meta_fit(family.sample(20, 25, random_state=0))
    stream = abrupt(family, worlds=2, length=100, random_state=2)
    online = up.OnlineMetaLearner(meta.learner())
    loss = prequential(online, stream).loss
    assert online.changes_[0]["at"] in range(101, 131)
    assert loss[50:100].mean() < 2.0 * family.noise**2


def test_amplitudes_grow_from_band_to_band() -> None:
    tasks = sinusoid_bands(tasks=30, rows=100)
    assert tasks.groups[0] == "amplitude 0 to 5"
    assert len(set(tasks.groups)) == 5
    largest = [np.abs(task.y).max() for task in tasks]
    for number, most in enumerate((5, 7, 9, 11, 13)):
        band = largest[30 * number : 30 * (number + 1)]
        assert 0.6 * most < max(band) <= most
        assert min(band) < 0.5 * most
    assert np.abs(np.concatenate([task.X for task in tasks])).max() <= 5.0
    again = sinusoid_bands(tasks=30, rows=100, random_state=1)
    assert not np.array_equal(again[0].y, tasks[0].y)


def test_tasks_in_turn_are_a_stream() -> None:
    frame = pd.DataFrame({"who": list("aabbb"), "x": np.arange(5.0), "kind": list("uvuvu"), "y": np.arange(5.0)})
    stream = in_turn(up.TaskSet.from_frame(frame, task="who", target="y"))
    assert stream.changes.tolist() == [2]
    parts = list(stream.chunks(3))
    assert [len(y) for _, y in parts] == [3, 2]
    assert parts[1][0].column("kind").tolist() == ["v", "u"]
    assert [len(y) for _, y in abrupt(LINES, length=7)] == [10, 4]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: abrupt(LINES, worlds=0), "worlds=0 must be a whole number"),
        (lambda: abrupt(LINES, length=[10, 0]), "one of at least 1 for each of the 2 stretches"),
        (lambda: abrupt(LINES, length=[10]), r"length=\[10\]"),
        (lambda: abrupt(LINES, of="all"), "of='all' must be"),
        (lambda: abrupt(LINES, of="both", shift=-1.0), "shift=-1.0 must be at least 0"),
        (lambda: abrupt(LINES, random_state=-1), "random_state=-1 must be"),
        (lambda: gradual(LINES, length=10, width=11), "width=11 must be a number of rows from 0"),
        (lambda: recurring(LINES, worlds=1), "worlds=1 must be at least 2"),
        (lambda: recurring(LINES, worlds=4, stretches=3), "stretches=3 at least as many"),
        (lambda: in_turn([]), "tasks must hold one"),
        (lambda: sinusoid_bands(bands=()), "bands must hold one"),
        (lambda: sinusoid_bands(bands=(0.0,)), r"amplitudes=\(0.0, 0.0\)"),
    ],
)
def test_errors_name_argument_and_value(make, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        make()
