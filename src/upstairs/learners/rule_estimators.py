"""What the estimators of several families share: predictions of a rule as those of a scikit-learn estimator."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import ndtri
from sklearn.base import ClassifierMixin, RegressorMixin

from upstairs.errors import PriorMismatchError, TaskError
from upstairs.inner.rule import Categorical, Gaussian
from upstairs.learners.adaptation import Situation
from upstairs.learners.base import PriorEstimator
from upstairs.learners.rules import plain_rule, rule_from
from upstairs.outer.calibrate import interpolate
from upstairs.prior import Prior
from upstairs.tasks.encoder import Encoder

__all__ = ["RuleClassifier", "RuleRegressor", "situation_of"]

_read: weakref.WeakKeyDictionary[Prior, tuple[Any, Situation]] = weakref.WeakKeyDictionary()


def situation_of(prior: Prior, net: Any) -> Situation:
    """Read a prior once; the result is kept as long as the prior lives and is asked for with the same network."""
    known = _read.get(prior)
    if known is None or known[0] is not net:
        settings = prior.settings
        center, scale = settings["target"]
        situation = Situation(
            rule_from(settings, net),
            plain_rule(settings["rule"], settings["kind"], settings["labels"]),
            prior.group("params"),
            Encoder.from_spec(settings["encoder"]),
            len(settings["classes"]) if settings["labels"] == "shared" else 0,
            center,
            scale,
            prior.group("tables"),
        )
        known = net, situation
        _read[prior] = known
    return known[1]


class RuleRegressor(RegressorMixin, PriorEstimator):
    """A regression by a rule: mean, standard deviation and intervals."""

    _kind = "regression"

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict the mean of every row.

        Parameters
        ----------
        X : array of shape (row, feature) or data frame
        return_std : bool
            Whether to return the standard deviation of a new observation, noise included, too.

        Returns
        -------
        array of shape (row,), or a pair of them
        """
        predicted = self._predict_rows(X)
        assert isinstance(predicted, Gaussian)
        center, scale = self._situation_.center, self._situation_.scale
        mean = predicted.mean[0] * scale + center
        return (mean, np.sqrt(predicted.variance[0]) * scale) if return_std else mean

    def predict_interval(self, X: Any, coverage: float = 0.9) -> Float[np.ndarray, "row 2"]:
        """Lower and upper end of the interval in which a new observation lies with probability ``coverage``.

        With a prior the width of `predict`'s normal distribution is corrected by a factor, learned on validation
        tasks at this number of support rows, with which 90 % intervals cover 90 % of the rows of an average task.

        Raises
        ------
        ValueError
            If ``coverage`` is not between 0 and 1.
        """
        if not 0.0 < coverage < 1.0:
            raise ValueError(f"coverage must lie between 0 and 1, but is {coverage}; 0.9 is usual.")
        mean, std = self.predict(X, return_std=True)
        adapted = self._fitted()
        if adapted.used_prior:
            std = std * interpolate(self._situation_.tables, "calibration", adapted.rows, default=1.0)
        reach = float(ndtri(0.5 + coverage / 2)) * std
        return np.column_stack([mean - reach, mean + reach])

    def _targets(self, y: np.ndarray, situation: Situation) -> np.ndarray:
        return (y - situation.center) / situation.scale

    def _more_targets(self, y: np.ndarray) -> np.ndarray:
        return (y - self._situation_.center) / self._situation_.scale


class RuleClassifier(ClassifierMixin, PriorEstimator):
    """A classification by a rule, with labels that tasks share or of the task's own."""

    _kind = "classification"

    def predict_proba(self, X: Any) -> Float[np.ndarray, "row way"]:
        """Class probabilities, in the order of ``classes_``."""
        predicted = self._predict_rows(X)
        assert isinstance(predicted, Categorical)
        return predicted.probability[0]

    def predict(self, X: Any) -> Shaped[np.ndarray, " row"]:
        """Return the most probable label of every row."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def _targets(self, y: np.ndarray, situation: Situation) -> np.ndarray:
        prior = self._prior_read()
        if prior is not None and prior.settings["labels"] == "shared":
            self.classes_ = np.asarray(prior.settings["classes"])
            return self._more_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            where = "labels of a task's own" if prior is not None else "a classifier without a prior"
            raise TaskError(
                f"The support ({len(y)} rows) holds one class, {self.classes_.tolist()[0]!r}, but {where} need at least 2; "
                "add rows of another class."
            )
        return codes

    def _more_targets(self, y: np.ndarray) -> np.ndarray:
        number = {label: code for code, label in enumerate(self.classes_.tolist())}
        codes = [number.get(label, -1) for label in y.tolist()]
        if -1 in codes:
            unknown = y.tolist()[codes.index(-1)]
            raise PriorMismatchError(
                f"Label {unknown!r} is unknown: this task's labels are {', '.join(map(repr, self.classes_.tolist()[:10]))}; "
                "correct the label, or learn a prior on tasks that have it."
            )
        return np.array(codes, dtype=np.int64)
