"""Dask: the numbers of loky, and nothing lost when a worker is killed. Needs `distributed`."""

from __future__ import annotations

import logging

import joblib
import pytest
from fits_cases import end_process, evaluation, long, mortal, table
from sklearn.linear_model import Ridge

import upstairs as up
from upstairs.outer.fits import in_this_process, on_a_cluster, run_fits

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore")  # those of Dask, of its event loop and of its sockets


@pytest.fixture(scope="module")
def cluster():
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    made = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
    )
    with made as cluster, distributed.Client(cluster):
        yield cluster


@pytest.fixture
def dask(cluster):
    with joblib.parallel_config("dask"):
        yield cluster


def test_where_fits_run(dask):
    assert on_a_cluster(None)
    assert on_a_cluster(-1)
    assert not on_a_cluster(1)
    assert in_this_process(1)
    inside = dict(run_fits(lambda x: (in_this_process(None), in_this_process(2)), range(2), names=str))
    assert inside == {0: (True, True), 1: (True, True)}


def test_errors_of_a_fit_pass_through(dask):
    def fit(x):
        raise KeyError("my own")

    with pytest.raises(KeyError, match="my own") as raised:
        list(run_fits(fit, range(3), names=str))
    assert "On the worker" in raised.value.__notes__[0]


@pytest.mark.parametrize("seconds", [None, pytest.param(60.0, marks=long)])
def test_the_table_of_trials_is_that_of_loky_and_a_killed_worker_costs_nothing(cluster, tmp_path, seconds):
    plain = table(Ridge(), 1, max_seconds=seconds)  # which is loky's: see test_fits
    with joblib.parallel_config("dask"):
        path = tmp_path / "trials.jsonl"
        found = table(mortal(str(tmp_path / "marker")), None, max_seconds=seconds, checkpoint=path)
    assert found == plain
    assert (tmp_path / "marker").read_text() == "x"
    assert len(path.read_bytes().splitlines()) == 10  # 3 tasks, 3 settings, the first line


def test_an_evaluation_is_that_of_loky_and_a_killed_worker_costs_nothing(cluster, tmp_path):
    (tmp_path / "done").write_text("x")
    plain = evaluation(mortal(str(tmp_path / "done")), 1)  # which is loky's: see test_fits
    with joblib.parallel_config("dask"):
        found = evaluation(mortal(str(tmp_path / "marker")), None)
    assert (tmp_path / "marker").read_text() == "x"
    assert found.same_numbers(plain)


@long
def test_a_fit_that_dask_gives_up_is_made_again_and_named_in_the_end(dask, tmp_path, monkeypatch):
    monkeypatch.setattr(dask.scheduler, "allowed_failures", 0)  # Dask itself tries three times more

    def fit(job):
        if job is not None:
            end_process(*job)
        return job

    twice, always = (str(tmp_path / "twice"), 2), (str(tmp_path / "always"), 99)
    found = {}
    with pytest.raises(up.errors.UpstairsError, match=r"under the fit of task c, and died again"):
        found.update(run_fits(fit, [None, twice, always, None, None], names=[f"task {letter}" for letter in "abcde"]))
    assert len((tmp_path / "always").read_text()) in (
        2,
        3,
    )  # it may first have waited on a worker that another one ended
