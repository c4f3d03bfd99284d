"""OnlineMetaLearner: predict, then learn, on a stream whose world changes and comes back without saying so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, TypeVar, final

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.metaestimators import available_if

from upstairs.inner.rule import Categorical, Gaussian
from upstairs.learners.registry import described, unfitted
from upstairs.online.contest import Odds
from upstairs.online.detectors import DriftDetector
from upstairs.online.growth import Growth
from upstairs.online.live import Limits, Live, begin_open, begin_prior, restored_live, stored_live
from upstairs.online.number_rows import row_of
from upstairs.online.open_reading import SettingsReader, knows_columns, prior_in
from upstairs.online.reading import PriorReader
from upstairs.prior import Prior

__all__ = ["OnlineMetaLearner"]

AnyOnline = TypeVar("AnyOnline", bound="OnlineMetaLearner")


def _classifies(self: Any) -> bool:
    estimator = self.learner.learner() if hasattr(self.learner, "prior_") else self.learner
    return getattr(estimator, "_kind", None) == "classification"


@final
class OnlineMetaLearner(BaseEstimator):
    """Learn a stream from a prior: notice when the world changes, start again in a few rows, go back to what is known.

    Every row is predicted by all worlds that may hold, each with its probability: the one that held, those in memory, and one
    that the prior alone knows. A change needs no alarm to be followed; it is declared, and listed in ``changes_``, when
    the world that held has a tenth of the probability left. Beside them go learners that forget and follow what drifts within a world;
    they count as much as they have predicted lately.

    Parameters
    ----------
    learner : estimator with a prior, fitted meta-learner, or ForgetfulClassifier or ForgetfulRegressor
        From ``meta.learner()`` of tasks with the same columns, and for classes with labels that all tasks share: its prior stays. Or
        ``meta`` itself, with the rows that it was learned on: the prior then grows by every world that ends (`MetaNeuralNetwork` with
        ``method="bayesian-linear"`` or one that is trained by gradients, `MetaDecisionTree`, `MetaSVM`). It is never changed itself; see
        ``prior_``. Two sorts know no columns (numbers; classes come by and by). With experience (`upstairs.recommended`,
        ``PriorSVC(prior="tabular")``, the learners of `MetaTuner`) every world is fitted with the settings that suit its rows, and a
        meta-learner's table of trials grows. Without a prior, every world is a forgetful mixture of its own, which learns from nothing.
    hazard : float
        Probability a row that the world changes, between 0 and 1: larger is quicker and has more false alarms.
    recall : float
        Probability, where the world changes, that it is one that was met before.
    memory : int
        Worlds that are remembered at most. When there are more, the two that are most alike become one, or the one that held
        longest ago is forgotten.
    rows : int
        Newest rows that are kept of a world that has a prior.
    reservoir : int
        Tasks that a growing prior is learned from at most, the first ones counted. A table of trials that has as many stays as it is.
    chunk : int
        Rows that are weighed before they are learned, at most, and rows from one world that may have begun to the next. Larger is
        faster, and slower to adapt.
    temper : float
        Power of the likelihoods in the contest of worlds, in (0, 1]: smaller is slower and has fewer false alarms.
    forgetting : "auto", sequence of float or None
        How fast learners forget that follow a drift within a world: a row that is k rows old counts ``rate ** k``. For a prior whose rule
        cannot forget in closed form: the newest ``1 / (1 - rate)`` rows count; a prior that is a start for gradient steps makes further
        steps down their loss, from where the learner stands. "auto": .998, .99 and .95 where that is closed form, .99 and .95 where steps
        are made (not of networks for images), the rates of a ForgetfulClassifier or -Regressor, and else none. None: no such learners.
    meta_steps : int
        Steps over the tasks of the reservoir whenever a prior grows that is trained by gradients.
    growth : float
        A prior grows when so many worlds have ended, as a share of the tasks in the reservoir (or table). 0: after every world.
    detectors : sequence of DriftDetector or of their methods
        Drift detectors whose alarm makes a change likely (.05 a row) in the chunk that follows; none are needed.
    random_state : int
        Draws which task leaves a full reservoir, and the tasks of meta-steps.

    Attributes
    ----------
    changes_ : list of dict
        ``at`` (row of the stream), ``kind`` ("new", "recall", or "border" where a user said so), ``world``.
    alarms_ : list of (int, str)
        Rows at which detectors gave an alarm, and which.
    world_ : int
        Number of the world that holds, in the order in which worlds were met.
    probabilities_ : dict
        From the number of each known world to its probability; "new" is everything else.
    drift_ : float
        Weight of what forgets within a world, between 0 and 1.
    prior_ : Prior
        As grown so far.
    rows_seen_ : int
    classes_ : array of shape (way,)
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

    _live: Live

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
        temper: float = 0.75,
        forgetting: Any = "auto",
        meta_steps: int = 300,
        growth: float = 0.1,
        detectors: Any = (),
        random_state: int = 0,
    ) -> None:
        self.learner = learner
        self.hazard = hazard
        self.recall = recall
        self.memory = memory
        self.rows = rows
        self.reservoir = reservoir
        self.chunk = chunk
        self.temper = temper
        self.forgetting = forgetting
        self.meta_steps = meta_steps
        self.growth = growth
        self.detectors = detectors
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
            Labels that may come, for a stream without a prior; with one they are those of the prior.
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
        odds, limits = self._odds(), self._limits()
        live = self._begun(X, y, classes, limits)
        if live is None:
            return self
        x, labels = live.reader.labelled(X, y)
        live = live.with_labels(labels, classes, limits)
        targets = live.reader.codes(labels)
        if world is not None:
            live = live if world == live.contest.held.name else live.at_border(world, limits)
            odds = replace(odds, hazard=0.0)
        self._live = live.learned(x, targets, odds, limits)
        return self

    def learn_one(self: AnyOnline, x: Mapping[str, Any], y: Any) -> AnyOnline:
        """Learn one row, as river does: a dictionary from names of columns to values; without a label nothing is learned."""
        if y is None or y != y:
            return self
        odds, limits, label = self._odds(), self._limits(), np.array([y])
        live = self._begun(row_of(x, tuple(x)), label, None, limits) if not self._knows else self._known()
        assert live is not None, "there is a label"
        row, names = live.reader.row(x, live.names)
        live = replace(live.with_labels(label, None, limits), names=names)
        self._live = live.learned(row, live.reader.codes(label), odds, limits)
        return self

    # --- predicting ---------------------------------------------------------------------------------------------
    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict targets or labels, array of shape (row,); of a regression with ``return_std`` standard deviations as well."""
        live = self._known()
        return self._answer(live.reader.encoded(X), return_std)

    @available_if(_classifies)
    def predict_proba(self, X: Any) -> Float[np.ndarray, "row way"]:
        """Class probabilities, in the order of ``classes_``."""
        live = self._known()
        return self._probability(live.reader.encoded(X))

    def predict_one(self, x: Mapping[str, Any]) -> Any:
        """Predict one row, as river does; None before the first row of a stream without a prior."""
        return self._answer(self._row(x)).tolist()[0] if self._knows else None

    @available_if(_classifies)
    def predict_proba_one(self, x: Mapping[str, Any]) -> dict[Any, float]:
        """Class probabilities of one row, as river does; empty before the first row of a stream without a prior."""
        if not self._knows:
            return {}
        return dict(zip(self.classes_.tolist(), self._probability(self._row(x))[0].tolist(), strict=True))

    # --- what is known ------------------------------------------------------------------------------------------
    @property
    def changes_(self) -> list[dict[str, Any]]:
        """Changes that were declared so far."""
        return [asdict(change) for change in self._fitted().changes]

    @property
    def alarms_(self) -> list[tuple[int, str]]:
        """Alarms of the detectors so far."""
        return list(self._fitted().alarms)

    @property
    def world_(self) -> int:
        """Number of the world that holds."""
        return self._fitted().contest.held.name

    @property
    def probabilities_(self) -> dict[int | str, float]:
        """How probable it is that each known world, or a new one, holds."""
        contest = self._fitted().contest
        found: dict[int | str, float] = {"new": float(contest.weight[len(contest.known) :].sum())}
        for entry, weight in zip(contest.known, contest.weight, strict=False):
            found[entry.name] = float(weight)
        return found

    @property
    def drift_(self) -> float:
        """Weight of what forgets within a world."""
        return float(self._fitted().following.weight[1:].sum())

    @property
    def rows_seen_(self) -> int:
        """Rows that were learned."""
        return self._fitted().contest.rows

    @property
    def prior_(self) -> Prior:
        """The prior, as grown so far."""
        prior = self._prior_read()
        if prior is None:
            raise AttributeError("This OnlineMetaLearner has no prior: its learner starts every world from nothing.")
        return prior

    @property
    def n_features_in_(self) -> int:
        """Columns of a row."""
        return self._known().reader.columns

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the columns, where they have any."""
        names = self._known().reader.names
        if not names:
            raise AttributeError("The columns of this OnlineMetaLearner have no names.")
        return np.array(names, dtype=object)

    @property
    def classes_(self) -> np.ndarray:
        """Labels, sorted."""
        classes = self._known().reader.classes
        if classes is None:
            raise AttributeError("This OnlineMetaLearner is a regression and has no classes_.")
        return classes

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_live")

    # --- inner workings -----------------------------------------------------------------------------------------
    @property
    def _knows(self) -> bool:
        """Whether anything can be predicted."""
        return hasattr(self, "_live") or knows_columns(self.learner)

    def _fitted(self) -> Live:
        if not hasattr(self, "_live"):
            raise NotFittedError(
                "This OnlineMetaLearner has seen no row yet; call partial_fit(X, y) or learn_one(x, y) first."
            )
        return self._live

    def _known(self) -> Live:
        """What is known: of the prior alone, before the first row."""
        if hasattr(self, "_live") or not knows_columns(self.learner):
            return self._fitted()
        if not hasattr(self, "_begin"):
            self._odds()
            self._begin = begin_prior(self.learner, self._limits())
        return self._begin

    def _begun(self, X: Any, y: Any, classes: Any, limits: Limits) -> Live | None:
        if hasattr(self, "_live") or knows_columns(self.learner):
            return self._known()
        return begin_open(self.learner, X, y, classes, limits)

    def _odds(self) -> Odds:
        if not 0.0 <= self.hazard < 1.0:
            raise ValueError(f"hazard must be a probability below 1, but is {self.hazard!r}; 0.0005 is usual.")
        if not 0.0 <= self.recall <= 1.0:
            raise ValueError(f"recall must be a probability, but is {self.recall!r}; 0.5 is usual.")
        if not 0.0 < self.temper <= 1.0:
            raise ValueError(f"temper must be above 0 and at most 1, but is {self.temper!r}; 0.75 is usual.")
        for name in ("memory", "rows", "reservoir", "chunk", "meta_steps"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, but is {value!r}.")
        if not 0.0 <= self.growth < np.inf:
            raise ValueError(f"growth must be a share of at least 0, but is {self.growth!r}; 0.1 is usual.")
        return Odds(self.hazard, self.recall, self.temper, self.chunk)

    def _limits(self) -> Limits:
        rates = self.forgetting
        if rates is not None and not (isinstance(rates, str) and rates == "auto"):
            listed = np.ravel(np.asarray(rates, dtype=object)).tolist()
            if not listed or any(not isinstance(rate, int | float) or not 0.0 < rate <= 1.0 for rate in listed):
                raise ValueError(
                    f"forgetting must be 'auto', None or rates above 0 and at most 1, such as (0.99, 0.95), but is {rates!r}."
                )
            rates = tuple(map(float, listed))
        detectors = (self.detectors,) if isinstance(self.detectors, str | DriftDetector) else self.detectors
        if not isinstance(detectors, list | tuple) or any(not isinstance(d, str | DriftDetector) for d in detectors):
            raise ValueError(
                f"detectors must be names such as ('adwin',) or DriftDetector objects, but is {detectors!r}."
            )
        return Limits(
            self.memory,
            self.rows,
            self.reservoir,
            rates,
            self.meta_steps,
            self.growth,
            self.random_state,
            tuple(DriftDetector(entry) if isinstance(entry, str) else entry for entry in detectors),
        )

    def _answer(self, x: Float[np.ndarray, "row feature"], return_std: bool = False) -> Any:
        live = self._known()
        if live.reader.classes is not None:
            return live.reader.classes[self._probability(x).argmax(axis=1)]
        said = live.predicted(x)
        assert isinstance(said, Gaussian)
        mean, std = live.reader.moments(said)
        return (mean, std) if return_std else mean

    def _probability(self, x: Float[np.ndarray, "row feature"]) -> Float[np.ndarray, "row way"]:
        said = self._known().predicted(x)
        assert isinstance(said, Categorical)
        return said.probability[0]

    def _row(self, x: Mapping[str, Any]) -> Float[np.ndarray, "one feature"]:
        """Read a row of river: by the names of the prior, or where it has none by those of the first row."""
        live = self._known()
        return live.reader.row(x, live.names)[0]

    # --- storage ------------------------------------------------------------------------------------------------
    def _prior_read(self) -> Prior | None:
        if not knows_columns(self.learner) and not hasattr(self, "_live"):
            return prior_in(self.learner)
        reader = self._known().reader
        return prior_in(reader.template) if isinstance(reader, PriorReader | SettingsReader) else None

    def _stored(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything, in mid-stream, as JSON values and arrays, for `upstairs.save`."""
        document, arrays = stored_live(self._fitted())
        return document | {"learner": described(self.learner)}, arrays

    def _restore(self, document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Undo `_stored`."""
        self.learner = unfitted(document["learner"], self.__dict__.pop("prior", None))
        self._live = restored_live(self.learner, document, arrays, self._limits())
        if isinstance(self._live.growth, Growth):
            self.learner.seen_ = self._live.growth.seen
