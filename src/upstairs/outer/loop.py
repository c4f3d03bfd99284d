"""The one loop of learning over tasks: progress, validation, early stopping, checkpoints, over any stepper.

A stepper knows how to make some steps at once; this loop knows nothing of networks, devices or processes. What it
returns depends on the stepper and the numbers of steps only, never on the clock, unless it is told to stop by it: time decides how many
steps are asked for at once, and when a checkpoint is written. Of several processes the first decides, and writes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from upstairs.errors import StorageError, UpstairsError
from upstairs.outer import processes
from upstairs.outer.checkpoint import Progress, read_checkpoint, write_checkpoint
from upstairs.outer.limits import Limits

__all__ = ["Callback", "Event", "Metrics", "Outcome", "Stepper", "Validation", "run"]

CHUNK_SECONDS = 0.5


@dataclass(frozen=True)
class Metrics:
    """What some steps report: the loss of every step made, and where it stopped being finite, if it did."""

    losses: Float[np.ndarray, " step"]
    bad_step: int | None = None
    bad_task: int | None = None


@dataclass(frozen=True)
class Validation:
    """Mean negative log-likelihood on validation tasks, and mean squared error or share of wrong rows."""

    loss: float
    error: float


@runtime_checkable
class Stepper(Protocol):
    """Makes steps; its states are opaque to the loop, and everything random in it is a function of (seed, step)."""

    most: int
    """Most steps at once."""

    def fingerprint(self) -> str:
        """Name tasks and settings: only a run of the same name is resumed."""

    def start(self) -> Any:
        """Return the state before the first step."""

    def advance(self, state: Any, start: int, count: int) -> tuple[Any, Metrics]:
        """Make ``count`` steps from step ``start``; a step that is not finite is not made, nor what follows."""

    def validate(self, state: Any) -> Validation | None:
        """Judge a state on frozen validation tasks; None without any."""

    def params(self, state: Any) -> dict[str, np.ndarray]:
        """Return the prior's arrays."""

    def pack(self, state: Any) -> dict[str, np.ndarray]:
        """Lay out the whole state as named arrays."""

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """Undo `pack`."""

    def name(self, task: int) -> str:
        """Name a task in an error."""


@dataclass(frozen=True)
class Event:
    """What a callback is told.

    ``loss`` is the mean training loss of the last steps, ``rate`` steps a second, ``seconds_left`` an upper estimate
    (None until steps have been timed without compiling), ``validation`` and ``best_loss`` are None where there are
    no validation tasks, ``memory`` (most bytes that
    steps need) where it is unknown; ``waited`` are seconds of this call in which steps waited for data.
    """

    kind: Literal["start", "progress", "validation", "end"]
    step: int
    steps: int
    seconds: float
    loss: float | None = None
    rate: float | None = None
    seconds_left: float | None = None
    validation: Validation | None = None
    best_loss: float | None = None
    best_step: int = 0
    reason: str = ""
    memory: int | None = None
    waited: float = 0.0


Callback: TypeAlias = Callable[[Event], bool | None]
"""Returns True to end the training with the best params so far."""


@dataclass(frozen=True)
class Outcome:
    """The best params, and how they came about; ``reason`` says why it ended, ``early`` whether a limit or a callback ended it."""

    params: dict[str, np.ndarray]
    step: int
    best_step: int
    best_loss: float | None
    losses: Float[np.ndarray, " step"]
    check_steps: Int[np.ndarray, " validation"]
    checks: Float[np.ndarray, "validation 2"]
    seconds: float
    reason: str
    early: bool = False

    @property
    def told(self) -> dict[str, Any]:
        """What a prior tells about its training."""
        found: dict[str, Any] = {"steps": self.step, "best_step": self.best_step}
        return found | ({"ended": self.reason} if self.early else {})


