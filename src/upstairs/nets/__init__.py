"""Models as Equinox modules, and the flat dictionaries of arrays that a prior holds of them."""

from __future__ import annotations

from upstairs.nets.build import Net, NetSpec, OwnNet, forward

__all__ = ["Net", "NetSpec", "OwnNet", "forward"]
