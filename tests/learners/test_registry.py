"""Saving and loading: what comes back, what is kept out, and what a damaged folder says."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

import upstairs as up
from upstairs.tasks.synthetic import SharedSubspace

FAMILY = SharedSubspace(features=3, rank=1)


@pytest.fixture(scope="module")
def tasks():
    return FAMILY.sample(16, 12, random_state=0)


@pytest.fixture(scope="module")
def meta(tasks):
    return up.MetaNeuralNetwork(prior_mean="linear", shots=(1, 8), guard=True, random_state=3).meta_fit(tasks[:12])


@pytest.fixture(scope="module")
def task():
    return FAMILY.sample(1, 20, random_state=5)[0]


def test_meta_learner_comes_back_with_its_arguments(meta, task, tmp_path):
    up.save(meta, tmp_path / "prior")
    again = up.load(tmp_path / "prior")
    assert again.get_params() == meta.get_params()
    assert again.prior_ == meta.prior_
    assert dict(again.prior_.provenance) == dict(meta.prior_.provenance)
    for name, array in meta.prior_.arrays.items():
        assert_array_equal(again.prior_.arrays[name], array)
        assert again.prior_.arrays[name].dtype == array.dtype
    assert_array_equal(
        again.adapt(task.X[:5], task.y[:5]).predict(task.X), meta.adapt(task.X[:5], task.y[:5]).predict(task.X)
    )


def test_a_folder_holds_json_arrays_and_a_readme_only(meta, tmp_path):
    up.save(meta, tmp_path / "prior")
    up.save(meta, tmp_path / "prior")  # over itself
    suffixes = sorted(path.suffix for path in (tmp_path / "prior").iterdir() if not path.name.startswith("."))
    assert suffixes == [".json", ".md", ".safetensors"]
    assert "MetaNeuralNetwork" in (tmp_path / "prior" / "README.md").read_text()


def test_adapted_model_says_the_same_of_itself(meta, task, tmp_path):
    model = meta.learner(noise=0.7).fit(task.X[:6], task.y[:6])
    up.save(model, tmp_path / "model")
    again = up.load(tmp_path / "model")
    for got, want in zip(again.predict(task.X, return_std=True), model.predict(task.X, return_std=True), strict=True):
        assert_array_equal(got, want)
    assert (again.familiarity_, again.used_prior_, again.guard_reason_) == (
        model.familiarity_,
        model.used_prior_,
        model.guard_reason_,
    )
    assert again.get_params(deep=False) | {"prior": None} == model.get_params(deep=False) | {"prior": None}
    assert again.prior == model.prior
    more = [m.partial_fit(task.X[6:9], task.y[6:9]).predict(task.X) for m in (again, model)]
    assert_array_equal(more[0], more[1])


def test_model_without_rows_and_model_with_a_dropped_prior(meta, task, tmp_path):
    with pytest.warns(up.FamiliarityWarning):
        dropped = meta.adapt(task.X[:12], 100.0 - 50.0 * task.y[:12])
    assert not dropped.used_prior_
    for name, model in (("cold", meta.adapt_zero(like=task.X)), ("dropped", dropped)):
        up.save(model, tmp_path / name)
        again = up.load(tmp_path / name)
        assert_array_equal(again.predict(task.X), model.predict(task.X))
        assert again.used_prior_ == model.used_prior_


@pytest.mark.parametrize("method", [None, "prototype"])
@pytest.mark.parametrize("names", [["no", "yes"], [False, True], [4, 7]])
def test_classifier_without_a_prior(method, names, tmp_path):
    X = np.random.default_rng(0).normal(size=(12, 2))
    y = np.array(names)[(X[:, 0] > 0).astype(int)]
    model = up.PriorNeuralNetworkClassifier(method=method).fit(X, y)
    up.save(model, tmp_path / "model")
    again = up.load(tmp_path / "model")
    assert_array_equal(again.classes_, model.classes_)
    assert again.classes_.dtype == model.classes_.dtype
    assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert again.method == method


def test_own_labels(tmp_path):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(12), 8)
    pool = up.ClassPool(3 * rng.normal(size=(12, 3))[y] + rng.normal(size=(96, 3)), y)
    meta = up.MetaNeuralNetwork().meta_fit(pool)
    model = meta.adapt(pool.X[:24:4], np.array(list("aabbcc")))
    up.save(model, tmp_path / "model")
    up.save(meta, tmp_path / "meta", resume=True)
    again, again_meta = up.load(tmp_path / "model"), up.load(tmp_path / "meta")
    assert_array_equal(again.predict_proba(pool.X), model.predict_proba(pool.X))
    more = up.ClassPool(pool.X[:16], np.repeat(["x", "y"], 8))
    assert again_meta.meta_partial_fit(more).prior_ == meta.meta_partial_fit(more).prior_


def test_frames_keep_their_columns(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.normal(size=10), "clinic": rng.choice(["a", "b"], size=10)})
    model = up.PriorNeuralNetworkRegressor().fit(frame, rng.normal(size=10))
    up.save(model, tmp_path / "model")
    again = up.load(tmp_path / "model")
    assert_array_equal(again.feature_names_in_, ["age", "clinic"])
    assert_array_equal(again.predict(frame), model.predict(frame))


def test_resume_goes_on_as_if_never_stored(tasks, tmp_path):
    meta = up.MetaNeuralNetwork(prior_mean="linear").meta_fit(tasks[:10])
    up.save(meta, tmp_path / "with", resume=True)
    up.save(meta, tmp_path / "without")
    assert up.load(tmp_path / "with").meta_partial_fit(tasks[10:]).prior_ == meta.meta_partial_fit(tasks[10:]).prior_
    bare = up.load(tmp_path / "without")
    with pytest.raises(up.NotMetaFittedError, match="resume=True"):
        bare.meta_partial_fit(tasks[10:])
    with pytest.raises(up.StorageError, match="loaded without them"):
        up.save(bare, tmp_path / "again", resume=True)


def test_what_cannot_be_saved(meta, tmp_path):
    with pytest.raises(up.StorageError, match=r"no prior yet; call meta_fit"):
        up.save(up.MetaNeuralNetwork(), tmp_path / "a")
    with pytest.raises(up.StorageError, match="is not fitted; call fit or adapt"):
        up.save(meta.learner(), tmp_path / "a")
    with pytest.raises(up.StorageError, match="got a dict"):
        up.save({}, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_load_makes_only_what_is_on_its_list(meta, tmp_path):
    up.save(meta, tmp_path / "prior")
    place = tmp_path / "prior" / "prior.json"
    document = json.loads(place.read_text())
    for name in ("os.system", "Path", None):
        place.write_text(json.dumps(document | {"type": name}))
        with pytest.raises(up.StorageError, match="cannot load"):
            up.load(tmp_path / "prior")


def test_changed_settings_and_missing_parts_are_noticed(meta, tmp_path):
    up.save(meta, tmp_path / "prior")
    place = tmp_path / "prior" / "prior.json"
    document = json.loads(place.read_text())
    changed = json.loads(place.read_text())
    changed["prior"]["settings"]["target"] = [0.0, 1.0]
    place.write_text(json.dumps(changed))
    with pytest.raises(up.StorageError, match="changed after it was written"):
        up.load(tmp_path / "prior")
    place.write_text(json.dumps(document | {"params": {"colour": "red"}}))
    with pytest.raises(up.StorageError, match="damaged"):
        up.load(tmp_path / "prior")
    for file in (tmp_path / "prior").glob("*.safetensors"):
        file.unlink()
    place.write_text(json.dumps(document))
    with pytest.raises(up.StorageError):
        up.load(tmp_path / "prior")
    with pytest.raises(up.StorageError, match="does not exist"):
        up.load(tmp_path / "nothing")
