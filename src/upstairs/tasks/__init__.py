"""What a task is, and every way to get tasks in."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upstairs.tasks import bundled, synthetic
    from upstairs.tasks.pool import ClassPool
    from upstairs.tasks.scan import scan_tasks
    from upstairs.tasks.store import duplicates
    from upstairs.tasks.store_write import write_store
    from upstairs.tasks.table import Table
    from upstairs.tasks.task import Task
    from upstairs.tasks.taskset import TaskSet, check_disjoint

_PLACES = {
    "ClassPool": "upstairs.tasks.pool",
    "Table": "upstairs.tasks.table",
    "Task": "upstairs.tasks.task",
    "TaskSet": "upstairs.tasks.taskset",
    "check_disjoint": "upstairs.tasks.taskset",
    "duplicates": "upstairs.tasks.store",
    "scan_tasks": "upstairs.tasks.scan",
    "write_store": "upstairs.tasks.store_write",
}

__all__ = [*_PLACES, "bundled", "synthetic"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    if name in ("bundled", "synthetic"):
        return importlib.import_module(f"upstairs.tasks.{name}")
    raise AttributeError(f"module 'upstairs.tasks' has no attribute {name!r}")
