"""A learned update rule as an Optax gradient transformation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from upstairs.errors import PriorMismatchError
from upstairs.inner.descent import Descent
from upstairs.outer.problems import named, unnamed
from upstairs.prior import Prior
from upstairs.values import restored

__all__ = ["LearnedState", "from_prior", "rule_of", "run", "transformation"]


_ORIGIN = "origin/"


class LearnedState(NamedTuple):
    """State of a learned transformation.

    ``hyperparams["scale"]`` multiplies every step and may be changed between steps, as with
    `optax.inject_hyperparams`; the other entries show what was learned, in natural units.
    """

    count: Int[Array, ""]  # type: ignore[assignment]  # a tuple has a method of that name
    hyperparams: dict[str, Array]
    memory: dict[str, Array]


def transformation(
    descent: Descent, settings: Mapping[str, Any] | None = None, penalties: Mapping[str, Any] | None = None
) -> optax.GradientTransformation:
    """Turn an update rule into a gradient transformation.

    Parameters
    ----------
    descent : Descent
        From `upstairs.inner`.
    settings : mapping of arrays, optional
        What was learned. None: as before learning.
    penalties : mapping of arrays, optional
        Logs of learned penalties on the squared distance from the start, one an array of weights.

    Returns
    -------
    optax.GradientTransformation
        Its ``update`` needs the weights (``params``). Its updates are to be added, as always in Optax.

    Raises
    ------
    PriorMismatchError
        At ``init``, if what was learned belongs to weights of other names or shapes.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from upstairs.inner.learned_rates import LearnedSGD
    >>> rule = transformation(LearnedSGD(0.5, momentum=None))
    >>> weights = jnp.ones(2)
    >>> state = rule.init(weights)
    >>> updates, state = rule.update(weights, state, weights)
    >>> [round(value, 4) for value in updates.tolist()], round(float(state.hyperparams["rate"]), 4)
    ([-0.5, -0.5], 0.5)
    """
    held = None if settings is None else {name: np.asarray(array) for name, array in settings.items()}
    pull = {name: np.exp(array) for name, array in (penalties or {}).items()}

    def learned(weights: Mapping[str, Array]) -> dict[str, Array]:
        if held is None:
            return descent.settings(weights)
        return {name: jnp.asarray(array) for name, array in held.items()}

    def init(params: Any) -> LearnedState:
        weights = named(params)
        if held is not None:
            _check_fits(descent, weights, held)
        settings = learned(weights)
        return LearnedState(
            jnp.zeros((), jnp.int32),
            {"scale": jnp.ones(())} | descent.shown(settings),
            descent.init(settings, weights) | {f"{_ORIGIN}{name}": weights[name] for name in pull},
        )

    def update(updates: Any, state: LearnedState, params: Any = None) -> tuple[Any, LearnedState]:
        if params is None:
            raise ValueError("update: a learned rule needs the weights; call update(gradient, state, params).")
        weights, gradient = named(params), named(updates)
        origin = {name: array for name, array in state.memory.items() if name.startswith(_ORIGIN)}
        for name, strength in pull.items():
            gradient[name] = gradient[name] + strength * (weights[name] - origin[f"{_ORIGIN}{name}"])
        memory = {name: array for name, array in state.memory.items() if name not in origin}
        new, memory = descent.update(learned(weights), memory, gradient, weights)
        scale = state.hyperparams["scale"]
        moved = {name: (scale * (new[name] - array)).astype(array.dtype) for name, array in weights.items()}
        return unnamed(moved, jax.tree.structure(params)), LearnedState(
            state.count + 1, state.hyperparams, memory | origin
        )

    return optax.GradientTransformation(init, update)


def from_prior(prior: Prior) -> optax.GradientTransformation:
    """Return what `MetaGradientDescent` learned as a gradient transformation.

    Parameters
    ----------
    prior : Prior

    Raises
    ------
    PriorMismatchError
        If the prior is of another family.
    """
    descent, settings = rule_of(prior)
    return transformation(descent, settings, _part(prior, "penalty"))


def rule_of(prior: Prior) -> tuple[Descent, dict[str, np.ndarray]]:
    """Return the update rule of a prior and what was learned about it.

    Parameters
    ----------
    prior : Prior

    Raises
    ------
    PriorMismatchError
        If the prior is of another family.
    """
    if not isinstance(prior, Prior) or prior.family != "gradient-descent":
        raise PriorMismatchError(f"This needs the prior of a MetaGradientDescent, but got {prior!r}; pass meta.prior_.")
    of_losses = prior.settings["kind"] == "loss"
    described = prior.settings["descent"] if of_losses else prior.settings["options"]["descent"]
    return restored(described), _part(prior, "descent")


def run(
    rule: optax.GradientTransformation, loss: Callable[..., Any], start: Any, steps: int, *, key: Any = None
) -> tuple[Any, Float[Array, " step"]]:
    """Train weights down a loss with any Optax transformation, in one compiled loop.

    Parameters
    ----------
    rule : optax.GradientTransformation
    loss : callable
        Of the weights; with ``key``, of the weights and a random key.
    start : pytree of arrays
    steps : int
    key : random key, optional

    Returns
    -------
    weights : pytree as ``start``
    losses : array of shape (steps + 1,)
        At the start and after every step.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> weights, losses = run(optax.sgd(0.25), lambda w: (w**2).sum(), jnp.ones(1), 2)
    >>> weights.tolist(), losses.tolist()
    ([0.25], [1.0, 0.25, 0.0625])
    """
    slope = jax.value_and_grad(loss)

    def arguments(number: Any) -> tuple[Any, ...]:
        return () if key is None else (jax.random.fold_in(key, number),)

    def step(carry: Any, number: Array) -> tuple[Any, Array]:
        weights, state = carry
        value, gradient = slope(weights, *arguments(number))
        updates, state = rule.update(gradient, state, weights)
        return (optax.apply_updates(weights, updates), state), value

    @jax.jit
    def whole(start: Any) -> tuple[Any, Array]:
        (weights, _), losses = jax.lax.scan(step, (start, rule.init(start)), jnp.arange(steps))
        return weights, jnp.append(losses, loss(weights, *arguments(steps)))

    return whole(jax.tree.map(jnp.asarray, start))


def _part(prior: Prior, kind: str) -> dict[str, np.ndarray]:
    lead = f"params/{kind}/"
    return {name[len(lead) :]: array for name, array in prior.arrays.items() if name.startswith(lead)}


def _check_fits(descent: Descent, weights: Mapping[str, Array], held: Mapping[str, np.ndarray]) -> None:
    needed = jax.eval_shape(descent.settings, {name: jnp.asarray(array) for name, array in weights.items()})
    for name, array in needed.items():
        if name not in held or held[name].shape != array.shape:
            said = f"has shape {held[name].shape}" if name in held else "was not learned"
            raise PriorMismatchError(
                f"This rule needs {name!r} of shape {array.shape} for these weights, but it {said}; it belongs to weights of other "
                "names or shapes: use it on those, or learn a rule that serves any ('network', or 'sgd' and 'adam' with per='all')."
            )
