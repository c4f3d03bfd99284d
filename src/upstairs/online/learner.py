"""OnlineMetaLearner: predict, then learn, on a stream whose world changes and comes back without saying so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar, final

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.metaestimators import available_if

from upstairs.errors import PriorMismatchError, TaskError
from upstairs.inner.rule import Categorical, Prediction
from upstairs.learners.base import PriorEstimator
from upstairs.learners.meta import MetaLearner
from upstairs.learners.registry import described, unfitted
from upstairs.learners.seen import Seen
from upstairs.online.contest import Contest, Declared, Known, begin, border, mixed, step, under
from upstairs.online.growth import check_grows, grown, with_task
from upstairs.online.memory import shrunk
from upstairs.online.stored import contest_restored, contest_stored
from upstairs.online.worlds import Worlds
from upstairs.prior import Prior
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.table import Table, is_frame

__all__ = ["OnlineMetaLearner"]

AnyOnline = TypeVar("AnyOnline", bound="OnlineMetaLearner")


GROWTH = 0.1
"""A prior grows when so many worlds have ended, as a share of the tasks in the reservoir."""


def _classifies(self: Any) -> bool:
    estimator = self.learner.learner() if hasattr(self.learner, "prior_") else self.learner
    return getattr(estimator, "_kind", None) == "classification"


@final
class OnlineMetaLearner(BaseEstimator):
    """Learn a stream from a prior: notice when the world changes, start again in a few rows, go back to what is known.

    Every row is predicted by all worlds that may hold, each with its probability: the one that held, those in memory, and one
    that the prior alone knows. A change needs no alarm to be followed; it is declared, and listed in ``changes_``, when
    the world that held has a tenth of the probability left.

    Parameters
    ----------
    learner : estimator with a prior, or fitted meta-learner
        From ``meta.learner()`` of tasks with the same columns, and for classes with labels that all tasks share: its prior stays. Or
        ``meta`` itself, with the rows that it was learned on: the prior then grows by every world that ends (`MetaNeuralNetwork`
        with ``method="bayesian-linear"``, `MetaDecisionTree`, `MetaSVM`). It is never changed itself; see ``prior_``.
    hazard : float
        Probability a row that the world changes, between 0 and 1: larger is quicker and has more false alarms.
    recall : float
        Probability, where the world changes, that it is one that was met before.
    memory : int
        Worlds that are remembered at most. When there are more, the two that are most alike become one, or the one that held
        longest ago is forgotten.
    rows : int
        Newest rows that are kept of a world.
    reservoir : int
        Tasks that a growing prior is learned from at most, those that it was first learned on counted.
    chunk : int
        Rows that are weighed before they are learned. Larger is faster, and slower to adapt.
    random_state : int
        Draws which task leaves a full reservoir.

    Attributes
    ----------
    changes_ : list of dict
        ``at`` (row of the stream), ``kind`` ("new", "recall", or "border" where a user said so), ``world``.
    world_ : int
        Number of the world that holds, in the order in which worlds were met.
    probabilities_ : dict
        From the number of each known world to its probability; "new" is everything else.
    prior_ : Prior
        As grown so far.
    rows_seen_ : int
    classes_ : array (classes)
    n_features_in_ : int

    Examples
    --------
    >>> import upstairs as up
    >>> family = up.tasks.synthetic.SharedSubspace()
    >>> meta = up.MetaNeuralNetwork(method="bayesian-linear", net=None, prior_mean="linear")
    >>> meta.meta_fit(family.sample(12, 20, random_state=0))
    MetaNeuralNetwork(method='bayesian-linear', net=None, prior_mean='linear')
    >>> one, other = family.sample(2, 200, random_state=1)
    >>> model = OnlineMetaLearner(meta.learner())
    >>> for task, part in ((one, slice(0, 100)), (other, slice(0, 100)), (one, slice(100, 200))):
    ...     model = model.partial_fit(task.X[part], task.y[part])
    >>> [(change["kind"], change["world"]) for change in model.changes_]
    [('new', 1), ('recall', 0)]

    References
    ----------
    Herbster, M. and Warmuth, M. K. (1998). Tracking the best expert. Machine Learning 32.
    Adams, R. P. and MacKay, D. J. C. (2007). Bayesian online changepoint detection. arXiv 0710.3742.
    """

    _contest: Contest
    _changes: list[Declared]
    _seen: Seen | None
    _names: tuple[str, ...]

    def __init__(
        self,
        learner: Any = None,
        *,
        hazard: float = 0.0005,
        recall: float = 0.5,
        memory: int = 20,
        rows: int = 1000,
        reservoir: int = 500,
        chunk: int = 10,
        random_state: int = 0,
    ) -> None:
        self.learner = learner
        self.hazard = hazard
        self.recall = recall
        self.memory = memory
        self.rows = rows
        self.reservoir = reservoir
        self.chunk = chunk
        self.random_state = random_state

    # --- learning -----------------------------------------------------------------------------------------------
    def partial_fit(self: AnyOnline, X: Any, y: Any, classes: Any = None, *, world: int | None = None) -> AnyOnline:
        """Learn rows in the order in which they came.

        Parameters
        ----------
        X : array of shape (row, feature), or data frame
            NaN is a missing cell.
        y : array of shape (row,)
            Rows whose target is missing (NaN or None) are left out: their labels may come later, in another call.
        classes : array, optional
            Accepted for scikit-learn's protocol; classes are those of the prior.
        world : int, optional
            Where borders are known: the number of the world that these rows belong to; a number that was not met begins a
            new one. None: found out.

        Raises
        ------
        PriorMismatchError
            If the prior knows no columns or no labels, or columns or a label do not fit it. Nothing is learned then.
        ValueError
            If an argument is out of range.
        """
        if world is not None and (not isinstance(world, int | np.integer) or isinstance(world, bool) or world < 0):
            raise ValueError(f"world must be a whole number of at least 0 or None (found out), but is {world!r}.")
        self._begin()
        X, y = self._labelled(X, y)
        encoded, targets = self._encoded(X), self._targets(y)
        contest, changes = self._contest, list(self._changes)
        if world is not None and world != contest.held.name:
            ended = contest.held
            contest, declared = border(contest, world)
            contest = self._grown(contest, ended)
            changes.append(declared)
        for start in range(0, len(targets), self.chunk):
            part = slice(start, start + self.chunk)
            hazard, held = self.hazard if world is None else 0.0, contest.held.name
            contest, found = step(
                contest, self._worlds, encoded[part], targets[part], hazard=hazard, recall=self.recall
            )
            if found is not None:
                changes.append(found)
                contest = self._grown(contest, next(entry for entry in contest.known if entry.name == held))
            contest = shrunk(contest, self._worlds, self.memory)
        self._contest, self._changes = contest, changes
        return self

    def learn_one(self: AnyOnline, x: Mapping[str, Any], y: Any) -> AnyOnline:
        """Learn one row, as river does: a dictionary from names of columns to values."""
        return self.partial_fit(self._row(x), [y])

    # --- predicting ---------------------------------------------------------------------------------------------
    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict targets or labels, array of shape (row,); of a regression with ``return_std`` standard deviations as well."""
        said = self._predicted(X)
        if isinstance(said, Categorical):
            return self.classes_[said.probability[0].argmax(axis=1)]
        situation = self._worlds.situation
        mean = said.mean[0] * situation.scale + situation.center
        return (mean, np.sqrt(said.variance[0]) * situation.scale) if return_std else mean

    @available_if(_classifies)
    def predict_proba(self, X: Any) -> Float[np.ndarray, "row way"]:
        """Class probabilities, in the order of ``classes_``."""
        said = self._predicted(X)
        assert isinstance(said, Categorical)
        return said.probability[0]

    def predict_one(self, x: Mapping[str, Any]) -> Any:
        """Predict one row, as river does."""
        return self.predict(self._row(x)).tolist()[0]

    @available_if(_classifies)
    def predict_proba_one(self, x: Mapping[str, Any]) -> dict[Any, float]:
        """Class probabilities of one row, as river does."""
        return dict(zip(self.classes_.tolist(), self.predict_proba(self._row(x))[0].tolist(), strict=True))

    # --- what is known ------------------------------------------------------------------------------------------
    @property
    def changes_(self) -> list[dict[str, Any]]:
        """Changes that were declared so far."""
        self._fitted()
        return [asdict(change) for change in self._changes]

    @property
    def world_(self) -> int:
        """Number of the world that holds."""
        return self._fitted().held.name

    @property
    def probabilities_(self) -> dict[int | str, float]:
        """How probable it is that each known world, or a new one, holds."""
        contest = self._fitted()
        found: dict[int | str, float] = {"new": float(contest.weight[len(contest.known) :].sum())}
        for entry, weight in zip(contest.known, contest.weight, strict=False):
            found[entry.name] = float(weight)
        return found

    @property
    def rows_seen_(self) -> int:
        """Rows that were learned."""
        return self._fitted().rows

    @property
    def prior_(self) -> Prior:
        """The prior, as grown so far."""
        self._begin()
        prior: Prior = self._template._prior_read()
        return prior

    @property
    def n_features_in_(self) -> int:
        """Columns of the prior."""
        return len(self._encoder.columns)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_contest")

    # --- inner workings -----------------------------------------------------------------------------------------
    def _fitted(self) -> Contest:
        if not hasattr(self, "_contest"):
            raise NotFittedError(
                "This OnlineMetaLearner has seen no row yet; call partial_fit(X, y) or learn_one(x, y) first."
            )
        return self._contest

    def _begin(self) -> None:
        """Check the arguments, and begin with what the prior knows."""
        if hasattr(self, "_contest"):
            return
        self._check()
        grows = isinstance(self.learner, MetaLearner)
        self._template = self.learner.learner() if grows else clone(self.learner, safe=False)
        self._worlds = self._situated(self._template)
        self._seen = self.learner._kept() if grows else None
        self._ends, self._waiting, self._chosen = 0, 0, 0 if self._seen is None else len(self._seen.names)
        if self._seen is not None:
            check_grows(self._template._prior_read())
        self._contest = begin(self._worlds)
        self._changes, self._names = [], self._encoder.names if self._encoder.named else ()
        if self._worlds.situation.ways:
            self.classes_ = np.asarray(self._template._prior_read().settings["classes"])
            self._template.classes_ = self.classes_
        self._template._situation_ = self._worlds.situation
        self._template.n_features_in_ = self.n_features_in_

    def _grown(self, contest: Contest, ended: Known) -> Contest:
        """Let the prior grow by a world that has ended; not for each one where there are many."""
        if self._seen is None or not len(ended.world.y):
            return contest
        self._ends, self._waiting = self._ends + 1, self._waiting + 1
        rng = np.random.default_rng([self.random_state, self._ends])
        met = self._ends + len(self._seen.names)
        name = f"world {ended.name}"
        self._seen = with_task(self._seen, name, ended.world.x, ended.world.y, self.reservoir, rng, met)
        if self._waiting < GROWTH * len(self._seen.names):
            return contest
        tasks, self._waiting = len(self._seen.names), 0
        doubled = tasks >= 2 * self._chosen
        self._template.prior = grown(self.prior_, self._seen, choose_again=doubled)
        self._chosen = tasks if doubled else self._chosen
        self._worlds = self._situated(self._template)
        return under(contest, self._worlds)

    def _check(self) -> None:
        if not 0.0 <= self.hazard < 1.0:
            raise ValueError(f"hazard must be a probability below 1, but is {self.hazard!r}; 0.0005 is usual.")
        if not 0.0 <= self.recall <= 1.0:
            raise ValueError(f"recall must be a probability, but is {self.recall!r}; 0.5 is usual.")
        for name in ("memory", "rows", "reservoir", "chunk"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, but is {value!r}.")

    def _situated(self, estimator: Any) -> Worlds:
        if not isinstance(estimator, PriorEstimator) or estimator._prior_read() is None:
            raise PriorMismatchError(
                f"learner must be an estimator with a prior, such as meta.learner(), but is {self.learner!r}."
            )
        settings = estimator._prior_read().settings
        if "experience" in settings or settings.get("labels") == "own":
            raise PriorMismatchError(
                "learner needs a prior on columns, and labels that all tasks share, so that a world can be told before its rows "
                "are seen; learn one on tasks with the same columns."
            )
        return Worlds(estimator._situation_of_prior(), self.rows)

    def _labelled(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        """Leave rows without a target out."""
        y = np.asarray(y.to_numpy() if hasattr(y, "to_numpy") else y)
        if y.ndim != 1 or len(y) != len(X):
            raise TaskError(f"y must hold one target a row ({len(X)} rows), but has the shape {y.shape}.")
        missing = np.array([value is None or value != value for value in y.tolist()], dtype=bool)
        if not missing.any():
            return X, y
        kept = np.flatnonzero(~missing)
        table = Table.from_frame(X) if is_frame(X) else X
        return table.take(kept) if isinstance(table, Table) else np.asarray(X)[kept], np.array(y[kept].tolist())

    def _encoded(self, X: Any) -> Float[np.ndarray, "row feature"]:
        if len(X) == 0:
            return np.empty((0, self._encoder.width))
        return self._encoder.encode(self._template._columns(X, reset=False))

    @property
    def _encoder(self) -> Encoder:
        encoder = self._worlds.situation.encoder
        assert encoder is not None
        return encoder

    def _targets(self, y: Shaped[np.ndarray, " row"]) -> np.ndarray:
        situation = self._worlds.situation
        if not situation.ways:
            return (y.astype(np.float64) - situation.center) / situation.scale
        codes: np.ndarray = self._template._more_targets(y)
        return codes

    def _predicted(self, X: Any) -> Prediction:
        self._begin()
        rows, contest = self._encoded(X), self._contest
        heavy = np.flatnonzero(contest.weight > 1e-4)
        candidates = contest.candidates
        weight = contest.weight[heavy] / contest.weight[heavy].sum()
        return mixed([self._worlds.predict(candidates[place], rows) for place in heavy.tolist()], weight)

    def _row(self, x: Mapping[str, Any]) -> Any:
        """Return a row of river as one line: by the names of the prior, or where it has none by those of the first row, in its order."""
        self._begin()
        self._names = self._names or tuple(x)
        odd = sorted(set(self._names) ^ set(x))
        if odd:
            said = "lacks" if odd[0] in self._names else "has an unknown"
            raise PriorMismatchError(
                f"x {said} {odd[0]!r}; rows have {', '.join(map(str, self._names[:20]))}: pass exactly these."
            )
        if not self._encoder.named:
            return np.array([[x[name] for name in self._names]], dtype=np.float64)
        columns = [
            np.array([x[name]], dtype=object if isinstance(x[name], str) else np.float64) for name in self._names
        ]
        return Table(self._names, columns)

    # --- storage ------------------------------------------------------------------------------------------------
    def _prior_read(self) -> Prior:
        return self.prior_

    def _stored(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything, in mid-stream, as JSON values and arrays, for `upstairs.save`."""
        document, arrays = contest_stored(self._fitted())
        document |= {"learner": described(self.learner), "names": list(self._names)}
        document |= {"changes": self.changes_, "ends": [self._ends, self._waiting, self._chosen]}
        if self._seen is not None:
            document["seen"] = [list(self._seen.names), list(self._seen.groups)]
            arrays |= {f"seen/{name}": getattr(self._seen, name) for name in ("x", "y", "offsets")}
        return document, arrays

    def _restore(self, document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Undo `_stored`."""
        self.learner = unfitted(document["learner"], self.__dict__.pop("prior"))
        if "seen" in document:
            names, groups = (tuple(entries) for entries in document["seen"])
            self.learner.seen_ = Seen(arrays["seen/x"], arrays["seen/y"], arrays["seen/offsets"], names, groups)
        self._begin()
        self._ends, self._waiting, self._chosen = document["ends"]
        self._names = tuple(document["names"])
        self._contest = contest_restored(self._contest, document, arrays)
        self._changes = [Declared(**change) for change in document["changes"]]
