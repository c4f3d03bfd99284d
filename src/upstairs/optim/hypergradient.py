"""Hypergradient descent: Optax transformations that correct their own rate while they descend, with no meta-training."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

__all__ = ["Form", "HypergradientState", "hypergradient_adam", "hypergradient_sgd"]

Form: TypeAlias = Literal["additive", "multiplicative"]
Tree: TypeAlias = Any
"""Arrays in any pytree, of the shapes of the weights."""
Start: TypeAlias = Callable[[Tree], dict[str, Tree]]
Step: TypeAlias = Callable[[Tree, dict[str, Tree], Array], tuple[Tree, Tree, dict[str, Tree]]]

SGD_HYPER_RATE = 1e-3
ADAM_HYPER_RATE = 1e-7
HYPER_RATE = 0.4
LEAST_SHARE = 0.1
MEMORY = 0.97
SETTLING = 3.0


class HypergradientState(NamedTuple):
    """What is kept between two steps.

    Parameters
    ----------
    count : scalar
        Steps made so far.
    hyperparams : dict
        ``"learning_rate"``, the rate of the last step, as in ``optax.inject_hyperparams``. Read it, log it or set it.
    moments : dict
        What the rule itself remembers: ``"velocity"`` of SGD with momentum, ``"first"`` and ``"second"`` of Adam.
    direction : pytree
        The last applied direction, update over minus the rate. In the multiplicative form it is the fading sum of all.
    turned : scalar
        Sum of the squares of the negative cosines so far. The multiplicative form corrects less, the larger it is.
    longest : scalar
        Length of the longest gradient so far, which the multiplicative form compares others with.
    """

    count: Int[Array, ""]  # type: ignore[assignment]  # a tuple has a method of this name
    hyperparams: dict[str, Float[Array, ""]]
    moments: dict[str, Tree]
    direction: Tree
    turned: Float[Array, ""]
    longest: Float[Array, ""]


def hypergradient_sgd(
    rate: float | Array,
    *,
    hyper_rate: float | Array | None = None,
    momentum: float | Array = 0.0,
    nesterov: bool = False,
    form: Form = "multiplicative",
) -> optax.GradientTransformation:
    r"""Return gradient descent, with or without momentum, that learns its rate as it goes.

    With gradient :math:`g_t`, applied direction :math:`d_t` (the velocity, with momentum) and weights
    :math:`w_t = w_{t-1} - a_t d_t`, the derivative of the loss by the last rate is :math:`-g_t \cdot d_{t-1}`.
    The rate follows it once a step, over all arrays together. The first step has no hypergradient.

    ``form="additive"`` is the paper's: :math:`a_t = a_{t-1} + b\, g_t \cdot d_{t-1}`. Departure: the rate never falls
    below a tenth of its last value, so that it stays positive. The scale of ``hyper_rate`` depends on the problem.

    ``form="multiplicative"`` is :math:`a_t = a_{t-1} \exp(b\, s(c_t) \sqrt{r_t / (1 + 3 n_t)})`. It does not depend on the
    scale of the loss, and the exponential keeps the rate positive whatever the gradients are. :math:`c_t` is the
    cosine between :math:`g_t` and :math:`z_{t-1} = d_{t-1} + 0.97\, z_{t-2}`. :math:`s(c)` is :math:`c` where that is
    positive and else :math:`-c^2`. :math:`n_t` is the sum of the squares of the negative cosines so far, and
    :math:`r_t` the length of the gradient over that of the longest one so far.
    Departures from the paper, against the bias of a signal that looks one step ahead and lets the rate fall too early:
    directions of about 30 steps count instead of one; slightly negative cosines, which noise brings at the best
    constant rate too, count little; and the rate settles, the more often it has turned and the shorter gradients get.
    The last also keeps a loss without a minimum, such as that of separable classes, from a rate that rises for ever.

    Where the gradient or the memory is zero or not finite, the rate stays as it is.

    Parameters
    ----------
    rate : float
        Where the rate starts. Too small is safer than too large.
    hyper_rate : float, optional
        How far one step may move the rate, :math:`b`. By default 0.4 for the multiplicative form, the most change of
        the logarithm of the rate; 0.001, as in the paper, for the additive one. Zero is the plain rule.
    momentum : float
        Share of the velocity that is kept, in [0, 1).
    nesterov : bool
        Whether to look ahead along the velocity; needs ``momentum``.
    form : {"multiplicative", "additive"}

    Returns
    -------
    optax.GradientTransformation
        With a `HypergradientState`.

    Raises
    ------
    ValueError
        If an argument is outside its range.

    References
    ----------
    Baydin, A. G., Cornish, R., Rubio, D. M., Schmidt, M. and Wood, F. (2018). Online learning rate adaptation with
    hypergradient descent. ICLR. arXiv 1703.04782, algorithms 4 and 5.
    Wu, Y., Ren, M., Liao, R. and Grosse, R. (2018). Understanding short-horizon bias in stochastic meta-optimization.
    ICLR. arXiv 1803.02021.

    Examples
    --------
    >>> rule = hypergradient_sgd(0.1, hyper_rate=0.1, form="additive")
    >>> weights = jnp.array([1.0])
    >>> state = rule.init(weights)
    >>> for _ in range(2):  # the gradient of half the square of the weight is the weight
    ...     update, state = rule.update(weights, state)
    ...     weights = weights + update
    >>> round(float(state.hyperparams["learning_rate"]), 4)  # .1 + .1 * .9 * 1
    0.19
    """
    _check_range("momentum", momentum)
    if nesterov and isinstance(momentum, float | int) and momentum == 0:
        raise ValueError("nesterov=True needs momentum above 0, but momentum=0; give momentum=0.9 or nesterov=False.")
    plain = isinstance(momentum, float | int) and momentum == 0

    def start(weights: Tree) -> dict[str, Tree]:
        return {} if plain else {"velocity": jax.tree.map(jnp.zeros_like, weights)}

    def step(gradient: Tree, moments: dict[str, Tree], count: Array) -> tuple[Tree, Tree, dict[str, Tree]]:
        if plain:
            return gradient, None, {}
        velocity = _mixed(1.0, gradient, momentum, moments["velocity"])
        direction = _mixed(1.0, gradient, momentum, velocity) if nesterov else velocity
        return direction, None, {"velocity": velocity}

    return _transformation(rate, hyper_rate, form, SGD_HYPER_RATE, start, step)


def hypergradient_adam(
    rate: float | Array,
    *,
    hyper_rate: float | Array | None = None,
    beta1: float | Array = 0.9,
    beta2: float | Array = 0.999,
    epsilon: float | Array = 1e-8,
    form: Form = "multiplicative",
) -> optax.GradientTransformation:
    r"""Return Adam that learns its rate as it goes.

    As `hypergradient_sgd`, where both forms are described, with Adam's direction
    :math:`d_t = \hat m_t / (\sqrt{\hat v_t} + \epsilon)` and the bias corrections of its own step.
    Departure in the multiplicative form: the cosine is between :math:`g_t / \sqrt{p_t}` and
    :math:`z_{t-1} \sqrt{p_t}`, with :math:`p_t = \sqrt{\hat v_t} + \epsilon`. The product is the same as without, and
    the lengths are those in which Adam measures, so that the cosine can come near one.

    Parameters
    ----------
    rate : float
        Where the rate starts. Too small is safer than too large.
    hyper_rate : float, optional
        How far one step may move the rate. By default 0.4 for the multiplicative form; 1e-7 for the additive one. The
        paper has 1e-7 and 1e-8 there: that moves the rate little, and more can make it leap.
    beta1, beta2 : float
        Shares of the means of gradients and of their squares that are kept, in [0, 1).
    epsilon : float
        Added to the root of the mean square.
    form : {"multiplicative", "additive"}

    Returns
    -------
    optax.GradientTransformation
        With a `HypergradientState`.

    Raises
    ------
    ValueError
        If an argument is outside its range.

    References
    ----------
    Baydin, A. G., Cornish, R., Rubio, D. M., Schmidt, M. and Wood, F. (2018). Online learning rate adaptation with
    hypergradient descent. ICLR. arXiv 1703.04782, algorithm 6.

    Examples
    --------
    >>> rule = optax.chain(optax.clip_by_global_norm(10.0), hypergradient_adam(1e-5))
    >>> weights = {"w": jnp.array([3.0, -5.0])}
    >>> state = rule.init(weights)
    >>> for _ in range(20):  # the gradient of half the square is the weight
    ...     update, state = rule.update(weights, state)
    ...     weights = optax.apply_updates(weights, update)
    >>> bool(state[1].hyperparams["learning_rate"] > 1e-3)
    True
    """
    _check_range("beta1", beta1)
    _check_range("beta2", beta2)
    _check_positive("epsilon", epsilon)

    def start(weights: Tree) -> dict[str, Tree]:
        return {name: jax.tree.map(jnp.zeros_like, weights) for name in ("first", "second")}

    def step(gradient: Tree, moments: dict[str, Tree], count: Array) -> tuple[Tree, Tree, dict[str, Tree]]:
        first = _mixed(1.0 - beta1, gradient, beta1, moments["first"])
        second = _mixed(1.0 - beta2, jax.tree.map(jnp.square, gradient), beta2, moments["second"])
        fair1, fair2 = (1.0 - jnp.power(jnp.asarray(beta, _dtype(gradient)), count) for beta in (beta1, beta2))
        spread = jax.tree.map(lambda v: jnp.sqrt(v / fair2) + epsilon, second)
        direction = jax.tree.map(lambda m, p: (m / fair1 / p).astype(m.dtype), first, spread)
        return direction, spread, {"first": first, "second": second}

    return _transformation(rate, hyper_rate, form, ADAM_HYPER_RATE, start, step)


def _transformation(
    rate: float | Array,
    hyper_rate: float | Array | None,
    form: Form,
    usual: float,
    start: Start,
    step: Step,
) -> optax.GradientTransformation:
    """Join a rule, which gives directions, to the rate that learns; ``step`` also gives the root's metric, if any."""
    _check_positive("rate", rate)
    if form not in ("additive", "multiplicative"):
        raise ValueError(f"form must be 'additive' or 'multiplicative', but is {form!r}.")
    if hyper_rate is None:
        hyper_rate = HYPER_RATE if form == "multiplicative" else usual
    _check_not_negative("hyper_rate", hyper_rate)
    kept = MEMORY if form == "multiplicative" else 0.0

    def init(weights: Tree) -> HypergradientState:
        dtype = _dtype(weights)
        return HypergradientState(
            count=jnp.zeros((), jnp.int32),
            hyperparams={"learning_rate": jnp.asarray(rate, dtype)},
            moments=start(weights),
            direction=jax.tree.map(jnp.zeros_like, weights),
            turned=jnp.zeros((), dtype),
            longest=jnp.zeros((), dtype),
        )

    def update(
        gradient: Tree, state: HypergradientState, params: Tree | None = None
    ) -> tuple[Tree, HypergradientState]:
        count = jnp.minimum(state.count, jnp.iinfo(jnp.int32).max - 1) + 1
        direction, metric, moments = step(gradient, state.moments, count)
        old, turned, longest = state.hyperparams["learning_rate"], state.turned, state.longest
        if form == "additive":
            new = jnp.maximum(old + hyper_rate * _inner(gradient, state.direction, old.dtype), LEAST_SHARE * old)
        else:
            cosine = _cosine(gradient, state.direction, metric, old.dtype)
            square = jnp.square(jnp.minimum(cosine, 0.0))
            turned = turned + square
            length = _length(gradient, old.dtype)
            longest = jnp.where(jnp.isfinite(length), jnp.maximum(longest, length), longest)
            share = jnp.where(longest > 0.0, length / jnp.where(longest > 0.0, longest, 1.0), 0.0)
            gain = hyper_rate * jnp.sqrt(share / (1.0 + SETTLING * turned))
            new = old * jnp.exp(gain * (jnp.maximum(cosine, 0.0) - square))
        new = jnp.where(jnp.isfinite(new) & (new > 0.0), new, old)
        moved = jax.tree.map(lambda part: (-new * part).astype(part.dtype), direction)
        memory = _mixed(1.0, direction, kept, state.direction) if kept else direction
        return moved, HypergradientState(
            count, {"learning_rate": new.astype(old.dtype)}, moments, memory, turned, longest
        )

    return optax.GradientTransformation(init, update)


