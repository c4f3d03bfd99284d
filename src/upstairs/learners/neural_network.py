"""MetaNeuralNetwork: learn features and a last layer over tasks; on one task only the last layer is learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

from upstairs.errors import TaskError
from upstairs.learners.base import PriorEstimator
from upstairs.learners.learn import Plan, learn, learn_on, shot_range
from upstairs.learners.learn_gradients import learn_by_gradients, learn_on_by_gradients
from upstairs.learners.meta import MetaLearner
from upstairs.learners.networks import asked_net
from upstairs.learners.prior_network import PriorNeuralNetworkClassifier, PriorNeuralNetworkRegressor
from upstairs.learners.rules import CLOSED, METHODS, check_options
from upstairs.outer.training import Training
from upstairs.prior import Prior
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.taskset import TaskSet

__all__ = ["MetaNeuralNetwork"]


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
    net : {"auto", None, "mlp", "conv4", "resnet12"}, dict, NetSpec, or module of Equinox or Flax NNX
        The network. "auto": for ``"bayesian-linear"`` features of a small one are tried beside the columns themselves
        (regressions with at least 20 tasks and 1,000 rows) and used as far as unseen tasks say; none for
        ``"prototype"``; what suits the tasks for other methods. A dictionary sets ``name``, ``sizes``, ``activation``
        and ``normalised`` (of an MLP) and ``statistics`` ("batch": images see each other, see `upstairs.nets.NetSpec`). Your
        own module is called on one example; it is not stored with the prior.
    options : mapping, optional
        Of the method, such as ``{"steps": 1}`` for ``"maml"``: the fields of its class, listed on its page in
        ``docs/methods`` and by the error for a name that there is not.
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
        seen = self._kept()
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
            shot_range(self.shots),
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
