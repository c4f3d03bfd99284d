"""Every learner beside honest baselines, on the same frozen episodes, with paired statistics.

``upstairs.evaluate`` is this package and, called, the function: `upstairs.evaluate.run.evaluate`.
"""

from __future__ import annotations

import sys
from inspect import signature
from types import ModuleType
from typing import Any

from upstairs.evaluate.certificate import Certificate, certify
from upstairs.evaluate.cross_validate import meta_cross_validate
from upstairs.evaluate.curve_result import TaskCurve
from upstairs.evaluate.curves import task_curve
from upstairs.evaluate.effects import Effect
from upstairs.evaluate.episodes import Episode, Episodes, LeftOut, freeze
from upstairs.evaluate.negative_transfer import NegativeTransfer
from upstairs.evaluate.ranks import Ranks
from upstairs.evaluate.replay import replay
from upstairs.evaluate.result import EvaluationResult
from upstairs.evaluate.rope import PracticalDifference
from upstairs.evaluate.run import evaluate
from upstairs.evaluate.summary import Ratio, Row, Summary

__all__ = [
    "Certificate",
    "Effect",
    "Episode",
    "Episodes",
    "EvaluationResult",
    "LeftOut",
    "NegativeTransfer",
    "PracticalDifference",
    "Ranks",
    "Ratio",
    "Row",
    "Summary",
    "TaskCurve",
    "certify",
    "evaluate",
    "freeze",
    "meta_cross_validate",
    "replay",
    "task_curve",
]


class _Callable(ModuleType):
    """Importing a part of this package binds its name in ``upstairs``; the name must stay callable."""

    def __call__(self, *args: Any, **kwargs: Any) -> EvaluationResult:
        return evaluate(*args, **kwargs)


__signature__ = signature(evaluate)
sys.modules[__name__].__class__ = _Callable
