"""How long and how a prior is trained by gradients: the user's settings, and one call of the loop with them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

from upstairs.outer.loop import Callback, Outcome, run
from upstairs.outer.optimiser import AnyOptimiser, Optimiser
from upstairs.outer.progress import ProgressBar

if TYPE_CHECKING:
    import numpy as np

    from upstairs.inner.traced import Spec, TracedRule
    from upstairs.outer.draws import Draw

__all__ = ["Training", "train"]


@final
@dataclass(frozen=True)
class Training:
    """How a prior is trained by gradients over tasks; None is a default that suits method and network.

    The result depends on tasks and settings only, never on the clock: a run that was killed and is called again with
    the same ``checkpoint`` ends with the same bits.

    Parameters
    ----------
    steps : int, optional
        Most meta-steps.
    batch : int, optional
        Tasks a step.
    queries : int, optional
        Query rows of a task (a class, for labels of a task's own), on which the adapted model is judged.
    rate : float, optional
        Highest rate of the outer optimiser (Adam, falling to zero along a cosine over ``steps``).
    optimiser : Optimiser or optax.GradientTransformation, optional
        Another outer optimiser; ``rate`` is then not used.
    task_clip : float, optional
        Most norm of the gradient of one task.
    validate_every : int
        Steps between two looks at the validation tasks; the best prior is kept.
    patience : int, optional
        Stop after so many validations in a row without a better one. None: never before ``steps``.
    augment : sequence of "rotations"
        What makes further training tasks: images turned by 90, 180 and 270 degrees as further classes.
    checkpoint : path, optional
        Folder from which the same call goes on after a crash.
    checkpoint_seconds : float
        Least time between two checkpoints.
    progress : bool
        Whether to draw a progress bar (loss, steps a second, time left) on the error stream of a terminal.
    callback : callable, optional
        Told about twice a second how it goes, see `upstairs.outer.loop.Event`.

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
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_seconds: float = 30.0
    progress: bool = False
    callback: Callback | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "queries", "validate_every", "patience"):
            value = getattr(self, name)
            optional = name != "validate_every"
            if (value is None and optional) or (isinstance(value, int) and value >= 1):
                continue
            raise ValueError(
                f"Training: {name} must be a whole number of at least 1{' or None' if optional else ''}, but is {value!r}."
            )
        for name in ("rate", "task_clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"Training: {name} must be a positive number or None, but is {value!r}.")
        odd = [value for value in self.augment if value != "rotations"]
        if isinstance(self.augment, str) or odd:
            raise ValueError(f"Training: augment must be a sequence of 'rotations' or empty, but is {self.augment!r}.")

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


def train(
    rule: TracedRule,
    spec: Spec,
    draw: Draw,
    data: Mapping[str, Any],
    training: Training,
    *,
    validation: tuple[Draw, Mapping[str, Any]] | None = None,
    judge_rule: TracedRule | None = None,
    monitor: Literal["loss", "error"] = "loss",
    seed: int = 0,
    start: Mapping[str, np.ndarray] | None = None,
    names: Sequence[str] | None = None,
    title: str = "learning over tasks",
) -> Outcome:
    """Train a traced rule's params.

    Parameters
    ----------
    rule, spec, draw, data, validation, judge_rule, seed, start, names
        See `upstairs.outer.scan.ScanStepper`.
    training : Training
        With ``steps`` and ``rate`` filled in.
    monitor : {"loss", "error"}
        What decides which params are best.
    title : str
        Stands before the progress bar.
    """
    from upstairs.outer.scan import ScanStepper

    assert training.steps is not None
    assert training.rate is not None
    stepper = ScanStepper(
        rule,
        spec,
        draw,
        data,
        optimiser=training.optimiser or Optimiser("adam", training.rate, "cosine", training.steps),
        task_clip=training.task_clip,
        validation=validation,
        judge_rule=judge_rule,
        seed=seed,
        start=start,
        names=names,
        steps=training.steps,
    )

    def go(callback: Callback | None) -> Outcome:
        return run(
            stepper,
            training.steps or 0,
            validate_every=training.validate_every,
            patience=None if validation is None else training.patience,
            monitor=monitor,
            checkpoint=training.checkpoint,
            checkpoint_seconds=training.checkpoint_seconds,
            callback=callback,
        )

    if not training.progress:
        return go(training.callback)
    with ProgressBar(title) as bar:

        def both(event: Any) -> None:
            bar(event)
            if training.callback is not None:
                training.callback(event)

        return go(both)
