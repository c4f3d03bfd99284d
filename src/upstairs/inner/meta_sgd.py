"""Meta-SGD: a learned start, and a learned rate for every weight.

References
----------
.. [1] Li, Z., Zhou, F., Chen, F. and Li, H. (2017). Meta-SGD: learning to learn quickly for few-shot learning.
   arXiv 1707.09835; equations 2 and 3, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from upstairs.inner.descent import PerParameterSGD
from upstairs.inner.gradient import Composed, Maml
from upstairs.nets.build import Net

__all__ = ["MetaSGD"]


@final
@dataclass(frozen=True)
class MetaSGD(Composed):
    """Meta-SGD: `Maml` with a learned rate for every weight, so that direction and length of a step are learned [1]_.

    Learned over tasks: as for `Maml`, and ``descent/rate/<name>``, one rate a weight, which may become negative.
    Learned on a task: the weights after the steps. Departure from the paper: rates start at one number (see
    `PerParameterSGD`).

    Parameters
    ----------
    net : Net
        Maps features to the mean of the target, or to the logits of a fixed number of classes.
    ways : int
        Classes; 0 for a regression.
    steps : int
        The paper makes one.
    rate : float
        Where every rate starts.

    Examples
    --------
    >>> from upstairs.nets import NetSpec
    >>> MetaSGD(NetSpec("mlp", (3,), (4,), 1), rate=0.1).inside.descent
    PerParameterSGD(rate=0.1)
    """

    net: Net
    ways: int = 0
    steps: int = 1
    rate: float = 0.05

    @property
    def inside(self) -> Maml:
        """The same with rates of their own."""
        return Maml(self.net, self.ways, self.steps, PerParameterSGD(self.rate))
