"""Choose the form of the prior on tasks that it has not seen, and average forms that they hardly tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from upstairs.inner.gaussian import BayesianLinear
from upstairs.inner.logistic import BayesianLogistic
from upstairs.inner.pooled import pooled_prediction, width
from upstairs.inner.rule import AdaptationRule, Rows
from upstairs.outer.candidates import REDUCED_SPREADS, SPREADS, Candidate, in_units, learn_candidate, mixture
from upstairs.outer.network_features import NetworkFeatures, mapped
from upstairs.outer.pooling import Data, Pooling, make_folds
from upstairs.outer.reduction import Reduction, reduced, to_raw
from upstairs.outer.replays import replays
from upstairs.outer.training import Training

if TYPE_CHECKING:
    from upstairs.nets.build import Net

__all__ = ["Choice", "choose", "relearn", "rule_of"]

FOLDS = 3
FOLDS_FOR_FEW, FEW = 5, 60
"""With few tasks a larger share of them should be learned from in every fold."""
FEWEST_TASKS_TO_POOL = 6
WIDE = 150
"""Classification with more columns than this is learned on few columns out of many."""
TEMPERATURE = 0.01
"""Regression: a candidate this much (relative) worse than another gets 1/e of its weight."""
CLEAR = 2.0  # standard errors by which another form must beat "tied", whose variance is learned
LEAST_WEIGHT = 0.05
"""Candidates of less weight are left out."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A learned prior and how it was chosen.

    ``settings`` can be written as JSON: ``rule``, ``kind``, ``ways``, ``prior_mean``, ``spread`` and the
    ``candidates`` in the mixture. ``params`` are those of the rule. ``report`` has one entry a candidate: ``name``,
    ``loss`` (relative to the mean candidate), ``error`` (standard error of its difference to the best), ``sizes``
    (loss by number of support rows) and ``weight``. ``reason`` is a sentence. ``folds`` are pairs of params and the
    numbers of tasks that these params have not seen: validation tasks if there were any, else training tasks.
    """

    settings: dict[str, Any]
    params: dict[str, np.ndarray]
    report: list[dict[str, Any]]
    reason: str
    folds: list[tuple[dict[str, np.ndarray], np.ndarray]]


def rule_of(kind: str) -> AdaptationRule:
    """The rule for a kind of tasks, ``"regression"`` or ``"classification"``."""
    return BayesianLinear() if kind == "regression" else BayesianLogistic()


@dataclass(frozen=True, slots=True)
class _Learned:
    """Candidates learned on the same tasks: their params, and the arrays of the pooled model or network each uses."""

    params: list[dict[str, np.ndarray]]
    extra: list[dict[str, np.ndarray]]


def choose(
    x: Float[np.ndarray, "row feature"],
    y: Shaped[np.ndarray, " row"],
    offsets: Int[np.ndarray, " boundary"],
    groups: Shaped[np.ndarray, " task"] | None = None,
    *,
    kind: str = "regression",
    ways: int = 0,
    shots: int | tuple[int, int] | None = None,
    prior_mean: str = "auto",
    spread: str = "auto",
    net: Net | None = None,
    only_net: bool = False,
    training: Training | None = None,
    validation: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    average: bool = True,
    random_state: int = 0,
) -> Choice:
    """Learn a prior over tasks with shared columns; what is ``"auto"`` is decided on unseen tasks.

    Parameters
    ----------
    x, y, offsets
        Encoded training rows, task after task; targets, or class numbers 0 to ``ways - 1``.
    groups
        Group of every task; a group is never split between folds.
    kind
        ``"regression"`` or ``"classification"``.
    ways
        Number of classes.
    shots
        Number of support rows, or least and most, that the prior is for; default 1 to 50 (regression) or 200
        (classification) as far as tasks allow.
    prior_mean
        Pooled prediction: ``"none"``, ``"ridge"``, ``"boosting"`` or ``"auto"``.
    spread
        What differs between tasks: ``"level"``, ``"diagonal"``, ``"full"`` or ``"auto"``.
    net, training
        A network whose features are a further candidate (regression), and how it is trained.
    only_net
        Whether features of the network are the only candidates.
    validation
        ``(x, y, offsets)`` of validation tasks; without them folds over the training tasks serve.
    average
        Whether forms of a regression that can hardly be told apart are averaged; else the best is taken.
    random_state
        Draws folds and supports.
    """
    offsets = np.asarray(offsets, dtype=np.int64)
    x = np.asarray(x, dtype=float)
    center, scale = _units(y, kind)
    target = _standardised(y, kind, center, scale)
    groups = np.arange(len(offsets) - 1) if groups is None else np.asarray(groups)
    if len(np.unique(groups)) < 2:
        groups = np.arange(len(offsets) - 1)
    most = FOLDS if len(groups) > FEW else FOLDS_FOR_FEW
    data = Data(x, target, offsets, make_folds(groups, most, random_state), kind, ways, random_state)
    wide = kind == "classification" and x.shape[1] > WIDE and prior_mean in ("auto", "none") and spread == "auto"
    candidates = _candidates(prior_mean, spread, len(offsets) - 1, net is not None, only_net, wide)
    reduction = Reduction.fit(data) if wide else None
    pooling = {name: Pooling(data, name) for name in {c.pooled for c in candidates} - {"none"}}
    network = None if net is None else NetworkFeatures(data, net, training)
    everything = frozenset(data.fold.tolist())
    rule = rule_of(kind)
    whole = _learn(candidates, data, pooling, network, reduction, everything)
    parts: list[tuple[_Learned, np.ndarray]] = []
    tables = []
    if validation is not None:
        held = (np.asarray(validation[0], dtype=float), validation[1], np.asarray(validation[2], dtype=np.int64))
        if kind == "regression":
            held = (held[0], _standardised(held[1], kind, center, scale), held[2])
        test = Data(*held, np.zeros(len(held[2]) - 1, dtype=np.int64), kind, ways, random_state)
        parts.append((whole, np.arange(len(held[2]) - 1)))
        tables.append(_losses(rule, candidates, whole, test, shots, net))
    else:
        for fold in sorted(everything):
            learned = _learn(candidates, data, pooling, network, reduction, everything - {fold})
            parts.append((learned, np.flatnonzero(data.fold == fold)))
            tables.append(_losses(rule, candidates, learned, data.part({fold}), shots, net))
    sizes = sorted({size for table in tables for size in table})
    losses = {size: np.concatenate([table[size] for table in tables if size in table], axis=1) for size in sizes}
    weights, report, reason = _decide(candidates, losses, average and kind == "regression")

    def assemble(learned: _Learned) -> dict[str, np.ndarray]:
        used = [k for k in range(len(candidates)) if weights[k] > 0]
        if wide:
            return to_raw(learned.params[used[0]], learned.extra[used[0]]["reduced/coef"])
        extra: dict[str, np.ndarray] = {}
        for k in used:
            extra |= learned.extra[k]
        places = [candidates[k].places(x.shape[1], width(extra)) for k in used]
        params = mixture([learned.params[k] for k in used], [weights[k] for k in used], places)
        return (in_units(params, center, scale) if kind == "regression" else params) | extra

    chosen = [candidates[k] for k in range(len(candidates)) if weights[k] > 0]
    settings = {
        "rule": "bayesian-linear" if kind == "regression" else "bayesian-logistic",
        "kind": kind,
        "ways": int(ways),
        "prior_mean": next((c.pooled for c in chosen if c.pooled != "none"), "none"),
        "candidates": [asdict(c) for c in chosen],
    }
    folds = [(assemble(learned), tasks) for learned, tasks in parts]
    return Choice(settings, assemble(whole), report, reason, folds)


def relearn(
    settings: Mapping[str, Any],
    params: Mapping[str, np.ndarray],
    x: Float[np.ndarray, "row feature"],
    y: Shaped[np.ndarray, " row"],
    offsets: Int[np.ndarray, " boundary"],
    net: Net | None = None,
) -> dict[str, np.ndarray]:
    """Learn the weights' prior anew from (more) tasks; the form of the prior, its pooled model and network stay.

    Parameters
    ----------
    settings, params
        Of an earlier ``Choice``.
    x, y, offsets
        Encoded rows of all tasks.
    net
        The network, if there is one that NumPy cannot evaluate.
    """
    kind = settings["kind"]
    center, scale = _units(y, kind)
    target = _standardised(y, kind, center, scale)
    offsets = np.asarray(offsets, dtype=np.int64)
    fold = np.zeros(len(offsets) - 1, dtype=np.int64)
    data = Data(np.asarray(x, dtype=float), target, offsets, fold, kind, settings["ways"], 0)
    arrays = {name: value for name, value in params.items() if name.startswith(("pooled/", "hidden/", "net/"))}
    candidates = [Candidate(**entry) for entry in settings["candidates"]]
    if candidates[0].features == "reduced":
        reduction, every = Reduction.fit(data), frozenset({0})
        return to_raw(learn_candidate(candidates[0], data, reduction.told(every)), reduction.coef(every))
    parts = [learn_candidate(c, data, _told(c, arrays, data.x, net)) for c in candidates]
    places = [c.places(x.shape[1], width(arrays)) for c in candidates]
    joined = mixture(parts, list(params["weight"]), places)
    return (in_units(joined, center, scale) if kind == "regression" else joined) | arrays


def _units(y: Shaped[np.ndarray, " row"], kind: str) -> tuple[float, float]:
    if kind != "regression":
        return 0.0, 1.0
    y = np.asarray(y, dtype=float)
    scale = float(y.std())
    return float(y.mean()), scale if scale > 0 else 1.0


def _standardised(y: Shaped[np.ndarray, " row"], kind: str, center: float, scale: float) -> np.ndarray:
    return (np.asarray(y, dtype=float) - center) / scale if kind == "regression" else np.asarray(y, dtype=np.int64)


def _candidates(prior_mean: str, spread: str, tasks: int, net: bool, only_net: bool, wide: bool) -> list[Candidate]:
    if wide:
        return [Candidate("none", part, "reduced") for part in REDUCED_SPREADS]
    if only_net:
        return [
            Candidate("none", part, "network") for part in (("diagonal", "full") if spread == "auto" else (spread,))
        ]
    means = ("none", "boosting") if prior_mean == "auto" else (prior_mean,)
    if prior_mean == "auto" and tasks < FEWEST_TASKS_TO_POOL:
        means = ("none",)
    spreads = SPREADS if spread == "auto" else (spread,)
    found = [Candidate(mean, part) for mean in means for part in spreads]
    return [*found, Candidate("none", "full", "network")] if net else found


def _learn(
    candidates: Sequence[Candidate],
    data: Data,
    pooling: Mapping[str, Pooling],
    network: NetworkFeatures | None,
    reduction: Reduction | None,
    folds: frozenset[int],
) -> _Learned:
    """Learn every candidate on the tasks of some folds."""
    part = data.part(folds)
    seen: dict[str, tuple[np.ndarray | None, dict[str, np.ndarray]]] = {"none": (None, {})}
    for name, pool in pooling.items():
        predictions, trees = pool.out_of_fold(folds)
        seen[name] = (predictions, pool.arrays(folds, trees))
    params, arrays = [], []
    if network is not None:
        learned = network.arrays(folds)
        seen["network"] = mapped(network.net, learned, part.x), learned
    if reduction is not None:
        seen["reduced"] = reduction.told(folds), {"reduced/coef": reduction.coef(folds)}
    for candidate in candidates:
        told, extra = seen[candidate.pooled if candidate.features == "raw" else candidate.features]
        params.append(learn_candidate(candidate, part, told))
        arrays.append(extra)
    return _Learned(params, arrays)


def _told(
    candidate: Candidate, arrays: Mapping[str, np.ndarray], x: Float[np.ndarray, "row feature"], net: Net | None
) -> np.ndarray | None:
    """What a candidate is told about rows beside their own columns."""
    if candidate.features == "network":
        return mapped(net, arrays, x)
    if candidate.features == "reduced":
        return reduced(arrays["reduced/coef"], x)
    return None if candidate.pooled == "none" else pooled_prediction(arrays, x)


def _losses(
    rule: AdaptationRule,
    candidates: Sequence[Candidate],
    learned: _Learned,
    test: Data,
    shots: int | tuple[int, int] | None,
    net: Net | None,
) -> dict[int, Float[np.ndarray, "candidate task"]]:
    """Loss of every candidate on unseen tasks by number of support rows: squared error, or log loss."""
    inputs = []
    for candidate, arrays in zip(candidates, learned.extra, strict=True):
        told = _told(candidate, arrays, test.x, net)
        parts = [test.x] if candidate.features == "raw" else []
        inputs.append(np.concatenate(parts + ([] if told is None else [told]), axis=1))
    found = {}
    for replay in replays(test, shots):
        loss = np.empty((len(inputs), len(replay.tasks)))
        for k, (x, params) in enumerate(zip(inputs, learned.params, strict=True)):
            state = rule.adapt(params, Rows(x[replay.support], test.y[replay.support], replay.all_support))
            loss[k] = replay.loss(rule.predict(params, state, x[replay.query]), test.y)
        found[replay.size] = loss
    return found


def _errors(relative: Mapping[int, Float[np.ndarray, "candidate task"]], base: int) -> Float[np.ndarray, " candidate"]:
    """Standard error of every candidate's difference to one; the same tasks serve at all sizes: as if one size spoke."""
    return np.sqrt(np.mean([(t - t[base]).var(axis=1) / t.shape[1] for t in relative.values()], axis=0))