def _mixed(share: Any, one: Tree, other: Any, two: Tree) -> Tree:
    return jax.tree.map(lambda a, b: (share * a + other * b).astype(b.dtype), one, two)


def _dtype(weights: Tree) -> Any:
    """At least float32, so that small corrections of a rate are not lost."""
    return functools.reduce(jnp.promote_types, [leaf.dtype for leaf in jax.tree.leaves(weights)], jnp.float32)


def _inner(one: Tree, two: Tree, dtype: Any) -> Array:
    products = jax.tree.map(lambda a, b: jnp.sum(a.astype(dtype) * b.astype(dtype)), one, two)
    return sum(jax.tree.leaves(products), jnp.zeros((), dtype))


def _cosine(gradient: Tree, memory: Tree, metric: Tree | None, dtype: Any) -> Array:
    """Cosine over all arrays together, in the metric if there is one; zero where it has no meaning."""
    if metric is not None:
        gradient = jax.tree.map(lambda g, p: g / jnp.sqrt(p), gradient, metric)
        memory = jax.tree.map(lambda z, p: z * jnp.sqrt(p), memory, metric)
    one, _ = _scaled(gradient, dtype)
    two, _ = _scaled(memory, dtype)
    lengths = jnp.sqrt(_inner(one, one, dtype) * _inner(two, two, dtype))
    fine = jnp.isfinite(lengths) & (lengths > 0.0)
    return jnp.where(fine, jnp.clip(_inner(one, two, dtype) / jnp.where(fine, lengths, 1.0), -1.0, 1.0), 0.0)


