"""Learn over tasks how a tree grows on a task's own rows: how much a split does, on which features, and whether at all.

Trees of unseen tasks are grown with broad habits first; what their splits did and where gives the variance of an effect and
the probability of every feature. Habits are then compared, "not at all" among them, on tasks whose trees they have not
seen, at numbers of rows at which growing can be told from not growing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from upstairs.inner.prior_tree import PriorTree
from upstairs.inner.rule import Gaussian, Rows
from upstairs.outer.pooling import Data
from upstairs.outer.replays import replays

__all__ = ["Growth", "Unseen", "learn_growth", "without_growth"]

EFFECT = {"regression": 0.1, "classification": 0.5}
"""Variance of what a split does before trees have been seen, for standardised targets or in log-odds."""
BROAD, LEAST, MOST = float(np.log(0.3)), 5, 30
"""Log odds of a split, rows on each side and splits of a task, for the trees that are learned from."""
PICKY = (float(np.log(0.3)), float(np.log(0.03)))
LEAST_TRIED = (3, 10)
MOST_TASKS, MOST_ROWS = 60, 300
ROUNDS, SETTLED = 8, 0.1
"""Trees are grown anew at most so often, as long as the noise around them falls by this share."""
EPISODES = 40
LARGEST = 2
"""Numbers of rows at which habits are compared: the largest that tasks allow."""
CLEAR, WORTH = 1.0, 0.01
"""Standard errors, and share of the loss, by which growing must be better than not growing."""

Unseen = tuple[Mapping[str, np.ndarray], Data]
"""Params, and tasks that they have not seen."""


@dataclass(frozen=True, slots=True)
class Growth:
    """Habits as ``grow/...`` params, whether they are worth it, and a sentence."""

    params: dict[str, np.ndarray]
    grows: bool
    reason: str


def without_growth(features: int, kind: str) -> dict[str, np.ndarray]:
    """Return habits of a tree that stays as it is."""
    return _habits(_Learned(EFFECT[kind], np.full(features, -np.log(features)), 1.0), BROAD, LEAST, 0)


def learn_growth(
    unseen: Sequence[Unseen],
    *,
    kind: str,
    shots: int | tuple[int, int] | None,
    must: bool = False,
    seed: int = 0,
) -> Growth:
    """Learn habits of growing.

    Parameters
    ----------
    unseen
        Params of `upstairs.inner.prior_tree.PriorTree` and tasks that they have not seen, for each fold.
    kind
        "regression" or "classification".
    shots
        Support rows that the prior is for.
    must
        Whether not to grow is no choice.
    seed
        Draws tasks and rows.
    """
    features = unseen[0][1].x.shape[1]
    stay = without_growth(features, kind)
    seen = [_settled(params, data, kind, seed) for params, data in unseen]
    if not any(fold.splits for fold in seen) and not must:
        return Growth(stay, False, "trees do not grow on a task's own rows: no split was worth it")
    tried: list[tuple[float, int]] = [(split, least) for split in PICKY for least in LEAST_TRIED]
    losses: list[dict[int, np.ndarray]] = [{} for _ in range(1 + len(tried))]
    for number, (params, data) in enumerate(unseen):
        known = _learned(seen[:number] + seen[number + 1 :] or seen, features, kind)
        habits = [stay] + [_habits(known, split, least, MOST) for split, least in tried]
        for k, grow in enumerate(habits):
            for size, loss in _losses({**params, **grow}, data, kind, shots, grows=k > 0).items():
                losses[k][size] = np.concatenate([losses[k].get(size, np.zeros(0)), loss])
    known = _learned(seen, features, kind)
    if not losses[0]:
        growing = _habits(known, BROAD, LEAST, MOST if must else 0)
        return Growth(growing, must, "too few rows to compare ways of growing")
    tables = np.array(
        [np.concatenate([loss / losses[0][size].mean() for size, loss in each.items()]) for each in losses]
    )
    mean = tables.mean(axis=1)
    best = 1 + int(np.argmin(mean[1:]))
    tasks = max(len(loss) for loss in losses[0].values())
    error = float((tables[best] - tables[0]).std() / np.sqrt(tasks))
    split, least = tried[best - 1]
    grown = _habits(known, split, least, MOST)
    said = f"{mean[best] - 1.0:+.1%} +- {error:.1%} loss on unseen tasks with {min(losses[0])} to {max(losses[0])} rows"
    if must or mean[0] - mean[best] > max(CLEAR * error, WORTH):
        return Growth(grown, True, f"trees grow on a task's own rows, at least {least} on a side ({said})")
    return Growth(stay, False, f"trees do not grow on a task's own rows ({said} if they did)")


@dataclass(frozen=True, slots=True)
class _Learned:
    """Variance of an effect, log probability of every feature, and the noise around grown trees."""

    effect: float
    feature: Float[np.ndarray, " feature"]
    noise: float


@dataclass(frozen=True, slots=True)
class _Seen:
    """Feature and mean squared effect of splits, and the noise around the trees that they belong to."""

    splits: list[tuple[int, float]]
    noise: float


def _habits(known: _Learned, split: float, least: int, most: int) -> dict[str, np.ndarray]:
    return {
        "grow/effect": np.array(known.effect),
        "grow/split": np.array(split),
        "grow/feature": known.feature,
        "grow/least": np.array(float(least)),
        "grow/most": np.array(float(most)),
        "grow/noise": np.array([known.noise]),
    }


def _settled(params: Mapping[str, np.ndarray], data: Data, kind: str, seed: int) -> _Seen:
    """Grow trees of unseen tasks again and again, each time with the noise and the effects that the last ones showed."""
    features = data.x.shape[1]
    noise = float(params["noise"][0]) if kind == "regression" else 1.0
    known = _Learned(EFFECT[kind], np.full(features, -np.log(features)), noise)
    found = _Seen([], noise)
    for _ in range(ROUNDS):
        found = _grown({**params, **_habits(known, BROAD, LEAST, MOST)}, data, kind, seed)
        last, known = known, _learned([found], features, kind)
        if not found.splits or known.noise > (1.0 - SETTLED) * last.noise:
            break
    return found


def _grown(params: Mapping[str, np.ndarray], data: Data, kind: str, seed: int) -> _Seen:
    """Look at the trees that unseen tasks grow."""
    rng = np.random.default_rng([seed, 6])
    rule = PriorTree(kind, grows=True)
    learned = params["mean"].shape[-1]
    splits: list[tuple[int, float]] = []
    square, count = 0.0, 0
    for task in rng.permutation(len(data.fold))[:MOST_TASKS]:
        rows = rng.permutation(np.arange(data.offsets[task], data.offsets[task + 1]))[:MOST_ROWS]
        support = Rows(data.x[rows][None], data.y[rows][None], np.ones((1, len(rows)), dtype=bool))
        state = rule.adapt(params, support)
        for number, node in enumerate(state["own"][0].astype(int)):
            weight = state["mean"][0, 0, ..., learned + number]
            root = state["root"][0, 0, ..., learned + number]
            effect = float(np.mean(np.square(weight) + np.square(root).sum(axis=-1)))
            splits.append((int(state["feature"][0, node]), effect))
        predicted = rule.predict(params, state, support.x)
        if isinstance(predicted, Gaussian):  # an expectation-maximisation step for the noise
            square += float((np.square(support.y - predicted.mean) + predicted.variance - state["noise"]).sum())
            count += len(rows)
    return _Seen(splits, square / count if count else 1.0)


def _learned(seen: Sequence[_Seen], features: int, kind: str) -> _Learned:
    """What splits and trees of several folds say together; one split of each feature is taken as seen."""
    splits = [split for fold in seen for split in fold.splits]
    effect = (EFFECT[kind] + sum(square for _, square in splits)) / (1 + len(splits))
    count: Int[np.ndarray, " feature"] = np.bincount([feature for feature, _ in splits], minlength=features)
    feature = np.log((count + 1.0) / (len(splits) + features))
    return _Learned(float(effect), feature, float(np.mean([fold.noise for fold in seen])))


def _losses(
    params: Mapping[str, np.ndarray], data: Data, kind: str, shots: int | tuple[int, int] | None, *, grows: bool
) -> dict[int, np.ndarray]:
    rule = PriorTree(kind, grows)
    counts = np.sort(np.diff(data.offsets))
    asked = list(replays(data, shots, EPISODES))
    if shots is None:  # growing is for many rows: as many as most tasks can spare, too
        asked += list(replays(data, max(2, int(0.7 * counts[len(counts) // 4])), EPISODES))
    found = {}
    for replay in sorted({replay.size: replay for replay in asked}.values(), key=lambda one: -one.size)[:LARGEST]:
        state = rule.adapt(params, Rows(data.x[replay.support], data.y[replay.support], replay.all_support))
        found[replay.size] = replay.loss(rule.predict(params, state, data.x[replay.query]), data.y)
    return found
