"""A network that computes in bfloat16, while its arrays, and all that is made of its results, stay in float32."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, final

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from upstairs.nets.build import Arrays, Net

__all__ = ["HalfNet", "computing"]


@final
@dataclass(frozen=True)
class HalfNet(Net):
    """Another network, computed in bfloat16: half the memory of what is kept for the way back, less exact.

    Weights, their steps, losses and heads stay in float32; only the maps from rows to outputs (and their derivatives)
    are rounded. It pays on accelerators; most CPUs compute bfloat16 more slowly than float32.

    Parameters
    ----------
    net : Net

    Examples
    --------
    >>> import jax
    >>> from upstairs.nets import NetSpec
    >>> net = NetSpec("mlp", (3,), (8,), 2)
    >>> arrays, x = net.init(jax.random.key(0)), jnp.ones((5, 3))
    >>> half = HalfNet(net)(arrays, x)
    >>> str(half.dtype), 0 < float(abs(half - net(arrays, x)).max()) < 0.1
    ('float32', True)
    """

    net: Net
    inputs: tuple[int, ...] = dataclasses.field(default=(), init=False)
    outputs: int = dataclasses.field(default=0, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", self.net.inputs)
        object.__setattr__(self, "outputs", self.net.outputs)

    @property
    def heavy(self) -> bool:
        """Whether tasks with weights of their own go one after another."""
        return self.net.heavy

    def init(self, key: PRNGKeyArray) -> dict[str, Array]:
        """Draw fresh arrays, in float32."""
        return self.net.init(key)

    def module(self, arrays: Arrays) -> Any:
        """Put rounded arrays into the structure."""
        return self.net.module({name: array.astype(jnp.bfloat16) for name, array in arrays.items()})

    def _map(self, module: Any, x: Array, mask: Array | None) -> Array:
        return self.net._map(module, x.astype(jnp.bfloat16), mask).astype(jnp.float32)


def computing(net: Net, precision: str) -> Net:
    """Return the network that is trained: in "bfloat16" one that computes so, in "float32" the network itself."""
    return HalfNet(net) if precision == "bfloat16" else net
