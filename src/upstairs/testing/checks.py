"""What every meta-learner must hold to; each check is a function that raises AssertionError with a sentence.

A check gets a meta-learner and a `MetaCase` with tasks of its family. It never changes either. `checks_for` names
those that apply to a case, `parametrize_with_meta_checks` turns them into tests.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from upstairs.errors import FamiliarityWarning, PriorMismatchError, TaskError
from upstairs.learners.meta import MetaLearner
from upstairs.tasks.table import Table
from upstairs.tasks.task import Task
from upstairs.tasks.taskset import TaskSet
from upstairs.testing import checks_use
from upstairs.testing.assertions import close, refusal, require, same, take
from upstairs.testing.families import MetaCase, framed, predicted, quietly

__all__ = ["CHECKS", "Check", "checks_for"]

Check = Callable[[MetaLearner, MetaCase], None]


# --- the prior and adaptation -----------------------------------------------------------------------------------
def check_adapt_needs_meta_fit(meta: MetaLearner, tasks: MetaCase) -> None:
    """Adapting before meta_fit says so."""
    few = tasks.few(0)
    said = refusal(lambda: clone(meta).adapt(few.X, few.y), NotFittedError, "adapt before meta_fit")
    require("meta_fit" in said, f"the error of adapt before meta_fit must name meta_fit, but says: {said}")


def check_prior_is_untouched(meta: MetaLearner, tasks: MetaCase) -> None:
    """Adapting changes no byte of the prior."""
    fitted = tasks.fitted(meta)
    prior = fitted.prior_
    before = {name: array.tobytes() for name, array in prior.arrays.items()}
    for number in range(3):
        few = tasks.few(number)
        predicted(quietly(fitted, few.X, few.y)[0], few.X_query)
    require(fitted.prior_ is prior, "adapt put another prior into the meta-learner")
    changed = [name for name, array in prior.arrays.items() if array.tobytes() != before[name]]
    require(not changed, f"adapt changed the array {changed[:1]} of the prior")
    open_arrays = [name for name, array in prior.arrays.items() if array.flags.writeable]
    require(not open_arrays, f"the array {open_arrays[:1]} of the prior can be written to")


def check_adapt_has_no_memory(meta: MetaLearner, tasks: MetaCase) -> None:
    """Adapting to A and then to B equals adapting to B alone."""
    fitted = tasks.fitted(meta)
    first, second = tasks.few(0), tasks.few(1)
    alone = predicted(fitted.adapt(second.X, second.y), second.X_query)
    fitted.adapt(first.X, first.y)
    again = fitted.adapt(second.X, second.y)
    same(predicted(again, second.X_query), alone, "adapting to another task before changed the predictions")
    one = fitted.learner().fit(first.X, first.y).fit(second.X, second.y)
    same(predicted(one, second.X_query), alone, "fitting one estimator to another task before changed it")


def check_ways_to_adapt_agree(meta: MetaLearner, tasks: MetaCase) -> None:
    """``learner().fit``, ``adapt`` and ``adapt_many`` give the same model."""
    fitted = tasks.fitted(meta)
    some = [tasks.few(number) for number in range(4)]
    many = fitted.adapt_many([(few.X, few.y) for few in some])
    require(len(many) == len(some), f"adapt_many of {len(some)} tasks gave {len(many)} models")
    for few, together in zip(some, many, strict=True):
        alone = fitted.adapt(few.X, few.y)
        want = predicted(alone, few.X_query)
        same(predicted(fitted.learner().fit(few.X, few.y), few.X_query), want, "learner().fit differs from adapt")
        close(predicted(together, few.X_query), want, tasks.tolerance, "adapt_many differs from adapt")
        require(type(together) is type(alone), "adapt_many gives another class than adapt")


def check_task_order(meta: MetaLearner, tasks: MetaCase) -> None:
    """The order of training tasks and ``n_jobs`` change no bit of the prior."""
    prior = tasks.fitted(meta).prior_
    again = clone(meta)
    if "n_jobs" in again.get_params():
        again.set_params(n_jobs=2)
    other = again.meta_fit(tasks.shuffled()).prior_
    require(other.hash == prior.hash, "the same training tasks in another order (or n_jobs=2) gave another prior")


def check_row_order(meta: MetaLearner, tasks: MetaCase) -> None:
    """The order of support rows does not matter beyond 1e-5, with and without guard."""
    fitted, few = tasks.fitted(meta), tasks.few(0)
    order = np.random.default_rng(0).permutation(len(few.y))
    said = "another order of the support rows changed the predictions"
    turned = fitted.adapt(take(few.X, order), few.y[order])
    close(predicted(turned, few.X_query), predicted(fitted.adapt(few.X, few.y), few.X_query), 1e-5, said)
    for number in range(0 if tasks.unrelated is None else 20):
        few = tasks.few(number, tasks.unrelated, shots=5 if tasks.kind == "own" else 20)
        order = np.random.default_rng(number).permutation(len(few.y))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FamiliarityWarning)
            model = fitted.learner(guard=True).fit(few.X, few.y)
            turned = fitted.learner(guard=True).fit(take(few.X, order), few.y[order])
        require(
            model.used_prior_ == turned.used_prior_, "another order of the support rows changed the guard's verdict"
        )
        close(predicted(turned, few.X_query), predicted(model, few.X_query), 1e-5, said + " with guard=True")


def check_padding(meta: MetaLearner, tasks: MetaCase) -> None:
    """A task adapted beside longer and shorter ones is the same beyond 1e-5."""
    fitted, few = tasks.fitted(meta), tasks.few(0)
    beside = [tasks.few(number, shots=shots) for number, shots in ((1, tasks.shots + 1), (2, 2), (3, tasks.shots + 3))]
    many = fitted.adapt_many([(entry.X, entry.y) for entry in [few, *beside]])
    want = predicted(fitted.adapt(few.X, few.y), few.X_query)
    close(predicted(many[0], few.X_query), want, 1e-5, "tasks of other sizes in adapt_many changed the predictions")


def check_query_rows_apart(meta: MetaLearner, tasks: MetaCase) -> None:
    """Predicting rows in another order, or one by one, changes nothing beyond the tolerance."""
    few = tasks.few(0)
    model = tasks.fitted(meta).adapt(few.X, few.y)
    want = predicted(model, few.X_query)
    order = np.random.default_rng(0).permutation(len(want))
    close(predicted(model, take(few.X_query, order)), want[order], tasks.tolerance, "the order of query rows matters")
    single = np.concatenate([predicted(model, take(few.X_query, [row])) for row in range(len(want))])
    close(single, want, tasks.tolerance, "rows predicted one by one differ from rows predicted together")


# --- labels -----------------------------------------------------------------------------------------------------
def check_renamed_classes(meta: MetaLearner, tasks: MetaCase) -> None:
    """Own labels: renamed classes give renamed predictions."""
    fitted, few = tasks.fitted(meta), tasks.few(0)
    model = fitted.adapt(few.X, few.y)
    classes = _classes(model)
    renamed = {label: f"new {len(classes) - number}" for number, label in enumerate(classes)}
    other = fitted.adapt(few.X, np.array([renamed[label] for label in few.y.tolist()]))
    want = [renamed[label] for label in np.asarray(model.predict(few.X_query)).tolist()]
    require(np.asarray(other.predict(few.X_query)).tolist() == want, "renamed classes did not give renamed predictions")
    place = [_classes(other).index(renamed[label]) for label in classes]
    got = predicted(other, few.X_query)[:, place]
    close(got, predicted(model, few.X_query), tasks.tolerance, "renaming the classes changed their probabilities")


def check_other_ways(meta: MetaLearner, tasks: MetaCase) -> None:
    """Own labels: fewer and more classes than in training are learned."""
    fitted = tasks.fitted(meta)
    parts = [tasks.few(number) for number in range(3)]
    X = np.concatenate([np.asarray(few.X) for few in parts])
    y = np.concatenate([[f"{number} {label}" for label in few.y.tolist()] for number, few in enumerate(parts)])
    for ways in (2, len(np.unique(y))):
        keep = np.isin(y, np.unique(y)[:ways])
        model, _ = quietly(fitted, X[keep], y[keep])
        shape = predicted(model, X[:4]).shape
        require(shape == (4, ways), f"adapted to {ways} own classes, 4 rows got probabilities of shape {shape}")


def check_unknown_label(meta: MetaLearner, tasks: MetaCase) -> None:
    """Shared labels: a label that no training task had is refused by name."""
    fitted, few = tasks.fitted(meta), tasks.few(0)
    strange = 98765 if np.asarray(few.y).dtype.kind in "iu" else "strange"
    y = few.y.astype(object)
    y[0] = strange
    said = refusal(
        lambda: fitted.adapt(few.X, np.array(y.tolist())), PriorMismatchError, "adapt with a label unknown to the prior"
    )
    require(str(strange) in said, f"the error must name the unknown label {strange!r}, but says: {said}")


def check_one_class(meta: MetaLearner, tasks: MetaCase) -> None:
    """A support of one class is valid for shared labels and an error for labels of a task's own."""
    fitted, few = tasks.fitted(meta), tasks.few(0)
    keep = few.y == few.y[0]
    X, y = take(few.X, keep), few.y[keep]
    if tasks.kind == "own":
        said = refusal(lambda: fitted.adapt(X, y), ValueError, "adapt to a support of one own class")
        require("class" in said, f"the error for a single class must speak of classes, but says: {said}")
        return
    model, _ = quietly(fitted, X, y)
    known = fitted.prior_.settings["classes"]
    require(_classes(model) == list(known), "after a support of one class, classes_ are not those of the prior")
    require(np.isfinite(predicted(model, few.X_query)).all(), "a support of one class gives probabilities of NaN")


