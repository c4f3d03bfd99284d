"""How rows and labels of a stream are read: by a prior that knows columns and labels (`upstairs.online.open_reading`: as they come)."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.base import clone

from upstairs.errors import PriorMismatchError, TaskError
from upstairs.inner.rule import Gaussian
from upstairs.learners.base import PriorEstimator
from upstairs.online.following import forgetful_worlds
from upstairs.online.prior_worlds import PriorWorlds
from upstairs.online.worlds import Worlds
from upstairs.prior import Prior
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.table import Table, is_frame

__all__ = ["PriorReader", "Reader"]


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
                f"learner must be an estimator with a prior, such as meta.learner() or upstairs.recommended(...), or a "
                f"ForgetfulClassifier or -Regressor, but is {learner!r}."
            )
        settings = estimator._prior_read().settings
        if settings.get("labels") == "own":
            raise PriorMismatchError(
                "learner needs labels that all tasks share, so that a world can be told before its rows are seen; learn its prior "
                "on tasks with the same labels."
            )
        situation = estimator._situation_of_prior()
        followers = forgetful_worlds(situation, rows, forgetting)
        if situation.ways:
            estimator.classes_ = np.asarray(settings["classes"])
        estimator._situation_ = situation
        assert situation.encoder is not None
        estimator.n_features_in_ = len(situation.encoder.columns)
        return cls(estimator, PriorWorlds(situation, rows), followers)

    def with_prior(self, prior: Prior, windows: tuple[int, Any]) -> PriorReader:
        """Return a reader for a prior on the same columns; ``windows`` are rows kept of a world, and how followers forget."""
        template = clone(self.template, safe=False)
        template.prior = prior
        return self.of(template, template, *windows)

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
