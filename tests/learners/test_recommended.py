"""Recommended estimators: data as they are, one fit, and what is said about it; the priors that ship."""

from __future__ import annotations

import inspect
import json
import pathlib
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import upstairs as up
from upstairs.learners.catalogue import CATALOGUE, made
from upstairs.learners.shipped import shipped_prior
from upstairs.learners.stored_estimators import unpacked
from upstairs.tasks.fingerprint import fingerprint

PAIRS = [(name, kind) for name, entry in CATALOGUE.items() for kind in entry.places]
every_pair = pytest.mark.parametrize(("name", "kind"), PAIRS, ids=[f"{name}-{kind}" for name, kind in PAIRS])
unfamiliar_is_fine = pytest.mark.filterwarnings("ignore::upstairs.errors.FamiliarityWarning")
slow_nets_are_fine = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CHECKED = [
    up.RecommendedClassifier("decision-tree"),
    up.RecommendedRegressor("decision-tree"),
    up.recommended("decision-tree", "classification"),
    up.recommended("decision-tree", "regression"),
    up.recommended("logistic-regression", trials=2, cv=2),
    up.recommended("ridge", guard=True, cv=2),
]


@pytest.fixture
def constructors_take_anything(monkeypatch):
    """Arguments are validated in ``fit``; the run-time type checks of the test suite would refuse them before."""
    for cls in {type(estimator) for estimator in CHECKED}:
        monkeypatch.setattr(cls, "__init__", inspect.unwrap(cls.__init__))


@unfamiliar_is_fine
@parametrize_with_checks(CHECKED)
def test_scikit_learns_own_checks(constructors_take_anything, estimator, check):
    check(estimator)


