"""Learn the metric of the prototype rule: which directions differ inside classes, and how sure a distance is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from upstairs.inner.prototype import Prototype
from upstairs.inner.rule import Params, Rows
from upstairs.tasks.batches import pad

__all__ = ["Classes", "Episode", "MetricChoice", "choose_metric", "draw_episodes", "relearn_metric"]

SHRINKAGE = (1.0, 0.5, 0.1)
"""Shares of a multiple of the identity in the within-class covariance; 1 is the plain distance."""
PULLS = (0.0, 0.5, 2.0)
TEMPERATURES = np.geomspace(1e-3, 1e1, 41)


@dataclass(frozen=True, slots=True)
class Classes:
    """Encoded rows, the class of each, and which classes are met together.

    ``owner`` says for every class to which task it belongs (one for all in a class pool), ``group`` what must stay
    on one side of a fold.
    """

    x: Float[np.ndarray, "row feature"]
    y: Int[np.ndarray, " row"]
    owner: Int[np.ndarray, " way"]
    group: Int[np.ndarray, " way"]

    def select(self, keep: Int[np.ndarray, " kept"]) -> Classes:
        """Return only some classes, numbered anew."""
        number = np.full(len(self.owner), -1)
        number[keep] = np.arange(len(keep))
        rows = np.flatnonzero(number[self.y] >= 0)
        return Classes(self.x[rows], number[self.y[rows]], self.owner[keep], self.group[keep])


@dataclass(frozen=True, slots=True)
class MetricChoice:
    """What was chosen, how the candidates fared on classes that they had not seen, and these held-out episodes.

    ``folds`` pairs params that have not seen the classes of a fold with episodes of them, as ``(x, y)``.
    """

    params: dict[str, np.ndarray]
    settings: dict[str, float]
    report: list[dict[str, Any]]
    sentence: str
    folds: list[tuple[dict[str, np.ndarray], list[tuple[np.ndarray, np.ndarray]]]]


def relearn_metric(
    classes: Classes, settings: Mapping[str, float], raw_scale: Float[np.ndarray, " feature"]
) -> dict[str, np.ndarray]:
    """Learn the metric again from more classes, with the choices of an earlier `choose_metric`."""
    return _learn(classes, raw_scale, settings["share"], settings["pull"], settings["temperature"])


@dataclass(frozen=True, slots=True)
class Episode:
    """Support and query rows with their class numbers."""

    support: tuple[np.ndarray, np.ndarray]
    query: tuple[np.ndarray, np.ndarray]

    @property
    def whole(self) -> tuple[np.ndarray, np.ndarray]:
        """All rows together."""
        (x, y), (more_x, more_y) = self.support, self.query
        return np.concatenate([x, more_x]), np.concatenate([y, more_y])


def choose_metric(
    classes: Classes,
    *,
    raw_scale: Float[np.ndarray, " feature"],
    shots: tuple[int, int],
    ways: int | None,
    validation: Classes | None = None,
    seed: int = 0,
    episodes: int = 120,
) -> MetricChoice:
    """Choose metric, pull and temperature by log loss on episodes of held-out classes, then learn on all classes.

    Parameters
    ----------
    classes
        Training classes.
    raw_scale
        What the encoder divided each column by: the plain candidate measures distances in raw units.
    shots
        Least and most support rows a class in an episode.
    ways
        Classes of an episode, or None for as many as there are (at most 5).
    validation
        Held-out classes; three folds over the groups of ``classes`` when not given.
    seed
        Draws the episodes.
    """
    folds = [(classes.select(train), classes.select(held)) for train, held in _folds(classes.group, 3, seed)]
    if validation is not None:
        folds.append((classes, validation))
    candidates = [(share, pull) for share in SHRINKAGE for pull in PULLS]
    losses = np.zeros((len(folds), len(candidates), len(TEMPERATURES)))
    errors = np.zeros(len(candidates))
    draws: list[list[Episode]] = []
    for fold, (train, held) in enumerate(folds):
        drawn = draw_episodes(held, shots, ways, -(-episodes // len(folds)), np.random.default_rng([seed, fold]))
        draws.append(drawn)
        for number, (share, pull) in enumerate(candidates):
            params = _learn(train, raw_scale, share, pull, 1.0)
            for episode in drawn:
                distance, label = _distances(params, episode)
                losses[fold, number] += _log_losses(distance, label) / len(drawn)
                errors[number] += float((distance.argmin(axis=1) != label).mean())
    total = sum(map(len, draws))
    if total == 0:
        sentence = "too few held-out classes to compare metrics, so plain distances are used"
        plain = {"share": 1.0, "pull": 0.0, "temperature": 1.0}
        return MetricChoice(_learn(classes, raw_scale, 1.0, 0.0, 1.0), plain, [], sentence, [])
    losses = losses[[fold for fold, drawn in enumerate(draws) if drawn]]
    number, place = _plainest(losses)
    (share, pull), temperature = candidates[number], float(TEMPERATURES[place])
    best_loss = losses.mean(axis=0).min(axis=1)
    report = [
        {
            "metric": _name(candidates[k][0]),
            "pull": candidates[k][1],
            "log_loss": float(best_loss[k]),
            "error": float(errors[k] / total),
        }
        for k in range(len(candidates))
    ]
    sentence = (
        f"prototype with {_name(share)} distances and pull {pull:g}: log loss {best_loss[number]:.3f} on {total} episodes of "
        f"held-out classes, the plainest of {len(candidates)} candidates within one standard error of the best ({best_loss.min():.3f})"
    )
    held_out = [
        (
            _learn(train, raw_scale, share, pull, temperature),
            [episode.whole for episode in drawn],
        )
        for (train, _), drawn in zip(folds, draws, strict=True)
    ]
    settings = {"share": share, "pull": pull, "temperature": temperature}
    params = _learn(classes, raw_scale, share, pull, temperature)
    return MetricChoice(params, settings, report, sentence, held_out)


def _plainest(losses: Float[np.ndarray, "fold candidate temperature"]) -> tuple[int, int]:
    """Return the first candidate (they are in order of plainness) within one standard error of the best, over folds."""
    mean = losses.mean(axis=0)
    places = mean.argmin(axis=1)
    own = np.take_along_axis(losses, places[None, :, None], axis=2)[..., 0]
    best = int(own.mean(axis=0).argmin())
    gap = own - own[:, best : best + 1]
    error = gap.std(axis=0, ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else np.zeros(gap.shape[1])
    chosen = int(np.flatnonzero(gap.mean(axis=0) <= error)[0])
    return chosen, int(places[chosen])


def _name(share: float) -> str:
    return "plain" if share == 1.0 else f"whitened ({1.0 - share:.0%})"


def _learn(
    classes: Classes,
    raw_scale: Float[np.ndarray, " feature"],
    share: float,
    pull: float,
    temperature: float,
) -> dict[str, np.ndarray]:
    """Within-class covariance in raw units, mixed with a multiple of the identity; rows are mapped by its root."""
    raw = classes.x * raw_scale
    counts = np.bincount(classes.y, minlength=len(classes.owner)).astype(np.float64)
    sums = np.zeros((len(counts), raw.shape[1]))
    np.add.at(sums, classes.y, raw)
    deviation = raw - (sums / np.maximum(counts, 1.0)[:, None])[classes.y]
    within = deviation.T @ deviation / max(float(len(raw) - len(counts)), 1.0)
    level = max(float(np.trace(within)) / len(within), 1e-12)
    mixed = (1.0 - share) * within + share * level * np.eye(len(within))
    value, vector = np.linalg.eigh(mixed)
    transform = raw_scale[:, None] * (vector / np.sqrt(np.maximum(value, 1e-9 * level))) @ vector.T
    transform /= np.sqrt(transform.shape[1])  # a row is then at a squared distance of about one from its class
    z = classes.x @ transform
    return {
        "transform": transform,
        "anchor": z.mean(axis=0, keepdims=True),
        "pull": np.asarray(pull),
        "temperature": np.asarray(temperature * transform.shape[1] ** 0.5),
        "center": z.mean(axis=0),
        "spread": np.maximum(z.std(axis=0), 1e-9 + 1e-3 * float(z.std())),
    }


def _folds(group: Int[np.ndarray, " way"], folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    unique = np.unique(group)
    parts = np.array_split(np.random.default_rng(seed).permutation(unique), min(folds, len(unique)))
    found = [(np.flatnonzero(~np.isin(group, part)), np.flatnonzero(np.isin(group, part))) for part in parts]
    return [(train, held) for train, held in found if len(train) and len(held)]


def draw_episodes(
    classes: Classes, shots: tuple[int, int], ways: int | None, episodes: int, rng: np.random.Generator
) -> list[Episode]:
    """Draw episodes, task after task: ``ways`` classes (None: up to 5), and ``shots`` support rows of each."""
    counts = np.bincount(classes.y, minlength=len(classes.owner))
    rows_of = np.split(np.argsort(classes.y, kind="stable"), np.cumsum(counts)[:-1])
    pools = [np.flatnonzero((classes.owner == owner) & (counts >= shots[0] + 1)) for owner in np.unique(classes.owner)]
    pools = [pool for pool in pools if len(pool) >= 2]
    drawn: list[Episode] = []
    for number in range(episodes if pools else 0):
        pool = pools[number % len(pools)]
        chosen = rng.choice(pool, size=min(ways or 5, len(pool)), replace=False)
        support, query = [], []
        for c in chosen:
            rows = rng.permutation(rows_of[c])
            taken = min(int(rng.integers(shots[0], shots[1] + 1)), len(rows) - 1)
            support.append(rows[:taken])
            query.append(rows[taken : taken + 15])
        drawn.append(Episode(_part(classes, support), _part(classes, query)))
    return drawn


def _part(classes: Classes, rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return classes.x[np.concatenate(rows)], np.repeat(np.arange(len(rows)), [len(part) for part in rows])


def _distances(params: Params, episode: Episode) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances (row, way) times the base temperature, read off the rule itself."""
    x, y, mask = pad([episode.support], len(episode.support[1]))
    rule = Prototype()
    probability = rule.predict(params, rule.adapt(params, Rows(x, y, mask)), episode.query[0][None]).probability[0]
    return -np.log(np.maximum(probability, 1e-300)), episode.query[1]


def _log_losses(distance: np.ndarray, label: np.ndarray) -> Float[np.ndarray, " temperature"]:
    scaled = -TEMPERATURES[:, None, None] * distance
    top = scaled.max(axis=-1, keepdims=True)
    log_sum = (top + np.log(np.exp(scaled - top).sum(axis=-1, keepdims=True)))[..., 0]
    return (log_sum - scaled[:, np.arange(len(label)), label]).mean(axis=1)
