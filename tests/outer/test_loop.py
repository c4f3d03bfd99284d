"""The loop over toy steppers: exact resume, early stopping, events, and what it refuses."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from upstairs.errors import StorageError, UpstairsError
from upstairs.outer.limits import Limits
from upstairs.outer.loop import Event, Metrics, Outcome, Validation, run
from upstairs.tasks.sampler import uniform


class Walk:
    """A chaotic walk that depends on every earlier bit and on (seed, step)."""

    most = 7

    def __init__(self, seed: int = 0, bad: int | None = None, judge: bool = True) -> None:
        self.seed, self.bad, self.judge, self.calls = seed, bad, judge, 0

    def fingerprint(self) -> str:
        return f"walk {self.seed}"

    def start(self) -> Any:
        return np.linspace(0.1, 0.9, 4)

    def advance(self, state: Any, start: int, count: int) -> tuple[Any, Metrics]:
        losses: list[float] = []
        self.calls += 1
        for step in range(start, start + count):
            if step == self.bad:
                return state, Metrics(np.array(losses, np.float32), step, 2)
            state = 3.9 * state * (1 - state) * (1 - 0.01 * uniform(self.seed, step, size=4).astype(np.float64))
            losses.append(float(state.mean()))
        return state, Metrics(np.array(losses, np.float32))

    def validate(self, state: Any) -> Validation | None:
        return Validation(float(state[0]), float(state[1])) if self.judge else None

    def params(self, state: Any) -> dict[str, np.ndarray]:
        return {"w": np.array(state)}

    def pack(self, state: Any) -> dict[str, np.ndarray]:
        return {"all": state}

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> Any:
        return np.array(arrays["all"])

    def name(self, task: int) -> str:
        return f"site_{task:02d}"


def same(one: Outcome, other: Outcome) -> bool:
    assert one.params.keys() == other.params.keys()
    equal = [np.array_equal(one.params[name], other.params[name]) for name in one.params]
    equal += [np.array_equal(getattr(one, name), getattr(other, name)) for name in ("losses", "checks", "check_steps")]
    return all(equal) and (one.step, one.best_step, one.best_loss) == (other.step, other.best_step, other.best_loss)


class Stop(Exception):
    """A crash."""


def test_a_run_cut_anywhere_goes_on_as_if_never_stopped(tmp_path: pathlib.Path) -> None:
    whole = run(Walk(), 60, validate_every=10)
    for number, cut in enumerate(np.random.default_rng(0).integers(1, 60, size=20)):
        folder = tmp_path / str(number)

        def crash(event: Event, cut: int = int(cut)) -> None:
            if event.kind != "start" and event.step >= cut:
                raise Stop

        with pytest.raises(Stop):
            run(Walk(), 60, validate_every=10, checkpoint=folder, checkpoint_seconds=0, callback=crash)
        stepper = Walk()
        assert same(run(stepper, 60, validate_every=10, checkpoint=folder), whole)
        stepper = Walk()
        assert same(run(stepper, 60, validate_every=10, checkpoint=folder), whole)
        assert stepper.calls == 0
    assert same(run(Walk(), 60, validate_every=10, checkpoint=folder), whole)
    assert same(run(Walk(), 90, validate_every=10, checkpoint=folder), run(Walk(), 90, validate_every=10))


def test_early_stopping_keeps_the_best(tmp_path: pathlib.Path) -> None:
    found = run(Walk(), 1000, validate_every=1, patience=5, checkpoint=tmp_path / "run")
    assert found.step == found.best_step + 5
    assert found.best_loss == found.checks[:, 0].min() == found.params["w"][0]
    assert "no better loss in 5 validations" in found.reason
    again = Walk()
    assert same(run(again, 1000, validate_every=1, patience=5, checkpoint=tmp_path / "run"), found)
    assert again.calls == 0
    by_error = run(Walk(), 50, validate_every=1, monitor="error")
    assert by_error.best_loss == by_error.checks[:, 1].min()


def test_without_validation_the_last_params_are_the_best() -> None:
    found = run(Walk(judge=False), 23, validate_every=10)
    assert found.best_step == found.step == 23
    assert found.best_loss is None
    assert len(found.losses) == 23
    assert np.array_equal(found.params["w"], Walk().advance(Walk().start(), 0, 23)[0])


def test_a_step_that_is_not_finite_names_step_and_task() -> None:
    with pytest.raises(UpstairsError, match=r"Step 17: the loss or gradient of task 'site_02' is not finite"):
        run(Walk(bad=17), 30)


def test_events_tell_loss_rate_and_time_left() -> None:
    events: list[Event] = []
    run(Walk(), 100, validate_every=20, callback=events.append)
    assert [event.kind for event in events][:1] == ["start"]
    assert events[-1].kind == "end"
    assert "all 100 steps made" in events[-1].reason
    timed = [event for event in events if event.rate is not None]
    assert timed
    assert timed[0].step <= 21
    assert all(event.seconds_left is not None and event.loss is not None for event in timed)
    assert [event.step for event in events if event.kind == "validation"] == [20, 40, 60, 80, 100]


def test_a_folder_of_another_run_is_refused(tmp_path: pathlib.Path) -> None:
    run(Walk(), 5, checkpoint=tmp_path / "run")
    with pytest.raises(StorageError, match="other tasks, settings or random_state"):
        run(Walk(seed=1), 5, checkpoint=tmp_path / "run")


def test_a_limit_or_a_callback_ends_a_run_with_the_best_so_far(tmp_path: pathlib.Path) -> None:
    """And the same call without it goes on as if it had never ended."""
    whole = run(Walk(), 60, validate_every=10)
    found = run(Walk(), 60, validate_every=10, checkpoint=tmp_path, callback=lambda event: event.step >= 23)
    assert found.early
    assert 23 <= found.step < 60
    assert found.reason == f"stopped after {found.step} of 60 steps: the callback asked for it"
    assert found.told == {"steps": found.step, "best_step": found.best_step, "ended": found.reason}
    judged = run(Walk(), found.step, validate_every=10)
    np.testing.assert_array_equal(found.params["w"], judged.params["w"])
    later = run(Walk(), 60, validate_every=10, checkpoint=tmp_path)
    assert same(later, whole)
    assert later.told == {"steps": 60, "best_step": later.best_step}
    unjudged = run(Walk(judge=False), 60, callback=lambda event: event.step >= 23)
    np.testing.assert_array_equal(unjudged.params["w"], run(Walk(judge=False), unjudged.step).params["w"])


class Slow(Walk):
    """Takes a while, and memory that it keeps."""

    def advance(self, state: Any, start: int, count: int) -> tuple[Any, Metrics]:
        self.kept = [*getattr(self, "kept", []), np.ones(5_000_000)]
        time.sleep(0.02)
        return super().advance(state, start, 1)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"seconds": 0.3}, "the time limit of 0.3 seconds is reached"),
        ({"gigabytes": 0.2}, "the process holds more than the memory limit of 0.2 GB beyond what it held before"),
    ],
)
def test_time_and_memory_are_limits(limits: dict[str, float], said: str) -> None:
    slow = Slow()
    slow.most = 1
    found = run(slow, 60, limits=Limits(**limits))
    assert 1 <= found.step <= 16
    assert found.reason == f"stopped after {found.step} of 60 steps: {said}"


def test_an_end_before_the_first_step_leaves_no_prior() -> None:
    with pytest.raises(
        UpstairsError, match="ended before its first step, because the callback asked for it; there is no prior"
    ):
        run(Walk(), 60, callback=lambda event: True)
