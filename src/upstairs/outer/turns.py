"""Several families of tasks in one training: they take turns at moving the same params."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from upstairs.outer.loop import Metrics, Validation
from upstairs.outer.scan import MOST, ScanStepper
from upstairs.storage import content_hash

__all__ = ["Turns"]

BLOCK = 5
"""Steps in a row with one family."""


@final
class Turns:
    """A stepper made of others, whose params have the same names and shapes.

    Step s belongs to family ``(s // 5) % families``, so that a run is the same however it is cut. Params and moments go
    from hand to hand; runs that are cut into windows stay with their family. Validation is the mean over families.

    Parameters
    ----------
    steppers : sequence of ScanStepper
    """

    most = MOST

    def __init__(self, steppers: Sequence[ScanStepper]) -> None:
        self.steppers = tuple(steppers)

    def fingerprint(self) -> str:
        """Name all families."""
        return content_hash({"turns": [stepper.fingerprint() for stepper in self.steppers]}, {})

    def start(self) -> Any:
        """Return the params of the first family, and the runs of all."""
        states = [stepper.start() for stepper in self.steppers]
        return states[0][0], states[0][1], tuple(state[2] for state in states)

    def advance(self, state: Any, start: int, count: int) -> tuple[Any, Metrics]:
        """Make steps, each family in its turn."""
        params, moments, runs = state
        losses: list[np.ndarray] = []
        number = start
        while number < start + count:
            turn = (number // BLOCK) % len(self.steppers)
            some = min(start + count, (number // BLOCK + 1) * BLOCK) - number
            (params, moments, own), metrics = self.steppers[turn].advance((params, moments, runs[turn]), number, some)
            runs = (*runs[:turn], own, *runs[turn + 1 :])
            losses.append(metrics.losses)
            if metrics.bad_step is not None:
                return (params, moments, runs), Metrics(np.concatenate(losses), metrics.bad_step, metrics.bad_task)
            number += some
        return (params, moments, runs), Metrics(np.concatenate(losses))

    def validate(self, state: Any) -> Validation | None:
        """Judge on the tasks of every family."""
        found = [stepper.validate((state[0], (), ())) for stepper in self.steppers]
        known = [one for one in found if one is not None]
        if not known:
            return None
        return Validation(float(np.mean([one.loss for one in known])), float(np.mean([one.error for one in known])))

    def params(self, state: Any) -> dict[str, np.ndarray]:
        """Return the prior's arrays."""
        return self.steppers[0].params(state)

    def pack(self, state: Any) -> dict[str, np.ndarray]:
        """Lay out params and moments, and the runs of every family."""
        params, moments, runs = state
        every = [stepper.pack((params, moments, own)) for stepper, own in zip(self.steppers, runs, strict=True)]
        return {f"{turn}{name}": array for turn, one in enumerate(every) for name, array in one.items()}

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """Undo `pack`."""
        states = []
        for turn, stepper in enumerate(self.steppers):
            lead = f"{turn}["
            states.append(
                stepper.unpack(
                    {name[len(lead) - 1 :]: array for name, array in arrays.items() if name.startswith(lead)}
                )
            )
        return states[0][0], states[0][1], tuple(state[2] for state in states)

    def name(self, task: int) -> str:
        """Name a task by its number; which family it is of depends on the step."""
        return str(task)
