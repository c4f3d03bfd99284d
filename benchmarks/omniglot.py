"""Few-shot classification of Omniglot characters: prototypes on the features of a small convolutional network.

    UPSTAIRS_DATA=... python benchmarks/omniglot.py [--minutes 20] [--folder FOLDER] [--ways 20] ...

The background set is split by alphabet: five alphabets report, three others say when to stop, the rest trains. A run
with ``--folder`` can be stopped and called again. Writes ``omniglot.md`` beside itself.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import time

import jax
import numpy as np

from upstairs.inner.features import features_of
from upstairs.inner.heads import PrototypeHead
from upstairs.inner.traced import Spec
from upstairs.nets import NetSpec
from upstairs.outer.draws import EpisodeDraw, pool_data
from upstairs.outer.loop import Event, run
from upstairs.outer.optimiser import Optimiser
from upstairs.outer.scan import ScanStepper, judge

HERE = pathlib.Path(__file__).parent
DATA = pathlib.Path(os.environ.get("UPSTAIRS_DATA", HERE.parent.parent / "shared" / "data"))
SHAPE = (28, 28, 1)


def pools(seed: int) -> tuple[dict, dict, dict, list[list[str]]]:
    """Training, stopping and reporting pools, alphabets apart."""
    file = np.load(DATA / "omniglot" / "omniglot28_background.npz", allow_pickle=False)
    images, alphabet = file["images"], file["alphabet"]
    names = np.random.default_rng(seed).permutation(np.unique(alphabet))
    groups = [sorted(names[8:]), sorted(names[5:8]), sorted(names[:5])]
    found = []
    for group in groups:
        part = images[np.isin(alphabet, group)]
        codes = np.repeat(np.arange(len(part)), part.shape[1])
        found.append(pool_data(part.reshape(-1, 28, 28), codes, SHAPE))
    return found[0], found[1], found[2], groups


class Tired(Exception):
    """Training time is spent."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--ways", type=int, default=20)
    parser.add_argument("--shots", type=int, default=1)
    parser.add_argument("--queries", type=int, default=5)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()

    train, stop, report, groups = pools(options.seed)
    net = NetSpec("conv4", SHAPE, (options.channels,) * 4)
    white = float(1.0 - train["x"].mean() / 255.0)
    print(f"share of ink {min(white, 1 - white):.3f}, training classes {len(train['counts'])}")
    draw = EpisodeDraw(1, options.ways, (options.shots, options.shots), options.queries, rotations=4)
    check = EpisodeDraw(20, 5, (1, 1), 15)
    stepper = ScanStepper(
        PrototypeHead(net, options.ways),
        Spec(SHAPE, options.ways),
        draw,
        train,
        optimiser=Optimiser("adam", options.rate, "cosine", options.steps),
        validation=(check, stop),
        validation_batches=10,
        judge_rule=PrototypeHead(net, 5),
        seed=options.seed,
    )
    last = [0.0]

    def tell(event: Event) -> None:
        if event.kind == "validation" and event.validation is not None:
            left = "" if event.seconds_left is None else f", about {event.seconds_left:.0f} s left"
            print(
                f"{event.seconds:7.1f} s  step {event.step:6d}  loss {event.loss:.4f}  "
                f"stopping alphabets {100 * (1 - event.validation.error):.2f} %  "
                f"({0 if not event.rate else 1e3 / event.rate:.0f} ms a step{left})",
                flush=True,
            )
        last[0] = event.seconds
        if event.kind == "validation" and event.seconds > 60 * options.minutes:
            raise Tired

    outcome = run(
        stepper, options.steps, validate_every=500, monitor="error", checkpoint=options.folder, callback=tell,
        checkpoint_seconds=20.0,
    )  # fmt: skip
    lines = [
        "| test | accuracy, % | 95 % interval |",
        "|---|---|---|",
    ]
    for ways, shots in ((5, 1), (5, 5), (20, 1), (20, 5)):
        begun = time.perf_counter()
        frozen = EpisodeDraw(20, ways, (shots, shots), 15)
        _, errors = judge(PrototypeHead(net, ways), frozen, report, outcome.params, batches=50, seed=1)
        right = 100 * (1 - errors)
        half = 1.96 * right.std() / np.sqrt(len(right))
        lines.append(f"| {ways}-way {shots}-shot | {right.mean():.2f} | +- {half:.2f} |")
        print(lines[-1], f"{time.perf_counter() - begun:.1f} s", flush=True)
    arrays = {name[4:]: value for name, value in outcome.params.items() if name.startswith("net/")}
    sample = report["x"][:50, 0].astype(np.float32) / 255.0
    width = features_of(net, arrays, sample).shape[1]
    text = (
        f"# Omniglot, background set, split by alphabet\n\nconv4 ({net.sizes}, {width} features), prototypes, trained "
        f"on {options.ways}-way {options.shots}-shot episodes with {options.queries} query rows a class and turned "
        f"classes; {outcome.step} episodes in {outcome.seconds:.0f} s on {jax.devices()[0].platform} "
        f"({os.cpu_count()} cores); best at step {outcome.best_step}; {outcome.reason}. No transduction: every image is "
        f"normalised by itself. 1,000 frozen episodes, 15 query rows a class.\n\nStops on {', '.join(groups[1])}; "
        f"reports on {', '.join(groups[2])}.\n\n" + "\n".join(lines) + "\n"
    )
    print(text)
    if options.write:
        (HERE / "omniglot.md").write_text(text)


if __name__ == "__main__":
    main()