# --- rows and columns -------------------------------------------------------------------------------------------
def check_zerotake(meta: MetaLearner, tasks: MetaCase) -> None:
    """No row: `adapt_zero` predicts from the prior (own labels, any columns: a clear error); `adapt` refuses."""
    fitted, few = tasks.fitted(meta), tasks.few(0)
    said = refusal(lambda: fitted.adapt(take(few.X, []), few.y[:0]), ValueError, "adapt without rows")
    require("0 " in said, f"the error of adapt without rows must say that there are 0 rows, but says: {said}")
    if tasks.kind == "own" or tasks.columns == "any":
        refusal(
            lambda: fitted.adapt_zero(like=few.X_query), PriorMismatchError, "adapt_zero of a prior without prediction"
        )
        return
    cold = fitted.adapt_zero(like=few.X_query)
    require(np.isfinite(predicted(cold, few.X_query)).all(), "adapt_zero predicts NaN")
    require(cold.used_prior_, "adapt_zero says that it did not use the prior")


def check_one_row(meta: MetaLearner, tasks: MetaCase) -> None:
    """One support row (own labels: one a class) is enough."""
    few = tasks.few(0, shots=1)
    model, _ = quietly(tasks.fitted(meta), few.X, few.y)
    require(np.isfinite(predicted(model, few.X_query)).all(), "a support of one row gives NaN")


