"""Ray: the numbers of loky, and nothing lost when a worker is killed. Needs the extra `ray`."""

from __future__ import annotations

import os
import pathlib

import joblib
import pytest
from fits_cases import end_process, evaluation, mortal, table
from sklearn.linear_model import Ridge

import upstairs as up
from upstairs.outer.fits import in_this_process, on_a_cluster, run_fits

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # those of Ray


@pytest.fixture(scope="module", autouse=True)
def cluster():
    from ray.util.joblib import register_ray

    register_ray()
    paths = os.pathsep.join([str(pathlib.Path(up.__file__).parents[1]), str(pathlib.Path(__file__).parent)])
    settings = {"include_dashboard": False, "log_to_driver": False, "logging_level": "CRITICAL"}
    ray.init(num_cpus=2, runtime_env={"env_vars": {"PYTHONPATH": paths}}, **settings)
    yield
    ray.shutdown()


def test_where_fits_run():
    with joblib.parallel_config("ray", n_jobs=-1):
        assert on_a_cluster(None)
        assert not on_a_cluster(1)
        inside = dict(run_fits(lambda x: (os.getpid(), in_this_process(None), in_this_process(2)), range(2), names=str))
    assert os.getpid() not in {process for process, *_ in inside.values()}
    assert [rest for _, *rest in inside.values()] == [[True, True]] * 2


def test_errors_of_a_fit_pass_through():
    def fit(x):
        raise KeyError("my own")

    with joblib.parallel_config("ray", n_jobs=2), pytest.raises(KeyError, match="my own"):
        list(run_fits(fit, range(3), names=str))


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_the_table_of_trials_is_that_of_loky_and_a_killed_worker_costs_nothing(tmp_path, seconds):
    plain = table(Ridge(), 1, max_seconds=seconds)  # which is loky's: see test_fits
    with joblib.parallel_config("ray", n_jobs=2):
        path = tmp_path / "trials.jsonl"
        found = table(mortal(str(tmp_path / "marker")), None, max_seconds=seconds, checkpoint=path)
    assert found == plain
    assert (tmp_path / "marker").read_text() == "x"
    assert len(path.read_bytes().splitlines()) == 10  # 3 tasks, 3 settings, the first line


def test_an_evaluation_is_that_of_loky_and_a_killed_worker_costs_nothing(tmp_path):
    (tmp_path / "done").write_text("x")
    plain = evaluation(mortal(str(tmp_path / "done")), 1)  # which is loky's: see test_fits
    with joblib.parallel_config("ray", n_jobs=2):
        found = evaluation(mortal(str(tmp_path / "marker")), None)
    assert (tmp_path / "marker").read_text() == "x"
    assert found.same_numbers(plain)


def test_a_fit_that_dies_twice_comes_back_and_one_that_always_dies_is_named(tmp_path):
    def fit(job):
        if job is not None:
            end_process(*job)
        return job

    twice, always = (str(tmp_path / "twice"), 2), (str(tmp_path / "always"), 99)
    names = [f"task {letter}" for letter in "abcde"]
    with joblib.parallel_config("ray", n_jobs=2):
        found = []
        with pytest.raises(up.errors.UpstairsError, match=r"under the fit of task c, and died again"):
            found.extend(run_fits(fit, [None, twice, always, None, None], names=names))
    assert len((tmp_path / "always").read_text()) == 3
