"""How an error that falls with the number of tasks goes on: three forms of curve, weighed by what was measured, as draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Int
from scipy.special import log_ndtr, logsumexp
from scipy.stats import truncnorm

from upstairs.errors import TaskError

__all__ = ["CurveDraws", "fit_curve"]

POWERS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
"""Exponents c of ``a + b n^-c``."""
RATES = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Lengths d of ``a + b exp(-n / d)``, in shares of the largest number of tasks."""
CLOCKS = (1.0, 2.0)
"""Exponents with which the variance between random subsets of tasks falls with their number."""
MISFITS = (0.001, 0.003, 0.01)
"""Standard deviation of what no form of curve explains, in shares of the error."""
STEEP = 1.5
"""Sizes at which the error is so many times that with all tasks are passed over: priors of very few tasks can be wild."""
FORM_WEIGHTS = {"constant": 0.25, "power": 0.5, "exponential": 0.25}


@final
@dataclass(frozen=True, eq=False)
class CurveDraws:
    """Curves that agree with what was measured, drawn from their posterior; each is ``top + drop * shape(n)``.

    Attributes
    ----------
    first, last : float
        Smallest and largest number of tasks that was measured.
    power : array of shape (draw,)
        Exponent of the power law; NaN for the other forms.
    rate : array of shape (draw,)
        Length of the exponential; NaN for the other forms.
    top : array of shape (draw,)
        Expected error with ``last`` tasks, over all choices of tasks.
    drop : array of shape (draw,)
        By how much the error fell between ``first`` and ``last``; zero for the constant form.
    spread, clock : array of shape (draw,)
        The variance over choices of n tasks is ``spread * n ** -clock``.
    misfit : array of shape (draw,)
        Variance of what no form explains.
    pull, precision : array of shape (draw,)
        What the residuals say about the tasks at hand: they were lucky or unlucky ones, and how surely.
    weights : dict of str to float
        Share of each form among the draws.
    """

    first: float
    last: float
    power: Float[np.ndarray, " draw"]
    rate: Float[np.ndarray, " draw"]
    top: Float[np.ndarray, " draw"]
    drop: Float[np.ndarray, " draw"]
    spread: Float[np.ndarray, " draw"]
    clock: Float[np.ndarray, " draw"]
    misfit: Float[np.ndarray, " draw"]
    pull: Float[np.ndarray, " draw"]
    precision: Float[np.ndarray, " draw"]
    weights: dict[str, float]

    def expected(self, tasks: float) -> Float[np.ndarray, " draw"]:
        """Error expected with so many tasks, over all choices of tasks."""
        return self.top + self.drop * _shape(self.power, self.rate, tasks, self.first, self.last)

    def errors(self, tasks: float, seed: int = 0) -> Float[np.ndarray, " draw"]:
        """Error of one fit on so many tasks: those at hand and further ones, or a random part of those at hand."""
        own = self.spread * tasks**-self.clock
        shared = self.spread * max(float(tasks), self.last) ** -self.clock
        variance = np.maximum(own - shared**2 * self.precision, 0.0) + self.misfit
        noise = np.random.default_rng([seed, 1]).standard_normal(len(self.top))
        return self.expected(tasks) + shared * self.pull + np.sqrt(variance) * noise