def check_other_columns(meta: MetaLearner, tasks: MetaCase) -> None:
    """Another set of columns is refused; frames: the message names a column, arrays: the two counts."""
    fitted, few = tasks.fitted(meta), tasks.few(0)
    if not isinstance(few.X, Table):
        wide = np.column_stack([few.X, few.X])
        said = refusal(lambda: fitted.adapt(wide, few.y), PriorMismatchError, "adapt with twice the columns")
        counts = str(wide.shape[1]), str(few.X.shape[1])
        require(all(count in said for count in counts), f"the error must name {counts}, but says: {said}")
    if isinstance(tasks.train, TaskSet):
        fitted, task = tasks.fitted_on_frames(meta), framed(tasks.test[0])
        table = task.X.drop([task.X.names[0]])
        said = refusal(lambda: fitted.adapt(table, task.y), PriorMismatchError, "adapt without one column")
        require(task.X.names[0] in said, f"the error must name the missing column, but says: {said}")


def check_columns_by_name(meta: MetaLearner, tasks: MetaCase) -> None:
    """Columns of a frame in another order give the same predictions."""
    fitted, task, rest = tasks.fitted_on_frames(meta), *_framed_halves(tasks)
    turned = task.X.names[::-1]
    model = fitted.adapt(task.X, task.y)
    other = fitted.adapt(task.X.select(turned), task.y)
    same(predicted(other, rest.X.select(turned)), predicted(model, rest.X), "columns in another order were not matched")