def _decide(
    candidates: Sequence[Candidate], losses: Mapping[int, Float[np.ndarray, "candidate task"]], average: bool
) -> tuple[list[float], list[dict[str, Any]], str]:
    """Weights of the candidates, a report and a sentence.

    Regression: weights fall exponentially with the loss, so that forms which unseen tasks can hardly tell apart are
    averaged. Classification: the best form alone (averaging by Laplace's evidence was measured to lose), and among forms
    on few columns out of many "tied" unless another is clearly better.
    """
    count = len(candidates)
    if not losses:
        middle = next((k for k, c in enumerate(candidates) if c.spread in ("tied", "diagonal")), 0)
        weights = [float(k == middle) for k in range(count)]
        report = [{"name": c.name, "weight": w} for c, w in zip(candidates, weights, strict=True)]
        return weights, report, f"{candidates[middle].name}: too few tasks or rows to compare forms of the prior"
    relative = {size: table / max(float(table.mean()), 1e-300) for size, table in losses.items()}
    mean = np.mean([table.mean(axis=1) for table in relative.values()], axis=0)
    best = int(np.argmin(mean))
    usual = next((k for k, c in enumerate(candidates) if c.spread == "tied"), best)
    if mean[usual] - mean[best] <= CLEAR * _errors(relative, usual)[best]:
        best = usual
    error = _errors(relative, best)
    order = [int(k) for k in np.argsort(mean, kind="stable")]
    if average:
        share = np.exp(-(mean - mean[best]) / TEMPERATURE)
        share[share < LEAST_WEIGHT * share.sum()] = 0.0
        weights = (share / share.sum()).tolist()
    else:
        weights = [float(k == best) for k in range(count)]
    report = [
        {
            "name": candidate.name,
            "loss": float(mean[k]),
            "error": float(error[k]),
            "sizes": {int(size): float(table[k].mean()) for size, table in losses.items()},
            "weight": weights[k],
        }
        for k, candidate in enumerate(candidates)
    ]
    used = [k for k in order if weights[k] > 0]
    left = [k for k in order if weights[k] == 0]
    if count == 1:
        return weights, report, f"{candidates[0].name}: as asked for"
    if len(used) == 1:
        why = "least loss" if mean[best] == mean.min() else "no other form has clearly less loss"
        reason = f"{candidates[best].name}: {why} on unseen tasks ({mean[best]:.3f}, relative to the mean form)"
    else:
        names = " + ".join(f"{weights[k]:.0%} {candidates[k].name}" for k in used)
        reason = (
            f"{names}: averaged, for unseen tasks hardly tell them apart "
            f"(loss {mean[used[0]]:.3f} to {mean[used[-1]]:.3f}, relative to the mean form)"
        )
    if left:
        reason += f"; next is {candidates[left[0]].name} ({mean[left[0]]:.3f} +- {error[left[0]]:.3f})"
    return weights, report, reason
