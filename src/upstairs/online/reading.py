"""How rows and labels of a stream are read: by a prior, which knows columns and labels, or as they come."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.base import clone

from upstairs.errors import PriorMismatchError, TaskError
from upstairs.inner.rule import Gaussian
from upstairs.learners.base import PriorEstimator
from upstairs.online.following import forgetful_worlds
from upstairs.online.forgetful import ForgetfulClassifier, ForgetfulRegressor, row_of
from upstairs.online.mixture_worlds import MixtureWorlds
from upstairs.online.prior_worlds import PriorWorlds
from upstairs.online.worlds import Worlds
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.table import Table, is_frame

__all__ = ["PlainReader", "PriorReader", "Reader"]


class Reader(abc.ABC):
    """What rows mean, and the worlds that they are learned in; itself immutable."""

    __slots__ = ()

    worlds: Worlds
    followers: tuple[Worlds, ...]

    @property
    @abc.abstractmethod
    def columns(self) -> int:
        """Columns of a row as users give it."""

    @property
    @abc.abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the columns; empty where they have none."""

    @property
    @abc.abstractmethod
    def classes(self) -> np.ndarray | None:
        """Labels, sorted; None for a regression."""

    @abc.abstractmethod
    def encoded(self, X: Any) -> Float[np.ndarray, "row feature"]:
        """Return rows as numbers."""

    @abc.abstractmethod
    def labelled(self, X: Any, y: Any) -> tuple[Float[np.ndarray, "labelled feature"], Shaped[np.ndarray, " labelled"]]:
        """Return encoded rows that have a label, and their labels as they are."""

    @abc.abstractmethod
    def codes(self, y: Shaped[np.ndarray, " row"]) -> Shaped[np.ndarray, " row"]:
        """Turn targets into what worlds learn: standardised, or class numbers."""

    @abc.abstractmethod
    def moments(self, said: Gaussian) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
        """Return means and standard deviations as users expect them."""

    @abc.abstractmethod
    def row(
        self, x: Mapping[str, Any], names: tuple[str, ...]
    ) -> tuple[Float[np.ndarray, "one feature"], tuple[str, ...]]:
        """Encode a row of river; ``names`` are those of the first row, where rows as numbers are known by nothing else."""


