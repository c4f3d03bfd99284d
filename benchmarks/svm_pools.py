"""MetaSVM on sentences (CLINC150, new domains) and molecules (Tox21), beside plain methods on the same episodes.

    UPSTAIRS_DATA=... python benchmarks/svm_pools.py [--episodes 600] [--seeds 3]

Episodes, domains, folds of molecules and draws are those of `benchmarks/sentences.py` and `benchmarks/molecules.py`. Writes
``svm_pools.md`` beside itself.
"""

from __future__ import annotations

import argparse
import pathlib
import time
import warnings

import numpy as np
import sentences
from molecules import FOLDS, HELD_OUT, SHOTS, auc, draws, load, mean_of, tasks_of
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

import upstairs as up

HERE = pathlib.Path(__file__).resolve().parent


def sentence_lines(episodes: int, seeds: int) -> list[str]:
    """Accuracy on new domains."""
    found: dict[tuple[str, int], list[float]] = {}
    said, seconds = [], []
    for seed in range(seeds):
        known, new = sentences.clinc(seed)
        start = time.perf_counter()
        meta = up.MetaSVM(random_state=seed).meta_fit(known)
        seconds.append(time.perf_counter() - start)
        said.append(f"- seed {seed}: {meta.prior_.settings['choice']}.")
        for shots in sentences.SHOTS:
            result = up.evaluate(
                {"MetaSVM": meta, "own logistic regression": LogisticRegression(max_iter=1000), "own SVC": SVC()},
                new,
                shots=[shots],
                ways=sentences.WAYS,
                queries=sentences.QUERIES,
                draws=-(-episodes // sentences.TEST_DOMAINS),
                baselines=["nearest prototype"],
                random_state=seed,
            )
            for row in result.table(shots, "accuracy"):
                found.setdefault((row.learner, shots), []).append(100 * row.mean)
    lines = [f"## CLINC150, {seeds} seeds, {episodes} episodes a seed; {np.mean(seconds):.1f} s to learn", ""]
    lines += ["| | " + " | ".join(f"5-way {shots}-shot" for shots in sentences.SHOTS) + " |", "|---|---|---|"]
    for name in dict.fromkeys(name for name, _ in found):
        cells = [found[name, shots] for shots in sentences.SHOTS]
        lines.append(
            f"| {name} | " + " | ".join(f"{np.mean(c):.2f} ({min(c):.2f} to {max(c):.2f})" for c in cells) + " |"
        )
    gaps = [
        max(found[name, shots][seed] for name, s in found if s == shots and name != "MetaSVM")
        - found["MetaSVM", shots][seed]
        for shots in sentences.SHOTS
        for seed in range(seeds)
    ]
    return [
        *lines,
        "",
        f"Behind the best plain method by {np.mean(gaps):.2f} points (at most {max(gaps):.2f}).",
        "",
        *said,
        "",
    ]


def molecule_lines(seeds: int) -> list[str]:
    """AUC on the last assays; molecules of a draw were seen under no assay."""
    x, labels = load("tox21")
    assays = list(range(labels.shape[1]))
    train, test = assays[: -HELD_OUT["tox21"]], assays[-HELD_OUT["tox21"] :]
    runs, said = [], []
    for seed in range(seeds):
        scores: dict[str, dict[int, list[float]]] = {}
        fold = np.random.default_rng(seed).permutation(len(x)) % FOLDS
        for number in range(FOLDS):
            start = time.perf_counter()
            meta = up.MetaSVM(shots=2 * SHOTS, random_state=seed).meta_fit(
                tasks_of(x, labels, train, fold != number, None)
            )
            said.append(
                f"- seed {seed}, fold {number}: {time.perf_counter() - start:.1f} s; {meta.prior_.settings['choice']}."
            )
            rows = {assay: np.flatnonzero((fold != number) & (labels[:, assay] >= 0)) for assay in train}
            linear = [LogisticRegression(C=0.1, max_iter=200).fit(x[rows[a]], labels[rows[a], a]) for a in train]
            for assay in test:
                for support, query in draws(labels[:, assay], fold, number, [seed, assay]):
                    xs, ys = x[support], labels[support, assay]
                    found = {
                        "MetaSVM": meta.adapt(xs, ys).decision_function(x[query]),
                        "own SVC": SVC().fit(xs, ys).decision_function(x[query]),
                        "pooled, mean of logistic": np.mean([m.decision_function(x[query]) for m in linear], axis=0),
                    }
                    for name, score in found.items():
                        scores.setdefault(name, {}).setdefault(assay, []).append(auc(score, labels[query, assay]))
        runs.append({name: mean_of(by) for name, by in scores.items()})
    lines = [f"## Tox21, {seeds} seeds, 10 active and 10 inactive support molecules, AUC", "", "| | AUC |", "|---|---|"]
    for name in runs[0]:
        values = [run[name] for run in runs]
        lines.append(f"| {name} | {np.mean(values):.4f} ({min(values):.4f} to {max(values):.4f}) |")
    return [*lines, "", *said, ""]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = ["# MetaSVM on sentences and molecules", "", *sentence_lines(options.episodes, options.seeds)]
    print("\n".join(lines), flush=True)
    lines += molecule_lines(options.seeds)
    print("\n".join(lines), flush=True)
    (HERE / "svm_pools.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