def fit_curve(
    losses: Float[np.ndarray, "resample order size"],
    sizes: Int[np.ndarray, " size"],
    *,
    bound: float = -np.inf,
    draws: int = 4000,
    seed: int = 0,
) -> CurveDraws:
    """Fit a power law with floor, an exponential with floor and a constant, and weigh them by their evidence.

    Errors on nested random subsets of the same tasks depend on each other. The mean over tasks of their influence on
    the error is taken for what varies: fits of one order share ``spread * max(n, m) ** -clock``, fits of two orders
    share what all the tasks at hand share, ``spread * last ** -clock``, and so does a fit on these and further tasks.
    The spread follows from the steps of each order, which are independent. Curves are linear in ``top`` and ``drop``
    (at least zero, normal prior as wide as the error), integrated in closed form on a grid of the other parameters.

    Parameters
    ----------
    losses : array of shape (resample, order, size)
        Mean loss over test tasks: of the sample, or of resamples of it, which share the draws evenly.
    sizes : array of shape (size,)
        Numbers of training tasks, ascending; all orders agree at the last.
    bound : float
        No curve ends below it.
    draws : int
    seed : int

    Raises
    ------
    TaskError
        For fewer than two orders or three sizes.

    Examples
    --------
    >>> sizes = np.array([10, 20, 40, 80])
    >>> noise = 0.01 * np.random.default_rng(0).standard_normal((1, 6, 4)) * (1 / sizes - 1 / 80) ** 0.5
    >>> curve = fit_curve(0.5 + 4.0 / sizes + noise, sizes, bound=0.0)
    >>> bool(abs(curve.errors(160).mean() - 0.525) < 0.005)
    True
    """
    orders, count = losses.shape[1:]
    if orders < 2 or count < 3 or np.any(np.diff(sizes) <= 0):
        raise TaskError(
            f"A curve needs two orders and three ascending sizes, but has {orders} orders and sizes {sizes.tolist()}; "
            "measure more of them."
        )
    losses, n = _calm(losses, sizes.astype(np.float64))
    resamples, orders, count = losses.shape
    first, last = float(n[0]), float(n[-1])
    mean = losses.mean(axis=1)
    level = np.maximum(np.abs(mean[:, -1]), 1e-12)
    clocks, misfits = (grid.ravel() for grid in np.meshgrid(CLOCKS, MISFITS, indexing="ij"))
    spread, spread_fit = _spreads(losses, n, level)  # (resample, clock)
    which = np.repeat(np.arange(len(CLOCKS)), len(MISFITS))
    covariance = _covariance(n, orders, clocks, spread[:, which], np.square(misfits * level[:, None]))
    inverse = np.linalg.inv(covariance)  # (resample, noise, size, size)
    half_logdet = 0.5 * np.linalg.slogdet(covariance)[1]

    powers, rates, prior = _forms(last)
    shapes = _shape(powers[:, None], rates[:, None], n, first, last)  # (form, size)
    flat = np.isnan(powers) & np.isnan(rates)
    one = inverse.sum(axis=-1)  # (resample, noise, size)
    whole = one.sum(axis=-1)[..., None]
    a01 = np.einsum("bns,fs->bnf", one, shapes)
    a11 = np.einsum("fs,bnst,ft->bnf", shapes, inverse, shapes) + 1.0 / level[:, None, None] ** 2
    solved = np.einsum("bnst,bt->bns", inverse, mean)
    r0, r1 = solved.sum(axis=-1)[..., None], np.einsum("bns,fs->bnf", solved, shapes)
    fit = np.einsum("bns,bs->bn", solved, mean)
    determinant = whole * a11 - a01**2
    drop = np.where(flat, 0.0, (whole * r1 - a01 * r0) / determinant)
    drop_sd = np.sqrt(whole / determinant)
    top = (r0 - a01 * drop) / whole
    explained = np.where(flat, r0**2 / whole, r0 * top + r1 * drop)
    evidence = -half_logdet[..., None] - 0.5 * (fit[..., None] - explained) + np.log(prior)
    evidence = evidence + spread_fit[:, which, None]
    evidence = evidence - np.where(
        flat,
        0.5 * np.log(whole),
        0.5 * np.log(determinant) - np.log(2.0 / level[:, None, None]) - log_ndtr(drop / drop_sd),
    )
    weight = np.exp(evidence - logsumexp(evidence, axis=(1, 2), keepdims=True))

    rng = np.random.default_rng([seed, 0])
    kept: list[tuple[np.ndarray, ...]] = []
    cells = weight.shape[1] * weight.shape[2]
    wanted = max(1, -(-draws // resamples))
    for b in range(resamples):
        cell = rng.choice(cells, size=6 * wanted, p=weight[b].ravel() / weight[b].sum())
        noise, form = np.unravel_index(cell, weight.shape[1:])
        freedom = (orders - 1) * (count - 1)
        wide = np.sqrt(freedom / rng.chisquare(freedom, size=len(cell)))  # the spread is an estimate
        centre, sd = drop[b, noise, form], drop_sd[b, noise, form] * wide
        fall = np.where(flat[form], 0.0, truncnorm.rvs(-centre / sd, np.inf, loc=centre, scale=sd, random_state=rng))
        height = (r0[b, noise, 0] - a01[b, noise, form] * fall) / whole[b, noise, 0]
        height = height + wide * rng.standard_normal(len(cell)) / np.sqrt(whole[b, noise, 0])
        floor = height + fall * _shape(powers[form], rates[form], np.inf, first, last)
        good = np.flatnonzero(floor >= bound)
        good = good[:wanted] if len(good) >= wanted else np.resize(good if len(good) else np.argsort(-floor), wanted)
        residual = mean[b] - height[good, None] - fall[good, None] * shapes[form[good]]
        own = one[b, noise[good]]
        kept.append(
            (
                powers[form[good]],
                rates[form[good]],
                height[good],
                fall[good],
                spread[b, which[noise[good]]] * wide[good] ** 2,
                clocks[noise[good]],
                np.square(misfits[noise[good]] * level[b]),
                (own * residual).sum(axis=1) / wide[good] ** 2,
                own.sum(axis=1) / wide[good] ** 2,
            )
        )
    columns = [np.concatenate(column) for column in zip(*kept, strict=True)]
    share = {
        "constant": float((np.isnan(columns[0]) & np.isnan(columns[1])).mean()),
        "power": float((~np.isnan(columns[0])).mean()),
        "exponential": float((~np.isnan(columns[1])).mean()),
    }
    return CurveDraws(first, last, *columns, share)  # type: ignore[arg-type, call-arg]


def _calm(
    losses: Float[np.ndarray, "resample order size"], n: Float[np.ndarray, " size"]
) -> tuple[Float[np.ndarray, "resample order kept"], Float[np.ndarray, " kept"]]:
    """Leave out the smallest sizes at which the error is far above the last, but for three; all resamples alike."""
    average = losses.mean(axis=0)
    steep = average.max(axis=0) > STEEP * average[:, -1].mean() + 1e-12
    start = min(int(np.flatnonzero(steep).max(initial=-1)) + 1, len(n) - 3)
    return losses[:, :, start:], n[start:]


def _forms(last: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exponent, length and prior weight of every form on the grid."""
    none = np.nan
    powers = np.array([none, *POWERS, *[none] * len(RATES)])
    rates = np.array([none, *[none] * len(POWERS), *RATES]) * last
    prior = [
        FORM_WEIGHTS["constant"],
        *[FORM_WEIGHTS["power"] / len(POWERS)] * len(POWERS),
        *[FORM_WEIGHTS["exponential"] / len(RATES)] * len(RATES),
    ]
    return powers, rates, np.array(prior)


def _shape(power: np.ndarray, rate: np.ndarray, tasks: float | np.ndarray, first: float, last: float) -> np.ndarray:
    """What ``drop`` is multiplied by: 1 at the first size, 0 at the last, and below zero beyond."""

    def power_law(n: float | np.ndarray) -> np.ndarray:
        return np.asarray(n, dtype=np.float64) ** -power

    def exponential(n: float | np.ndarray) -> np.ndarray:
        return np.exp(-np.asarray(n, dtype=np.float64) / rate)

    found = []
    for curve in (power_law, exponential):
        found.append((curve(tasks) - curve(last)) / (curve(first) - curve(last)))
    return np.where(np.isnan(power), np.where(np.isnan(rate), 0.0, found[1]), found[0])


def _spreads(
    losses: Float[np.ndarray, "resample order size"],
    n: Float[np.ndarray, " size"],
    level: Float[np.ndarray, " resample"],
) -> tuple[Float[np.ndarray, "resample clock"], Float[np.ndarray, "resample clock"]]:
    """Variance over orders, for every clock, from the steps between neighbouring sizes; and its log likelihood."""
    steps = np.diff(losses, axis=2)
    squares = np.square(steps - steps.mean(axis=1, keepdims=True)).sum(axis=1)  # (resample, step)
    freedom = losses.shape[1] - 1
    spreads, fits = [], []
    for clock in CLOCKS:
        gap = n[:-1] ** -clock - n[1:] ** -clock
        least = np.square(1e-5 * level) / gap[-1]
        spread = np.maximum((squares / gap).mean(axis=1) / freedom, least)
        spreads.append(spread)
        variance = spread[:, None] * gap
        fits.append(-0.5 * (freedom * np.log(variance) + squares / variance).sum(axis=1))
    return np.stack(spreads, axis=1), np.stack(fits, axis=1)


def _covariance(
    n: Float[np.ndarray, " size"],
    orders: int,
    clocks: Float[np.ndarray, " noise"],
    spread: Float[np.ndarray, "resample noise"],
    misfit: Float[np.ndarray, "resample noise"],
) -> Float[np.ndarray, "resample noise size size"]:
    """Covariance of the means over orders."""
    larger = np.maximum(n[:, None], n)
    shared = n[-1] ** -clocks[:, None, None]
    kernel = (larger ** -clocks[:, None, None] - shared) / orders + shared
    return spread[..., None, None] * kernel + misfit[..., None, None] * np.eye(len(n))
