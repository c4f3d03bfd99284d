"""MetaTuner: a table that is filled once, whatever happens in between, and what is recommended and searched from it."""

from __future__ import annotations

import copy
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from patient import LEVELS, Patient, tasks
from scipy.stats import loguniform, randint, uniform
from sklearn.svm import LinearSVC

import upstairs as up
from upstairs.learners.search import HAND_OVER
from upstairs.tasks import Task


def lines(path: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()[1:]]


@pytest.fixture(scope="module")
def fitted():
    """A tuner of four tasks, to be copied."""
    return up.MetaTuner("ridge", [{"alpha": 0.1}, {"alpha": 10.0}], cv=2).meta_fit(tasks(4))


def test_a_second_call_makes_no_trial_again(tmp_path):
    path = tmp_path / "deep" / "trials.jsonl"
    told = []
    tuner = up.MetaTuner(Patient(wait=0.0), LEVELS, cv=2, checkpoint=path, callback=lambda *at: told.append(at))
    first = tuner.meta_fit(tasks(5)).prior_
    assert len(lines(path)) == 20
    assert told[-1] == (20, 20)
    assert tuner.meta_fit(tasks(5)).prior_.hash == first.hash
    assert len(lines(path)) == 20
    # more settings and more tasks cost what is new
    more = up.MetaTuner(Patient(wait=0.0), [*LEVELS, {"level": 0.4}], cv=2, checkpoint=path)
    assert more.meta_fit(tasks(6)).experience_.score.shape == (6, 5)
    assert len(lines(path)) == 30
    # another plan is another trial
    up.MetaTuner(Patient(wait=0.0), LEVELS, cv=3, checkpoint=path).meta_fit(tasks(5))
    assert len(lines(path)) == 50


PROGRAM = """
import sys
import upstairs as up
from patient import LEVELS, Patient, tasks
up.MetaTuner(Patient(), LEVELS, cv=2, checkpoint=sys.argv[1], n_jobs=2).meta_fit(tasks(6))
"""


def test_a_killed_run_loses_what_was_under_way(tmp_path):
    path, rng = tmp_path / "trials.jsonl", random.Random(0)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(pathlib.Path(__file__).parent), *sys.path])}
    killed = 0
    for _ in range(2):
        before = len(lines(path)) if path.exists() else 0
        running = subprocess.Popen([sys.executable, "-c", PROGRAM, str(path)], env=env)
        deadline = time.monotonic() + 60
        while running.poll() is None and time.monotonic() < deadline:
            if path.exists() and len(path.read_bytes().split(b"\n")) - 2 >= before + 3:
                time.sleep(rng.random() * 0.2)
                os.kill(running.pid, signal.SIGKILL)
                killed += 1
                break
            time.sleep(0.01)
        running.wait()
        content = path.read_bytes()
        assert len(content.split(b"\n")) - 2 >= before + 3  # what had ended is there
    assert killed == 2
    whole = up.MetaTuner(Patient(), LEVELS, cv=2, checkpoint=path, n_jobs=2).meta_fit(tasks(6))
    known = [
        (entry["data"], json.dumps(entry["settings"]))
        for entry in map(_read, path.read_bytes().split(b"\n")[1:])
        if entry
    ]
    assert len(known) == len(set(known)) == 24  # no trial was made twice
    assert whole.prior_.hash == up.MetaTuner(Patient(wait=0.0), LEVELS, cv=2).meta_fit(tasks(6)).prior_.hash


def _read(line: bytes) -> dict | None:
    try:
        return json.loads(line)
    except ValueError:
        return None


def test_trials_that_fail_or_overrun_are_kept_as_such(tmp_path):
    settings = [{"level": level} for level in (0.1, 8.0, 9.0)]
    tuner = up.MetaTuner(Patient(wait=0.0), settings, cv=2, max_seconds=0.5, checkpoint=tmp_path / "t", n_jobs=2)
    known = tuner.meta_fit(tasks(3)).experience_
    assert np.isfinite(known.score[:, :2]).all()
    assert np.isneginf(known.score[:, 2:]).all()
    failures = {entry["settings"].get("level"): entry.get("failure") for entry in lines(tmp_path / "t")}
    assert failures == {None: None, 0.1: None, 8.0: "ValueError: eight is too much", 9.0: "timeout"}
    assert tuner.recommend(*_rows()).settings in ({}, {"level": 0.1})
    with pytest.raises(
        up.TaskError, match=r"Task 's0-0' \(24 rows\): every setting failed, the first with 'ValueError"
    ):
        up.MetaTuner(Patient(level=8.0), [{"level": 8.0}], cv=2).meta_fit(tasks(3))


def _rows(seed: int = 99, rows: int = 24):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 2)), rng.normal(size=rows)


def test_both_cores_are_kept_busy():
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one core")

    def seconds(n_jobs: int) -> float:
        at = []
        note = lambda *_: at.append(time.perf_counter())  # noqa: E731
        up.MetaTuner(Patient(wait=0.05), LEVELS, cv=2, n_jobs=n_jobs, callback=note).meta_fit(tasks(4))
        return at[-1] - at[0]

    # 16 trials of .1 s that only wait; another process may hold up one attempt, but not all
    assert any(seconds(1) > 1.7 * seconds(2) for _ in range(4))


