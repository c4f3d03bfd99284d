"""First-order MAML under a name of its own.

References
----------
.. [1] Finn, C., Abbeel, P. and Levine, S. (2017). Model-agnostic meta-learning for fast adaptation of deep
   networks. ICML; section 5.2.
.. [2] Nichol, A., Achiam, J. and Schulman, J. (2018). On first-order meta-learning algorithms. arXiv 1803.02999;
   section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from upstairs.inner.descent import DEFAULT, Descent
from upstairs.inner.gradient import Composed, Maml
from upstairs.nets.build import Net

__all__ = ["FirstOrderMaml"]


@final
@dataclass(frozen=True)
class FirstOrderMaml(Composed):
    """MAML whose outer gradient leaves second derivatives out [1]_, [2]_; on a task it is `Maml`.

    Parameters
    ----------
    net, ways, steps, descent
        As for `Maml`.

    Examples
    --------
    >>> from upstairs.nets import NetSpec
    >>> FirstOrderMaml(NetSpec("mlp", (3,), (4,), 1)).inside.first_order
    True
    """

    net: Net
    ways: int = 0
    steps: int = 5
    descent: Descent = DEFAULT

    @property
    def inside(self) -> Maml:
        """The same with ``first_order``."""
        return Maml(self.net, self.ways, self.steps, self.descent, first_order=True)
