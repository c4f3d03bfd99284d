"""Learn over tasks how a tree grows on a task's own rows: how much a split does, on which features, and whether at all.

Trees of unseen tasks are grown with broad habits first; what their splits did and where gives the variance of an effect and
the probability of every feature. Habits are then compared, "not at all" among them, on tasks whose trees they have not
seen, at numbers of rows at which growing can be told from not growing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from upstairs.inner.prior_tree import PriorTree
from upstairs.inner.rule import Rows
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
EPISODES = 60
LARGEST = 3
"""Numbers of rows at which habits are compared: the largest that tasks allow."""
CLEAR = 1.0
"""Standard errors by which growing must be better than not growing."""

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
    return _habits(EFFECT[kind], BROAD, np.full(features, -np.log(features)), LEAST, 0)


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
    seen = [_splits(params, data, kind, seed) for params, data in unseen]
    together = [split for fold in seen for split in fold]
    stay = without_growth(features, kind)
    if not together and not must:
        return Growth(stay, False, "trees do not grow on a task's own rows: no split was worth it")
    tried: list[tuple[float, int]] = [(split, least) for split in PICKY for least in LEAST_TRIED]
    losses: list[dict[int, np.ndarray]] = [{} for _ in range(1 + len(tried))]
    for number, (params, data) in enumerate(unseen):
        others = [split for fold in seen[:number] + seen[number + 1 :] for split in fold] or together
        effect, feature = _learned(others, features, kind)
        habits = [stay] + [_habits(effect, split, feature, least, MOST) for split, least in tried]
        for k, grow in enumerate(habits):
            for size, loss in _losses({**params, **grow}, data, kind, shots, grows=k > 0).items():
                losses[k][size] = np.concatenate([losses[k].get(size, np.zeros(0)), loss])
    effect, feature = _learned(together, features, kind)
    if not losses[0]:
        return Growth(
            stay | _habits(effect, BROAD, feature, LEAST, MOST if must else 0), must, "too few rows to compare"
        )
    tables = np.array(
        [np.concatenate([loss / losses[0][size].mean() for size, loss in each.items()]) for each in losses]
    )
    mean = tables.mean(axis=1)
    best = 1 + int(np.argmin(mean[1:]))
    tasks = max(len(loss) for loss in losses[0].values())
    error = float((tables[best] - tables[0]).std() / np.sqrt(tasks))
    split, least = tried[best - 1]
    grown = _habits(effect, split, feature, least, MOST)
    said = f"{mean[best] - 1.0:+.1%} +- {error:.1%} loss on unseen tasks with {min(losses[0])} to {max(losses[0])} rows"
    if must or mean[0] - mean[best] > CLEAR * error:
        return Growth(grown, True, f"trees grow on a task's own rows, at least {least} on a side ({said})")
    return Growth(stay, False, f"trees do not grow on a task's own rows ({said} if they did)")


def _habits(
    effect: float, split: float, feature: Float[np.ndarray, " feature"], least: int, most: int
) -> dict[str, Any]:
    return {
        "grow/effect": np.array(effect),
        "grow/split": np.array(split),
        "grow/feature": feature,
        "grow/least": np.array(float(least)),
        "grow/most": np.array(float(most)),
    }


def _splits(params: Mapping[str, np.ndarray], data: Data, kind: str, seed: int) -> list[tuple[int, float]]:
    """Feature and mean squared effect of the splits that unseen tasks make with broad habits."""
    features = data.x.shape[1]
    broad = {**params, **_habits(EFFECT[kind], BROAD, np.full(features, -np.log(features)), LEAST, MOST)}
    rng = np.random.default_rng([seed, 6])
    rule = PriorTree(kind, grows=True)
    learned = params["mean"].shape[-1]
    found = []
    for task in rng.permutation(len(data.fold))[:MOST_TASKS]:
        rows = rng.permutation(np.arange(data.offsets[task], data.offsets[task + 1]))[:MOST_ROWS]
        state = rule.adapt(broad, Rows(data.x[rows][None], data.y[rows][None], np.ones((1, len(rows)), dtype=bool)))
        for number, node in enumerate(state["own"][0].astype(int)):
            weight = state["mean"][0, 0, ..., learned + number]
            root = state["root"][0, 0, ..., learned + number]
            square = float(np.mean(np.square(weight) + np.square(root).sum(axis=-1)))
            found.append((int(state["feature"][0, node]), square))
    return found


def _learned(
    splits: Sequence[tuple[int, float]], features: int, kind: str
) -> tuple[float, Float[np.ndarray, " feature"]]:
    """Variance of an effect, and log probabilities of features (one split of each is taken as seen)."""
    effect = (EFFECT[kind] + sum(square for _, square in splits)) / (1 + len(splits))
    count: Int[np.ndarray, " feature"] = np.bincount([feature for feature, _ in splits], minlength=features)
    return float(effect), np.log((count + 1.0) / (len(splits) + features))


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
