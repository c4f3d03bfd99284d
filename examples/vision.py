"""Characters that nobody has seen before, from one or five drawings of each.

    python examples/vision.py             # scikit-learn's digits and made-up characters, under a minute
    python examples/vision.py --full      # Omniglot, ten minutes of a core; needs the folder of UPSTAIRS_DATA

A *pool* holds drawings of many classes. Some classes are for learning, the others for testing, and an episode is a small task
drawn from the latter: one or five labelled drawings of each of some classes, then fifteen more of each to be told apart.

Learned: a network whose class means tell classes apart (``MetaNeuralNetwork("prototype", net="conv4")``), and the closed form that
``"auto"`` takes. Beside them, on the same episodes, what learns from the labelled drawings alone: class means of raw pixels and
logistic regression.

First the ten digits: learn on six, test on four. Little can be learned from six classes, even by the closed form. Then 20 and 160
made-up characters (`made_up_characters`, some strokes and a shaky hand) to learn from and 100 others to test on: what a network
needs is not more drawings but more classes. ``--full`` does the same with real ones.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import time

import numpy as np
from sklearn.linear_model import LogisticRegression

import upstairs as up
from upstairs.evaluate import EvaluationResult
from upstairs.tasks.bundled import digits

RAW, OWN = "class means of pixels", "own logistic regression"


def network(pool: up.ClassPool, steps: int, *, seed: int = 0, ways: int = 5, validation: up.ClassPool | None = None):
    """Learn a network for class means, shown one drawing a class."""
    training = up.Training(steps=steps, validate_every=max(1, min(500, steps // 3)), patience=None)
    meta = up.MetaNeuralNetwork("prototype", net="conv4", training=training, shots=1, ways=ways, random_state=seed)
    return meta.meta_fit(pool, validation=validation)


def compare(
    learners: dict, test: up.ClassPool, *, ways: int = 5, shots: tuple = (1, 5), draws: int = 200, seed: int = 0
) -> EvaluationResult:
    """Judge learners and what needs no learning upstairs on the same episodes."""
    return up.evaluate(
        {**learners, OWN: LogisticRegression(max_iter=1000)},
        test,
        shots=list(shots),
        ways=ways,
        draws=draws,
        baselines=["nearest prototype"],
        random_state=seed,
    )


def show(title: str, results: list[EvaluationResult]) -> dict[tuple[str, int], float]:
    """Print accuracies in percent; the mean of each learner at each number of drawings.

    One result a split. The difference to class means of pixels has a 95 % interval over episodes.
    """
    print(f"\n{title}")
    together, means = EvaluationResult.concatenate(results), {}
    for shots in together.shots:
        print(f"  {shots} labelled drawing{'s' if shots > 1 else ''} a class")
        for row in together.table(shots, "accuracy"):
            each = [
                100 * r.mean for result in results for r in result.table(shots, "accuracy") if r.learner == row.learner
            ]
            spread = f"splits {min(each):5.1f} to {max(each):5.1f}" if len(each) > 1 else ""
            gain = f"{100 * row.difference:+5.1f} ({100 * row.difference_low:+.1f} to {100 * row.difference_high:+.1f})"
            name = RAW if row.baseline else row.learner
            print(f"    {name:34s}{100 * row.mean:5.1f}  {'' if row.baseline else gain:24s}{spread}".rstrip())
            means[name, shots] = 100 * row.mean
    return means


def verdict(means: dict[tuple[str, int], float], name: str) -> str:
    """Say whether a learner came out ahead of both plain methods with one drawing a class."""
    best = max(means[RAW, 1], means[OWN, 1])
    gap = means[name, 1] - best
    return f"  {name}: {abs(gap):.1f} points {'ahead of' if gap > 0 else 'BEHIND'} the best plain method with one drawing a class."


def some_digits(splits: int = 3, draws: int = 100) -> dict[tuple[str, int], float]:
    """Learn on six digits, test on the other four; a split draws which."""
    pool, results = digits(), []
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(pool))
        known, new = pool.select(order[:6]), pool.select(order[6:])
        meta = up.MetaNeuralNetwork(ways=4, shots=(1, 5), random_state=split).meta_fit(known)
        results.append(compare({"closed form, 6 digits": meta}, new, ways=4, draws=draws, seed=split))
    means = show(f"Digits: four unseen digits, {splits} splits of the ten, {draws} episodes each", results)
    print(verdict(means, "closed form, 6 digits"))
    return means


def made_up_characters(
    characters: int, drawings: int = 20, *, size: int = 12, shake: float = 0.08, seed: int = 0
) -> up.ClassPool:
    """Characters of two to four curved strokes, each drawn again and again by a hand that shakes and turns a little."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0.0, 1.0, 24)[:, None]
    curve = np.concatenate([(1 - t) ** 2, 2 * t * (1 - t), t**2], axis=1)  # a stroke has three control points
    place = (np.arange(size) + 0.5) / size
    images = []
    for _ in range(characters):
        strokes = rng.uniform(size=(rng.integers(2, 5), 3, 2))
        joined = rng.random(len(strokes)) < 0.7  # to the end of the stroke before
        for _ in range(drawings):
            drawn = strokes + shake * rng.normal(size=strokes.shape)
            for number in np.flatnonzero(joined[1:]) + 1:
                drawn[number, 0] = drawn[number - 1, 2]
            angle = 0.12 * rng.normal()
            turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            points = (curve @ drawn).reshape(-1, 2) @ turn
            points = 0.8 * (points - points.min(axis=0)) / np.ptp(points, axis=0).max()
            points += 0.5 - points.max(axis=0) / 2
            near = np.exp(-0.5 * ((points[:, :, None] - place) / 0.05) ** 2)
            images.append(np.minimum(1.5 * (near[:, 1, :, None] * near[:, 0, None, :]).max(axis=0), 1.0))
    return up.ClassPool(np.array(images), np.repeat(np.arange(characters), drawings))


