"""From a prior and encoded rows to adapted tasks, many at once: the one way that every estimator goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from upstairs.inner.rule import AdaptationRule, Params, PlainRule, Prediction, Rows, State
from upstairs.learners.guard import decide
from upstairs.outer.calibrate import percentile
from upstairs.tasks.batches import BATCH_CELLS, bucket, pad
from upstairs.tasks.encoder import Encoder

__all__ = ["Adapted", "Situation", "adapt_all", "more_rows", "predict_rows", "steps_on"]


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that is known before the rows of a task are seen.

    ``rule`` and ``params`` are how a task is learned from the prior; ``params`` is None without one, and every task
    is then learned by ``plain``, the base learner, which guard falls back to as well. ``tables`` holds what was
    learned on validation tasks about scores and odds at several numbers of rows; ``settings`` what the user
    set explicitly.
    """

    rule: AdaptationRule
    plain: PlainRule
    params: Params | None
    encoder: Encoder | None
    ways: int
    center: float = 0.0
    scale: float = 1.0
    tables: Mapping[str, np.ndarray] = field(default_factory=dict)
    settings: Mapping[str, float] = field(default_factory=dict)

    @property
    def updates(self) -> bool:
        """Whether more rows can be learned exactly."""
        return self.params is not None and self.rule.updates


class Adapted(NamedTuple):
    """One task, learned: what `predict_rows` needs, and what is said about it."""

    rule: AdaptationRule
    params: Params
    state: State
    rows: int
    used_prior: bool = True
    familiarity: float | None = None
    reason: str = ""


