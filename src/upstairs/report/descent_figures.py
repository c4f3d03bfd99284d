"""Pictures of learned descent: how runs go down, and what was learned about steps. Needs matplotlib (extra ``plot``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from upstairs.errors import MissingExtraError, PriorMismatchError
from upstairs.prior import Prior

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["axes", "blank_figure", "plot_curves", "plot_rates", "plot_schedule"]

_NAMES = {"rate": "step size", "momentum": "momentum", "beta1": "beta 1", "beta2": "beta 2", "epsilon": "epsilon"}
_LOG = ("rate", "epsilon")


def plot_curves(losses: Mapping[str, Any], *, band: float = 0.8, log: bool = True, ax: Axes | None = None) -> Axes:
    """Draw the loss of several methods from step to step, the median over runs with a band.

    Parameters
    ----------
    losses : mapping from a method's name to an array of shape (run, step)
        One row a problem or seed, the same for all methods; from the start to the last step.
    band : float
        Share of runs between the edges of the band.
    log : bool
        Whether losses are on a logarithmic scale.
    ax : matplotlib axes, optional
        None: new ones.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    ValueError
        If an array has not two axes, or the band is no share.

    Examples
    --------
    >>> import pytest; _ = pytest.importorskip("matplotlib").use("agg")
    >>> steps = np.arange(20)
    >>> ax = plot_curves({"slow": 0.9 ** steps[None] * np.ones((5, 1)), "fast": 0.5 ** steps[None]})
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['slow', 'fast']
    """
    if not 0.0 < band < 1.0:
        raise ValueError(f"band must lie between 0 and 1, but is {band!r}; 0.8 is usual.")
    ax = axes(ax)
    for name, rows in losses.items():
        rows = np.asarray(rows, np.float64)
        if rows.ndim != 2:
            raise ValueError(f"losses of {name!r} must have the shape (run, step), but have {rows.shape}.")
        rows = np.where(np.isfinite(rows), rows, np.inf)
        low, middle, high = np.quantile(rows, [0.5 - band / 2, 0.5, 0.5 + band / 2], axis=0, method="nearest")
        steps = np.arange(rows.shape[1])
        (line,) = ax.plot(steps, middle, label=name)
        if len(rows) > 1:
            ax.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    if log:
        ax.set_yscale("log")
    ax.set_xlabel("step")
    ax.set_ylabel("loss")
    ax.legend()
    return ax


def plot_schedule(prior: Prior, knob: str = "rate", *, ax: Axes | None = None) -> Axes:
    """Draw what was learned about every step: one line for all weights, or one an array of weights.

    Parameters
    ----------
    prior : Prior
        Of a `MetaGradientDescent` whose rule has numbers of its own for every step (``schedule``).
    knob : {"rate", "momentum", "beta1", "beta2", "epsilon"}
    ax : matplotlib axes, optional

    Raises
    ------
    PriorMismatchError
        If the rule has no such numbers.
    """
    found = {name: array for name, array in _shown(prior, knob).items() if array.ndim >= 1}
    if not found or _steps(prior) is None:
        raise PriorMismatchError(
            f"The rule of this prior has no {knob!r} of its own for every step; learn one with options={{'schedule': True}}, or use "
            "plot_rates."
        )
    ax = axes(ax)
    for name, array in found.items():
        ax.plot(np.arange(1, len(array) + 1), np.median(array.reshape(len(array), -1), axis=1), marker=".", label=name)
    if knob in _LOG:
        ax.set_yscale("log")
    ax.set_xlabel("step")
    ax.set_ylabel(_NAMES.get(knob, knob))
    if len(found) > 1:
        ax.legend()
    return ax


def plot_rates(prior: Prior, knob: str = "rate", *, ax: Axes | None = None) -> Axes:
    """Draw what was learned for every array of weights: a dot, or the spread over its weights and steps.

    Parameters
    ----------
    prior : Prior
        Of a `MetaGradientDescent`.
    knob : {"rate", "momentum", "beta1", "beta2", "epsilon"}
    ax : matplotlib axes, optional

    Raises
    ------
    PriorMismatchError
        If the rule has no such number.
    """
    found = _shown(prior, knob)
    if not found:
        raise PriorMismatchError(f"The rule of this prior has no {knob!r}; it is {type(_rule(prior)).__name__}.")
    ax = axes(ax)
    ax.boxplot([np.ravel(array) for array in found.values()], orientation="horizontal", whis=(0, 100))
    ax.set_yticklabels(list(found))
    ax.set_xlabel(_NAMES.get(knob, knob))
    if knob in _LOG:
        ax.set_xscale("log")
    return ax


def _rule(prior: Prior) -> Any:
    from upstairs.optim.learned import rule_of

    return rule_of(prior)[0]


def _steps(prior: Prior) -> int | None:
    return getattr(_rule(prior), "steps", None)


def _shown(prior: Prior, knob: str) -> dict[str, np.ndarray]:
    """A knob in natural units, by array of weights."""
    import jax.numpy as jnp

    from upstairs.optim.learned import rule_of

    rule, settings = rule_of(prior)
    shown = {
        name: np.asarray(array)
        for name, array in rule.shown({key: jnp.asarray(value) for key, value in settings.items()}).items()
    }
    return {
        name.partition("/")[2] or "all weights": array
        for name, array in shown.items()
        if name.partition("/")[0] == knob
    }


def axes(ax: Axes | None, size: tuple[float, float] | None = None) -> Axes:
    """Return the axes, or new ones (of a size in inches).

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingExtraError("Pictures need matplotlib; install it: pip install 'upstairs[plot]'.") from error
    return pyplot.subplots(layout="constrained", figsize=size)[1]


def blank_figure(size: tuple[float, float]) -> Figure:
    """Return a figure of a size in inches, which pyplot knows nothing of: a page may hold many.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Pictures need matplotlib; install it: pip install 'upstairs[plot]'.") from error
    return Figure(figsize=size, layout="constrained")
