"""Decide whether a task is better off without the prior, from its own few rows and what was seen on other tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from upstairs.inner.rule import AdaptationRule, Params, Rows
from upstairs.outer.calibrate import interpolate
from upstairs.tasks.batches import pad

__all__ = ["Verdict", "decide"]

FEWEST_ROWS = 5
"""With fewer rows their scores say nothing, and the prior is kept."""
UNFAMILIAR = 0.5
"""Percentile of familiarity below which a task is called unlike those that the prior has seen."""
CLEAR = float(np.log(3.0))
"""Log odds against the prior from which the evidence counts as clear."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Keep the prior or not, and one sentence that says why."""

    keep: bool
    reason: str


def decide(
    rule: AdaptationRule,
    params: Params,
    x: Float[np.ndarray, "row feature"],
    y: np.ndarray,
    ways: int,
    tables: Mapping[str, np.ndarray],
    familiarity: float | None = None,
) -> Verdict:
    """Compare out-of-row log scores with and without the prior, and add the log prior odds.

    Each row is scored from the other rows, with the prior and with the plain base learner; the sum of differences
    is a pseudo Bayes factor (Gelfand and Dey 1994, section 3). The prior odds at this number of rows were learned on
    validation tasks; a task unlike them (``familiarity`` below `UNFAMILIAR`) gets no odds in favour of the prior. The
    prior is dropped only if the sum says so clearly.
    """
    if len(y) < FEWEST_ROWS:
        return Verdict(True, f"kept the prior: {len(y)} rows are too few to tell, {FEWEST_ROWS} are needed")
    rows = Rows(*pad([(x, y)], len(y)))
    own = rule.own_params(x, y, ways)
    difference = float((rule.row_scores(params, rows) - rule.row_scores(own, rows)).sum())
    odds = interpolate(tables, "guard", len(y), default=0.0)
    if familiarity is not None and familiarity < UNFAMILIAR:
        odds = min(odds, 0.0)
    total = difference + odds
    said = f"rows say {difference:+.1f}, other tasks say {odds:+.1f} (log odds for the prior)"
    if total < -CLEAR:
        return Verdict(False, f"dropped the prior: {said}")
    return Verdict(True, f"kept the prior: {said}")
