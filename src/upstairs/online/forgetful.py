"""ForgetfulClassifier and ForgetfulRegressor: learn a stream that drifts, with one setting for all of them."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, TypeVar, final

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from upstairs.errors import PriorMismatchError, TaskError
from upstairs.inner.forgetful_mixture import ForgetfulMixture
from upstairs.inner.rule import Categorical, Gaussian
from upstairs.learners.rows import checked_targets
from upstairs.online.number_rows import NumberRows, row_of

__all__ = ["ForgetfulClassifier", "ForgetfulRegressor"]

AnyForgetful = TypeVar("AnyForgetful", bound="_Forgetful")

CHUNK = 100
"""Rows that are learned together; more are learned in pieces, so that experts are weighed by what came after they had learned."""
FORGETTING = (1.0, 0.9995, 0.998, 0.99, 0.97, 0.93)


class _Forgetful(NumberRows, abc.ABC):
    """What the two estimators share: the mixture's params and state, rows as arrays, frames and dictionaries."""

    _params: dict[str, np.ndarray]
    _state: dict[str, np.ndarray]

    def __init__(
        self,
        forgetting: Any = FORGETTING,
        share: Any = 0.002,
        scale_forgetting: Any = 0.9998,
        products: Any = 60,
        frequencies: Any = 100,
        width: Any = 0.5,
        random_state: Any = 0,
    ) -> None:
        self.forgetting = forgetting
        self.share = share
        self.scale_forgetting = scale_forgetting
        self.products = products
        self.frequencies = frequencies
        self.width = width
        self.random_state = random_state

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_state")

    @property
    def expert_weights_(self) -> Float[np.ndarray, " expert"]:
        """Weights of the experts: of every map, sharpness (classes only) and rate, in this order; they sum to one."""
        check_is_fitted(self)
        return self._state["weight"].copy()

    @property
    @abc.abstractmethod
    def _outputs(self) -> int:
        """Columns of targets that the mixture predicts."""

    def _mixture(self, outputs: int | None = None, forgetting: Any = None) -> ForgetfulMixture:
        """The mixture of these settings, or one for another number of outputs and with other rates."""
        for name in ("share", "scale_forgetting"):
            value = getattr(self, name)
            if not 0.0 < value <= 1.0:
                raise PriorMismatchError(f"{name}={value} must be in (0, 1]; leave it out for the default.")
        for name in ("products", "frequencies"):
            value = getattr(self, name)
            if not (isinstance(value, int | np.integer) and value >= 0):
                raise PriorMismatchError(f"{name}={value} must be a whole number of columns; 0 leaves them out.")
        if not self.width > 0:
            raise PriorMismatchError(f"width={self.width} must be positive; 1 is as wide as the data.")
        return ForgetfulMixture(
            outputs=self._outputs if outputs is None else outputs,
            forgetting=tuple(self.forgetting if forgetting is None else forgetting),
            share=self.share,
            scale_forgetting=self.scale_forgetting,
            products=self.products,
            frequencies=self.frequencies,
            width=self.width,
        )

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _begin(self, columns: int) -> None:
        self.n_features_in_ = columns
        self.rows_seen_ = 0
        self._params = self._mixture().params(columns, self._seed())
        self._state = self._mixture().start(self._params)

    def _forget_all(self) -> None:
        for name in ("_params", "_state", "_names", "classes_", "n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                delattr(self, name)

    def _learn(self, x: np.ndarray, y: np.ndarray) -> None:
        if not hasattr(self, "_state"):
            self._begin(x.shape[1])
        mixture = self._mixture()
        for first in range(0, len(y), CHUNK):
            piece = slice(first, first + CHUNK)
            self._state = mixture.learn(self._params, self._state, x[piece], y[piece])
        self.rows_seen_ += len(y)

    def _stored(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything learned, as JSON values and arrays, for `upstairs.save`; going on gives the same predictions, bit by bit."""
        names = {name: list(getattr(self, name)) for name in ("_names", "feature_names_in_") if hasattr(self, name)}
        document = {"rows_seen": self.rows_seen_, "columns": self.n_features_in_, "names": names}
        arrays = {f"params/{name}": value for name, value in self._params.items()}
        return document, arrays | {f"state/{name}": value for name, value in self._state.items()}

    def _restore(self, document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Undo `_stored`."""
        self.rows_seen_, self.n_features_in_ = document["rows_seen"], document["columns"]
        names = document["names"]
        if "_names" in names:
            self._names = list(names["_names"])
        if "feature_names_in_" in names:
            self.feature_names_in_ = np.array(names["feature_names_in_"], dtype=object)
        self._params, self._state = (
            {name[len(kind) :]: value for name, value in arrays.items() if name.startswith(kind)}
            for kind in ("params/", "state/")
        )

    def _row(self, x: Mapping[str, Any]) -> Float[np.ndarray, "one feature"]:
        """One row from a dictionary; a missing key is a missing cell."""
        names = getattr(self, "feature_names_in_", getattr(self, "_names", None))
        if names is None:
            names = list(x)
            if hasattr(self, "n_features_in_") and len(names) != self.n_features_in_:
                raise TaskError(
                    f"x has {len(names)} keys, but {type(self).__name__} has learned arrays of {self.n_features_in_} "
                    "columns; give one key a column, in their order."
                )
            self._names = names
        return row_of(x, list(names))


@final
class ForgetfulClassifier(ClassifierMixin, _Forgetful):
    """Classify the rows of a stream that drifts: a mixture of recursive least squares over features and forgetting rates.

    Learned on the stream, all in closed form and in bounded memory: running scales of the columns, least squares on
    indicators of the classes over three sets of columns (as they are, with products, random Fourier features) and several
    rates of forgetting, and the weights of these experts by how well they predict (``upstairs.inner.forgetful_mixture``).

    A missing cell counts as the running mean of its column. A row whose label is missing (NaN or None) is not learned. A class
    that has not been announced is added when its first row is learned; ``classes_`` stays sorted. Order is what counts: a
    late label is learned when it comes, as if the row were new, and a row that comes twice is learned twice.

    Parameters
    ----------
    forgetting : sequence of float
        Rates that compete: what a row counts after one more row, each in (0, 1].
    share : float
        Probability, a row, that another expert becomes the best one.
    scale_forgetting : float
        Rate at which the running scales of the columns forget.
    products : int
        Most columns of the quadratic map; of more pairs of columns, a random choice is taken.
    frequencies : int
        Random Fourier features.
    width : float
        Width of the kernel that they stand for.
    random_state : int, RandomState or None
        Draws frequencies (and products).

    Attributes
    ----------
    classes_ : array of shape (way,)
    n_features_in_, rows_seen_ : int
    expert_weights_ : array of shape (expert,)

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((600, 2))
    >>> y = np.where((X[:, 0] > 0) == (np.arange(600) < 300), "up", "down")  # the world turns round
    >>> model = ForgetfulClassifier(frequencies=20)
    >>> for first in range(0, 600, 50):
    ...     model = model.partial_fit(X[first : first + 50], y[first : first + 50])
    >>> model.predict([[2.0, 0.0], [-2.0, 0.0]]).tolist()
    ['down', 'up']
    """

    _kind = "classification"
    classes_: np.ndarray

    @property
    def _outputs(self) -> int:
        return len(self.classes_)

    def fit(self, X: Any, y: Any) -> ForgetfulClassifier:
        """Learn rows in their order, from nothing."""
        self._forget_all()
        x = self._columns(X, reset=True)
        return self._learn_labels(x, checked_targets(self, self._kind, y, len(x)), None)

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> ForgetfulClassifier:
        """Learn more rows in their order.

        Parameters
        ----------
        X : array of shape (row, feature) or data frame of numbers
        y : array of shape (row,)
        classes : array of shape (way,), optional
            Labels that may come; others are added when they come.
        """
        return self._learn_labels(*self._labelled(X, y, reset=not hasattr(self, "_state")), classes)

    def _learn_labels(self, x: np.ndarray, y: Shaped[np.ndarray, " row"], classes: Any) -> ForgetfulClassifier:
        announced = [] if classes is None else [np.asarray(classes)]
        parts = [*([self.classes_] if hasattr(self, "classes_") else []), *announced, *([y] if len(y) else [])]
        if not parts:
            return self
        wanted = np.unique(np.concatenate(parts))
        if not hasattr(self, "classes_"):
            self.classes_ = wanted
        elif len(wanted) > len(self.classes_):
            places = np.searchsorted(wanted, self.classes_)
            self.classes_ = wanted
            if hasattr(self, "_state"):
                self._state = self._mixture().widened(self._state, places)
        self._learn(x, np.searchsorted(self.classes_, y).astype(np.int64))
        return self

    def predict_proba(self, X: Any) -> Float[np.ndarray, "row way"]:
        """Class probabilities, in the order of ``classes_``."""
        check_is_fitted(self)
        return self._probability(self._columns(X, reset=False))

    def predict(self, X: Any) -> Shaped[np.ndarray, " row"]:
        """Predict labels."""
        chosen = self.predict_proba(X).argmax(axis=1)
        return self.classes_[chosen]

    def learn_one(self, x: Mapping[str, Any], y: Any) -> ForgetfulClassifier:
        """Learn one row, as river does: a dictionary from names of columns to values."""
        if y is None or y != y:
            return self
        return self._learn_labels(self._row(x), np.array([y]), None)

    def predict_one(self, x: Mapping[str, Any]) -> Any:
        """Predict the label of one row, as river does; None before the first row."""
        said = self.predict_proba_one(x)
        return max(said, key=lambda label: said[label]) if said else None

    def predict_proba_one(self, x: Mapping[str, Any]) -> dict[Any, float]:
        """Class probabilities of one row, as river does; empty before the first row."""
        if not hasattr(self, "_state"):
            return {}
        return dict(zip(self.classes_.tolist(), self._probability(self._row(x))[0].tolist(), strict=True))

    def _probability(self, x: np.ndarray) -> np.ndarray:
        said = self._mixture().predict(self._params, self._state, x)
        assert isinstance(said, Categorical)
        return said.probability[0]


@final
class ForgetfulRegressor(RegressorMixin, _Forgetful):
    """Predict a number for the rows of a stream that drifts: a mixture over features and forgetting rates.

    As `ForgetfulClassifier`, with recursive Bayesian linear regressions (their noise is learned) of the target, which is
    scaled by its running mean and spread. A missing cell counts as the running mean of its column; a row whose target is missing
    (NaN or None) is not learned.

    Parameters
    ----------
    forgetting, share, scale_forgetting, products, frequencies, width, random_state
        As in `ForgetfulClassifier`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((500, 2))
    >>> model = ForgetfulRegressor(frequencies=20).partial_fit(X, 100.0 + 10.0 * X[:, 0])
    >>> bool(abs(model.predict([[1.0, 0.0]])[0] - 110.0) < 1.0)
    True
    """

    _kind = "regression"

    @property
    def _outputs(self) -> int:
        return 0

    def fit(self, X: Any, y: Any) -> ForgetfulRegressor:
        """Learn rows in their order, from nothing."""
        self._forget_all()
        x = self._columns(X, reset=True)
        self._learn(x, checked_targets(self, self._kind, y, len(x)))
        return self

    def partial_fit(self, X: Any, y: Any) -> ForgetfulRegressor:
        """Learn more rows in their order."""
        self._learn(*self._labelled(X, y, reset=not hasattr(self, "_state")))
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict means; with ``return_std`` the standard deviations of new observations, noise included, as well."""
        check_is_fitted(self)
        said = self._moments(self._columns(X, reset=False))
        return (said.mean[0], np.sqrt(said.variance[0])) if return_std else said.mean[0]

    def learn_one(self, x: Mapping[str, Any], y: Any) -> ForgetfulRegressor:
        """Learn one row, as river does: a dictionary from names of columns to values."""
        if y is not None and y == y:
            self._learn(self._row(x), np.array([float(y)]))
        return self

    def predict_one(self, x: Mapping[str, Any]) -> float:
        """Predict one row, as river does; 0 before the first row."""
        return float(self._moments(self._row(x)).mean[0, 0]) if hasattr(self, "_state") else 0.0

    def _moments(self, x: np.ndarray) -> Gaussian:
        said = self._mixture().predict(self._params, self._state, x)
        assert isinstance(said, Gaussian)
        return said
