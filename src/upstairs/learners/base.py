"""The estimator side of the contract: a scikit-learn estimator that takes a prior in its constructor."""

from __future__ import annotations

import abc
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.metaestimators import available_if

from upstairs.errors import FamiliarityWarning, PriorMismatchError
from upstairs.inner.rule import Prediction
from upstairs.learners.adaptation import Adapted, Situation, adapt_all, more_rows, predict_rows
from upstairs.learners.guard import UNFAMILIAR
from upstairs.learners.rows import checked_columns, checked_targets
from upstairs.prior import Prior
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.table import Table, is_frame
from upstairs.tasks.task import Kind

__all__ = ["PriorEstimator"]

AnyEstimator = TypeVar("AnyEstimator", bound="PriorEstimator")
"""The class itself, where a method returns ``self``."""


def _can_update(estimator: PriorEstimator) -> bool:
    """``partial_fit`` exists where more rows can be learned exactly."""
    return estimator._prior_read() is not None and estimator._situation_of_prior().updates


class PriorEstimator(BaseEstimator, abc.ABC):
    """What every adapted model shares: rows in, prior applied, guard, familiarity, exact updates.

    A final class names its family and kind, lists its constructor arguments, and says with `_situation` how a prior
    (or None) is read. Attributes after ``fit``: ``n_features_in_``, ``feature_names_in_`` (frames), ``classes_``
    (classifiers), ``familiarity_`` (0 to 100, None without a prior), ``used_prior_`` and ``guard_reason_``.
    """

    _family: ClassVar[str]
    _kind: ClassVar[Kind]

    prior: Prior | None
    guard: bool
    adapted_: Adapted
    _situation_: Situation

    # --- what a family says -------------------------------------------------------------------------------------
    @abc.abstractmethod
    def _situation_of_prior(self) -> Situation:
        """Read the prior (cached) and put explicit constructor arguments over it."""

    @abc.abstractmethod
    def _situation_without_prior(self) -> Situation:
        """Return the plain base learner's situation; the encoder is filled in from the rows."""

    # --- scikit-learn -------------------------------------------------------------------------------------------
    def fit(self: AnyEstimator, X: Any, y: Any) -> AnyEstimator:
        """Learn one task from its support rows.

        Parameters
        ----------
        X : array of shape (row, feature), or a data frame
            Raw columns; NaN is a missing cell. With a prior the columns must be those it was learned on: by name
            (any order) for frames, by position for arrays.
        y : array of shape (row,)
            Targets or labels.

        Returns
        -------
        self

        Raises
        ------
        PriorMismatchError
            If the prior is of another family or kind, or columns or labels do not fit it.
        TaskError
            If rows or targets break a rule (no row, missing target, a single class where labels are own).
        """
        return self._fit(X, y)

    @available_if(_can_update)
    def partial_fit(self: AnyEstimator, X: Any, y: Any, classes: Any = None) -> AnyEstimator:
        """Learn further rows, exactly as if they had been there from the start.

        Parameters
        ----------
        X, y : as in `fit`
        classes : array, optional
            Accepted for scikit-learn's protocol on the first call; labels must be among them.

        Raises
        ------
        PriorMismatchError
            If a label was not known at the first call, or columns do not fit.
        """
        if not hasattr(self, "adapted_"):
            return self.fit(X, y)
        if not self.adapted_.used_prior:
            raise PriorMismatchError(
                "partial_fit needs the prior, but guard=True dropped it for this task; fit again with all rows, or with guard=False."
            )
        X = self._columns(X, reset=False)
        y = checked_targets(self, self._kind, y, len(X))
        situation = self._situation_
        assert situation.encoder is not None
        targets = self._more_targets(y)
        self.adapted_ = more_rows(self.adapted_, situation.encoder.encode(X), targets)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.required = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "adapted_")

    @property
    def familiarity_(self) -> float | None:
        """Percentile (0 to 100) of this task among validation tasks of the prior; None without a prior or rows."""
        return self._fitted().familiarity

    @property
    def used_prior_(self) -> bool:
        """Whether the adapted model rests on the prior."""
        return self._fitted().used_prior

    @property
    def guard_reason_(self) -> str:
        """One sentence that says why ``guard=True`` kept or dropped the prior; empty with ``guard=False``."""
        return self._fitted().reason

    # --- for final classes --------------------------------------------------------------------------------------
    def _predict_rows(self, X: Any) -> Prediction:
        adapted = self._fitted()
        X = self._columns(X, reset=False)
        assert self._situation_.encoder is not None
        return predict_rows(adapted, self._situation_.encoder.encode(X))

    def _fitted(self) -> Adapted:
        if not hasattr(self, "adapted_"):
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments before using this estimator."
            )
        return self.adapted_

    @abc.abstractmethod
    def _targets(self, y: np.ndarray, situation: Situation) -> np.ndarray:
        """Standardise the targets (or number the labels) of a fit, and keep what undoes it."""

    @abc.abstractmethod
    def _more_targets(self, y: np.ndarray) -> np.ndarray:
        """Do the same for further rows, with what the fit kept."""

    # --- inner workings -----------------------------------------------------------------------------------------
    def _fit(self: AnyEstimator, X: Any, y: Any, weight: np.ndarray | None = None) -> AnyEstimator:
        self._check_prior()
        X, y = self._checked(X, y)
        situation = self._ready(X, y)
        targets = self._targets(y, situation)
        assert situation.encoder is not None
        weights = None if weight is None else [weight]
        adapted = adapt_all(situation, [situation.encoder.encode(X)], [targets], guard=self.guard, weights=weights)[0]
        return self._hold(adapted, situation, warn=True)

    def _check_prior(self) -> None:
        prior = self._prior_read()
        if prior is None:
            return
        if not isinstance(prior, Prior):
            raise PriorMismatchError(
                f"prior must be a Prior (the prior_ of a meta-learner) or None, but is a {type(prior).__name__}; pass meta.prior_."
            )
        if prior.family != self._family:
            raise PriorMismatchError(
                f"prior is of the family {prior.family!r}, but {type(self).__name__} reads {self._family!r}; "
                "use the estimator of that family."
            )
        if prior.settings["kind"] != self._kind:
            raise PriorMismatchError(
                f"prior was learned on {prior.settings['kind']} tasks, but {type(self).__name__} is for {self._kind}."
            )

    def _prior_read(self) -> Any:
        """Return the prior itself, where the argument may name one; checked in `_check_prior`."""
        return self.prior

    def _checked(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        X = self._columns(X, reset=True)
        return X, checked_targets(self, self._kind, y, len(X))

    def _columns(self, X: Any, *, reset: bool) -> Any:
        """Take frames by name, in the order of the prior's columns, and arrays by position."""
        prior = self._prior_read()
        encoder = None if prior is None else prior.settings.get("encoder")
        if encoder is None or not encoder["named"] or not is_frame(X):
            return checked_columns(self, X, reset=reset)
        table = Table.from_frame(X)
        wanted = tuple(entry["name"] for entry in encoder["columns"])
        if table.names != wanted and set(table.names) == set(wanted):
            table = table.select(wanted)
        if reset:
            self.feature_names_in_ = np.array(table.names, dtype=object)
        return checked_columns(self, table, reset=reset)

    def _ready(self, X: Any, y: np.ndarray) -> Situation:
        """Return the situation with an encoder: the prior's, or one fitted on these rows."""
        if self._prior_read() is not None:
            return self._situation_of_prior()
        plain = self._situation_without_prior()
        return replace(plain, encoder=Encoder.fit(X))

    def _hold(self: AnyEstimator, adapted: Adapted, situation: Situation, *, warn: bool) -> AnyEstimator:
        self.adapted_ = adapted
        self._situation_ = situation
        if warn and adapted.familiarity is not None and adapted.familiarity < UNFAMILIAR:
            warnings.warn(
                f"This task ({adapted.rows} rows) fits the prior worse than {100 - adapted.familiarity:.1f} % of the validation tasks; "
                "the prior may mislead: check a few predictions, or use guard=True.",
                FamiliarityWarning,
                stacklevel=3,
            )
        return self

    def _stored(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything fitted, as JSON values and arrays, for `upstairs.save`."""
        adapted, situation = self._fitted(), self._situation_
        assert situation.encoder is not None
        document = {
            "n_features": int(self.n_features_in_),
            "feature_names": list(getattr(self, "feature_names_in_", [])) or None,
            "encoder": situation.encoder.spec(),
            "ways": situation.ways,
            "target": [situation.center, situation.scale],
            "rows": adapted.rows,
            "used_prior": adapted.used_prior,
            "familiarity": adapted.familiarity,
            "reason": adapted.reason,
        }
        arrays = {f"state/{name}": array for name, array in adapted.state.items()}
        return document, arrays | {f"params/{name}": np.asarray(array) for name, array in adapted.params.items()}

    def _restore(self, document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Undo `_stored`."""
        groups: dict[str, dict[str, np.ndarray]] = {"state": {}, "params": {}}
        for name, array in arrays.items():
            kind, _, rest = name.partition("/")
            if kind in groups:
                groups[kind][rest] = array
        plain = self._situation_without_prior() if self._prior_read() is None else self._situation_of_prior()
        center, scale = document["target"]
        situation = replace(
            plain, encoder=Encoder.from_spec(document["encoder"]), ways=document["ways"], center=center, scale=scale
        )
        adapted = Adapted(
            plain.rule if document["used_prior"] else plain.plain,
            groups["params"],
            groups["state"],
            document["rows"],
            document["used_prior"],
            document["familiarity"],
            document["reason"],
        )
        self.n_features_in_ = document["n_features"]
        if document["feature_names"]:
            self.feature_names_in_ = np.array(document["feature_names"], dtype=object)
        self._hold(adapted, situation, warn=False)


def adapt_tasks(template: PriorEstimator, xs: Sequence[np.ndarray], ys: Sequence[np.ndarray]) -> list[PriorEstimator]:
    """Adapt many tasks whose rows are encoded already; equal to fitting copies of ``template`` one by one."""
    situation = template._situation_of_prior()
    models: list[PriorEstimator] = []
    targets = []
    for y in ys:
        model = object.__new__(type(template))
        model.__dict__.update(template.__dict__)
        targets.append(model._targets(y, situation))
        models.append(model)
    for model, adapted in zip(models, adapt_all(situation, xs, targets, guard=template.guard), strict=True):
        model._hold(adapted, situation, warn=False)
    return models