@final
@dataclass(frozen=True, slots=True)
class PriorReader(Reader):
    """Reads as the estimator with a prior does.

    Parameters
    ----------
    template : PriorEstimator
    worlds, followers
    """

    template: PriorEstimator
    worlds: PriorWorlds
    followers: tuple[Worlds, ...]

    @classmethod
    def of(cls, estimator: Any, learner: Any, rows: int, forgetting: Any) -> PriorReader:
        """Read with an estimator; ``learner`` is what the user passed.

        Raises
        ------
        PriorMismatchError
            Without a prior on columns and, for classes, on labels.
        """
        if not isinstance(estimator, PriorEstimator) or estimator._prior_read() is None:
            raise PriorMismatchError(
                f"learner must be an estimator with a prior, such as meta.learner(), or a ForgetfulClassifier or -Regressor, "
                f"but is {learner!r}."
            )
        settings = estimator._prior_read().settings
        if "experience" in settings or settings.get("labels") == "own":
            raise PriorMismatchError(
                "learner needs a prior on columns, and labels that all tasks share, so that a world can be told before its rows "
                "are seen; learn one on tasks with the same columns."
            )
        situation = estimator._situation_of_prior()
        followers = forgetful_worlds(situation, rows, forgetting)
        if situation.ways:
            estimator.classes_ = np.asarray(settings["classes"])
        estimator._situation_ = situation
        assert situation.encoder is not None
        estimator.n_features_in_ = len(situation.encoder.columns)
        return cls(estimator, PriorWorlds(situation, rows), followers)

    @property
    def columns(self) -> int:
        """Columns of the prior."""
        return len(self._encoder.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the prior."""
        return self._encoder.names if self._encoder.named else ()

    @property
    def classes(self) -> np.ndarray | None:
        """Labels of the prior."""
        return self.template.classes_ if self.worlds.situation.ways else None

    def encoded(self, X: Any) -> Float[np.ndarray, "row feature"]:
        """Return rows as the prior's encoder does."""
        if len(X) == 0:
            return np.empty((0, self._encoder.width))
        return self._encoder.encode(self.template._columns(X, reset=False))

    def labelled(self, X: Any, y: Any) -> tuple[Float[np.ndarray, "labelled feature"], Shaped[np.ndarray, " labelled"]]:
        """Return encoded rows that have a label, and their labels as they are."""
        y = np.asarray(y.to_numpy() if hasattr(y, "to_numpy") else y)
        if y.ndim != 1 or len(y) != len(X):
            raise TaskError(f"y must hold one target a row ({len(X)} rows), but has the shape {y.shape}.")
        missing = np.array([value is None or value != value for value in y.tolist()], dtype=bool)
        if not missing.any():
            return self.encoded(X), y
        kept = np.flatnonzero(~missing)
        table = Table.from_frame(X) if is_frame(X) else X
        X = table.take(kept) if isinstance(table, Table) else np.asarray(X)[kept]
        return self.encoded(X), np.array(y[kept].tolist())

    def codes(self, y: Shaped[np.ndarray, " row"]) -> Shaped[np.ndarray, " row"]:
        """Standardise targets or number labels as the prior does."""
        situation = self.worlds.situation
        if not situation.ways:
            return (y.astype(np.float64) - situation.center) / situation.scale
        codes: np.ndarray = self.template._more_targets(y)
        return codes

    def moments(self, said: Gaussian) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
        """Return means and standard deviations in the units of targets."""
        situation = self.worlds.situation
        return said.mean[0] * situation.scale + situation.center, np.sqrt(said.variance[0]) * situation.scale

    def row(
        self, x: Mapping[str, Any], names: tuple[str, ...]
    ) -> tuple[Float[np.ndarray, "one feature"], tuple[str, ...]]:
        """Encode a row by the names of the prior, or where it has none by those of the first row, in its order."""
        names = self.names or names or tuple(x)
        odd = sorted(set(names) ^ set(x))
        if odd:
            said = "lacks" if odd[0] in names else "has an unknown"
            raise PriorMismatchError(
                f"x {said} {odd[0]!r}; rows have {', '.join(map(str, names[:20]))}: pass exactly these."
            )
        if not self._encoder.named:
            return self.encoded(np.array([[x[name] for name in names]], dtype=np.float64)), names
        columns = [np.array([x[name]], dtype=object if isinstance(x[name], str) else np.float64) for name in names]
        return self.encoded(Table(names, columns)), names

    @property
    def _encoder(self) -> Encoder:
        encoder = self.worlds.situation.encoder
        assert encoder is not None
        return encoder


@final
@dataclass(frozen=True, slots=True)
class PlainReader(Reader):
    """Reads numbers as they come; worlds are forgetful mixtures, and labels are added when they come.

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
    followers: tuple[Worlds, ...]
    labels: np.ndarray | None
    seed: int

    @classmethod
    def of(cls, learner: Any, X: Any, y: Any, classes: Any, forgetting: Any) -> PlainReader:
        """Read a stream from its first rows on."""
        model = clone(learner)
        model._columns(X, reset=True)
        labels = None
        if isinstance(model, ForgetfulClassifier):
            known = [value for value in np.asarray(y).tolist() if value is not None and value == value]
            announced = [] if classes is None else np.asarray(classes).tolist()
            labels = np.unique(np.array(known + announced)) if known or announced else np.empty(0)
        return cls.with_labels(model, labels, forgetting, model._seed())

    @classmethod
    def with_labels(cls, model: Any, labels: np.ndarray | None, forgetting: Any, seed: int) -> PlainReader:
        """Read for some labels; ``seed`` draws what mixtures draw."""
        outputs = 0 if labels is None else len(labels)
        rates = model.forgetting if forgetting == "auto" else forgetting
        whole = model._mixture(outputs, rates or (1.0,))
        params = whole.params(model.n_features_in_, seed)
        still = model._mixture(outputs, (1.0,))
        worlds = MixtureWorlds(still, {**params, "forgetting": np.ones(1)})
        return cls(model, worlds, (MixtureWorlds(whole, params),) if rates else (), labels, seed)

    def more_labels(self, labels: np.ndarray, forgetting: Any) -> tuple[PlainReader, Int[np.ndarray, " way"]]:
        """Return a reader for more labels, and the places in which the old ones are now."""
        assert self.labels is not None
        wanted = np.unique(np.concatenate([self.labels, labels]))
        return self.with_labels(self.model, wanted, forgetting, self.seed), np.searchsorted(wanted, self.labels)

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