def _length(tree: Tree, dtype: Any) -> Array:
    scaled, peak = _scaled(tree, dtype)
    return peak * jnp.sqrt(_inner(scaled, scaled, dtype))


def _scaled(tree: Tree, dtype: Any) -> tuple[Tree, Array]:
    """Divide by the largest absolute value, which is also returned: squares then neither overflow nor vanish."""
    peaks = [jnp.max(jnp.abs(leaf), initial=0.0).astype(dtype) for leaf in jax.tree.leaves(tree)]
    peak = functools.reduce(jnp.maximum, peaks, jnp.zeros((), dtype))
    return jax.tree.map(lambda leaf: leaf.astype(dtype) / jnp.where(peak > 0.0, peak, 1.0), tree), peak


def _number(name: str, value: Any) -> float | None:
    """Value as a float, or nothing where it is only known when the program runs."""
    if isinstance(value, jax.core.Tracer):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be one number, but is {value!r}; schedules are not taken.") from None


def _check_positive(name: str, value: Any) -> None:
    number = _number(name, value)
    if number is not None and not (0.0 < number < math.inf):
        raise ValueError(f"{name} must be a finite number above 0, but is {value}; give a small one, such as 1e-3.")


def _check_not_negative(name: str, value: Any) -> None:
    number = _number(name, value)
    if number is not None and not (0.0 <= number < math.inf):
        raise ValueError(f"{name} must be a finite number of at least 0, but is {value}; give None for the default.")


def _check_range(name: str, value: Any) -> None:
    number = _number(name, value)
    if number is not None and not (0.0 <= number < 1.0):
        raise ValueError(f"{name} must be in [0, 1), but is {value}; give a share that is kept, such as 0.9.")
