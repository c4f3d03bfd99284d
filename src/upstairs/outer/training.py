"""How long and how a prior is trained by gradients: the user's settings, and one call of the loop with them."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, final

from upstairs.errors import TaskError
from upstairs.outer import processes
from upstairs.outer.limits import Limits
from upstairs.outer.loop import Callback, Event, Outcome, Stepper, run
from upstairs.outer.optimiser import AnyOptimiser, Optimiser
from upstairs.outer.progress import ProgressBar
from upstairs.outer.sources import Source

if TYPE_CHECKING:
    import numpy as np

    from upstairs.inner.traced import Trainable
    from upstairs.outer.draws import Draw
    from upstairs.outer.estimators import Estimator
    from upstairs.outer.scan import ScanStepper
    from upstairs.outer.windows import Windows

__all__ = ["Part", "Training", "train", "train_in_turns"]


@final
@dataclass(frozen=True)
class Training:
    """How a prior is trained by gradients over tasks; None is a default that suits method and network.

    The result depends on tasks and settings only, never on the clock (but for ``time_limit``): a run that was killed or stopped and is
    called again with the same ``checkpoint`` ends with the same bits.

    Parameters
    ----------
    steps : int, optional
        Most meta-steps.
    batch : int, optional
        Tasks a step.
    queries : int, optional
        Query rows of a task (a class, for labels of a task's own), on which the adapted model is judged.
    rate : float, optional
        Highest rate of Adam, falling to zero along a cosine over ``steps``. None: one that suits; for ``"in-context"``, Muon in
        Adam's place (`upstairs.outer.optimiser`).
    optimiser : Optimiser or optax.GradientTransformation, optional
        Another outer optimiser; ``rate`` is then not used.
    task_clip : float, optional
        Most norm of the gradient of one task.
    validate_every : int
        Steps between two looks at the validation tasks; the best prior is kept.
    patience : int, optional
        Stop after so many validations in a row without a better one. None: never before ``steps``.
    augment : sequence of {"rotations", "affine", "noise", "dropout", "mixing"}, or mapping from them to strengths
        What makes further training tasks (`upstairs.outer.augment`); held-out tasks are never changed. "rotations":
        images turned by 90, 180 and 270 degrees as further classes; "affine" (.1): every image moved, turned and stretched a
        little by a map of its own; "noise" (.1): on features, in standard deviations;
        "dropout" (.1): the share of columns that a task does without; "mixing" (.5): half of the tasks become a mean of
        two, weighted by a draw from Beta(strength, strength). Classes always stand in random order.
    synthetic : float
        Share of the tasks of a step whose targets are replaced by those of random smooth functions of their own rows
        (`upstairs.outer.synthetic_draws.SyntheticTargets`): 0 learns from your tasks only, .5 from both, 1 from synthetic
        tasks only; your held-out tasks say when to stop in each case. For regressions and labels that tasks share.
    precision : {"float32", "bfloat16"}
        What networks compute in while they are trained (`upstairs.nets.precision`); weights, last layers in closed form
        and held-out tasks stay in float32.
    microbatch : int, optional
        Most tasks that a device computes at once; what they need on the way back is gone before the next. The result
        is the same up to rounding. None: as many as fit into the memory.
    memory_limit : float, optional
        Most gigabytes for the steps. None: what the machine (or its accelerator) has free. A training by which the process
        comes to hold more than that ends with the best prior so far.
    time_limit : float, optional
        Most seconds for the steps of this call, after which training ends with the best prior so far (``prior_.settings["outer"]``
        says so). Where several forms are tried, for each; what is measured afterwards takes some seconds more.
    checkpoint : path, optional
        Folder from which the same call goes on after a crash.
    checkpoint_seconds : float
        Least time between two checkpoints.
    progress : bool
        Whether to draw a progress bar (loss, steps a second, time left) on the error stream of a terminal.
    callback : callable, optional
        Told about twice a second how it goes, see `upstairs.outer.loop.Event`; where it returns True, training ends with the best
        prior so far.

    Examples
    --------
    >>> Training(steps=500, rate=0.003).steps
    500
    >>> Training(steps=0)
    Traceback (most recent call last):
    ...
    ValueError: Training: steps must be a whole number of at least 1 or None, but is 0.
    """

    steps: int | None = None
    batch: int | None = None
    queries: int | None = None
    rate: float | None = None
    optimiser: AnyOptimiser | None = None
    task_clip: float | None = None
    validate_every: int = 100
    patience: int | None = 10
    augment: Any = ()
    synthetic: float = 0.0
    precision: str = "float32"
    microbatch: int | None = None
    memory_limit: float | None = None
    time_limit: float | None = None
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_seconds: float = 30.0
    progress: bool = False
    callback: Callback | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "queries", "validate_every", "patience", "microbatch"):
            value = getattr(self, name)
            optional = name != "validate_every"
            if (value is None and optional) or (isinstance(value, int) and value >= 1):
                continue
            raise ValueError(
                f"Training: {name} must be a whole number of at least 1{' or None' if optional else ''}, but is {value!r}."
            )
        for name in ("rate", "task_clip", "memory_limit", "time_limit"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"Training: {name} must be a positive number or None, but is {value!r}.")
        strengths(self.augment)
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"Training: precision must be 'float32' or 'bfloat16', but is {self.precision!r}.")
        if not 0.0 <= self.synthetic <= 1.0:
            raise ValueError(f"Training: synthetic must be a share from 0 to 1, but is {self.synthetic!r}.")

    @property
    def strengths(self) -> dict[str, float]:
        """What ``augment`` asks for, with its strength."""
        return strengths(self.augment)

    def limits(self) -> Limits:
        """Begin to count what a run takes."""
        return Limits(self.time_limit, self.memory_limit)

    def filled(self, **defaults: Any) -> Training:
        """Put defaults where there is None."""
        missing = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)

    def within(self, part: str) -> Training:
        """Let one of several runs of a call have its own folder in ``checkpoint``."""
        return (
            self
            if self.checkpoint is None
            else dataclasses.replace(self, checkpoint=pathlib.Path(self.checkpoint) / part)
        )


_USUAL: dict[str, float] = {"rotations": 1.0, "affine": 0.1, "noise": 0.1, "dropout": 0.1, "mixing": 0.5}


def strengths(augment: Any) -> dict[str, float]:
    """Return the strength of everything that was asked for.

    Raises
    ------
    ValueError
        For a name or a strength that there is not.

    Examples
    --------
    >>> strengths(("rotations", "noise")), strengths({"dropout": 0.2})
    ({'rotations': 1.0, 'noise': 0.1}, {'dropout': 0.2})
    """
    listed = isinstance(augment, Sequence | Set) and not isinstance(augment, str)
    named = augment if isinstance(augment, Mapping) else dict.fromkeys(augment) if listed else {"": None}
    if not set(named) <= set(_USUAL):
        known = ", ".join(map(repr, _USUAL))
        raise ValueError(
            f"Training: augment must be a sequence of {known}, or a mapping from these to strengths, but is {augment!r}."
        )
    found = {}
    for name, value in named.items():
        strength = _USUAL[name] if value is None or value is True else value
        if not (isinstance(strength, int | float) and 0 < strength < (math.inf if name != "dropout" else 1)):
            limit = "between 0 and 1" if name == "dropout" else "above 0"
            raise ValueError(
                f"Training: the strength of {name!r} in augment must be a number {limit}, or None for the usual "
                f"{_USUAL[name]}, but is {value!r}."
            )
        found[name] = float(strength)
    return found


def train(
    rule: Trainable,
    spec: Any,
    draw: Draw,
    data: Mapping[str, Any] | Source,
    training: Training,
    *,
    validation: tuple[Draw, Mapping[str, Any]] | None = None,
    judge_rule: Trainable | None = None,
    monitor: Literal["loss", "error"] = "loss",
    seed: int = 0,
    start: Mapping[str, np.ndarray] | None = None,
    names: Sequence[str] | None = None,
    gradient: Estimator | Windows | None = None,
    title: str = "learning over tasks",
) -> Outcome:
    """Train a traced rule's params.

    Parameters
    ----------
    rule, spec, draw, data, validation, judge_rule, seed, start, names, gradient
        See `upstairs.outer.scan.ScanStepper`.
    training : Training
        With ``steps`` and ``rate`` filled in.
    monitor : {"loss", "error"}
        What decides which params are best.
    title : str
        Stands before the progress bar.

    Raises
    ------
    TaskError
        If even one task at a time does not fit into the memory.
    """
    assert training.steps is not None
    assert training.rate is not None
    part = Part(rule, spec, draw, data, validation, judge_rule, start)
    make, most = _maker(part, training, seed, names, gradient)
    stepper, memory = _fitting(make, training, most)
    return _made(stepper, memory, training, validation is not None, monitor, title)


def train_in_turns(
    parts: Sequence[Part],
    training: Training,
    *,
    seed: int = 0,
    gradient: Estimator | Windows | None = None,
    title: str = "learning over tasks",
) -> Outcome:
    """Train the params that the rules of several families of tasks share, see `upstairs.outer.turns.Turns`.

    Parameters
    ----------
    parts : sequence of Part
    training, seed, gradient, title
        As for `train`.
    """
    from upstairs.outer.turns import Turns

    made = [_maker(part, training, seed, None, gradient) for part in parts]
    fitted = [_fitting(make, training, most) for make, most in made]
    known = [memory for _, memory in fitted if memory is not None]
    turns = Turns([stepper for stepper, _ in fitted])
    watched = any(part.validation is not None for part in parts)
    return _made(turns, max(known, default=None), training, watched, "loss", title)


class Part(NamedTuple):
    """One family of tasks, see `train`."""

    rule: Trainable
    spec: Any
    draw: Draw
    data: Mapping[str, Any] | Source
    validation: tuple[Draw, Mapping[str, Any]] | None = None
    judge_rule: Trainable | None = None
    start: Mapping[str, np.ndarray] | None = None


def _made(
    stepper: Stepper,
    memory: int | None,
    training: Training,
    validated: bool,
    monitor: Literal["loss", "error"],
    title: str,
) -> Outcome:
    """Run the loop with the callbacks that were asked for."""

    def go(callback: Callback | None) -> Outcome:
        return run(
            stepper,
            training.steps or 0,
            validate_every=training.validate_every,
            patience=training.patience if validated else None,
            monitor=monitor,
            checkpoint=training.checkpoint,
            checkpoint_seconds=training.checkpoint_seconds,
            callback=callback,
            limits=training.limits(),
        )

    def telling(*listeners: Callback | None) -> Callback:
        def tell(event: Event) -> bool:
            known = dataclasses.replace(event, memory=memory)
            return any([listener(known) is True for listener in listeners if listener is not None])

        return tell

    if not training.progress:
        return go(telling(training.callback))
    with ProgressBar(title) as bar:
        return go(telling(bar, training.callback))


def _maker(
    part: Part, training: Training, seed: int, names: Sequence[str] | None, gradient: Estimator | Windows | None
) -> tuple[Callable[..., ScanStepper], int]:
    """Return what makes the stepper of a part for so many tasks at once, and the most there can be."""
    from upstairs.outer.scan import ScanStepper

    make = functools.partial(
        ScanStepper,
        part.rule,
        part.spec,
        part.draw,
        part.data,
        optimiser=training.optimiser or Optimiser("adam", training.rate or 0.0, "cosine", training.steps or 0),
        task_clip=training.task_clip,
        validation=part.validation,
        judge_rule=part.judge_rule,
        seed=seed,
        start=part.start,
        names=names,
        steps=training.steps,
        gradient=gradient,
    )
    return make, 1 if part.rule.sequential else part.draw.batch


def _fitting(make: Callable[..., ScanStepper], training: Training, most: int) -> tuple[ScanStepper, int | None]:
    """Halve the tasks (at ``most`` so many) that are computed at once until they fit; return their memory too."""
    from upstairs.outer.memory import available, said

    limit = available() if training.memory_limit is None else training.memory_limit * 1e9
    limit = None if limit is None else processes.agreed(limit)  # or they would compile different programs
    at_once = min(training.microbatch or most, most)
    while True:
        stepper = make(microbatch=at_once if at_once < most else None)
        memory = stepper.memory()
        if memory is None or limit is None or memory <= limit:
            return stepper, memory
        if at_once == 1:
            where = "are free" if training.memory_limit is None else "memory_limit allows"
            raise TaskError(
                f"Training needs {said(memory)} of memory even with one task at a time, more than the {said(limit)} that {where}; "
                "use fewer query rows (queries=), fewer rows or classes a task (shots=, ways=), a smaller net, or fewer inner steps."
            )
        at_once = max(1, at_once // 2)
