"""MetaGradientDescent: learn over tasks how to go downhill; on one task, a few steps of what was learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, final

from upstairs.errors import PriorMismatchError, TaskError
from upstairs.learners.base import PriorEstimator
from upstairs.learners.descents import descent_for
from upstairs.learners.learn_descent import DescentPlan, learn_on_losses
from upstairs.learners.meta import MetaLearner
from upstairs.outer.training import Training
from upstairs.prior import Prior
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.taskset import TaskSet

if TYPE_CHECKING:
    import optax

    from upstairs.outer.problems import Problems

__all__ = ["MetaGradientDescent"]

AnyMeta = TypeVar("AnyMeta", bound="MetaGradientDescent")


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
        What is learned about a step. "auto": "network" for losses; for rows "kronecker" with a schedule.
    steps : int
        Steps down one problem.
    options : mapping, optional
        Of the rule, such as ``{"per": "array", "schedule": True}``; see `upstairs.inner.learned_rates`,
        `upstairs.inner.preconditioner` and `upstairs.inner.update_network`.
    learn_start : bool
        Whether the weights that runs start from are learned too.
    gradient : {"auto", "reverse", "forward", "truncated", "es", "nres", "pes"}
        How the gradient over a run comes about. "auto": forward mode for a handful of numbers and long runs, reverse
        mode up to a few hundred steps, evolution strategies beyond. ``prior_.settings["choice"]`` says which.
    objective : Objective, optional
        What a run counts for. None: its mean loss after the start, as a share of the loss there.
    shortest : int, optional
        In training, judge each run at a step drawn from here to ``steps``. None: at ``steps``. (Losses.)
    first_order : bool
        Leave the derivatives of gradients out.
    rescale : float
        In training, stretch weights and losses by up to so much, so that the rule does not rest on a scale. (Losses.)
    training : Training, optional
        Steps, rates, progress bar and checkpoints of the training over problems.
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
        learn_start: bool = False,
        gradient: str = "auto",
        objective: Any = None,
        shortest: int | None = None,
        first_order: bool = False,
        rescale: float = 1.0,
        training: Any = None,
        random_state: int = 0,
    ) -> None:
        self.rule = rule
        self.steps = steps
        self.options = options
        self.learn_start = learn_start
        self.gradient = gradient
        self.objective = objective
        self.shortest = shortest
        self.first_order = first_order
        self.rescale = rescale
        self.training = training
        self.random_state = random_state

    def meta_fit(self: AnyMeta, tasks: Any, *, validation: Any = None, start: Any = None) -> AnyMeta:
        """Learn how to descend.

        Parameters
        ----------
        tasks : Problems, sequence of callable, TaskSet, or sequence of Task
            Losses, or tasks made of rows. A sequence of functions of the weights must be of one form: the same
            computation with other arrays.
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
            return super().meta_fit(tasks, validation=validation)
        judges = None if validation is None else _losses(validation, start, "validation")
        self.prior_ = learn_on_losses(families, judges, self._plan())
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

        return run(self.transformation(), loss, start, self.prior_.settings["steps"] if steps is None else steps)

    def transformation(self) -> optax.GradientTransformation:
        """Return what was learned as an Optax gradient transformation."""
        from upstairs.optim.learned import from_prior

        return from_prior(self._prior())

    def _plan(self) -> DescentPlan:
        from upstairs.inner.trajectory import Objective

        if not (isinstance(self.steps, int) and self.steps >= 1):
            raise ValueError(f"steps must be a whole number of at least 1, but is {self.steps!r}.")
        if self.training is not None and not isinstance(self.training, Training):
            raise ValueError(f"training must be an upstairs.Training or None, but is {self.training!r}.")
        if self.objective is not None and not isinstance(self.objective, Objective):
            raise ValueError(f"objective must be an upstairs.optim.Objective or None, but is {self.objective!r}.")
        rule = "network" if isinstance(self.rule, str) and self.rule == "auto" else self.rule
        return DescentPlan(
            descent_for(rule, dict(self.options or {}), self.steps),
            self.steps,
            self.shortest,
            self.objective or Objective(),
            self.learn_start,
            self.first_order,
            float(self.rescale),
            self.gradient,
            self.training,
            int(self.random_state or 0),
        )

    def _learn(self, tasks: TaskSet | ClassPool, validation: TaskSet | ClassPool | None) -> Prior:
        raise NotImplementedError

    def _learn_on(self, tasks: TaskSet | ClassPool) -> Prior:
        raise NotImplementedError

    def _new_learner(self, prior: Prior | None, settings: dict[str, Any]) -> PriorEstimator:
        raise PriorMismatchError(
            "This prior was learned on losses, not on tasks of rows, so that there is no estimator; use descend(loss, start), "
            "or transformation() in your own training code."
        )


def _losses(tasks: Any, start: Any, argument: str) -> Problems | None:
    """Read what may be losses; None if these are tasks of rows."""
    listed = isinstance(tasks, Sequence) and len(tasks) > 0 and all(callable(entry) for entry in tasks)
    if not listed and type(tasks).__name__ != "Problems":
        return None
    from upstairs.outer.problems import Problems

    if isinstance(tasks, Problems):
        if start is not None:
            raise TaskError(f"{argument}: Problems have their own start; leave start= out.")
        return tasks
    if start is None:
        raise TaskError(
            f"{argument}: a list of functions needs start=, the weights (a pytree of arrays) that runs begin at."
        )
    families = Problems.from_functions(tasks, start)
    if len(families) > 1:
        raise TaskError(
            f"{argument}: the {len(tasks)} functions are of {len(families)} different forms, such as those with another Python number "
            "inside; pass what differs as arrays that the functions hold, or one function as Problems(loss, data, start=...)."
        )
    return families[0]
