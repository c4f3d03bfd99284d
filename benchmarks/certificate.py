"""How often certificates fail and how close they are: 2,000 repetitions of several distributions of losses.

    python benchmarks/certificate.py

Writes ``certificate.md`` beside itself (a quarter of a minute). Student's t and the bootstrap stand beside
the certificates as what they are not.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np
from scipy import integrate, stats

from upstairs.evaluate.certificate import betting_bound, empirical_bernstein, hoeffding

HERE = pathlib.Path(__file__).resolve().parent
REPETITIONS, CONFIDENCE = 2000, 0.95
TASKS = (20, 40, 200)
RESAMPLES = 1000


def normal_mean(at: float, spread: float) -> float:
    """Mean of a normal number that is clipped to [0, 1]."""
    inner = integrate.quad(lambda x: x * stats.norm.pdf(x, at, spread), 0, 1)[0]
    return float(inner + stats.norm.sf(1, at, spread))


Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
LOSSES: dict[str, tuple[Draw, float]] = {
    "normal, .1 and .05, clipped": (
        lambda rng, shape: np.clip(rng.normal(0.1, 0.05, shape), 0, 1),
        normal_mean(0.1, 0.05),
    ),
    "0 or 1, 2 % ones": (lambda rng, shape: (rng.random(shape) < 0.02).astype(float), 0.02),
    "0 or 1, 10 % ones": (lambda rng, shape: (rng.random(shape) < 0.1).astype(float), 0.1),
    "0 or 1, 30 % ones": (lambda rng, shape: (rng.random(shape) < 0.3).astype(float), 0.3),
    "0 or 1, 90 % ones": (lambda rng, shape: (rng.random(shape) < 0.9).astype(float), 0.9),
    "uniform": (lambda rng, shape: rng.random(shape), 0.5),
    "skewed, beta(.2, 1.8)": (lambda rng, shape: rng.beta(0.2, 1.8, shape), 0.1),
    "symmetric, beta(5, 5)": (lambda rng, shape: rng.beta(5, 5, shape), 0.5),
    "small, 5 % disasters": (
        lambda rng, shape: np.where(rng.random(shape) < 0.05, 1.0, rng.beta(2, 38, shape)),
        0.05 + 0.95 * 0.05,
    ),
}


def student(losses: np.ndarray) -> np.ndarray:
    number = losses.shape[-1]
    return losses.mean(axis=-1) + stats.t.ppf(CONFIDENCE, number - 1) * losses.std(axis=-1, ddof=1) / np.sqrt(number)


def bootstrap(losses: np.ndarray) -> np.ndarray:
    """Percentile bootstrap, the same draws of places for all repetitions."""
    number = losses.shape[-1]
    drawn = np.random.default_rng(1).integers(number, size=(RESAMPLES, number))
    times = np.stack([np.bincount(row, minlength=number) for row in drawn]) / number
    return np.quantile(losses @ times.T, CONFIDENCE, axis=-1)


METHODS = {
    "betting": lambda losses: betting_bound(losses, CONFIDENCE),
    "betting, cut at .5": lambda losses: betting_bound(losses, CONFIDENCE, truncation=0.5),
    "betting, cut at .9": lambda losses: betting_bound(losses, CONFIDENCE, truncation=0.9),
    "empirical Bernstein": lambda losses: empirical_bernstein(losses, CONFIDENCE),
    "Hoeffding": lambda losses: hoeffding(losses, CONFIDENCE),
    "(Student's t)": student,
    "(bootstrap)": bootstrap,
}


def main() -> None:
    """Simulate and write."""
    error = np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / REPETITIONS)
    lines = [
        "# Upper bounds on the mean loss of a new task: how often they fail, and how close they are",
        "",
        f"{REPETITIONS:,} repetitions each, bounds of {100 * CONFIDENCE:g} %. A cell: mean bound, and in how many percent of the "
        "repetitions it lay",
        f"below the true mean ({100 * (1 - CONFIDENCE):g} % are allowed; with sampling error of two standard errors "
        f"{100 * (1 - CONFIDENCE + 2 * error):.1f} %). Methods in parentheses are no certificates.",
    ]
    worst = dict.fromkeys(METHODS, (0.0, ""))
    for tasks in TASKS:
        lines += ["", f"## {tasks} tasks", "", f"| losses | true mean | {' | '.join(METHODS)} |"]
        lines.append(f"|---|---|{'---|' * len(METHODS)}")
        for name, (draw, mean) in LOSSES.items():
            losses = draw(np.random.default_rng(0), (REPETITIONS, tasks))
            cells = []
            for method, bound in METHODS.items():
                found = bound(losses)
                failed = float((found < mean - 1e-12).mean())
                worst[method] = max(worst[method], (failed, f"{name}, {tasks} tasks"))
                cells.append(f"{found.mean():.3f}, {100 * failed:.1f} %")
            lines.append(f"| {name} | {mean:.4f} | {' | '.join(cells)} |")
    lines += ["", "Most failures of each method:", ""]
    lines += [f"- {method}: {100 * failed:.2f} % ({where})" for method, (failed, where) in worst.items()]
    text = "\n".join(lines) + "\n"
    (HERE / "certificate.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
