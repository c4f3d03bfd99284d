"""What the two estimators of support vector machines share: rows in, settings or a learned kernel applied, one fit."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import _check_sample_weight, validate_data

from upstairs.errors import PriorMismatchError
from upstairs.inner.rule import Rows
from upstairs.inner.support_vectors import SupportVectors, machine
from upstairs.learners.adaptation import Adapted, Situation, adapt_all, more_rows
from upstairs.learners.asking import ask
from upstairs.learners.base import PriorEstimator
from upstairs.learners.rows import checked_targets
from upstairs.learners.rule_estimators import situation_of
from upstairs.learners.shipped import shipped_prior
from upstairs.learners.svm_arguments import EQUAL, as_numbers, check_arguments
from upstairs.outer.trials import Settings, check_cv
from upstairs.prior import Prior
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.table import Table

__all__ = ["FAMILY", "SvmEstimator", "asked"]

FAMILY = "svm"
TABULAR = "tabular"
"""Names the prior that ships, learned on hundreds of tables with different columns."""
AnySvm = TypeVar("AnySvm", bound="SvmEstimator")


class SvmEstimator(PriorEstimator, abc.ABC):
    """What classifier and regressor share; a prior is experience with settings, or a kernel and what is expected."""

    _family = FAMILY
    C: float | None
    kernel: str | None
    width: float | None
    gamma: float | str | None
    degree: int | None
    coef0: float | None
    encode: bool
    trials: int
    cv: int | float
    random_state: int | None
    trials_: tuple[tuple[Settings, float], ...]

    def fit(self: AnySvm, X: Any, y: Any, sample_weight: Any = None) -> AnySvm:
        """Learn one task from its support rows: one fit.

        Parameters
        ----------
        X : array of shape (row, feature), data frame, or sparse matrix (``kernel="linear"`` without learned columns)
            Raw columns; NaN is a missing cell. With a prior learned on the same columns these must be there.
        y : array of shape (row,)
        sample_weight : array of shape (row,), optional
            What the cost of a row is multiplied by.

        Returns
        -------
        self

        Raises
        ------
        PriorMismatchError
            If the prior is of another family or kind, or columns or labels do not fit it.
        TaskError
            If rows or targets break a rule.
        ValueError
            If an argument is out of range.
        """
        check_arguments(self._explicit())
        if self.guard or self.trials != 1:
            check_cv(self.cv)
        if not isinstance(self.trials, int) or isinstance(self.trials, bool) or self.trials < 1:
            raise ValueError(f"trials must be a whole number of at least 1, but is {self.trials!r}.")
        weight = None
        if sample_weight is not None:
            rows = X if hasattr(X, "shape") or issparse(X) else np.asarray(X)
            weight = np.asarray(_check_sample_weight(sample_weight, rows, dtype=np.float64), dtype=np.float64)
            if (weight < 0).any() or not (weight > 0).any():
                raise ValueError(
                    "sample_weight must not be negative, and some must be positive; got a row below 0, or all 0."
                )
        if issparse(X):
            return self._fit_sparse(X, y, weight)
        if self._own_columns():
            return self._fit_own(X, y, weight)
        return self._fit(X, y, weight)

    def update(self: AnySvm, X: Any, y: Any) -> AnySvm:
        """Learn further rows of the same task.

        With a prior on the same columns the result is that of all rows together. Without, the support vectors so far
        stand for the rows that they were found among [1]_: near that, and not the same.

        References
        ----------
        .. [1] Syed, N., Liu, H. and Sung, K. (1999). Incremental learning with support vector machines.
        """
        adapted, situation = self._fitted(), self._situation_
        X = self._columns(X, reset=False)
        y = checked_targets(self, self._kind, y, len(X))
        assert situation.encoder is not None
        rows, targets = situation.encoder.encode(X), self._more_targets(y)
        if adapted.rule.updates:
            self.adapted_ = more_rows(adapted, rows, targets)
            return self
        if np.isnan(adapted.state.get("label", np.full(1, np.nan))).any():
            raise PriorMismatchError(
                "update needs the support vectors, which models of sparse or of very many rows do not keep; fit again."
            )
        kept, labels = adapted.state["vectors"][0], adapted.state["label"][0]
        x = np.concatenate([kept, rows])
        together = np.concatenate([labels.astype(targets.dtype), targets])
        state = adapted.rule.adapt(adapted.params, Rows(x[None], together[None], np.ones((1, len(x)), dtype=bool)))
        self.adapted_ = adapted._replace(state=state, rows=adapted.rows + len(y))
        return self

    @property
    def settings_(self) -> dict[str, Any]:
        """The settings that were used, the defaults of scikit-learn left out; ``class_weight`` and others as given."""
        self._fitted()
        return dict(self.__dict__.get("_settings_", self._given()))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self.kernel == "linear" and self._own_columns()
        return tags

    # --- inner workings -----------------------------------------------------------------------------------------
    @abc.abstractmethod
    def _explicit(self) -> dict[str, Any]:
        """Arguments that are settings of the machine."""

    def _prior_read(self) -> Any:
        if isinstance(self.prior, str):
            if self.prior != TABULAR:
                raise PriorMismatchError(
                    f"prior must be a Prior, {TABULAR!r} (the one that ships) or None, but is {self.prior!r}."
                )
            return shipped_prior(FAMILY, self._kind)
        return self.prior

    def _own_columns(self) -> bool:
        """Whether no columns are known before the rows of ``fit``: settings are all that was learned, or nothing."""
        prior = self._prior_read()
        return not isinstance(prior, Prior) or "experience" in prior.settings

    def _given(self) -> dict[str, Any]:
        return {name: value for name, value in self._explicit().items() if value is not None}

    def _advice(self, X: Any, y: np.ndarray) -> tuple[dict[str, Any], Adapted | None]:
        """Settings for these rows, and what is said about them."""
        prior, given = self._prior_read(), self._given()
        if prior is None:
            return given, None
        advice = ask(
            prior,
            type(self)(encode=False),
            X,
            y,
            self._kind,
            trials=self.trials,
            cv=self.cv if self.guard or self.trials != 1 else 3,
            guard=self.guard,
            seed=self.random_state,
            allowed=lambda settings: _agrees(settings, given),
        )
        settings = dict(advice.order[0])
        if given.get("gamma") is not None:
            settings.pop("width", None)
        learned = prior.settings.get("slope")
        slope = {} if learned is None else {"slope mean": learned[0], "slope spread": learned[1]}
        told = Adapted(SupportVectors(self._kind), {}, {}, len(y), advice.used_prior, advice.familiarity, advice.reason)
        self.trials_ = advice.trials
        return settings | given | slope, told

    def _fit_own(self: AnySvm, X: Any, y: Any, weight: np.ndarray | None) -> AnySvm:
        """Fit on columns that are encoded by these rows."""
        self._check_prior()
        X, y = self._checked(X, y)
        if weight is not None:  # rows that weigh nothing are not there
            there = np.flatnonzero(weight > 0)
            X, y, weight = X.take(there) if isinstance(X, Table) else X[there], y[there], weight[there]
        self.trials_ = ()
        if self._kind == "classification" and len(np.unique(y)) == 1:
            self._targets(y, self._situation_without_prior())  # says what is missing
        settings, told = self._advice(X, y)
        encoder = Encoder.fit(X) if self.encode or not isinstance(X, np.ndarray) else Encoder.uniform(X.shape[1])
        situation = self._own_situation(encoder, settings, y)
        targets = self._targets(y, situation)
        weights = None if weight is None else [weight]
        adapted = adapt_all(situation, [encoder.encode(X)], [targets], weights=weights)[0]
        if told is not None:
            adapted = told._replace(params=adapted.params, state=adapted.state)
        return self._kept(adapted, situation, settings)

    def _own_situation(self, encoder: Encoder | None, settings: Mapping[str, Any], y: np.ndarray) -> Situation:
        rule = SupportVectors(self._kind)
        center, scale = _units(y) if self._kind == "regression" else (0.0, 1.0)
        classes = [] if self._kind == "regression" else np.unique(y).tolist()
        relative = "epsilon" not in self._given()  # an epsilon of the user is in units of y
        numbers = as_numbers(settings, classes, 1.0 if relative else scale)
        return Situation(rule, rule, None, encoder, 0, center, scale, settings=numbers)

    def _fit_sparse(self: AnySvm, X: Any, y: Any, weight: np.ndarray | None) -> AnySvm:
        """Fit the linear kernel on sparse rows as they are."""
        if self.kernel != "linear" or not self._own_columns():
            raise ValueError(
                f"Sparse data are for the linear kernel without a prior on columns, but kernel={self.kernel!r}; use "
                "kernel='linear', or X.toarray()."
            )
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64)
        y = checked_targets(self, self._kind, y, X.shape[0])
        self.trials_ = ()
        settings = self._given()
        situation = self._own_situation(Encoder.uniform(X.shape[1]), settings, y)
        targets = self._targets(y, situation)
        rule = SupportVectors(self._kind)
        ways = 0 if self._kind == "regression" else len(np.unique(targets))
        params = rule.own_params(np.zeros((0, X.shape[1])), targets[:0], ways)
        params = rule.override(params, situation.settings)
        state = machine(params, X, targets, weight, self._kind)
        adapted = Adapted(rule, params, {name: array[None] for name, array in state.items()}, X.shape[0], False)
        return self._kept(adapted, situation, settings)

    def _kept(self: AnySvm, adapted: Adapted, situation: Situation, settings: Mapping[str, Any]) -> AnySvm:
        self._settings_ = {name: value for name, value in settings.items() if not name.startswith("slope")}
        return self._hold(adapted, situation, warn=False)

    def _situation_of_prior(self) -> Situation:
        prior = self._prior_read()
        assert prior is not None
        if self._own_columns():
            return self._situation_without_prior()
        odd = [name for name in ("kernel", "width", "gamma", "degree", "coef0") if getattr(self, name) is not None]
        if odd:
            raise PriorMismatchError(
                f"{odd[0]}={getattr(self, odd[0])!r}, but the kernel was learned on these columns; leave it at None, or use "
                "prior=None."
            )
        situation = situation_of(prior, None)
        numbers = as_numbers(self._given(), list(prior.settings["classes"]), situation.scale)
        return dataclasses.replace(situation, settings=numbers)

    def _situation_without_prior(self) -> Situation:
        rule = SupportVectors(self._kind)
        return Situation(rule, rule, None, None, 0)

    def _encoded(self, X: Any) -> Any:
        """Rows as the rule takes them; sparse ones stay sparse."""
        adapted = self._fitted()
        if issparse(X):
            if "label" in adapted.state:
                raise ValueError("X is sparse, but the model was fitted on dense rows; pass X.toarray().")
            return validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        encoder = self._situation_.encoder
        assert encoder is not None
        return encoder.encode(self._columns(X, reset=False))

    def _stored(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        document, arrays = super()._stored()
        return document | {"settings": self.settings_}, arrays

    def _restore(self, document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        super()._restore(document, arrays)
        self._settings_ = dict(document["settings"])
        self.trials_ = ()


def _agrees(settings: Settings, given: Mapping[str, Any]) -> bool:
    """Whether settings are those that a user asked for, in what is a choice between kinds of machine."""
    if "kernel" in given and settings.get("kernel", "rbf") != given["kernel"]:
        return False
    asked = given.get("class_weight")
    return asked is None or isinstance(asked, Mapping) or settings.get("class_weight", EQUAL) == asked


def _units(y: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of targets, with squares that are finite."""
    large = float(np.abs(y).max(initial=0.0)) or 1.0
    inside = y / large
    return float(inside.mean()) * large, (float(inside.std()) or 1.0) * large


def asked(self: SvmEstimator, X: Any, what: str) -> Any:
    """Ask the rule for predictions or decisions of rows."""
    rows, adapted = self._encoded(X), self._fitted()
    rule: Any = adapted.rule
    return getattr(rule, what)(adapted.params, adapted.state, rows if issparse(rows) else rows[None])
