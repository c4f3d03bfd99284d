"""How a stream is read whose learner knows no columns: numbers as they come, and labels when they come."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, final

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.base import clone

from upstairs.inner.rule import Gaussian
from upstairs.learners.by_experience import is_experience
from upstairs.learners.meta import MetaLearner
from upstairs.online.fitted_worlds import FittedWorlds
from upstairs.online.forgetful import ForgetfulClassifier, ForgetfulRegressor
from upstairs.online.mixture_worlds import MixtureWorlds
from upstairs.online.number_rows import NumberRows, StreamRows, row_of
from upstairs.online.reading import Reader
from upstairs.online.worlds import OpenWorlds
from upstairs.prior import Prior

__all__ = [
    "OpenReader",
    "PlainReader",
    "SettingsReader",
    "Windows",
    "knows_columns",
    "open_reader",
    "prior_in",
    "restored_reader",
]

AnyOpen = TypeVar("AnyOpen", bound="OpenReader")
Windows: TypeAlias = "tuple[int, Any]"
"""Rows that are kept of a world, and how its followers forget."""


class OpenReader(Reader):
    """Reads numbers as they come; labels are added when they come.

    Finals are frozen dataclasses with these fields.
    """

    __slots__ = ()

    model: NumberRows
    worlds: OpenWorlds
    followers: tuple[OpenWorlds, ...]
    labels: np.ndarray | None
    seed: int

    @abc.abstractmethod
    def for_labels(self: AnyOpen, labels: np.ndarray, windows: Windows) -> AnyOpen:
        """Return a reader of the same columns for other labels."""

    def more_labels(self: AnyOpen, labels: np.ndarray, windows: Windows) -> tuple[AnyOpen, Int[np.ndarray, " way"]]:
        """Return a reader for more labels, and the places in which the old ones are now."""
        assert self.labels is not None
        wanted = np.unique(np.concatenate([self.labels, labels]))
        return self.for_labels(wanted, windows), np.searchsorted(wanted, self.labels)

    @property
    def columns(self) -> int:
        """Columns of the first rows."""
        return int(self.model.n_features_in_)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the first rows."""
        return tuple(getattr(self.model, "feature_names_in_", ()))

    @property
    def classes(self) -> np.ndarray | None:
        """Labels that have come, or were announced."""
        return self.labels

    def encoded(self, X: Any) -> Float[np.ndarray, "row feature"]:
        """Return rows as they are."""
        return self.model._columns(X, reset=False) if len(X) else np.empty((0, self.columns))

    def labelled(self, X: Any, y: Any) -> tuple[Float[np.ndarray, "labelled feature"], Shaped[np.ndarray, " labelled"]]:
        """Return rows that have a label, and their labels."""
        if not len(X):
            return np.empty((0, self.columns)), np.empty(0)
        return self.model._labelled(X, y, reset=False)

    def codes(self, y: Shaped[np.ndarray, " row"]) -> Shaped[np.ndarray, " row"]:
        """Number labels; targets stay as they are."""
        return (
            np.asarray(y, dtype=np.float64) if self.labels is None else np.searchsorted(self.labels, y).astype(np.int64)
        )

    def moments(self, said: Gaussian) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
        """Return means and standard deviations."""
        return said.mean[0], np.sqrt(said.variance[0])

    def row(
        self, x: Mapping[str, Any], names: tuple[str, ...]
    ) -> tuple[Float[np.ndarray, "one feature"], tuple[str, ...]]:
        """Encode a row by the names of the first one; a missing key is a missing cell."""
        names = self.names or names or tuple(x)
        return row_of(x, names), names

    def stored(self) -> dict[str, Any]:
        """Return columns and labels, as JSON values; `open_reader` reads them again."""
        names = list(self.names) or None
        return {
            "columns": [self.columns, names, self.seed],
            "labels": None if self.labels is None else self.labels.tolist(),
        }


@final
@dataclass(frozen=True, slots=True)
class PlainReader(OpenReader):
    """For a learner without a prior: worlds are forgetful mixtures.

    Worlds forget nothing; one follower is the whole mixture, with all rates of the model.

    Parameters
    ----------
    model : ForgetfulClassifier or ForgetfulRegressor
        Its settings, and the columns that it has seen.
    worlds, followers
    labels : array, optional
    seed : int
        Of what mixtures draw.
    """

    model: ForgetfulClassifier | ForgetfulRegressor
    worlds: MixtureWorlds
    followers: tuple[MixtureWorlds, ...]
    labels: np.ndarray | None
    seed: int

    @classmethod
    def of(cls, model: Any, labels: np.ndarray | None, windows: Windows, seed: int) -> PlainReader:
        """Read for some labels; ``seed`` draws what mixtures draw."""
        outputs = 0 if labels is None else len(labels)
        rates = model.forgetting if windows[1] == "auto" else windows[1]
        whole = model._mixture(outputs, rates or (1.0,))
        params = whole.params(model.n_features_in_, seed)
        still = model._mixture(outputs, (1.0,))
        worlds = MixtureWorlds(still, {**params, "forgetting": np.ones(1)})
        return cls(model, worlds, (MixtureWorlds(whole, params),) if rates else (), labels, seed)

    def for_labels(self, labels: np.ndarray, windows: Windows) -> PlainReader:
        """Return a reader of the same columns for other labels."""
        return self.of(self.model, labels, windows, self.seed)


