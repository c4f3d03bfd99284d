"""Conformance checks of a meta-learner as a user meets it: inside scikit-learn, stored, going on, and worth it."""

from __future__ import annotations

import copy
import pickle
import tempfile
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from upstairs.learners.meta import MetaLearner
from upstairs.learners.registry import load, save
from upstairs.testing.assertions import close, gap, models_of, paired_losses, refusal, require, same, take
from upstairs.testing.families import MetaCase, predicted, quietly


# --- scikit-learn -----------------------------------------------------------------------------------------------
def check_clone_keeps_prior(meta: MetaLearner, tasks: MetaCase) -> None:
    """``clone``, ``deepcopy`` and ``set_params`` hand on the same prior object."""
    learner = tasks.fitted(meta).learner()
    prior = tasks.fitted(meta).prior_
    require(learner.prior is prior, "learner() does not hold the prior_ of its meta-learner")
    require(clone(learner).prior is prior, "clone made another prior")
    require(copy.deepcopy(learner).prior is prior, "deepcopy made another prior")
    require(clone(learner).set_params(guard=True).prior is prior, "set_params made another prior")


def check_pipeline_and_search(meta: MetaLearner, tasks: MetaCase) -> None:
    """The learner works in a Pipeline and a GridSearchCV over ``[None, value]``, with the prior itself."""
    fitted, few = tasks.fitted(meta), tasks.few(0, shots=5 if tasks.kind == "own" else 12)
    pipe = clone(Pipeline([("model", fitted.learner())]))
    require(pipe.named_steps["model"].prior is fitted.prior_, "clone of a Pipeline copied the prior")
    want = predicted(fitted.adapt(few.X, few.y), few.X_query)
    same(predicted(pipe.fit(few.X, few.y)[-1], few.X_query), want, "the learner in a Pipeline differs from adapt")
    if tasks.setting is not None:
        name, value = tasks.setting
        search = GridSearchCV(fitted.learner(), {name: [None, value]}, cv=2, error_score="raise").fit(few.X, few.y)
        require(search.best_estimator_.prior is fitted.prior_, "GridSearchCV copied the prior")
        require(np.isfinite(search.cv_results_["mean_test_score"]).all(), "GridSearchCV found scores of NaN")


def check_explicit_setting_wins(meta: MetaLearner, tasks: MetaCase) -> None:
    """An explicit argument of the estimator wins over the prior; None takes it from there."""
    assert tasks.setting is not None
    (name, value), fitted, few = tasks.setting, tasks.fitted(meta), tasks.few(0)
    want = predicted(fitted.adapt(few.X, few.y), few.X_query)
    none = fitted.learner(**{name: None}).fit(few.X, few.y)
    same(predicted(none, few.X_query), want, f"{name}=None differs from what the prior says")
    explicit = predicted(fitted.learner(**{name: value}).fit(few.X, few.y), few.X_query)
    require(gap(explicit, want) > 1e-12, f"{name}={value!r} changed nothing: the prior won over an explicit value")


def check_messages_name_the_argument(meta: MetaLearner, tasks: MetaCase) -> None:
    """Errors name the argument that is wrong."""
    few = tasks.few(0)
    for argument, call in (
        ("tasks", lambda: clone(meta).meta_fit(17)),
        ("tasks", lambda: clone(meta).meta_fit([few.X])),
        ("validation", lambda: clone(meta).meta_fit(tasks.train, validation=17)),
        ("prior", lambda: tasks.fitted(meta).learner().set_params(prior="prior").fit(few.X, few.y)),
    ):
        said = refusal(call, ValueError, f"a wrong {argument}")
        require(argument in said, f"the error must name {argument}, but says: {said}")
    if tasks.bad_setting is not None:
        name, value = tasks.bad_setting
        said = refusal(
            lambda: tasks.fitted(meta).learner(**{name: value}).fit(few.X, few.y), ValueError, f"{name}={value!r}"
        )
        require(name in said, f"the error must name {name}, but says: {said}")


# --- keeping and going on ---------------------------------------------------------------------------------------
def check_save_and_load(meta: MetaLearner, tasks: MetaCase) -> None:
    """A stored prior and stored adapted models (also without the prior) predict the same bit for bit."""
    fitted, few = tasks.fitted(meta), tasks.few(0)
    with tempfile.TemporaryDirectory() as folder:
        save(fitted, f"{folder}/meta")
        again = load(f"{folder}/meta")
        require(again.prior_.hash == fitted.prior_.hash, "the loaded prior has another content")
        model = fitted.adapt(few.X, few.y)
        want = predicted(model, few.X_query)
        same(predicted(again.adapt(few.X, few.y), few.X_query), want, "a loaded prior adapts to other predictions")
        for name, model in models_of(fitted, tasks):
            save(model, f"{folder}/{name}")
            other = load(f"{folder}/{name}")
            same(predicted(other, few.X_query), predicted(model, few.X_query), f"a loaded {name} predicts otherwise")
            told, tells = ((m.used_prior_, m.familiarity_, m.guard_reason_) for m in (model, other))
            require(told == tells, f"a loaded {name} says {tells} of itself, but the saved one said {told}")


