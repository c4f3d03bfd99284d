"""MetaGradientDescent: learn over tasks how to go downhill; on one task, a few steps of what was learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, final

from upstairs.errors import PriorMismatchError, TaskError
from upstairs.learners.base import PriorEstimator
from upstairs.learners.descents import descent_for, gradient_for
from upstairs.learners.learn import Plan, shot_range
from upstairs.learners.learn_descent import DescentPlan, learn_on_losses
from upstairs.learners.learn_gradients import learn_by_gradients, learn_on_by_gradients
from upstairs.learners.meta import MetaLearner
from upstairs.learners.networks import asked_net
from upstairs.learners.prior_descent import PriorGradientDescentClassifier, PriorGradientDescentRegressor
from upstairs.learners.rules import DESCENT
from upstairs.outer.training import Training
from upstairs.prior import Prior
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.taskset import TaskSet

if TYPE_CHECKING:
    import optax

    from upstairs.inner.descent import Descent
    from upstairs.outer.problems import Problems

__all__ = ["MetaGradientDescent"]

AnyMeta = TypeVar("AnyMeta", bound="MetaGradientDescent")

RATE = 1e-2
"""Outer rate for tasks of rows: logs of step sizes and preconditioners have farther to go than weights."""


@final
class MetaGradientDescent(MetaLearner):
    """Learn over many problems how to descend; a new one is then trained in a few steps without tuning.

    Learned over problems: step sizes and momentum (for all weights, an array or a weight; the same or others in every
    step), Adam's four numbers, a preconditioner, or a small network that makes the steps; if asked for, the start too.
    On one problem: weights, by ``steps`` steps down its loss. Problems are losses (`upstairs.optim.Problems`, or a list of
    functions), or tasks made of rows, for which a linear model or a network is trained.

    Parameters
    ----------
    rule : {"auto", "sgd", "adam", "kronecker", "network", "lstm"} or Descent
        What is learned about a step. "auto": "network" for losses; for rows "kronecker" with momentum (without, where ``pairs`` are asked
        for) and a schedule.
    steps : int
        Steps down one problem.
    options : mapping, optional
        Of the rule, such as ``{"per": "array", "schedule": True}``; see `upstairs.inner.learned_rates`,
        `upstairs.inner.preconditioner` and `upstairs.inner.update_network`.
    model : {"linear", "mlp", "conv4", "resnet12"}, dict, NetSpec, or module of Equinox or Flax NNX
        What is trained on tasks of rows, as ``net`` of `MetaNeuralNetwork`; "linear" is linear, logistic or softmax
        regression.
    learn_start : {"auto", True, False}
        Whether the weights that runs start from are learned too. "auto": for tasks of rows. Otherwise a linear model
        starts at zero, and a network at weights that are drawn once.
    goal : {"auto", "query", "support"}
        What is to be small after the steps down a task of rows: the loss of rows that were not seen ("auto"), or that of
        the rows themselves.
    objective : Objective, optional
        What a run counts for, for losses and for the goal "support". None: for losses the mean after the start, as a
        share of the loss there; for rows the last.
    gradient : {"auto", "reverse", "forward", "truncated", "es", "nres", "pes", "implicit"}
        How the gradient over a run comes about. "auto": reverse mode for tasks of rows; for losses forward mode for a
        handful of numbers and long runs, reverse mode up to a few hundred steps, evolution strategies beyond.
        "implicit": that of the solution, by ``penalty`` and start alone, where the steps solve the problem and the rule
        is given. ``prior_.settings["choice"]`` says which was taken for losses.
    shortest : int, optional
        In training, judge each run at a step drawn from here to ``steps``. None: at ``steps``. (Losses.)
    first_order : bool
        Leave the derivatives of gradients out.
    rescale : float
        In training, stretch weights and losses by up to so much, so that the rule does not rest on a scale. (Losses.)
    penalty : float, optional
        Where penalties on the squared distance from the start begin, one an array of weights, which are learned with the
        rest. None: there are none. (Losses with a ``judge``.)
    training : Training, optional
        Steps, rates, progress bar and checkpoints of the training over problems.
    shots, ways, categorical, guard
        For tasks of rows, as for `MetaNeuralNetwork`.
    random_state : int
        Draws problems, first weights and noise.

    Examples
    --------
    Learn a step size for bowls, each with its own lowest point and depth.

    >>> import jax.numpy as jnp, upstairs as up
    >>> def bowl(depth):
    ...     return lambda w: depth * (w["x"] ** 2).sum()
    >>> bowls = [bowl(jnp.asarray(depth)) for depth in (1.0, 1.5, 2.0, 2.5, 3.0)]
    >>> meta = MetaGradientDescent("sgd", steps=5, options={"momentum": None}, training=up.Training(steps=50, rate=0.1))
    >>> meta = meta.meta_fit(bowls, start={"x": jnp.ones(2)})
    >>> weights, losses = meta.descend(bowl(jnp.asarray(2.2)), {"x": jnp.ones(2)})
    >>> bool(losses[-1] < 0.02 * losses[0])
    True
    """

    _family = "gradient-descent"

    def __init__(
        self,
        rule: Any = "auto",
        *,
        steps: int = 20,
        options: Mapping[str, Any] | None = None,
        model: Any = "linear",
        learn_start: Any = "auto",
        goal: str = "auto",
        objective: Any = None,
        gradient: str = "auto",
        shortest: int | None = None,
        first_order: bool = False,
        rescale: float = 1.0,
        penalty: float | None = None,
        training: Any = None,
        shots: int | tuple[int, int] | None = None,
        ways: int | None = None,
        categorical: Sequence[str | int] = (),
        guard: bool = False,
        random_state: int = 0,
    ) -> None:
        self.rule = rule
        self.steps = steps
        self.options = options
        self.model = model
        self.learn_start = learn_start
        self.goal = goal
        self.objective = objective
        self.gradient = gradient
        self.shortest = shortest
        self.first_order = first_order
        self.rescale = rescale
        self.penalty = penalty
        self.training = training
        self.shots = shots
        self.ways = ways
        self.categorical = categorical
        self.guard = guard
        self.random_state = random_state

    def meta_fit(self: AnyMeta, tasks: Any, *, validation: Any = None, start: Any = None) -> AnyMeta:
        """Learn how to descend.

        Parameters
        ----------
        tasks : Problems, sequence of Problems, sequence of callable, TaskSet, or sequence of Task
            Losses, or tasks made of rows. A sequence of functions of the weights must be of one form: the same
            computation with other arrays. Several families of problems, of weights of any shapes, take turns.
        validation : the same, optional
            On which the best step of the training is chosen.
        start : pytree of arrays
            Where the weights of functions start; not for `Problems`, which have their own.

        Returns
        -------
        self
            With ``prior_``.

        Raises
        ------
        TaskError
            For losses of several forms, too few of them, or a start that is missing.
        """
        families = _losses(tasks, start, "tasks")
        if families is None:
            if start is not None:
                raise TaskError("start is for a list of functions, but tasks are no functions; leave start= out.")
            return super().meta_fit(tasks, validation=validation)
        judges = None if validation is None else _losses(validation, start, "validation")
        if validation is not None and judges is None:
            raise TaskError(
                f"tasks are losses, but validation is a {type(validation).__name__}; pass Problems or a list of functions."
            )
        self.prior_ = learn_on_losses(families, judges, self._loss_plan())
        self.__dict__.pop("seen_", None)  # rows of an earlier call
        return self

    def descend(self, loss: Callable[..., Any], start: Any, *, steps: int | None = None) -> tuple[Any, Any]:
        """Train weights down one loss with what was learned.

        Parameters
        ----------
        loss : callable
            Of the weights.
        start : pytree of arrays
        steps : int, optional
            None: as many as it was learned for.

        Returns
        -------
        weights : pytree as ``start``
        losses : array of shape (steps + 1,)
            At the start and after every step.
        """
        from upstairs.optim.learned import run

        rule, settings = self.transformation(), self.prior_.settings
        usual = settings["steps"] if settings["kind"] == "loss" else settings["options"]["steps"]
        return run(rule, loss, start, usual if steps is None else steps)

    def transformation(self) -> optax.GradientTransformation:
        """Return what was learned as an Optax gradient transformation."""
        from upstairs.optim.learned import from_prior

        return from_prior(self._prior())

    def _loss_plan(self) -> DescentPlan:
        from upstairs.inner.trajectory import Objective

        self._check()
        if self.goal != "auto" or self.model != "linear":
            raise ValueError("goal and model are for tasks of rows; leave them as they are for losses.")
        return DescentPlan(
            self._descent("network", {}),
            self.steps,
            self.shortest,
            self.objective or Objective(),
            self.learn_start is True,
            self.first_order,
            float(self.rescale),
            self.penalty,
            self.gradient,
            self.training,
            int(self.random_state or 0),
        )

    def _rows_plan(self) -> Plan:
        self._check()
        if self.shortest is not None or self.rescale != 1.0 or self.penalty is not None:
            raise ValueError("shortest, rescale and penalty are for losses; leave them as they are for tasks of rows.")
        usual = {"schedule": True} if (self.options or {}).get("pairs") else {"schedule": True, "momentum": 0.5}
        descent = self._descent("kronecker", usual)
        asked_net(None if self.model == "linear" else self.model)
        options: dict[str, Any] = {
            "steps": self.steps,
            "descent": descent,
            "learn_start": self.learn_start is not False,
            "goal": "query" if self.goal == "auto" else self.goal,
            "first_order": self.first_order,
        }
        if self.objective is not None:
            options["objective"] = self.objective
        from upstairs.outer.windows import Windows

        gradient, _ = gradient_for(
            "reverse" if self.gradient == "auto" else self.gradient, 0, self.steps, windows=False
        )
        assert not isinstance(gradient, Windows)
        return Plan(
            DESCENT,
            options,
            {"name": "mlp", "sizes": ()} if isinstance(self.model, str) and self.model == "linear" else self.model,
            (self.training or Training()).filled(rate=RATE),
            "auto",
            shot_range(self.shots),
            self.ways,
            tuple(self.categorical),
            int(self.random_state or 0),
            gradient,
        )

    def _descent(self, usual: str, options: dict[str, Any]) -> Descent:
        automatic = isinstance(self.rule, str) and self.rule == "auto"
        given = dict(self.options or {})
        return descent_for(usual if automatic else self.rule, options | given if automatic else given, self.steps)

    def _check(self) -> None:
        from upstairs.inner.trajectory import Objective

        if not (isinstance(self.steps, int) and self.steps >= 1):
            raise ValueError(f"steps must be a whole number of at least 1, but is {self.steps!r}.")
        if self.training is not None and not isinstance(self.training, Training):
            raise ValueError(f"training must be an upstairs.Training or None, but is {self.training!r}.")
        if self.objective is not None and not isinstance(self.objective, Objective):
            raise ValueError(f"objective must be an upstairs.optim.Objective or None, but is {self.objective!r}.")
        if self.learn_start not in (True, False, "auto"):
            raise ValueError(f"learn_start must be True, False or 'auto', but is {self.learn_start!r}.")
        if self.goal not in ("auto", "query", "support"):
            raise ValueError(f"goal must be 'auto', 'query' or 'support', but is {self.goal!r}.")

    def _learn(self, tasks: TaskSet | ClassPool, validation: TaskSet | ClassPool | None) -> Prior:
        prior, self.seen_ = learn_by_gradients(tasks, validation, self._rows_plan())
        return prior

    def _learn_on(self, tasks: TaskSet | ClassPool) -> Prior:
        if self.prior_.settings["kind"] == "loss":
            raise PriorMismatchError(
                "meta_partial_fit goes on from tasks of rows, but this prior was learned on losses; meta_fit on all losses again."
            )
        prior, self.seen_ = learn_on_by_gradients(self.prior_, self._kept(), tasks, self._rows_plan())
        return prior

    def _new_learner(self, prior: Prior | None, settings: dict[str, Any]) -> PriorEstimator:
        if prior is not None and prior.settings["kind"] == "loss":
            raise PriorMismatchError(
                "This prior was learned on losses, not on tasks of rows, so that there is no estimator; use descend(loss, start), "
                "or transformation() in your own training code."
            )
        settings = {"guard": self.guard} | settings
        kind = settings.pop("kind", None) or (prior.settings["kind"] if prior is not None else None)
        if prior is not None and prior.settings.get("net", {}).get("name") == "own":
            settings = {"net": self.model} | settings
        if kind == "regression":
            return PriorGradientDescentRegressor(prior, **settings)
        return PriorGradientDescentClassifier(prior, **settings)


def _losses(tasks: Any, start: Any, argument: str) -> list[Problems] | None:
    """Read what may be losses, as families; None if these are tasks of rows."""
    if type(tasks).__name__ == "Problems":
        tasks = [tasks]
    listed = isinstance(tasks, Sequence) and len(tasks) > 0
    if listed and all(type(entry).__name__ == "Problems" for entry in tasks):
        if start is not None:
            raise TaskError(f"{argument}: Problems have their own start; leave start= out.")
        return list(tasks)
    if not listed or not all(callable(entry) for entry in tasks):
        return None
    from upstairs.outer.problems import Problems

    if start is None:
        raise TaskError(
            f"{argument}: a list of functions needs start=, the weights (a pytree of arrays) that runs begin at."
        )
    families = Problems.from_functions(tasks, start)
    if len(families) > 1:
        raise TaskError(
            f"{argument}: the {len(tasks)} functions are of {len(families)} different forms, such as those with another Python number "
            "inside; pass what differs as arrays that the functions hold, or pass one function as Problems(loss, data, start=...), "
            "or a list of such families."
        )
    return families
