"""What the two estimators of support vector machines share: rows in, settings or a learned kernel applied, one fit."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data

from upstairs.errors import PriorMismatchError
from upstairs.inner.rule import PlainRule, Rows
from upstairs.inner.support_vectors import SupportVectors, machine
from upstairs.learners.adaptation import Adapted, more_rows
from upstairs.learners.argument_checks import agrees_on_weights
from upstairs.learners.experienced import ExperiencedEstimator
from upstairs.learners.rows import checked_targets
from upstairs.learners.svm_arguments import as_numbers, check_arguments
from upstairs.outer.trials import Settings
from upstairs.prior import Prior
from upstairs.tasks.encoder import Encoder

__all__ = ["FAMILY", "SvmEstimator"]

FAMILY = "svm"
AnySvm = TypeVar("AnySvm", bound="SvmEstimator")


class SvmEstimator(ExperiencedEstimator, abc.ABC):
    """What classifier and regressor share; a prior is experience with settings, or a kernel and what is expected."""

    _family = FAMILY
    _learned_on_columns = "the kernel was learned on these columns"
    C: float | None
    kernel: str | None
    width: float | None
    gamma: float | str | None
    degree: int | None
    coef0: float | None

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
        weight = self._checked_arguments(X, sample_weight)
        return self._fit_sparse(X, y, weight) if issparse(X) else self._fit_checked(X, y, weight)

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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self.kernel == "linear" and self._own_columns()
        return tags

    # --- inner workings -----------------------------------------------------------------------------------------
    def _check(self, given: Mapping[str, Any]) -> None:
        check_arguments(given)

    def _rule(self) -> PlainRule:
        return SupportVectors(self._kind)

    def _numbers(self, settings: Mapping[str, Any], classes: list[Any], scale: float) -> dict[str, float]:
        relative = self._own_columns() and "epsilon" not in self._given()  # a user's epsilon is in units of y
        return as_numbers(settings, classes, 1.0 if relative else scale)

    def _agrees(self, settings: Settings, given: Mapping[str, Any]) -> bool:
        if "kernel" in given and settings.get("kernel", "rbf") != given["kernel"]:
            return False
        return agrees_on_weights(settings, given)

    def _joined(self, settings: dict[str, Any], given: Mapping[str, Any], prior: Prior) -> dict[str, Any]:
        if given.get("gamma") is not None:
            settings.pop("width", None)
        learned = prior.settings.get("slope")
        slope = {} if learned is None else {"slope mean": learned[0], "slope spread": learned[1]}
        return {**settings, **given, **slope}

    def _refused_with_columns(self) -> tuple[str, ...]:
        return ("kernel", "width", "gamma", "degree", "coef0")

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

    def _encoded(self, X: Any) -> Any:
        """Rows as the rule takes them; sparse ones stay sparse."""
        if issparse(X):
            if "label" in self._fitted().state:
                raise ValueError("X is sparse, but the model was fitted on dense rows; pass X.toarray().")
            return validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        return super()._encoded(X)
