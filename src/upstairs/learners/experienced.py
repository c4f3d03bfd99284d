"""What estimators share whose settings may follow from experience, and whose prior on columns may come from the same ones."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import _check_sample_weight

from upstairs.errors import PriorMismatchError
from upstairs.inner.rule import PlainRule
from upstairs.learners.adaptation import Adapted, Situation, adapt_all
from upstairs.learners.asking import ask
from upstairs.learners.base import PriorEstimator
from upstairs.learners.rule_estimators import situation_of
from upstairs.learners.shipped import shipped_prior
from upstairs.outer.trials import Settings, check_cv
from upstairs.prior import Prior
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.table import Table
from upstairs.tasks.task import Kind

__all__ = ["ExperiencedEstimator", "asked"]

TABULAR = "tabular"
"""Names the prior that ships, learned on hundreds of tables with different columns."""
AnyExperienced = TypeVar("AnyExperienced", bound="ExperiencedEstimator")


class ExperiencedEstimator(PriorEstimator, abc.ABC):
    """One fit, with settings from experience, with a rule learned on the same columns, or with neither.

    A family says with `_explicit` which arguments are settings, with `_rule` and `_numbers` what they are told to.
    """

    encode: bool
    trials: int
    cv: int | float
    random_state: int | None
    trials_: tuple[tuple[Settings, float], ...]

    def fit(self: AnyExperienced, X: Any, y: Any, sample_weight: Any = None) -> AnyExperienced:
        """Learn one task from its support rows: one fit.

        Parameters
        ----------
        X : array of shape (row, feature), or data frame
            Raw columns; NaN is a missing cell. With a prior learned on the same columns these must be there.
        y : array of shape (row,)
        sample_weight : array of shape (row,), optional
            What a row counts.

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
        return self._fit_checked(X, y, self._checked_arguments(X, sample_weight))

    @property
    def settings_(self) -> dict[str, Any]:
        """The settings that were used, the defaults of scikit-learn left out; ``class_weight`` and others as given."""
        self._fitted()
        return dict(self.__dict__.get("_settings_", self._given()))

    # --- what a family says -------------------------------------------------------------------------------------
    @abc.abstractmethod
    def _explicit(self) -> dict[str, Any]:
        """Arguments that are settings."""

    @abc.abstractmethod
    def _check(self, given: Mapping[str, Any]) -> None:
        """Refuse settings that are out of range."""

    @abc.abstractmethod
    def _rule(self) -> PlainRule:
        """Return the rule without a prior."""

    @abc.abstractmethod
    def _numbers(self, settings: Mapping[str, Any], classes: list[Any], scale: float) -> dict[str, float]:
        """Write settings as numbers for the rule; ``scale`` is the unit of the scaled target."""

    @abc.abstractmethod
    def _agrees(self, settings: Settings, given: Mapping[str, Any]) -> bool:
        """Whether settings of the experience are of the sort that a user asked for."""

    def _joined(self, settings: dict[str, Any], given: Mapping[str, Any], prior: Prior) -> dict[str, Any]:
        """Put what a user gave over what the experience recommends."""
        return {**settings, **given}

    def _refused_with_columns(self) -> tuple[str, ...]:
        """Settings that a prior on columns does not leave open."""
        return ()

    # --- inner workings -----------------------------------------------------------------------------------------
    def _checked_arguments(self, X: Any, sample_weight: Any) -> np.ndarray | None:
        """Check arguments of the constructor, and return weights of rows."""
        self._check(self._explicit())
        if self.guard or self.trials != 1:
            check_cv(self.cv)
        if not isinstance(self.trials, int) or isinstance(self.trials, bool) or self.trials < 1:
            raise ValueError(f"trials must be a whole number of at least 1, but is {self.trials!r}.")
        if sample_weight is None:
            return None
        rows = X if hasattr(X, "shape") or issparse(X) else np.asarray(X)
        weight = np.asarray(_check_sample_weight(sample_weight, rows, dtype=np.float64), dtype=np.float64)
        if (weight < 0).any() or not (weight > 0).any():
            raise ValueError(
                "sample_weight must not be negative, and some must be positive; got a row below 0, or all 0."
            )
        return weight

    def _fit_checked(self: AnyExperienced, X: Any, y: Any, weight: np.ndarray | None) -> AnyExperienced:
        return self._fit_own(X, y, weight) if self._own_columns() else self._fit(X, y, weight)

    def _prior_read(self) -> Any:
        if isinstance(self.prior, str):
            if self.prior != TABULAR:
                raise PriorMismatchError(
                    f"prior must be a Prior, {TABULAR!r} (the one that ships) or None, but is {self.prior!r}."
                )
            return _tabular(self._family, self._kind)
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
            allowed=(lambda settings: self._agrees(settings, given)) if given else None,
            fallbacks=False,
        )
        told = Adapted(self._rule(), {}, {}, len(y), advice.used_prior, advice.familiarity, advice.reason)
        self.trials_ = advice.trials
        return self._joined(dict(advice.order[0]), given, prior), told

    def _fit_own(self: AnyExperienced, X: Any, y: Any, weight: np.ndarray | None) -> AnyExperienced:
        """Fit on columns that are encoded by these rows."""
        self._check_prior()
        X, y = self._checked(X, y)
        if weight is not None:  # rows that weigh nothing are not there
            there = np.flatnonzero(weight > 0)
            X, y, weight = X.take(there) if isinstance(X, Table) else X[there], y[there], weight[there]
        self.trials_ = ()
        if self._kind == "classification" and (y == y[0]).all():
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
        rule = self._rule()
        center, scale = _units(y) if self._kind == "regression" else (0.0, 1.0)
        classes = [] if self._kind == "regression" else np.unique(y).tolist()
        numbers = self._numbers(settings, classes, scale)
        return Situation(rule, rule, None, encoder, 0, center, scale, settings=numbers)

    def _kept(self: AnyExperienced, adapted: Adapted, situation: Situation, settings: Mapping[str, Any]) -> Any:
        known = self._explicit()
        self._settings_ = {name: value for name, value in settings.items() if name in known}
        return self._hold(adapted, situation, warn=False)

    def _situation_of_prior(self) -> Situation:
        prior = self._prior_read()
        assert prior is not None
        if self._own_columns():
            return self._situation_without_prior()
        odd = [name for name in self._refused_with_columns() if getattr(self, name) is not None]
        if odd:
            raise PriorMismatchError(
                f"{odd[0]}={getattr(self, odd[0])!r}, but {self._learned_on_columns}; leave it at None, or use prior=None."
            )
        situation = situation_of(prior, None)
        numbers = self._numbers(self._given(), list(prior.settings["classes"]), situation.scale)
        return dataclasses.replace(situation, settings=numbers)

    _learned_on_columns = "it was learned on these columns"
    """Says why a setting is refused."""

    def _situation_without_prior(self) -> Situation:
        rule = self._rule()
        return Situation(rule, rule, None, None, 0)

    def _encoded(self, X: Any) -> Any:
        """Rows as the rule takes them."""
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


def asked(self: ExperiencedEstimator, X: Any, what: str) -> Any:
    """Ask the rule for predictions or decisions of rows."""
    adapted = self._fitted()
    rows, rule = self._encoded(X), adapted.rule
    return getattr(rule, what)(adapted.params, adapted.state, rows if issparse(rows) else rows[None])


@functools.cache
def _tabular(family: str, kind: Kind) -> Prior:
    """The prior that ships, as the estimators of a family read it."""
    prior = shipped_prior(family, kind)
    if prior.family == family:
        return prior
    return Prior(family, prior.settings, dict(prior.arrays), prior.provenance)


def _units(y: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of targets, with squares that are finite."""
    large = float(np.abs(y).max(initial=0.0)) or 1.0
    inside = y / large
    return float(inside.mean()) * large, (float(inside.std()) or 1.0) * large