def check_pickle(meta: MetaLearner, tasks: MetaCase) -> None:
    """A pickle in memory predicts the same bit for bit."""
    fitted, few = tasks.fitted(meta), tasks.few(0)
    want = predicted(fitted.adapt(few.X, few.y), few.X_query)
    again = pickle.loads(pickle.dumps(fitted))  # noqa: S301
    same(predicted(again.adapt(few.X, few.y), few.X_query), want, "a pickled meta-learner adapts otherwise")
    for name, model in models_of(fitted, tasks):
        other = pickle.loads(pickle.dumps(model))  # noqa: S301
        same(predicted(other, few.X_query), predicted(model, few.X_query), f"a pickled {name} predicts otherwise")


def check_partial_fit(meta: MetaLearner, tasks: MetaCase) -> None:
    """Where ``partial_fit`` is offered it equals fitting on all rows."""
    fitted, few = tasks.fitted(meta), tasks.few(0)
    if not hasattr(fitted.learner(), "partial_fit"):
        return
    order = np.argsort(np.arange(len(few.y)) % 2, kind="stable") if tasks.kind == "own" else np.arange(len(few.y))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    step: Any = fitted.learner().partial_fit(take(few.X, first), few.y[first])
    step = step.partial_fit(take(few.X, second), few.y[second])
    want = predicted(fitted.adapt(few.X, few.y), few.X_query)
    close(predicted(step, few.X_query), want, tasks.tolerance, "partial_fit on two parts differs from fit on all rows")


def check_meta_partial_fit(meta: MetaLearner, tasks: MetaCase) -> None:
    """``meta_partial_fit`` makes a new prior from new tasks and leaves the old object as it was."""
    first, second = tasks.parts()
    going = clone(meta).meta_fit(first)
    old, content = going.prior_, going.prior_.hash
    arrays = {name: array.tobytes() for name, array in old.arrays.items()}
    result = going.meta_partial_fit(second)
    require(result is going, "meta_partial_fit must return the meta-learner itself")
    require(going.prior_ is not old and going.prior_.hash != content, "meta_partial_fit on new tasks changed nothing")
    same = all(array.tobytes() == arrays[name] for name, array in old.arrays.items())
    require(old.hash == content and same, "meta_partial_fit changed the old prior object")
    few = tasks.few(0)
    require(np.isfinite(predicted(going.adapt(few.X, few.y), few.X_query)).all(), "the new prior predicts NaN")


# --- what it is good for ----------------------------------------------------------------------------------------
def check_familiarity(meta: MetaLearner, tasks: MetaCase) -> None:
    """``familiarity_`` lies in 0 to 100, and unrelated tasks get lower values and warnings more often."""
    fitted = tasks.fitted(meta)
    found = []
    for some in (tasks.test, tasks.unrelated):
        assert some is not None
        cut = [tasks.few(number, some) for number in range(min(30, len(some)))]
        told = [quietly(fitted, few.X, few.y) for few in cut]
        values = [model.familiarity_ for model, _ in told]
        inside = all(value is not None and 0.0 <= value <= 100.0 for value in values)
        require(inside, f"familiarity_ must lie between 0 and 100, but is {values}")
        found.append((float(np.mean(np.array(values, dtype=float))), float(np.mean([warned for _, warned in told]))))
    (related, seldom), (unrelated, often) = found
    require(
        unrelated < related, f"familiarity is {unrelated:.0f} for unrelated tasks and {related:.0f} for related ones"
    )
    require(often > seldom, f"{often:.0%} of unrelated tasks and {seldom:.0%} of related ones raised a warning")


def check_beats_base_learner(meta: MetaLearner, tasks: MetaCase) -> None:
    """On its own family the prior clearly beats the same learner without one: 10 % and two standard errors."""
    with_prior, without = paired_losses(tasks.fitted(meta), tasks, tasks.test, tasks.shots, guard=False)
    gain = without - with_prior
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    better = with_prior.mean() < 0.9 * without.mean() and gain.mean() > 2.0 * error
    said = f"mean loss {with_prior.mean():.3f} with the prior and {without.mean():.3f} without (standard error {error:.3f})"
    require(better, f"the prior does not clearly beat the base learner: {said}")


def check_does_no_harm(meta: MetaLearner, tasks: MetaCase) -> None:
    """On unrelated tasks of 20 rows ``guard=True`` keeps the mean loss within 1.05 of that without a prior."""
    assert tasks.unrelated is not None
    ways = len(tasks.unrelated[0].classes) if tasks.kind == "own" else 1
    with_prior, without = paired_losses(tasks.fitted(meta), tasks, tasks.unrelated, 20 // ways, guard=True)
    ratio = with_prior.mean() / without.mean()
    require(
        ratio <= 1.05,
        f"with guard=True the mean loss on {len(without)} unrelated tasks is {ratio:.3f} times that without",
    )