@final
@dataclass(frozen=True, slots=True)
class SettingsReader(OpenReader):
    """For an estimator whose settings follow from experience: worlds fit it to their newest rows.

    Parameters
    ----------
    template : estimator
        With experience; not fitted.
    model : StreamRows
    worlds, followers
        Followers have fewer rows.
    labels : array, optional
    seed : int
        Random state of the estimator, unless it has one: a fit must not depend on when it is made.
    """

    template: Any
    model: StreamRows
    worlds: FittedWorlds
    followers: tuple[FittedWorlds, ...]
    labels: np.ndarray | None
    seed: int

    @classmethod
    def of(
        cls, template: Any, model: StreamRows, labels: np.ndarray | None, windows: Windows, seed: int
    ) -> SettingsReader:
        """Read for some labels."""
        rows, rates = windows
        if getattr(template, "random_state", seed) is None:
            template = clone(template, safe=False).set_params(random_state=seed)
        newest = (
            [] if rates in ("auto", None) else [rows if rate == 1.0 else round(1.0 / (1.0 - rate)) for rate in rates]
        )
        columns, classes = model.n_features_in_, 0 if labels is None else len(labels)
        made = [FittedWorlds(template, columns, classes, min(rows, max(1, number))) for number in (rows, *newest)]
        return cls(template, model, made[0], tuple(made[1:]), labels, seed)

    def for_labels(self, labels: np.ndarray, windows: Windows) -> SettingsReader:
        """Return a reader of the same columns for other labels."""
        return self.of(self.template, self.model, labels, windows, self.seed)

    @property
    def prior(self) -> Prior:
        """The experience."""
        found = prior_in(self.template)
        assert found is not None, "checked before the stream began"
        return found

    def with_prior(self, prior: Prior, windows: Windows) -> SettingsReader:
        """Return a reader of the same columns and labels with other experience."""
        template = clone(self.template, safe=False)
        template.prior = prior
        return self.of(template, self.model, self.labels, windows, self.seed)


def prior_in(learner: Any) -> Prior | None:
    """Prior of a meta-learner or of an estimator, if it has one."""
    if isinstance(learner, MetaLearner):
        return getattr(learner, "prior_", None)
    found = learner._prior_read() if hasattr(learner, "_prior_read") else getattr(learner, "prior", None)
    return found if isinstance(found, Prior) else None


def knows_columns(learner: Any) -> bool:
    """Whether a learner knows the columns of a stream before its first row, or should."""
    return not (isinstance(learner, ForgetfulClassifier | ForgetfulRegressor) or is_experience(prior_in(learner)))


def open_reader(learner: Any, X: Any, y: Any, classes: Any, windows: Windows) -> OpenReader:
    """Read a stream from its first rows on."""
    model = _rows_of(learner)
    model._columns(X, reset=True)
    labels = None
    if model._kind == "classification":
        known = [value for value in np.asarray(y).tolist() if value is not None and value == value]
        announced = [] if classes is None else np.asarray(classes).tolist()
        labels = np.unique(np.array(known + announced)) if known or announced else np.empty(0)
    return _reader(learner, model, labels, windows, 0 if isinstance(model, StreamRows) else model._seed())


def restored_reader(learner: Any, document: Mapping[str, Any], windows: Windows) -> OpenReader:
    """Undo `OpenReader.stored`."""
    model = _rows_of(learner)
    model.n_features_in_, names, seed = document["columns"]
    if names is not None:
        model.feature_names_in_ = np.array(names, dtype=object)
    labels = None if document["labels"] is None else np.asarray(document["labels"])
    return _reader(learner, model, labels, windows, seed)


def _reader(learner: Any, model: Any, labels: np.ndarray | None, windows: Windows, seed: int) -> OpenReader:
    if isinstance(model, StreamRows):
        template = learner.learner() if isinstance(learner, MetaLearner) else clone(learner, safe=False)
        return SettingsReader.of(template, model, labels, windows, seed)
    return PlainReader.of(model, labels, windows, seed)


def _rows_of(learner: Any) -> Any:
    if isinstance(learner, ForgetfulClassifier | ForgetfulRegressor):
        return clone(learner)
    prior = prior_in(learner)
    assert prior is not None, "an estimator with experience"
    return StreamRows(prior.settings["kind"])