def test_the_same_data_under_another_name(fitted):
    known = copy.copy(fitted)
    twice = [*tasks(3), Task(tasks(1)[0].X[::-1], tasks(1)[0].y[::-1], "renamed")]
    with pytest.raises(up.TaskError, match=r"'s0-0' .* holds the same data as task 'renamed'"):
        up.MetaTuner("ridge").meta_fit(twice)
    before = known.prior_.hash
    assert known.meta_partial_fit([twice[-1]]).prior_.hash == before  # nothing new
    grown = known.meta_partial_fit(tasks(2, seed=1)).experience_
    assert len(grown) == 6
    assert known.prior_.hash != before
    smaller = known.with_experience(grown.without(["s1-0"]))
    assert smaller.experience_.names == ("s0-0", "s0-1", "s0-2", "s0-3", "s1-1")


def test_a_loaded_tuner_goes_on(fitted, tmp_path):
    tuner = fitted
    up.save(tuner, tmp_path / "prior", resume=True)
    again = up.load(tmp_path / "prior")
    assert again.prior_.hash == tuner.prior_.hash
    assert again.recommend(*_rows()) == tuner.recommend(*_rows())
    assert len(again.meta_partial_fit(tasks(2, seed=1)).experience_) == 6


def test_experience_made_by_hand():
    scores = np.random.default_rng(0).random((8, 3))
    table = up.Experience([{}, *LEVELS[:2]], [f"t{n}" for n in range(8)], {"r2": scores})
    tuner = up.MetaTuner(Patient()).meta_fit(table)
    assert tuner.prior_.settings["kind"] == "regression"
    assert tuner.experience_.measure == "r2"
    assert tuner.recommend(*_rows()).settings in [dict(settings) for settings in table.settings]


def test_any_estimator_and_measure():
    rng = np.random.default_rng(0)
    made = [Task(rng.normal(size=(40, 3)), rng.choice(list("ab"), 40), f"c{n}") for n in range(4)]
    tuner = up.MetaTuner(LinearSVC(), {"C": [0.01, 1.0]}, measure="balanced_accuracy", cv=2).meta_fit(made)
    assert set(tuner.experience_.scores) == {"accuracy", "balanced_accuracy"}  # no probabilities: no log loss
    model = tuner.adapt(made[0].X, made[0].y)
    assert hasattr(model, "decision_function")
    assert not hasattr(model, "predict_proba")
    with pytest.raises(up.PriorMismatchError, match=r"measure='neg_log_loss' is none of what this estimator"):
        up.MetaTuner(LinearSVC(), {"C": [0.01]}, measure="neg_log_loss", cv=2).meta_fit(made)


@pytest.mark.parametrize(
    ("tuner", "said"),
    [
        (up.MetaTuner("boosting"), "estimator='boosting' is not known by name"),
        (up.MetaTuner("logistic-regression"), "exists for classification only"),
        (up.MetaTuner(Patient()), "param_distributions must say what to vary"),
        (up.MetaTuner(Patient(), {"size": [1]}), "param_distributions names 'size', which Patient does not take"),
        (up.MetaTuner(Patient(), {"level": [np.ones]}), r"param_distributions\['level'\] holds .* must be numbers"),
        (up.MetaTuner(Patient(), []), "holds no setting beside"),
        (up.MetaTuner(Patient(), LEVELS, n_settings=0, cv=1), "cv must be"),
    ],
)
def test_wrong_arguments_are_named(tuner, said):
    with pytest.raises(up.UpstairsError, match=said):
        tuner.meta_fit(tasks(3))


def test_recommending_takes_milliseconds(fitted):
    tuner = fitted
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(10_000, 50)), rng.normal(size=10_000)
    frame = pd.DataFrame(X, columns=[f"c{n}" for n in range(50)])
    for rows in (X, frame):
        tuner.recommend(rows, y)
        took = []
        for _ in range(5):
            start = time.perf_counter()
            tuner.recommend(rows, y)
            took.append(time.perf_counter() - start)
        assert min(took) < 0.05


SPACE = {"level": uniform(-1, 2), "wait": [0.0]}


@pytest.mark.parametrize("space", [SPACE, LEVELS], ids=["distributions", "settings"])
def test_a_search_starts_from_experience_and_goes_on(space):
    tuner = up.MetaTuner(Patient(wait=0.0), space, n_settings=14, cv=2).meta_fit(tasks(5))
    X, y = _rows()
    found = tuner.search(X, y + 0.6, 14)
    first = tuner.recommend(X, y + 0.6).settings
    assert found.settings[0] == first
    if space is SPACE:
        pytest.importorskip("optuna")
        assert found.by == ("experience",) * HAND_OVER + ("optuna",) * 4
        assert all(set(entry) == {"level", "wait"} for entry in found.settings[HAND_OVER:])
    else:
        assert len(found.settings) == 4  # the whole table
    assert found.best_score == found.scores.max() == found.best_so_far[-1]
    assert found.best_settings in found.settings


def test_distributions_are_handed_over_as_they_are():
    optuna = pytest.importorskip("optuna")
    from upstairs.learners.search import _continuous

    assert _continuous(optuna, loguniform(0.1, 10.0)).log
    assert _continuous(optuna, randint(2, 5)) == optuna.distributions.IntDistribution(2, 4)
    assert _continuous(optuna, uniform(1, 2)) == optuna.distributions.FloatDistribution(1.0, 3.0)
