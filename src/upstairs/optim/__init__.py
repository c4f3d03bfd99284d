"""Learned descent as Optax transformations, families of losses to learn it on, and rates that tune themselves."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upstairs.inner.descent import SGD, Adam, Descent
    from upstairs.inner.learned_rates import LearnedAdam, LearnedSGD
    from upstairs.inner.preconditioner import Kronecker
    from upstairs.inner.trajectory import Objective
    from upstairs.inner.update_lstm import UpdateLSTM
    from upstairs.inner.update_network import UpdateNetwork
    from upstairs.optim.hypergradient import hypergradient_adam, hypergradient_sgd
    from upstairs.optim.learned import from_prior, run, transformation
    from upstairs.optim.shipped import PRETRAINED, pretrained
    from upstairs.outer.problems import Problems

_PLACES = {
    "PRETRAINED": "upstairs.optim.shipped",
    "SGD": "upstairs.inner.descent",
    "Adam": "upstairs.inner.descent",
    "Descent": "upstairs.inner.descent",
    "Kronecker": "upstairs.inner.preconditioner",
    "LearnedAdam": "upstairs.inner.learned_rates",
    "LearnedSGD": "upstairs.inner.learned_rates",
    "Objective": "upstairs.inner.trajectory",
    "Problems": "upstairs.outer.problems",
    "UpdateLSTM": "upstairs.inner.update_lstm",
    "UpdateNetwork": "upstairs.inner.update_network",
    "from_prior": "upstairs.optim.learned",
    "hypergradient_adam": "upstairs.optim.hypergradient",
    "hypergradient_sgd": "upstairs.optim.hypergradient",
    "pretrained": "upstairs.optim.shipped",
    "run": "upstairs.optim.learned",
    "transformation": "upstairs.optim.learned",
}

__all__ = [*_PLACES]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        value = getattr(importlib.import_module(_PLACES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'upstairs.optim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
