"""A search for one data set that starts from experience, and goes on with Optuna where it is installed."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from upstairs.errors import TaskError
from upstairs.outer.journal import settings_key
from upstairs.outer.recommend import Recommender
from upstairs.outer.trials import Settings, Trials
from upstairs.tasks.task import Task

__all__ = ["SearchResult", "searched"]

HAND_OVER = 10
"""Trials of the table before Optuna goes on: what transfer is good for (HPO-B: up to about ten trials)."""


@dataclass(frozen=True)
class SearchResult:
    """Trials of a search, in the order in which they were made.

    Attributes
    ----------
    settings : tuple of dict
    scores : array of shape (trial,)
        More is better; -inf where a setting failed.
    seconds : array of shape (trial,)
    measure : str
    by : tuple of str
        Who chose each trial: ``"experience"`` or ``"optuna"``.
    """

    settings: tuple[dict[str, Any], ...]
    scores: Float[np.ndarray, " trial"]
    seconds: Float[np.ndarray, " trial"]
    measure: str
    by: tuple[str, ...]

    @property
    def best_settings(self) -> dict[str, Any]:
        """The settings with the best score, the first of equals."""
        return self.settings[int(np.argmax(self.scores))]

    @property
    def best_score(self) -> float:
        """The best score."""
        return float(np.max(self.scores))

    @property
    def best_so_far(self) -> Float[np.ndarray, " trial"]:
        """The best score after each trial."""
        found: np.ndarray = np.maximum.accumulate(self.scores)
        return found


def searched(
    known: Recommender,
    trials: Trials,
    task: Task,
    x: Float[np.ndarray, " feature"],
    n_trials: int,
    space: Mapping[str, Any] | None,
) -> SearchResult:
    """Make trials on a task.

    Parameters
    ----------
    known : Recommender
    trials : Trials
    task : Task
    x : array of shape (feature,)
        The task's description.
    n_trials : int
    space : mapping, optional
        Distributions in which Optuna may go on.
    """
    if n_trials < 1:
        raise TaskError(f"n_trials must be at least 1, but is {n_trials}.")
    trial, measure = trials(task), known.experience.measure
    found: list[tuple[dict[str, Any], float, float, str]] = []

    def tried(settings: Settings, by: str) -> float:
        start = time.perf_counter()
        try:
            score = trial(settings)[measure]
        except ValueError:
            score = -np.inf
        score = score if np.isfinite(score) else -np.inf
        found.append((dict(settings), score, time.perf_counter() - start, by))
        return score

    outcomes: dict[int, float] = {}
    go_on = _study(space) if space is not None and n_trials > HAND_OVER else None
    table_trials = n_trials if go_on is None else HAND_OVER
    while len(outcomes) < table_trials and (following := known.order(x, 1, outcomes)):
        outcomes[following[0]] = tried(known.experience.settings[following[0]], "experience")
    if go_on is not None:
        study, distributions, decode, encode = go_on
        for settings, score, _, _ in found:
            _tell(study, distributions, encode, settings, score)
        while len(found) < n_trials:
            asked = study.ask(distributions)
            score = tried(decode(asked.params), "optuna")
            study.tell(asked, score if np.isfinite(score) else None, state=None if np.isfinite(score) else _failed())
    return SearchResult(
        tuple(settings for settings, *_ in found),
        np.array([score for _, score, _, _ in found]),
        np.array([seconds for _, _, seconds, _ in found]),
        measure,
        tuple(by for *_, by in found),
    )


def _study(space: Mapping[str, Any]) -> Any:
    """Return a study, its distributions, and how values are written and read; None without Optuna or for a space it cannot take."""
    try:
        import optuna
    except ImportError:
        return None
    distributions: dict[str, Any] = {}
    coded: set[str] = set()
    for name, entry in space.items():
        if isinstance(entry, list | tuple):
            distributions[name] = optuna.distributions.CategoricalDistribution(
                list(dict.fromkeys(settings_key({"": value}) for value in entry))
            )
            coded.add(name)
        else:
            distribution = _continuous(optuna, entry)
            if distribution is None:
                return None
            distributions[name] = distribution

    def decode(params: Mapping[str, Any]) -> dict[str, Any]:
        return {name: json.loads(value)[""] if name in coded else value for name, value in params.items()}

    def encode(settings: Settings) -> dict[str, Any] | None:
        if set(settings) != set(distributions):
            return None
        return {name: settings_key({"": value}) if name in coded else value for name, value in settings.items()}

    with _quiet(optuna):
        study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=5)
        )
    return study, distributions, decode, encode


def _tell(study: Any, distributions: Mapping[str, Any], encode: Any, settings: Settings, score: float) -> None:
    import optuna

    written = encode(settings)
    if written is None or not np.isfinite(score):
        return
    with contextlib.suppress(ValueError):  # settings outside the space, such as the estimator's own
        study.add_trial(optuna.trial.create_trial(params=written, distributions=dict(distributions), value=score))


def _continuous(optuna: Any, entry: Any) -> Any:
    """Turn a frozen SciPy distribution into Optuna's: uniform, log-uniform and whole numbers."""
    kind = getattr(getattr(entry, "dist", None), "name", "")
    if kind not in ("uniform", "loguniform", "reciprocal", "randint"):
        return None
    low, high = (float(value) for value in entry.support())
    if kind == "randint":
        return optuna.distributions.IntDistribution(int(low), int(high))
    return optuna.distributions.FloatDistribution(low, high, log=kind != "uniform")


def _failed() -> Any:
    import optuna

    return optuna.trial.TrialState.FAIL


@contextlib.contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Say nothing on standard error while a study is made, and leave the user's own level as it was."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
