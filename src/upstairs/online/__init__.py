"""Streams: the world changes, and comes back."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upstairs.online.detection import Detection, declared_rows, judge_changes
    from upstairs.online.detectors import DriftDetector
    from upstairs.online.drift import Stream, abrupt, gradual, in_turn, incremental, recurring, sinusoid_bands
    from upstairs.online.forgetful import ForgetfulClassifier, ForgetfulRegressor
    from upstairs.online.learner import OnlineMetaLearner
    from upstairs.online.metrics import forgetting, forward_transfer, regret, rows_back, rows_to_recover, segments_of
    from upstairs.online.naive import Average, NoChange
    from upstairs.online.sensitivity import Sensitivity, learn_sensitivity
    from upstairs.online.sources import frame_chunks, river_chunks
    from upstairs.online.stream import StreamResult, chunks, prequential

_PLACES = {
    "Average": "naive",
    "Detection": "detection",
    "DriftDetector": "detectors",
    "ForgetfulClassifier": "forgetful",
    "ForgetfulRegressor": "forgetful",
    "NoChange": "naive",
    "OnlineMetaLearner": "learner",
    "Sensitivity": "sensitivity",
    "Stream": "drift",
    "StreamResult": "stream",
    "abrupt": "drift",
    "chunks": "stream",
    "declared_rows": "detection",
    "forgetting": "metrics",
    "forward_transfer": "metrics",
    "frame_chunks": "sources",
    "gradual": "drift",
    "in_turn": "drift",
    "incremental": "drift",
    "judge_changes": "detection",
    "learn_sensitivity": "sensitivity",
    "prequential": "stream",
    "recurring": "drift",
    "regret": "metrics",
    "river_chunks": "sources",
    "rows_back": "metrics",
    "rows_to_recover": "metrics",
    "segments_of": "metrics",
    "sinusoid_bands": "drift",
}

__all__ = [*_PLACES]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        value = getattr(importlib.import_module(f"upstairs.online.{_PLACES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'upstairs.online' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
