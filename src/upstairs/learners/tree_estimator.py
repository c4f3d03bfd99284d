"""What the two estimators of decision trees share: rows in, settings or a learned tree applied, one tree."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

from upstairs.inner.rule import PlainRule
from upstairs.inner.smoothed_tree import CRITERIA, SmoothedTree
from upstairs.learners.argument_checks import EQUAL, agrees_on_weights
from upstairs.learners.experienced import ExperiencedEstimator
from upstairs.learners.reading import ReadableTree
from upstairs.learners.tree_arguments import as_numbers, check_arguments
from upstairs.outer.trials import Settings
from upstairs.prior import Prior

__all__ = ["FAMILY", "TreeEstimator"]

FAMILY = "decision-tree"


class TreeEstimator(ReadableTree, ExperiencedEstimator, abc.ABC):
    """What classifier and regressor share; a prior is experience with settings, or a tree that tasks share."""

    _family = FAMILY
    _learned_on_columns = "the tree was learned on these columns"
    max_depth: int | str | None
    min_samples_leaf: int | float | None
    min_samples_split: int | float | None
    criterion: str | None
    max_features: int | float | str | None
    ccp_alpha: float | None
    smoothing: float | None

    def _check(self, given: Mapping[str, Any]) -> None:
        check_arguments(given, self._kind)

    def _rule(self) -> PlainRule:
        return SmoothedTree(self._kind)

    def _numbers(self, settings: Mapping[str, Any], classes: list[Any], scale: float) -> dict[str, float]:
        return as_numbers(settings, classes, self._kind)

    def _agrees(self, settings: Settings, given: Mapping[str, Any]) -> bool:
        usual = CRITERIA[self._kind][0]
        if "criterion" in given and settings.get("criterion", usual) != given["criterion"]:
            return False
        return agrees_on_weights(settings, given)

    def _joined(self, settings: dict[str, Any], given: Mapping[str, Any], prior: Prior) -> dict[str, Any]:
        if given.get("class_weight", EQUAL) != EQUAL:  # the user's weights say how decisions are made
            settings.pop("decision_power", None)
        spread = prior.settings.get("spread")
        return {**settings, **given, **({} if spread is None else {"spread": spread})}

    def _refused_with_columns(self) -> tuple[str, ...]:
        return tuple(name for name in self._explicit() if name not in ("max_depth", "min_samples_leaf"))
