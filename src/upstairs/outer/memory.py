"""How much memory a compiled program needs, and how much there is."""

from __future__ import annotations

import pathlib
from typing import Any

import jax

__all__ = ["available", "needed", "said"]

_CGROUP = pathlib.Path("/sys/fs/cgroup")


def needed(compiled: Any) -> int | None:
    """Bytes that a compiled JAX program holds at its peak: arguments, results and all in between; None: unknown.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> program = jax.jit(lambda x: jnp.sin(x) @ x.T).lower(jnp.ones((64, 64))).compile()
    >>> 2 * 4 * 64 * 64 <= needed(program) <= 8 * 4 * 64 * 64
    True
    """
    found = compiled.memory_analysis()
    if found is None:
        return None
    return int(found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes)


def available() -> int | None:
    """Bytes that are free on the device of this process (of a CPU: in the machine and its container); None: unknown."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0) if "bytes_limit" in stats else None
    found = [free for free in (_machine(), _container()) if free is not None]
    return min(found, default=None)


def said(size: float) -> str:
    """Write bytes for people.

    Examples
    --------
    >>> said(3_400_000_000), said(52_000)
    ('3.4 GB', '0.1 MB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _machine() -> int | None:
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def _container() -> int | None:
    try:
        limit, used = ((_CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return None
    return None if limit == "max" else int(limit) - int(used)