def check_unseen_category(meta: MetaLearner, tasks: MetaCase) -> None:
    """A category that no training task had is accepted, in the support and later."""
    fitted, task, rest = tasks.fitted_on_frames(meta), *_framed_halves(tasks)
    name = task.X.categorical[0]
    strange = [_with_column(table, name, "never seen") for table in (task.X, rest.X)]
    model, _ = quietly(fitted, strange[0], task.y)
    require(np.isfinite(predicted(model, strange[1])).all(), "an unseen category gives NaN")


def check_missing_cells(meta: MetaLearner, tasks: MetaCase) -> None:
    """NaN in X is accepted or refused clearly, never passed on; NaN in y of a regression is refused."""
    fitted, few = tasks.fitted(meta), tasks.few(0)
    holes = np.where(np.eye(*few.X.shape) > 0, np.nan, few.X) if not isinstance(few.X, Table) else few.X
    try:
        model, _ = quietly(fitted, holes, few.y)
        holes = np.where(np.arange(few.X_query.shape[1]) == 0, np.nan, few.X_query)
        require(np.isfinite(predicted(model, holes)).all(), "missing cells in X give predictions of NaN")
    except ValueError as error:
        require(
            any(word in str(error) for word in ("NaN", "missing")),
            f"missing cells in X are refused without saying so: {error}",
        )
    if tasks.kind == "regression":
        y = few.y.copy()
        y[0] = np.nan
        said = refusal(lambda: fitted.adapt(few.X, y), ValueError, "adapt with NaN in y")
        require("y" in said.replace(",", " ").split(), f"the error for NaN in y must name y, but says: {said}")


def check_too_few_tasks(meta: MetaLearner, tasks: MetaCase) -> None:
    """No task, and one task, are too few to learn over, and the message says how many there were."""
    for number in (0, 1):
        said = refusal(lambda n=number: clone(meta).meta_fit(tasks.test[:n]), TaskError, f"meta_fit on {number} tasks")  # type: ignore[misc]
        require(f"{number} task" in said, f"the error must say {number} tasks, but says: {said}")


def _classes(model: Any) -> list[Any]:
    return np.asarray(model.classes_).tolist()


def _framed_halves(tasks: MetaCase) -> tuple[Task, Task]:
    task = framed(tasks.test[0])
    half = len(task) // 2
    return task.take(np.arange(half)), task.take(np.arange(half, len(task)))


def _with_column(table: Table, name: str, value: str) -> Table:
    column = np.full(len(table), value, dtype=object)
    return Table(table.names, [column if n == name else c for n, c in table])


CHECKS: tuple[Check, ...] = tuple(
    value
    for names in (dict(globals()), vars(checks_use))
    for name, value in names.items()
    if name.startswith("check_") and inspect.isfunction(value)
)
"""Every check, in the order in which they stand here and in `upstairs.testing.checks_use`."""
_ONLY_WHERE: dict[str, Callable[[MetaCase], bool]] = {
    "check_renamed_classes": lambda case: case.kind == "own",
    "check_other_ways": lambda case: case.kind == "own",
    "check_unknown_label": lambda case: case.kind == "shared",
    "check_one_class": lambda case: case.kind != "regression",
    "check_columns_by_name": lambda case: isinstance(case.train, TaskSet) and case.columns == "same",
    "check_other_columns": lambda case: case.columns == "same",
    "check_unseen_category": lambda case: isinstance(case.train, TaskSet),
    "check_explicit_setting_wins": lambda case: case.setting is not None,
    "check_familiarity": lambda case: case.unrelated is not None,
    "check_does_no_harm": lambda case: case.unrelated is not None,
}

NEEDS_TRAINING = frozenset({"check_beats_base_learner", "check_familiarity", "check_does_no_harm"})
"""Checks that ask how good a prior is; all others hold for a prior however long it was learned."""


def checks_for(case: MetaCase) -> list[Check]:
    """Return the checks that apply to the tasks of a case."""
    return [check for check in CHECKS if _ONLY_WHERE.get(check.__name__, lambda _: True)(case)]