def adapt_all(
    situation: Situation,
    xs: Sequence[Float[np.ndarray, "_ feature"]],
    ys: Sequence[Shaped[np.ndarray, " _"]],
    *,
    guard: bool = False,
    weights: Sequence[Float[np.ndarray, " _"]] | None = None,
) -> list[Adapted]:
    """Learn tasks from their encoded rows; tasks of similar size and equal ways share a batch.

    Parameters
    ----------
    situation
        The prior, or the lack of one.
    xs, ys
        Encoded rows and standardised targets (or class numbers) of every task.
    guard
        Whether a task may fall back to the plain base learner, see `upstairs.learners.guard`.
    weights
        What every row counts, for rules that know weights.
    """
    found: list[Adapted | None] = [None] * len(xs)
    each_weight: Sequence[np.ndarray | None] = [None] * len(xs) if weights is None else weights
    if situation.params is None:
        return [_own(situation, x, y, w) for x, y, w in zip(xs, ys, each_weight, strict=True)]
    params = situation.rule.override(situation.params, situation.settings)
    alike: dict[tuple[int, int], list[int]] = {}
    buckets = {rows: bucket(rows) for rows in {len(y) for y in ys}}
    for number, y in enumerate(ys):
        alike.setdefault((buckets[len(y)], _ways(situation, y)), []).append(number)
    for (size, _), numbers in alike.items():
        most = max(1, BATCH_CELLS // max(1, size * xs[numbers[0]].shape[1]))
        for start in range(0, len(numbers), most):
            part = numbers[start : start + most]
            longest = max(len(ys[n]) for n in part) or 1
            batch = Rows(*pad([(xs[n], ys[n]) for n in part], longest), _padded(weights, part, longest))
            state = situation.rule.adapt(params, batch)
            familiarity = _familiarity(situation, batch, state)
            each = zip(*(array[:, None] for array in state.values()), strict=True)
            for number, arrays, percent in zip(part, each, familiarity, strict=True):
                own_state = dict(zip(state, arrays, strict=True))
                found[number] = Adapted(situation.rule, params, own_state, len(ys[number]), True, percent)
    results = [entry for entry in found if entry is not None]
    if not guard:
        return results
    return [_guarded(situation, entry, x, y, w) for entry, x, y, w in zip(results, xs, ys, each_weight, strict=True)]


def predict_rows(adapted: Adapted, x: Float[np.ndarray, "row feature"]) -> Prediction:
    """Predict encoded rows of one adapted task; the task axis of the result has length one."""
    return adapted.rule.predict(adapted.params, adapted.state, x[None])


def more_rows(adapted: Adapted, x: Float[np.ndarray, "row feature"], y: np.ndarray, forgetting: float = 1.0) -> Adapted:
    """Learn further rows exactly into an adapted task.

    Parameters
    ----------
    adapted, x, y
        The task, and encoded rows in their order.
    forgetting
        What a row counts after one more row; below 1 only for a rule that offers `upstairs.inner.rule.AdaptationRule.faded`.
    """
    rows, state = Rows(*pad([(x, y)], len(y))), adapted.state
    if forgetting < 1.0:
        faded = adapted.rule.faded(state, forgetting ** len(y))
        assert faded is not None, "only called where the rule forgets"
        rows, state = replace(rows, weight=forgetting ** np.arange(len(y) - 1, -1, -1.0)[None]), faded
    learned = adapted.rule.update(adapted.params, state, rows)
    assert learned is not None, "only called where the rule offers an exact update"
    return adapted._replace(state=learned, rows=adapted.rows + len(y))


def steps_on(adapted: Adapted, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"]) -> Adapted:
    """Go on from where an adapted task stands, by as many steps down the loss of these rows as a new task takes.

    Parameters
    ----------
    adapted
        Of a rule that offers `upstairs.inner.rule.AdaptationRule.onward`.
    x, y
        Encoded rows of the task.
    """
    params = adapted.rule.onward(adapted.params, adapted.state)
    assert params is not None, "only called where the rule starts from weights"
    return adapted._replace(state=adapted.rule.adapt(params, Rows(*pad([(x, y)], len(y)))), rows=len(y))


def _ways(situation: Situation, y: np.ndarray) -> int:
    """Count the classes of a task: known with shared labels, from its class numbers with labels of its own, else 0."""
    return situation.ways or (int(y.max()) + 1 if y.dtype.kind == "i" and len(y) else 0)


def _padded(
    weights: Sequence[np.ndarray] | None, part: Sequence[int], longest: int
) -> Float[np.ndarray, "task row"] | None:
    if weights is None:
        return None
    return np.stack([np.pad(weights[n], (0, longest - len(weights[n]))) for n in part])


def _own(
    situation: Situation,
    x: Float[np.ndarray, "row feature"],
    y: np.ndarray,
    weight: Float[np.ndarray, " row"] | None = None,
) -> Adapted:
    plain = situation.plain
    params = plain.override(plain.own_params(x, y, _ways(situation, y)), situation.settings)
    state = plain.adapt(params, Rows(*pad([(x, y)], len(y)), None if weight is None else weight[None]))
    return Adapted(plain, params, state, len(y), used_prior=False)


def _familiarity(situation: Situation, batch: Rows, state: State) -> list[float | None]:
    """Percentile of every task under the prior as it was learned, whatever the user set."""
    counts = batch.counts
    found: list[float | None] = [None] * len(counts)
    if "familiarity/scores" not in situation.tables:
        return found
    assert situation.params is not None
    scores = situation.rule.evidence(situation.params, batch, None if situation.settings else state)
    for rows in set(counts.tolist()) - {0}:
        alike = np.flatnonzero(counts == rows)
        for place, value in zip(alike, percentile(situation.tables, rows, scores[alike]).tolist(), strict=True):
            found[place] = value
    return found


def _guarded(
    situation: Situation,
    adapted: Adapted,
    x: Float[np.ndarray, "row feature"],
    y: np.ndarray,
    weight: Float[np.ndarray, " row"] | None,
) -> Adapted:
    ways = _ways(situation, y)
    choice = decide(situation.rule, situation.plain, adapted.params, x, y, ways, situation.tables, adapted.familiarity)
    if choice.keep:
        return adapted._replace(reason=choice.reason)
    return _own(situation, x, y, weight)._replace(familiarity=adapted.familiarity, reason=choice.reason)
