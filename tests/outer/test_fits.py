"""Fits in processes: each comes back once, one whose process dies is made again, and one that always dies is named."""

from __future__ import annotations

import os
import pathlib
import time
import warnings

import joblib
import numpy as np
import pytest
from fits_cases import end_process, evaluation, long, mortal, table
from sklearn.linear_model import Ridge

import upstairs as up
from upstairs.outer.fits import in_this_process, on_a_cluster, run_fits


def quiet(run):
    """loky says when it gave a process up."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*worker", category=UserWarning)
        return run()


def squares(count, **settings):
    return dict(run_fits(lambda x: (x**2, os.getpid()), range(count), names=lambda n: f"task {n}", **settings))


def test_here_jobs_are_taken_one_by_one_and_in_order():
    taken = []

    def jobs():
        for number in range(3):
            taken.append(number)
            yield number

    seen = [(number, found, len(taken)) for number, found in run_fits(lambda x: -x, jobs(), names=str)]
    assert seen == [(0, 0, 1), (1, -1, 2), (2, -2, 3)]
    with joblib.parallel_config("loky", n_jobs=2):
        assert in_this_process(1)
        assert not in_this_process(None)
        assert not on_a_cluster(None)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_processes_and_threads(backend):
    with joblib.parallel_config(backend, n_jobs=2):
        found = dict(run_fits(divmod_by_three, iter(range(30)), names=str))
    assert found == {number: divmod(number, 3) for number in range(30)}


def divmod_by_three(x):
    return divmod(x, 3)


def test_loky_is_left_where_threads_are_preferred():
    assert {process for _, process in squares(4, n_jobs=2, prefer="threads").values()} == {os.getpid()}
    found = squares(4, n_jobs=2)
    assert {number: square for number, (square, _) in found.items()} == {0: 0, 1: 1, 2: 4, 3: 9}
    assert os.getpid() not in {process for _, process in found.values()}


def test_a_fit_whose_process_died_is_made_again(tmp_path):
    def fit(x):
        if x == 4:
            end_process(str(tmp_path / "marker"), times=2)
        return x + 1

    found = quiet(lambda: list(run_fits(fit, range(12), names=str, n_jobs=2)))
    assert sorted(found) == [(number, number + 1) for number in range(12)]
    assert (tmp_path / "marker").read_text() == "xx"


def test_a_fit_that_always_ends_its_process_is_named_after_all_others(tmp_path):
    def fit(x):
        if x == 1:
            end_process(str(tmp_path / "marker"), times=99)
        return x

    found = {}
    with pytest.raises(up.errors.UpstairsError, match=r"fit of task b, and died again .* memory"):
        quiet(
            lambda: found.update(run_fits(fit, range(8), names=[f"task {letter}" for letter in "abcdefgh"], n_jobs=2))
        )
    assert (tmp_path / "marker").read_text() == "xxx"


def test_errors_of_a_fit_pass_through():
    def fit(x):
        if x == 3:
            raise KeyError("my own")
        return x

    for n_jobs in (1, 2):
        with pytest.raises(KeyError, match="my own"):
            list(run_fits(fit, range(6), names=str, n_jobs=n_jobs))


def test_a_learner_that_ends_its_process_costs_an_evaluation_nothing(tmp_path):
    (tmp_path / "done").write_text("x")
    alone = evaluation(mortal(str(tmp_path / "done")), 1)
    found = quiet(lambda: evaluation(mortal(str(tmp_path / "marker")), 2))
    assert (tmp_path / "marker").read_text() == "x"
    assert found.same_numbers(alone)


@long
def test_a_learner_that_always_does_is_reported_with_its_tasks(tmp_path):
    with pytest.raises(up.errors.UpstairsError, match=r"the fit of 'estimator' on tasks 't.*and 1 more"):
        quiet(lambda: evaluation(mortal(str(tmp_path / "marker"), times=99), 2, shots=3))


@long
def test_trials_are_as_many_processes_as_joblib_says_and_survive_one(tmp_path):
    def made(n_jobs, name, seconds):
        return table(mortal(str(tmp_path / name)), n_jobs, max_seconds=seconds)

    plain = table(Ridge(), 1)
    with joblib.parallel_config("loky", n_jobs=2):
        assert made(None, "first", None) == made(None, "second", 60.0) == plain
    assert (tmp_path / "first").read_text() == (tmp_path / "second").read_text() == "x"


@long
def test_a_trial_that_always_ends_its_process_is_a_failure_and_said(tmp_path):
    marker = str(tmp_path / "marker")
    with pytest.warns(UserWarning, match=r"Task 't0\d' \(24 rows\): the process died three times under the settings"):
        scores = table(mortal(marker, times=3), 1)["r2"]
    assert pathlib.Path(marker).read_text() == "xxx"
    assert np.isneginf(scores).sum() == 1


def test_the_caller_may_stop_listening():
    start = time.monotonic()
    running = run_fits(lambda x: time.sleep(0.2) or x, range(400), names=str, n_jobs=2)
    next(running)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        running.close()
    assert time.monotonic() - start < 30
