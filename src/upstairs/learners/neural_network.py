"""MetaNeuralNetwork: learn features and a last layer over tasks; on one task only the last layer is learned."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import ndtri
from sklearn.base import ClassifierMixin, RegressorMixin

from upstairs.errors import NotMetaFittedError, PriorMismatchError, TaskError
from upstairs.inner.gaussian import BayesianLinear
from upstairs.inner.rule import Categorical, Gaussian
from upstairs.learners.adaptation import Situation
from upstairs.learners.base import PriorEstimator
from upstairs.learners.learn import Plan, learn, learn_on
from upstairs.learners.learn_gradients import learn_by_gradients, learn_on_by_gradients
from upstairs.learners.meta import MetaLearner
from upstairs.learners.networks import asked_net
from upstairs.learners.rules import CLOSED, METHODS, check_options, plain_rule, rule_from
from upstairs.outer.calibrate import interpolate
from upstairs.outer.training import Training
from upstairs.prior import Prior
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.taskset import TaskSet

__all__ = ["MetaNeuralNetwork", "PriorNeuralNetworkClassifier", "PriorNeuralNetworkRegressor"]

_read: weakref.WeakKeyDictionary[Prior, tuple[Any, Situation]] = weakref.WeakKeyDictionary()


def _situation(prior: Prior, net: Any) -> Situation:
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


@final
class PriorNeuralNetworkRegressor(RegressorMixin, PriorEstimator):
    """Bayesian linear regression on learned features: the prior over its weights comes from other tasks.

    Learned over tasks: mean and covariance of the weights, the noise, and (where it helps) a pooled model whose
    prediction the task starts from. On one task: the posterior of the weights, in closed form.

    Parameters
    ----------
    prior : Prior, optional
        From ``MetaNeuralNetwork(...).meta_fit(tasks).prior_``. None is the plain base learner: ridge regression with
        its strength chosen by maximum evidence.
    prior_weight : float, optional
        How many times the prior counts (above 1: trust it more). None: as learned, 1.
    noise : float, optional
        Standard deviation of the noise, in units of ``y``. None: as learned (without a prior: by maximum evidence).
    net : Equinox module, optional
        Your own network, if the prior was learned with one; it is a template whose arrays the prior fills.
    guard : bool
        Whether to fall back to the plain base learner when the support rows clearly speak against the prior.

    Examples
    --------
    >>> X, y = np.arange(6.0)[:, None], np.arange(6.0)
    >>> model = PriorNeuralNetworkRegressor().fit(X, y)
    >>> bool(abs(model.predict([[3.0]])[0] - 3.0) < 0.1)
    True

    References
    ----------
    Harrison, J., Sharma, A. and Pavone, M. (2018). Meta-learning priors for efficient online Bayesian regression.
    """

    _family = "neural-network"
    _kind = "regression"

    def __init__(
        self,
        prior: Prior | None = None,
        *,
        prior_weight: float | None = None,
        noise: float | None = None,
        net: Any = None,
        guard: bool = False,
    ) -> None:
        self.prior = prior
        self.prior_weight = prior_weight
        self.noise = noise
        self.net = net
        self.guard = guard

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

    def _settings(self, scale: float) -> dict[str, float]:
        _check_positive("prior_weight", self.prior_weight)
        _check_positive("noise", self.noise)
        given = {"prior_weight": self.prior_weight, "noise": None if self.noise is None else self.noise / scale}
        return {name: float(value) for name, value in given.items() if value is not None}

    def _situation_of_prior(self) -> Situation:
        assert self.prior is not None
        situation = _situation(self.prior, self.net)
        return dataclasses.replace(situation, settings=self._settings(situation.scale))

    def _situation_without_prior(self) -> Situation:
        return Situation(BayesianLinear(), BayesianLinear(), None, None, 0, settings=self._settings(1.0))

    def _targets(self, y: np.ndarray, situation: Situation) -> np.ndarray:
        return (y - situation.center) / situation.scale

    def _more_targets(self, y: np.ndarray) -> np.ndarray:
        return (y - self._situation_.center) / self._situation_.scale


@final
class PriorNeuralNetworkClassifier(ClassifierMixin, PriorEstimator):
    """A classifier whose weights (or class means) have a prior that comes from other tasks.

    Learned over tasks: for labels that tasks share, mean and covariance of the weights of a logistic (softmax)
    regression and a pooled model that the task starts from; for labels of a task's own, the metric in which class
    means are compared. On one task: Laplace's approximation around the prior, or the class means.

    Parameters
    ----------
    prior : Prior, optional
        From ``MetaNeuralNetwork(...).meta_fit(tasks).prior_``. None is the plain base learner.
    method : str, optional
        None: the prior's, and without a prior ``"bayesian-linear"`` (logistic regression); the other without a prior
        is ``"prototype"``.
    prior_weight : float, optional
        How many times the prior counts. None: as learned, 1.
    net : Equinox module, optional
        Your own network, if the prior was learned with one; it is a template whose arrays the prior fills.
    guard : bool
        Whether to fall back to the plain base learner when the support rows clearly speak against the prior.

    Examples
    --------
    >>> X, y = np.array([[0.0], [0.2], [1.0], [1.2]]), np.array(["a", "a", "b", "b"])
    >>> PriorNeuralNetworkClassifier().fit(X, y).predict([[1.1]]).tolist()
    ['b']

    References
    ----------
    Snell, J., Swersky, K. and Zemel, R. (2017). Prototypical networks for few-shot learning.
    Rasmussen, C. E. and Williams, C. K. I. (2006). Gaussian processes for machine learning, chapter 3.
    """

    _family = "neural-network"
    _kind = "classification"

    def __init__(
        self,
        prior: Prior | None = None,
        *,
        method: str | None = None,
        prior_weight: float | None = None,
        net: Any = None,
        guard: bool = False,
    ) -> None:
        self.prior = prior
        self.method = method
        self.prior_weight = prior_weight
        self.net = net
        self.guard = guard

    def predict_proba(self, X: Any) -> Float[np.ndarray, "row way"]:
        """Class probabilities, in the order of ``classes_``."""
        predicted = self._predict_rows(X)
        assert isinstance(predicted, Categorical)
        return predicted.probability[0]

    def predict(self, X: Any) -> Shaped[np.ndarray, " row"]:
        """Return the most probable label of every row."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def _method(self) -> str:
        if self.method is not None and self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)} or None, but is {self.method!r}.")
        if self.prior is None:
            if self.method not in (None, *CLOSED):
                raise ValueError(f"method={self.method!r} needs a prior; without one use {' or '.join(CLOSED)}.")
            return self.method or "bayesian-linear"
        learned = str(self.prior.settings["rule"])
        if self.method not in (None, learned):
            raise PriorMismatchError(
                f"method={self.method!r} asks for another rule than the prior was learned for ({learned!r}); "
                "leave it at None, or learn a prior with that method."
            )
        return learned

    def _settings(self) -> dict[str, float]:
        _check_positive("prior_weight", self.prior_weight)
        return {} if self.prior_weight is None else {"prior_weight": float(self.prior_weight)}

    def _situation_of_prior(self) -> Situation:
        assert self.prior is not None
        self._method()
        return dataclasses.replace(_situation(self.prior, self.net), settings=self._settings())

    def _situation_without_prior(self) -> Situation:
        rule = plain_rule(self._method(), "classification")
        return Situation(rule, rule, None, None, 0, settings=self._settings())

    def _targets(self, y: np.ndarray, situation: Situation) -> np.ndarray:
        if self.prior is not None and self.prior.settings["labels"] == "shared":
            self.classes_ = np.asarray(self.prior.settings["classes"])
            return self._more_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            where = "labels of a task's own" if self.prior is not None else "a classifier without a prior"
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


