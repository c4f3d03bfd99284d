"""Models as Equinox modules (a user's own may be of Flax NNX), and the flat dictionaries of arrays that a prior holds of them."""

from __future__ import annotations

from upstairs.nets.build import Net, NetSpec, OwnNet, TemplateNet, forward
from upstairs.nets.nnx import NnxNet

__all__ = ["Net", "NetSpec", "NnxNet", "OwnNet", "TemplateNet", "forward"]
