"""The outer optimiser as plain settings: which Optax rule, its rate over the steps, and clipping.

References
----------
.. [1] Jordan, K. et al. (2024). Muon: an optimizer for hidden layers in neural networks (momentum, made orthogonal by Newton and
   Schulz's iteration), as in `optax.contrib.muon`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

import numpy as np

if TYPE_CHECKING:
    import optax

__all__ = ["AnyOptimiser", "Optimiser", "built"]


@final
@dataclass(frozen=True)
class Optimiser:
    """What `built` makes an Optax transformation of; JSON values only, so that a prior can record it.

    Parameters
    ----------
    name : {"adam", "adamw", "sgd", "muon"}
        "muon" moves matrices by momentum that is made orthogonal [1]_, and everything else as Adam does (with Nesterov's
        momentum), at a tenth of the rate; good for transformers, whose rate is then about .015.
    rate : float
        Step size, at its highest.
    schedule : {"constant", "cosine", "linear"}
        How the rate falls to zero over ``steps``.
    steps : int
        Length of the schedule; not needed for a constant rate.
    warmup : int
        Steps over which the rate rises from zero first.
    clip : float, optional
        Most norm of the whole gradient.
    decay : float
        Weight decay of ``"adamw"``.

    Examples
    --------
    >>> Optimiser(rate=0.01, schedule="cosine", steps=100).rate_at(50)
    0.005
    """

    name: Literal["adam", "adamw", "sgd", "muon"] = "adam"
    rate: float = 1e-3
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    steps: int = 0
    warmup: int = 0
    clip: float | None = 10.0
    decay: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in ("adam", "adamw", "sgd", "muon"):
            raise ValueError(
                f"optimiser must be 'adam', 'adamw', 'sgd', 'muon' or an Optax transformation, but is {self.name!r}."
            )
        if self.schedule not in ("constant", "cosine", "linear"):
            raise ValueError(f"schedule must be 'constant', 'cosine' or 'linear', but is {self.schedule!r}.")
        if self.schedule != "constant" and self.steps < 1:
            raise ValueError(f"schedule={self.schedule!r} needs steps, the length of the run, but steps={self.steps}.")

    def rate_at(self, step: int) -> float:
        """Return the step size at a step."""
        return round(float(self._rate(np.float64(step), np)), 12)

    def _rate(self, step: Any, xp: Any) -> Any:
        warm = xp.minimum(1.0, (step + 1.0) / self.warmup) if self.warmup else 1.0
        share = xp.clip((step - self.warmup) / max(self.steps - self.warmup, 1), 0.0, 1.0)
        fall = {"constant": 1.0, "linear": 1.0 - share, "cosine": 0.5 * (1.0 + xp.cos(np.pi * share))}
        return self.rate * warm * fall[self.schedule]


AnyOptimiser: TypeAlias = "Optimiser | optax.GradientTransformation"


def built(optimiser: AnyOptimiser) -> optax.GradientTransformation:
    """Return the Optax transformation of some settings, or the one that was given.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> rule = built(Optimiser("sgd", rate=0.5))
    >>> update, _ = rule.update(jnp.ones(2), rule.init(jnp.zeros(2)))
    >>> update.tolist()
    [-0.5, -0.5]
    """
    if not isinstance(optimiser, Optimiser):
        return optimiser
    import jax.numpy as jnp
    import optax
    import optax.contrib

    def rate(step: Any) -> Any:
        return optimiser._rate(step, jnp)

    rules: dict[str, Any] = {
        "adam": lambda: optax.adam(rate),
        "adamw": lambda: optax.adamw(rate, weight_decay=optimiser.decay),
        "sgd": lambda: optax.sgd(rate),
        "muon": lambda: optax.contrib.muon(rate, adam_learning_rate=lambda step: 0.1 * rate(step)),
    }
    rule = rules[optimiser.name]()
    return rule if optimiser.clip is None else optax.chain(optax.clip_by_global_norm(optimiser.clip), rule)