def run(
    stepper: Stepper,
    steps: int,
    *,
    validate_every: int = 100,
    patience: int | None = None,
    monitor: Literal["loss", "error"] = "loss",
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 30.0,
    callback: Callback | None = None,
    limits: Limits | None = None,
) -> Outcome:
    """Make steps until they are done, validation no longer improves or a limit is reached, and return the best params.

    Parameters
    ----------
    stepper : Stepper
    steps : int
        Most steps, counted from the start of the run, not of this call.
    validate_every : int
        Steps between validations; the last step is followed by one too.
    patience : int, optional
        Stop after so many validations in a row without a new best. None: never.
    monitor : {"loss", "error"}
        Which number of `Validation` decides.
    checkpoint : path, optional
        Folder of the run. If it holds one with the same tasks and settings, that is resumed, bit for bit.
    checkpoint_seconds : float
        Least time between two checkpoints; 0 writes one after every chunk of steps. The end is always written.
    callback : callable, optional
        Called with an `Event` at the start, about twice a second, at every validation, and at the end. Where it returns True, the run
        ends there; with a checkpoint the same call goes on later, as after a kill.
    limits : Limits, optional
        Of time and memory for this call, which ends there in the same way.

    Raises
    ------
    UpstairsError
        If a loss or gradient is not finite; it names step and task.
    StorageError
        If the folder belongs to another run.
    """
    begun, limits = time.perf_counter(), limits or Limits()
    name = "" if checkpoint is None else stepper.fingerprint()
    found = None if checkpoint is None else read_checkpoint(checkpoint, name)
    state = stepper.start() if found is None else stepper.unpack(found.state)
    progress = Progress({}, stepper.params(state)) if found is None else found
    if processes.agreed(progress.step) != progress.step:
        raise StorageError(
            f"checkpoint='{checkpoint}' is not the same folder for all processes; give one that all of them see."
        )
    tell = _Teller(callback, steps, begun, progress.seconds, stepper)
    asked = tell("start", progress)
    stopped = "" if not asked else "the callback asked for it"
    timer, saved_at = _Timer(), begun
    losses = [progress.losses]

    def save(current: Progress) -> None:
        if checkpoint is not None and processes.is_first():
            packed = current.with_(state=stepper.pack(state), losses=np.concatenate(losses), seconds=tell.seconds())
            write_checkpoint(checkpoint, name, packed)

    while progress.step < steps and not (progress.finished and patience is not None):
        stopped = stopped or limits.reached()
        if processes.agreed(bool(stopped)):
            break
        boundary = min(steps, (progress.step // validate_every + 1) * validate_every)
        count = int(processes.agreed(max(1, min(timer.chunk(), stepper.most, boundary - progress.step))))
        clock = time.perf_counter()
        state, metrics = stepper.advance(state, progress.step, count)
        timer.made(count, time.perf_counter() - clock)
        _check_finite(stepper, metrics)
        losses.append(np.asarray(metrics.losses, np.float32))
        progress = progress.with_(step=progress.step + count)
        loss = float(metrics.losses.mean())
        if progress.step == boundary:
            judged = stepper.validate(state)
            progress = _judge(progress, judged, stepper.params(state), monitor, patience)
            asked = tell("validation", progress, loss, timer.rate, judged)
        else:
            asked = tell("progress", progress, loss, timer.rate)
        stopped = "the callback asked for it" if asked else ""
        if time.perf_counter() - saved_at >= checkpoint_seconds:
            save(progress)
            saved_at = time.perf_counter()
    if found is None or progress.step > found.step:
        save(progress)
    reason = progress.finished or f"all {progress.step} steps made"
    early = progress.step < steps and not progress.finished
    if early and not progress.step:
        raise UpstairsError(
            f"Training ended before its first step, because {stopped or 'it was asked to'}; there is no prior."
        )
    if early:
        reason = f"stopped after {progress.step} of {steps} steps: {stopped or 'the first process asked for it'}"
        if progress.step % validate_every:  # judged for this result only: the same call goes on as if it had not been
            progress = _judge(progress, stepper.validate(state), stepper.params(state), monitor, None)
    tell("end", progress, reason=reason)
    return Outcome(
        {key: np.array(array) for key, array in progress.best.items()},
        progress.step,
        progress.best_step,
        progress.best_loss,
        np.concatenate(losses),
        progress.check_steps,
        progress.checks,
        tell.seconds(),
        reason,
        early,
    )


def _judge(
    progress: Progress,
    judged: Validation | None,
    params: Mapping[str, np.ndarray],
    monitor: Literal["loss", "error"],
    patience: int | None,
) -> Progress:
    """Keep the best params; without validation tasks the last ones are the best."""
    if judged is None:
        return progress.with_(best=params, best_step=progress.step)
    value = getattr(judged, monitor)
    progress = progress.with_(
        check_steps=np.append(progress.check_steps, np.int64(progress.step)),
        checks=np.concatenate([progress.checks, [[judged.loss, judged.error]]]),
    )
    if np.isfinite(value) and (progress.best_loss is None or value < progress.best_loss):
        return progress.with_(best=params, best_step=progress.step, best_loss=float(value), waited=0)
    waited = progress.waited + 1
    finished = ""
    if patience is not None and waited >= patience:
        finished = (
            f"stopped after {progress.step} steps: no better {monitor} in {waited} validations since step "
            f"{progress.best_step}"
        )
    return progress.with_(waited=waited, finished=finished)


def _check_finite(stepper: Stepper, metrics: Metrics) -> None:
    if metrics.bad_step is None:
        return
    who = "" if metrics.bad_task is None else f" of task {stepper.name(metrics.bad_task)!r}"
    raise UpstairsError(
        f"Step {metrics.bad_step}: the loss or gradient{who} is not finite; lower the outer or inner rate, clip the "
        "gradient of each task, or look for extreme values in that task."
    )


class _Timer:
    """Steps a second without the first chunk of this call, which compiles."""

    def __init__(self) -> None:
        self.chunks, self.steps, self.seconds = 0, 0, 0.0

    @property
    def rate(self) -> float | None:
        return self.steps / self.seconds if self.steps and self.seconds > 0 else None

    def made(self, steps: int, seconds: float) -> None:
        self.chunks += 1
        if self.chunks > 1:
            self.steps, self.seconds = self.steps + steps, self.seconds + seconds

    def chunk(self) -> int:
        if self.rate is None:
            return 1
        return max(1, int(min(self.rate * CHUNK_SECONDS, 4.0 * self.steps)))


class _Teller:
    """Turns progress into events."""

    def __init__(self, callback: Callback | None, steps: int, begun: float, before: float, stepper: Stepper) -> None:
        self._callback, self._steps, self._begun, self._before = callback, steps, begun, before
        self._stepper = stepper

    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._begun

    def __call__(
        self,
        kind: Literal["start", "progress", "validation", "end"],
        progress: Progress,
        loss: float | None = None,
        rate: float | None = None,
        judged: Validation | None = None,
        reason: str = "",
    ) -> bool:
        if self._callback is None:
            return False
        left = None if rate is None else (self._steps - progress.step) / rate
        best = (progress.best_loss, progress.best_step)
        waited = getattr(self._stepper, "waited", 0.0)
        event = Event(kind, progress.step, self._steps, self.seconds(), loss, rate, left, judged, *best, reason)
        return self._callback(replace(event, waited=waited)) is True