def picture(image: np.ndarray) -> list[str]:
    """Lines of an image in type."""
    return ["".join(" .:*#"[int(4.99 * value)] for value in row) for row in image]


def made_up(
    classes: tuple = (20, 160), steps: int = 200, draws: int = 100, new: int = 100
) -> dict[tuple[str, int], float]:
    """Learn on few and on many made-up characters, test on others."""
    test = made_up_characters(new, seed=1)
    print("\nTwo made-up characters, two drawings of each:")
    for lines in zip(*(picture(test.X[number]) for number in (0, 1, 20, 21)), strict=True):
        print("   ", "   ".join(lines))
    learners = {f"network, {many} characters": network(made_up_characters(many), steps) for many in classes}
    pool = made_up_characters(max(classes))
    learners[f"closed form, {max(classes)} characters"] = up.MetaNeuralNetwork(shots=(1, 5)).meta_fit(pool)
    means = show(
        f"Made-up characters: five of {new} unseen ones, {draws} episodes", [compare(learners, test, draws=draws)]
    )
    print("\n".join(verdict(means, name) for name in learners))
    return means


def omniglot(steps: int = 4000, draws: int = 500) -> None:
    """Learn on 22 alphabets of Omniglot, stop by three others, test on five that neither has seen."""
    data = os.environ.get("UPSTAIRS_DATA") or pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    path = pathlib.Path(data) / "omniglot" / "omniglot28_background.npz"
    if not path.exists():
        raise SystemExit(
            f"--full reads {path}, which does not exist; set UPSTAIRS_DATA to the folder that holds omniglot/."
        )
    file = np.load(path, allow_pickle=False)
    images, alphabet = file["images"], file["alphabet"]
    names = np.random.default_rng(0).permutation(np.unique(alphabet))
    pools = []
    for part in (names[8:], names[5:8], names[:5]):
        here = np.flatnonzero(np.isin(alphabet, part))
        drawings = images.shape[1]
        labels = np.repeat([f"character {number:04d}" for number in here], drawings)
        pools.append(up.ClassPool(images[here].reshape(-1, 28, 28), labels, group=np.repeat(alphabet[here], drawings)))
    train, stop, test = pools
    print(
        f"Omniglot: {len(train)} characters to learn from, {len(stop)} to stop by, {len(test)} of other alphabets to test on"
    )
    begun = time.perf_counter()
    meta = network(train, steps, ways=20, validation=stop)
    print(f"{steps} steps in {time.perf_counter() - begun:.0f} s; {meta.prior_.settings['choice']}")
    for ways, shots, some in ((5, (1, 5), draws), (20, (1,), draws // 5)):
        result = compare({"network": meta}, test, ways=ways, shots=shots, draws=some)
        means = show(f"{ways} unseen characters, {some} episodes, one training", [result])
        print(verdict(means, "network"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="Omniglot")
    if parser.parse_args().full:
        omniglot()
    else:
        some_digits()
        made_up()
