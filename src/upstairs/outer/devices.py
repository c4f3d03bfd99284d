"""Which devices share the tasks of a step: those of this process, or of all processes that were joined."""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from upstairs.outer import processes

__all__ = ["everywhere", "mesh", "one_core_each", "put", "shards"]


def shards(batch: int) -> int:
    """Count the devices that share the tasks of a step: the same number in every process, and no more than give each one task.

    Examples
    --------
    >>> shards(25) == min(25, jax.local_device_count())
    True
    """
    hosts = processes.count()
    return hosts * min(jax.local_device_count(), -(-batch // hosts))


@functools.cache
def mesh(devices: int) -> Mesh:
    """Lay out so many devices along the axis "task", evenly over the processes."""
    of_process: dict[int, list[Any]] = defaultdict(list)
    for device in jax.devices():
        of_process[device.process_index].append(device)
    each = devices // processes.count() if devices > 1 else 1
    chosen = [device for number in sorted(of_process) for device in of_process[number][:each]]
    return Mesh(np.array(chosen), ("task",))


def everywhere(devices: int) -> NamedSharding | None:
    """Where something lies that every one of so many devices holds; None: on the one of this process."""
    return NamedSharding(mesh(devices), PartitionSpec()) if devices > 1 else None


def put(tree: Any, devices: int) -> Any:
    """Put arrays on each of so many devices; in several processes all must hold the same."""
    if processes.count() > 1:
        tree = jax.tree.map(np.asarray, tree)
    return jax.device_put(tree, everywhere(devices))


def one_core_each(devices: int) -> bool:
    """Whether every device of a CPU has one core, so that threads inside an operation would only be in the way."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return jax.default_backend() == "cpu" and devices // processes.count() >= cores
