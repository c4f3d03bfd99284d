"""The record of an evaluation: nothing is done twice, a repetition has the same bits, and strange folders are left alone."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge

import upstairs as up
from upstairs.errors import StorageError, TaskError
from upstairs.evaluate import record as module
from upstairs.evaluate import replay

FAMILY = up.tasks.synthetic.SharedSubspace()
TRAIN, TEST = (
    FAMILY.sample(12, 20, random_state=0),
    FAMILY.sample(8, 25, random_state=1).map(lambda task: up.Task(task.X, task.y, name=f"new {task.name}")),
)
SETTINGS = {"train": TRAIN, "shots": [2, 5], "draws": 2, "baselines": ["no-meta", "pooled", "pooled + offset"]}


def meta(**settings):
    return up.MetaNeuralNetwork(method="bayesian-linear", net=None, prior_mean="linear", **settings)


class Counts:
    """A learner that counts what is asked of it, over copies."""

    fits, adapted = 0, 0

    def get_params(self, deep=True):
        return {}

    def meta_fit(self, train):
        Counts.fits += 1
        self.prior_ = np.mean([task.y.mean() for task in train])
        return self

    def adapt(self, X, y):
        Counts.adapted += 1
        if Counts.adapted == 20:
            raise KeyboardInterrupt
        return Ridge().fit(X, y)

    def __sklearn_clone__(self):
        return Counts()


def test_a_second_call_reads_everything_and_a_repetition_has_the_same_bits(tmp_path, monkeypatch):
    learners = {"prior": meta(), "forest": RandomForestRegressor(3)}
    first = up.evaluate(learners, TEST, record=tmp_path / "run", **SETTINGS)
    plain = up.evaluate(learners, TEST, **SETTINGS)
    assert first.same_numbers(plain)
    assert first.same_numbers(up.evaluate(learners, TEST, n_jobs=2, record=tmp_path / "two", **SETTINGS))
    again = replay(tmp_path / "run", TEST, train=TRAIN, learners={"forest": RandomForestRegressor(3)})
    assert again.same_numbers(first)
    with monkeypatch.context() as patched:
        patched.setattr("upstairs.evaluate.run.measure", None)
        patched.setattr(up.MetaNeuralNetwork, "meta_fit", None)
        patched.setattr("upstairs.learners.baselines.Pooled.meta_fit", None)
        read = up.evaluate(learners, TEST, record=tmp_path / "run", **SETTINGS)
    assert read.same_numbers(first)
    assert dict(read.meta_seconds) == dict(first.meta_seconds)
    np.testing.assert_array_equal(read.columns["adapt_seconds"], first.columns["adapt_seconds"])
    assert not first.same_numbers(up.evaluate(learners, TEST, random_state=1, **SETTINGS))
    with pytest.raises(StorageError, match=r"does not hold the learner 'forest'.*pass learners="):
        replay(tmp_path / "run", TEST, train=TRAIN)
    with pytest.raises(TaskError, match="not the test tasks of the record"):
        replay(tmp_path / "run", TEST[:5], train=TRAIN, learners=learners)


def test_what_was_fitted_and_measured_before_an_interruption_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("upstairs.evaluate.run.CHUNK", 4)
    Counts.fits = Counts.adapted = 0
    learners = {"prior": meta(), "counts": Counts(), "ridge": Ridge()}
    settings = SETTINGS | {"baselines": None, "record": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        up.evaluate(learners, TEST, **settings)
    assert Counts.fits == 1
    seen = []
    with monkeypatch.context() as patched:
        patched.setattr(up.MetaNeuralNetwork, "meta_fit", None)
        result = up.evaluate(learners, TEST, progress=lambda done, total: seen.append((done, total)), **settings)
    assert Counts.fits == 2  # it is no learner of ours, so its prior was not kept
    assert Counts.adapted == 20 + 32 - 16  # four chunks of four were whole
    assert seen[0] == (32 + 16 + 4, 96)
    assert result.same_numbers(up.evaluate(learners, TEST, **SETTINGS | {"baselines": None}))


def test_a_meta_learner_of_your_own_is_measured_and_not_kept(tmp_path):
    own = type("Own", (up.MetaNeuralNetwork,), {"__init__": up.MetaNeuralNetwork.__init__})
    learner = own(method="bayesian-linear", net=None, prior_mean="linear")
    settings = {"train": TRAIN, "shots": [2], "baselines": None}
    result = up.evaluate({"own": learner}, TEST, record=tmp_path, **settings)
    assert result.same_numbers(up.evaluate({"own": meta()}, TEST, **settings))
    assert not (tmp_path / "priors").exists()
    with pytest.raises(StorageError, match="does not hold the learner 'own'"):
        replay(tmp_path, TEST, train=TRAIN)


def test_another_evaluation_is_refused_by_name(tmp_path):
    settings = {"train": TRAIN, "shots": [2], "baselines": None, "record": tmp_path / "run"}
    up.evaluate({"ridge": Ridge()}, TEST, **settings)
    for changed, said in (
        ({"shots": [3]}, r"shots=\[2\], and now shots=\[3\]"),
        ({"random_state": 5}, "random_state=0, and now random_state=5"),
        ({"train": TRAIN[:10]}, "other training tasks"),
    ):
        with pytest.raises(StorageError, match=said):
            up.evaluate({"ridge": Ridge()}, TEST, **settings | changed)
    with pytest.raises(StorageError, match="other learners"):
        up.evaluate({"ridge": Ridge(2.0)}, TEST, **settings)
    with pytest.raises(StorageError, match=r"other test tasks \(or rows\)"):
        up.evaluate({"ridge": Ridge()}, TEST[:6], **settings)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(StorageError, match="holds something else"):
        up.evaluate({"ridge": Ridge()}, TEST, **settings | {"record": tmp_path / "mine"})
    assert os.listdir(tmp_path / "mine") == ["letter.txt"]
    (tmp_path / "run" / "evaluation.json").write_text("{}")
    with pytest.raises(StorageError, match="something else"):
        replay(tmp_path / "run", TEST)


def test_a_full_disk_is_named_and_loses_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    settings = {"shots": [2], "baselines": None, "record": tmp_path / "run"}
    with monkeypatch.context() as patched:
        patched.setattr(module, "open", full, raising=False)
        with pytest.raises(StorageError, match=r"No space left.*free disk space"):
            up.evaluate({"ridge": Ridge()}, TEST, **settings)
    assert up.evaluate({"ridge": Ridge()}, TEST, **settings).same_numbers(
        up.evaluate({"ridge": Ridge()}, TEST, shots=[2], baselines=None)
    )


def test_a_line_cut_off_by_a_kill_is_measured_again(tmp_path):
    settings = {"shots": [2, 5], "baselines": None, "record": tmp_path}
    whole = up.evaluate({"ridge": Ridge()}, TEST, **settings)
    file = pathlib.Path(tmp_path) / "parts.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[: content.rindex(b"\n", 0, -1) + 200])
    assert up.evaluate({"ridge": Ridge()}, TEST, **settings).same_numbers(whole)
    lines = [line for line in file.read_bytes().split(b"\n") if line]
    assert [len(line) for line in lines][-2] < 250  # the cut line stands on its own
    assert json.loads(lines[-1])["chunk"] == 1
    assert up.evaluate({"ridge": Ridge()}, TEST, **settings).same_numbers(whole)


def test_a_killed_process_goes_on(tmp_path):
    code = (
        "import os, upstairs as up, sklearn.linear_model as lm\n"
        "import upstairs.evaluate.run as run\n"
        "run.CHUNK = 4\n"
        "tasks = up.tasks.synthetic.SharedSubspace().sample(8, 25, random_state=1)\n"
        "def progress(done, total):\n"
        "    if done == 12 and os.environ.get('KILL'): os.kill(os.getpid(), 9)\n"
        f"result = up.evaluate({{'ridge': lm.Ridge()}}, tasks, shots=[2, 5], baselines=None, record={str(tmp_path)!r}, progress=progress)\n"
        "print(sum(result.columns['mse'].tolist()).hex())\n"
    )
    dead = subprocess.run([sys.executable, "-c", code], env={**os.environ, "KILL": "1"}, capture_output=True)
    assert dead.returncode == -9
    before = (tmp_path / "parts.jsonl").read_bytes()
    alive = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (tmp_path / "parts.jsonl").read_bytes().startswith(before)
    tasks = FAMILY.sample(8, 25, random_state=1)
    whole = up.evaluate({"ridge": Ridge()}, tasks, shots=[2, 5], baselines=None)
    assert alive.stdout.strip() == sum(whole.columns["mse"].tolist()).hex()


def test_seeds_fit_anew_and_repeat_what_no_seed_changes(tmp_path):
    settings = {"train": TRAIN, "shots": [5], "baselines": ["pooled"]}
    learners = {"forest": RandomForestRegressor(3), "ridge": Ridge(), "meta": meta(random_state=9)}
    result = up.evaluate(learners, TEST, seeds=[3, 4], record=tmp_path / "run", **settings)
    table = result.to_frame()
    assert table.groupby("learner").size().to_dict() == {"forest": 16, "ridge": 16, "meta": 16, "pooled": 16}
    by_seed = table.pivot_table(index="task", columns=["learner", "seed"], values="mse")
    assert (by_seed["ridge"][3] == by_seed["ridge"][4]).all()
    assert (by_seed["forest"][3] != by_seed["forest"][4]).any()
    alone = up.evaluate({"forest": RandomForestRegressor(3)}, TEST, **settings | {"baselines": None}, random_state=0)
    assert alone.episodes_hash == result.episodes_hash
    assert result.effect("forest", "ridge").seeds == 2
    assert result.effect("forest", "ridge").var_seeds >= 0
    again = replay(tmp_path / "run", TEST, train=TRAIN, learners={k: learners[k] for k in ("forest", "ridge")})
    assert again.same_numbers(result)
    fitted = meta().meta_fit(TRAIN)
    with pytest.raises(TaskError, match="seeds= changes nothing"):
        up.evaluate({"meta": fitted}, TEST, seeds=2, shots=[5], baselines=None)
    for wrong in (1, [1, 1]):
        with pytest.raises(TaskError, match="seeds must be"):
            up.evaluate(learners, TEST, seeds=wrong, **settings)


def test_results_are_files_frames_and_pages(tmp_path):
    result = up.evaluate({"ridge": Ridge()}, TEST, train=TRAIN, shots=[2, 5], baselines=["pooled"])
    result.save(tmp_path / "result.json")
    again = up.EvaluationResult.load(tmp_path / "result.json")
    assert again.same_numbers(result)
    assert str(again.summary()) == str(result.summary())
    assert set(again.megabytes) == {"ridge", "pooled"}
    assert result.to_frame("polars").shape == result.to_frame("pyarrow").shape == result.to_frame().shape
    with pytest.raises(StorageError, match="must be a file that"):
        up.EvaluationResult.load(tmp_path / "none.json")
    (tmp_path / "other.json").write_text('{"upstairs": "trials"}')
    with pytest.raises(StorageError, match="something else"):
        up.EvaluationResult.load(tmp_path / "other.json")
    with pytest.raises(StorageError, match="can be written"):
        result.save(tmp_path / "no" / "folder.json")
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    assert [line.get_label() for line in result.plot().lines] == ["ridge", "pooled"]
    text = result.to_html(tmp_path / "page.html", title="Mine")
    assert (tmp_path / "page.html").read_text() == text
    assert "<title>Mine" in text