@final
class MetaNeuralNetwork(MetaLearner):
    """Learn over many tasks what a network or its last layer should start from.

    Learned over tasks: a prior for the weights of a linear last layer (on columns, on a pooled prediction, on features
    of a network), a metric, or the weights that gradient steps start from. On one task: the last layer in closed
    form, class means, or a few gradient steps; milliseconds in each case.

    Parameters
    ----------
    method : str
        How a task is learned. "auto": "prototype" for labels of a task's own, else "bayesian-linear"; by gradients:
        "maml", "reptile", "fomaml", "anil", "boil", "meta-sgd", "maml++", "imaml", "proto-maml", "ridge", "svm",
        "in-context" (see the modules of `upstairs.inner`).
    net : {"auto", None, "mlp", "conv4"}, dict, NetSpec or Equinox module
        The network. "auto": for ``"bayesian-linear"`` features of a small one are tried beside the columns themselves
        (regressions with at least 20 tasks and 1,000 rows) and used as far as unseen tasks say; none for
        ``"prototype"``; what suits the tasks for other methods. A dictionary sets ``name``, ``sizes`` and
        ``activation``. Your own Equinox module is called on one example; it is not stored with the prior.
    options : mapping, optional
        Of the method; ``"maml"``: ``steps``, ``descent`` (`upstairs.inner.descent`), ``first_order``; ``"reptile"``:
        ``steps``, ``descent``.
    training : Training, optional
        Steps, rates, progress bar and checkpoints of what is trained by gradients.
    prior_mean : {"auto", "linear", "ridge", "boosting"}
        What a task starts from: the mean weights over tasks ("linear"), or a pooled model of all training rows
        whose prediction is a further feature. "auto": chosen on validation tasks; ``prior_.settings["choice"]`` says
        which and why.
    shots : int or (int, int), optional
        Support rows that the prior is chosen for (rows a class for labels of a task's own). None: 1 to 50, by
        gradients 1 to 20 (1 to 5 a class).
    ways : int, optional
        Classes of a task drawn from a class pool. None: up to 5.
    categorical : sequence of column names or positions
        Number columns that are identifiers.
    guard : bool
        Passed on to the estimators.
    random_state : int
        Draws folds, episodes, first weights and the tasks of every step.

    Examples
    --------
    >>> import upstairs as up
    >>> family = up.tasks.synthetic.SharedSubspace()
    >>> train = family.sample(40, 20, random_state=0)
    >>> meta = MetaNeuralNetwork(prior_mean="linear").meta_fit(train)
    >>> task = family.sample(1, 30, random_state=1)[0]
    >>> model = meta.adapt(task.X[:5], task.y[:5])
    >>> plain = meta.plain_learner("regression").fit(task.X[:5], task.y[:5])
    >>> model.score(task.X[5:], task.y[5:]) > plain.score(task.X[5:], task.y[5:])
    True
    """

    _family = "neural-network"

    def __init__(
        self,
        method: str = "auto",
        *,
        net: Any = "auto",
        options: Mapping[str, Any] | None = None,
        training: Any = None,
        prior_mean: Literal["auto", "linear", "ridge", "boosting"] = "auto",
        shots: int | tuple[int, int] | None = None,
        ways: int | None = None,
        categorical: Sequence[str | int] = (),
        guard: bool = False,
        random_state: int = 0,
    ) -> None:
        self.method = method
        self.net = net
        self.options = options
        self.training = training
        self.prior_mean = prior_mean
        self.shots = shots
        self.ways = ways
        self.categorical = categorical
        self.guard = guard
        self.random_state = random_state

    def _learn(self, tasks: TaskSet | ClassPool, validation: TaskSet | ClassPool | None) -> Prior:
        plan = self._plan(self._method_for(tasks))
        net = None if isinstance(plan.net, str) and plan.net == "auto" else plan.net
        prior, self.seen_ = (learn_by_gradients if _by_gradients(plan.method, net) else learn)(tasks, validation, plan)
        return prior

    def _learn_on(self, tasks: TaskSet | ClassPool) -> Prior:
        seen = getattr(self, "seen_", None)
        if seen is None:
            raise NotMetaFittedError(
                "meta_partial_fit needs the rows of the earlier tasks, which this prior was saved without; save with "
                "upstairs.save(meta, path, resume=True), or meta_fit on all tasks."
            )
        learned = self.prior_.settings
        plan = self._plan(learned["rule"])
        if _by_gradients(learned["rule"], learned.get("net")):
            prior, self.seen_ = learn_on_by_gradients(self.prior_, seen, tasks, plan)
        else:
            prior, self.seen_ = learn_on(self.prior_, seen, tasks, self.net)
        return prior

    def _new_learner(self, prior: Prior | None, settings: dict[str, Any]) -> PriorEstimator:
        settings = {"guard": self.guard} | settings
        kind = settings.pop("kind", None) or (prior.settings["kind"] if prior is not None else None)
        if prior is not None and prior.settings.get("net", {}).get("name") == "own":
            settings = {"net": self.net} | settings
        if kind == "regression":
            return PriorNeuralNetworkRegressor(prior, **settings)
        return PriorNeuralNetworkClassifier(prior, **settings)

    def _plan(self, method: str) -> Plan:
        asked_net(self.net)
        options = {} if self.options is None else dict(self.options)
        check_options(method, options)
        if self.training is not None and not isinstance(self.training, Training):
            raise ValueError(f"training must be an upstairs.Training or None, but is {self.training!r}.")
        return Plan(
            method,
            options,
            self.net,
            self.training,
            self.prior_mean,
            _shot_range(self.shots),
            self.ways,
            tuple(self.categorical),
            int(self.random_state or 0),
        )

    def _method_for(self, tasks: TaskSet | ClassPool) -> str:
        if self.method not in ("auto", *METHODS):
            raise ValueError(f"method must be 'auto', {', '.join(map(repr, METHODS))}, but is {self.method!r}.")
        if self.prior_mean not in ("auto", "linear", "ridge", "boosting"):
            raise ValueError(f"prior_mean must be 'auto', 'linear', 'ridge' or 'boosting', but is {self.prior_mean!r}.")
        own = isinstance(tasks, ClassPool) or tasks.labels == "own"
        if own and self.method == "bayesian-linear":
            raise TaskError(
                "method='bayesian-linear' needs labels that all tasks share, but these tasks have labels of their own; use "
                "method='prototype' or 'auto'."
            )
        if not own and self.method == "prototype":
            assert isinstance(tasks, TaskSet)
            what = "are a regression" if tasks.kind == "regression" else "share their labels"
            raise TaskError(
                f"method='prototype' needs tasks with labels of their own, but these tasks {what}; use method='bayesian-linear' or 'auto'."
            )
        if self.method == "auto":
            return "prototype" if own else "bayesian-linear"
        return self.method


def _by_gradients(method: str, net: Any) -> bool:
    """Whether all that is learned is trained by gradients (network features of a linear layer are a part only)."""
    return method not in CLOSED or (method == "prototype" and net is not None)


def _shot_range(shots: Any) -> tuple[int, int] | None:
    if shots is None:
        return None
    low, high = (shots, shots) if isinstance(shots, int | np.integer) else tuple(shots)
    if not 1 <= low <= high:
        raise ValueError(f"shots must be a number of at least 1 or a (low, high) range, but is {shots!r}.")
    return int(low), int(high)


def _check_positive(name: str, value: float | None) -> None:
    if value is not None and not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive number or None (from the prior), but is {value!r}.")
