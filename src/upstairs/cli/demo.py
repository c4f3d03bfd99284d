"""``upstairs demo``: the main job on tasks that come with the installed packages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from upstairs.cli.options import Seed

__all__ = ["demo"]

_CONV = "prototypes of a convolutional network"
_NETWORK: dict[str, Any] = {"method": "prototype", "net": {"name": "conv4", "sizes": (32, 32)}}
_TRAINING: dict[str, Any] = {"steps": 300, "augment": ("rotations",)}


def demo(seed: Seed = 0) -> None:
    """Show the main job on three sets of tasks that need no file: digits, growing chicks, and made-up lines.

    \b
    Example:
      upstairs demo
    """  # noqa: D301
    from upstairs.cli.common import say, show

    _chicks(seed)
    _digits(seed)
    _synthetic(seed)
    show(
        "",
        "Next, with a table of your own that has a column for the task and one to predict: upstairs doctor FILE --task COL --target COL",
        "Then: upstairs fit FILE --task COL --target COL --out prior/, or upstairs evaluate --train FILE --task COL --target COL",
    )
    say("Figures above come from few tasks; their intervals say how far they can be trusted.")


def _chicks(seed: int) -> None:
    from upstairs.cli.common import show, working
    from upstairs.cli.evaluate import partly
    from upstairs.tasks.bundled import chick_weights
    from upstairs.tasks.splits import folds

    chicks = chick_weights()
    show(
        "Chicks: real growth curves from river's ChickWeights. A task is one chick: after its first weighings, predict the later ones.",
        f"{len(chicks)} tasks of 2 to 12 rows; columns: time (days), diet. Every chick is held out once (5 folds).",
    )
    results: list[Any] = []
    chosen: dict[str, list[int]] = {}
    with working("Chicks") as progress:
        for number, (train, held) in enumerate(folds(chicks.groups, 5, seed)):
            part = partly(progress, number, 5)
            meta = _learned(chicks[train], shots=(2, 6))
            chosen.setdefault(_name(meta), []).append(number)
            results.append(_measured(meta, chicks[held], chicks[train], [2, 4], None, 1, part, order=True))
    _chosen(chosen, meta)
    _table(results)


def _digits(seed: int) -> None:
    from upstairs.cli.common import show, working
    from upstairs.cli.evaluate import partly
    from upstairs.outer.training import Training
    from upstairs.tasks.bundled import digits

    pool = digits()
    show(
        "",
        "Digits: real images from scikit-learn. A task is to tell apart two digits that were never seen in training, from a few images.",
        f"{len(pool)} digits, {len(pool.y)} images of 64 pixels: 6 digits to learn from, 2 to choose with, 2 for the test; 5 such splits.",
    )
    results: list[Any] = []
    chosen: dict[str, list[int]] = {}
    with working("Digits") as progress:
        for number in range(5):
            part = partly(progress, number, 5)
            train, valid, test = pool.split(valid=0.2, test=0.2, random_state=seed + number)
            meta = _learned(train, valid, shots=(1, 5), ways=2)
            chosen.setdefault(_name(meta), []).append(number)
            network = _learned(train, valid, shots=(1, 5), ways=2, **_NETWORK, training=Training(**_TRAINING))
            results.append(_measured(meta, test, train, [1, 5], 15, 10, part, ways=2, beside={_CONV: network}))
    _chosen(chosen, meta)
    show(
        f"Beside it: {_CONV}, two blocks of 32 channels, trained for {_TRAINING['steps']} steps on images turned four ways."
    )
    _table(results)


def _synthetic(seed: int) -> None:
    from upstairs.cli.common import show, working
    from upstairs.tasks.synthetic import SharedSubspace

    train = SharedSubspace().sample(60, 20, random_state=seed)
    test = SharedSubspace().sample(110, 40, random_state=seed)[60:]
    show(
        "",
        "Synthetic: made-up linear tasks whose weights lie in a common subspace, so that much can be learned over tasks.",
        f"{len(train)} tasks to learn from, {len(test)} for the test; {train[0].X.shape[1]} columns.",
    )
    with working("Synthetic") as progress:
        meta = _learned(train, shots=(3, 10))
        results = [_measured(meta, test, train, [3, 10], None, 1, progress)]
    _chosen({_name(meta): [0]}, meta)
    _table(results)


def _learned(train: Any, valid: Any = None, **settings: Any) -> Any:
    from upstairs.learners.neural_network import MetaNeuralNetwork

    return MetaNeuralNetwork(**settings).meta_fit(train, validation=valid)


def _name(meta: Any) -> str:
    return str(meta.prior_.settings["choice"]).partition(":")[0]


def _measured(
    meta: Any,
    test: Any,
    train: Any,
    shots: list[int],
    queries: int | None,
    draws: int,
    progress: Any,
    beside: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Any:
    from upstairs.cli.evaluate import measure

    protocol = {"shots": shots, "queries": queries, "draws": draws, **settings}
    return measure(meta, test, train, 0, False, protocol, progress, beside=beside)


def _chosen(chosen: dict[str, list[int]], last: Any) -> None:
    """Say which priors were chosen how often, and for the last one why."""
    from upstairs.cli.common import show

    total = sum(map(len, chosen.values()))
    if total > 1:
        show("Chosen: " + "; ".join(f"{name} ({len(times)} of {total})" for name, times in chosen.items()) + ".")
    show(f"{'The last one' if total > 1 else 'Chosen'}: {last.prior_.settings['choice']}.")


def _table(results: list[Any]) -> None:
    from upstairs.cli.common import line_width, show
    from upstairs.evaluate.metrics import METRICS
    from upstairs.evaluate.result import EvaluationResult
    from upstairs.report import result_tables

    whole = EvaluationResult.concatenate(results)
    metric = METRICS[whole.metric]
    show(f"{metric.name} ({metric.said}): {metric.meaning}")
    for shots in whole.shots:
        tasks = whole.table(shots)[0].tasks
        said = f"{shots} support {'row' if shots == 1 else 'rows'}{' a class' if whole.labels == 'own' else ''}, {tasks} test tasks"
        show("", said, *result_tables(whole, shots, width=line_width()))