def mixed(kind: str, rows: int = 120) -> tuple[pd.DataFrame, np.ndarray]:
    """A frame with a category, missing cells of both sorts, and a constant."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"size": rng.normal(size=rows), "shape": rng.choice(["round", "flat", "long"], rows), "one": 1.0}
    )
    score = frame["size"] + 2.0 * (frame["shape"] == "flat") + 0.3 * rng.normal(size=rows)
    frame.loc[::7, "size"] = np.nan
    frame["shape"] = frame["shape"].astype(object).where(np.arange(rows) % 11 != 0, None)
    return frame, score.to_numpy() if kind == "regression" else np.where(score > 0.5, "yes", "no")


@unfamiliar_is_fine
@slow_nets_are_fine
@every_pair
def test_a_frame_as_it_is(name, kind, tmp_path):
    X, y = mixed(kind)
    model = up.recommended(name, kind, random_state=0).fit(X, y)
    assert model.used_prior_
    assert 0 <= model.familiarity_ <= 100
    known = shipped_prior(name, kind).settings
    assert model.settings_ in [*({**known.get("fixed", {}), **entry} for entry in known["experience"]["settings"]), {}]
    strange = X.head(5).assign(shape="never seen")
    assert len(model.predict(strange)) == 5
    assert model.score(X, y) > (0.5 if kind == "regression" else 0.75)
    up.save(model, tmp_path / "model")
    again = up.load(tmp_path / "model")
    want = model.predict(X) if kind == "regression" else model.predict_proba(X)
    np.testing.assert_array_equal(again.predict(X) if kind == "regression" else again.predict_proba(X), want)
    assert (again.settings_, again.familiarity_, again.used_prior_) == (
        model.settings_,
        model.familiarity_,
        model.used_prior_,
    )


@every_pair
def test_every_shipped_prior_says_where_it_comes_from(name, kind):
    folder = pathlib.Path(up.__file__).parent / "priors" / "tuner" / f"{name}-{kind}"
    document = json.loads((folder / "prior.json").read_text())
    said = document["provenance"]
    assert said["tasks"] >= (200 if kind == "classification" else 100)
    assert said["groups"] <= said["tasks"]
    assert {"date", "held_out", "versions", "script", "measure"} <= set(said)
    assert "scikit-learn" in said["versions"]
    assert said["held_out"][document["prior"]["settings"]["choice"]["form"]] < 1.0
    prior = shipped_prior(name, kind)
    assert prior.hash == document["prior"]["hash"]
    assert prior.settings["estimator"]["name"] == name
    assert sum(array.nbytes for array in prior.arrays.values()) < 400_000
    assert up.load(folder).prior_.hash == prior.hash


def test_the_kind_is_seen_from_the_targets():
    iris, sugar = load_iris(), load_diabetes()
    model = up.recommended("decision-tree", random_state=0).fit(iris.data, iris.target)
    assert model.kind_ == "classification"
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.predict_proba(iris.data[:2]).shape == (2, 3)
    assert up.recommended("decision-tree").fit(sugar.data, sugar.target).kind_ == "regression"
    assert isinstance(up.recommended("ridge"), up.RecommendedRegressor)
    with pytest.raises(up.PriorMismatchError, match="exists for regression only"):
        up.recommended("ridge", "classification")
    with pytest.raises(up.PriorMismatchError, match="known are decision-tree"):
        up.recommended("boosting")


def test_the_benefit_shows_on_data_that_no_prior_has_seen():
    X, y = load_breast_cancer(return_X_y=True)
    assert (
        fingerprint(X, y) not in shipped_prior("decision-tree", "classification").settings["experience"]["fingerprints"]
    )
    scores = {}
    for name, model in (
        ("default", up.RecommendedClassifier("decision-tree", random_state=0)),
        ("recommended", up.recommended("decision-tree", "classification", random_state=0)),
    ):
        scores[name] = cross_val_score(model, X, y, cv=5, scoring="neg_log_loss").mean()
    assert scores["recommended"] > scores["default"] + 1.0


def test_in_pipelines_and_searches():
    X, y = load_iris(return_X_y=True)
    model = up.recommended("k-neighbors", "classification")
    piped = make_pipeline(model).fit(X, y)
    assert piped[-1].prior is model.prior
    found = GridSearchCV(model, {"settings": [None, {"n_neighbors": 1}], "trials": [1, 2]}, cv=3).fit(X, y)
    assert found.best_score_ > 0.9


def test_explicit_settings_win_and_trials_are_kept():
    X, y = load_iris(return_X_y=True)
    given = up.recommended("k-neighbors", "classification", settings={"n_neighbors": 2}).fit(X, y)
    assert given.estimator_.n_neighbors == 2
    assert not given.used_prior_
    compared = up.recommended("k-neighbors", "classification", trials=3).fit(X, y)
    assert len(compared.trials_) == 3
    assert compared.settings_ == max(compared.trials_, key=lambda entry: entry[1])[0]
    careful = up.recommended("k-neighbors", "classification", guard=True).fit(X, y)
    assert "cross-validated neg_log_loss" in careful.guard_reason_
    assert careful.trials_[-1][0] == {}


def test_settings_that_few_rows_do_not_allow_are_passed_over():
    X, y = np.arange(8.0)[:, None], np.array(list("aaaabbbc"))
    prior = shipped_prior("mlp", "classification")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = up.RecommendedClassifier(made("mlp", "classification"), prior, random_state=0).fit(X, y)
    assert model.predict(X).shape == (8,)  # early stopping cannot hold out a class of one row
    neighbours = up.RecommendedRegressor("k-neighbors", settings={"n_neighbors": 50}).fit(X, np.arange(8.0))
    assert neighbours.estimator_.n_neighbors == 8


def test_a_strange_data_set_is_said_to_be_one():
    rng = np.random.default_rng(0)
    X, y = np.where(rng.random((30, 3000)) < 0.01, 1e6, 0.0), rng.integers(0, 2, 30).astype(str)
    with pytest.warns(up.FamiliarityWarning, match="less like the data sets of the prior"):
        up.recommended("decision-tree", "classification").fit(X, y)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (up.RecommendedClassifier("decision-tree", trials=0), "trials must be a whole number"),
        (up.RecommendedClassifier("decision-tree", cv=1.5), "cv must be a number of folds"),
        (up.RecommendedClassifier(made("ridge", "regression"), shipped_prior("mlp", "classification")), "Ridge, but"),
        (up.RecommendedClassifier("decision-tree", shipped_prior("decision-tree", "regression")), "regression tasks"),
    ],
)
def test_wrong_arguments_are_named(model, said):
    with pytest.raises(ValueError, match=said):
        model.fit(*load_iris(return_X_y=True))


def test_bytes_of_another_type_are_not_read():
    import skops.io
    from patient import Patient
    from sklearn.linear_model import SGDClassifier

    with pytest.raises(up.StorageError, match=r"holds patient\.Patient, which"):
        up.save(up.RecommendedRegressor(Patient(wait=0.0)).fit([[1.0], [2.0]], [1.0, 2.0]), "never-made")
    assert not pathlib.Path("never-made").exists()
    data = np.frombuffer(skops.io.dumps(Patient()), dtype=np.uint8)
    with pytest.raises(up.StorageError, match="this library does not read"):
        unpacked(data)
    model = SGDClassifier().fit([[1.0], [2.0]], [0, 1])
    assert unpacked(np.frombuffer(skops.io.dumps(model), dtype=np.uint8)).coef_.shape == (1, 1)


def test_truth_values_and_huge_numbers_as_targets():
    X = np.arange(30.0)[:, None]
    truth = np.array([bool(n % 2) for n in range(30)], dtype=object)
    assert up.RecommendedClassifier("decision-tree").fit(X, truth).classes_.tolist() == [False, True]
    said = up.RecommendedRegressor("ridge", settings={"alpha": 1e-9}).fit(X, 1e200 * X[:, 0]).predict(X)
    np.testing.assert_allclose(said, 1e200 * X[:, 0], rtol=1e-6, atol=1e194)
