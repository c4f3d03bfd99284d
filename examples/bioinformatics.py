"""A new assay from twenty molecules.

    python examples/bioinformatics.py            # made-up molecules and assays, half a minute
    python examples/bioinformatics.py --full     # Tox21, a few minutes; needs the folder of UPSTAIRS_DATA

An assay says of a molecule whether it is active. A new one has been run for ten active and ten inactive molecules; which others
should be tried first? Older assays are the tasks to learn from. The measure is the area under the ROC curve (AUC).

The molecules and assays of the small version are MADE UP: all 693 combinations of 8 scaffolds and 11 substituents at two places,
written as SMILES, and assays that add up hidden effects of scaffold and substituents. Half of these effects is the same in all
assays, the other half lies in a few hidden directions, and one molecule in twenty has the wrong label; an older assay has
measured 120 molecules. So there is something to be learned, by construction.

Fingerprints are ECFP where the extra is installed (``pip install 'upstairs[molecules]'``), else counts of character n-grams of the
SMILES by scikit-learn (`fingerprints`). No molecule of a test task has been seen under any assay: half of the molecules belong to
the older assays, and the other half to the new ones. Beside what is learned, on the same molecules: logistic regression and a forest on the
twenty alone, and what needs no molecule of the new assay: the mean of the older assays' models ("pooled"). On Tox21, whose
assays measure much the same, that mean is hard to beat.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import time
import warnings

import numpy as np
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

import upstairs as up

SCAFFOLDS = (
    "c1ccc({})cc1{}", "C1CCC({})CC1{}", "c1cc({})oc1{}", "c1cc({})sc1{}", "C1CN({})CCN1{}",
    "c1cc({})ncc1{}", "C1CC({})NCC1{}", "c1cc({})cc2c1cccc2{}",
)  # fmt: skip
SYMMETRIC = 5
"""So many scaffolds, the first ones, give the same molecule when the two substituents change places."""
SUBSTITUENTS = (
    "C", "CC", "OC", "F", "C(F)(F)F", "C(=O)O", "C(=O)N", "N(C)C", "S(=O)(=O)N", "C#N", "c3ccccc3",
)  # fmt: skip
SHOTS = 10


def molecules() -> tuple[list[str], np.ndarray]:
    """All made-up molecules as SMILES, and the numbers of their parts."""
    parts = np.indices((len(SCAFFOLDS), len(SUBSTITUENTS), len(SUBSTITUENTS))).reshape(3, -1).T
    parts = parts[(parts[:, 0] >= SYMMETRIC) | (parts[:, 1] <= parts[:, 2])]
    smiles = [SCAFFOLDS[core].format(SUBSTITUENTS[one], SUBSTITUENTS[two]) for core, one, two in parts.tolist()]
    return smiles, parts


def assays(
    parts: np.ndarray,
    number: int,
    *,
    old: int,
    measured: int = 120,
    alike: float = 0.5,
    wrong: float = 0.05,
    seed: int = 0,
) -> np.ndarray:
    """Make up assays: labels (molecule, assay), a third of them active; -1 where one of the first ``old`` has not measured.

    ``alike`` is the share of an assay's effects, in variance, that all assays have in common.
    """
    rng = np.random.default_rng(seed)
    width = len(SCAFFOLDS) + len(SUBSTITUENTS)
    has = np.zeros((len(parts), width))
    has[np.arange(len(parts)), parts[:, 0]] = 1.0
    for place in (1, 2):
        np.add.at(has, (np.arange(len(parts)), len(SCAFFOLDS) + parts[:, place]), 1.0)
    common, directions = rng.normal(size=width), rng.normal(size=(3, width)) / np.sqrt(3.0)
    own = rng.normal(size=(number, 3)) @ directions
    score = has @ (np.sqrt(alike) * common + np.sqrt(1.0 - alike) * own).T
    active = score > np.quantile(score, 2.0 / 3.0, axis=0)
    labels = (active ^ (rng.random(active.shape) < wrong)).astype(int)
    for assay in range(old):
        labels[rng.permutation(len(parts))[measured:], assay] = -1
    return labels


def fingerprints(smiles: list[str], columns: int = 48) -> tuple[np.ndarray, str]:
    """Fingerprints and their name; each looks at one molecule at a time, so that nothing is learned from others.

    N-grams of one to three characters are those that occur in at least ten molecules, the most frequent ``columns`` of them.
    """
    try:
        from skfp.fingerprints import ECFPFingerprint
    except ImportError:
        grams = CountVectorizer(analyzer="char", ngram_range=(1, 3), lowercase=False, min_df=10, max_features=columns)
        return grams.fit_transform(smiles).toarray().astype(float), "character n-grams of SMILES"
    return ECFPFingerprint(fp_size=columns).fit_transform(smiles).astype(float), "ECFP of scikit-fingerprints"


def auc(score: np.ndarray, y: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half."""
    rank, positive = rankdata(score), y == 1
    n = int(positive.sum())
    return float((rank[positive].sum() - n * (n + 1) / 2) / (n * (len(y) - n)))


def tasks_of(x: np.ndarray, labels: np.ndarray, old: np.ndarray, rows: np.ndarray) -> up.TaskSet:
    """Older assays as tasks of the molecules ``rows`` that they have measured (a label below 0: not measured)."""
    tasks = []
    for assay in old.tolist():
        here = rows[labels[rows, assay] >= 0]
        tasks.append(up.Task(x[here], labels[here, assay], name=f"assay {assay:02d}", kind="classification"))
    return up.TaskSet(tasks, labels="shared")


def compare(
    x: np.ndarray,
    labels: np.ndarray,
    old: np.ndarray,
    new: np.ndarray,
    *,
    folds: int,
    tested: int,
    draws: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """AUC of every method, one a new assay, mean over folds and draws.

    Molecules lie in folds. Support and query of a draw come from one fold (of the first ``tested``), and what is learned on older
    assays from the others.
    """
    fold = np.random.default_rng(seed).permutation(len(x)) % folds
    found: dict[str, dict[int, list[float]]] = {}
    for number in range(tested):
        known = tasks_of(x, labels, old, np.flatnonzero(fold != number))
        begun = time.perf_counter()
        meta = up.MetaNeuralNetwork(net=None, prior_mean="linear", shots=2 * SHOTS, random_state=seed).meta_fit(known)
        seconds = time.perf_counter() - begun
        inside = np.flatnonzero(fold == number)
        linear = [LogisticRegression(C=0.1, max_iter=500).fit(task.X, task.y) for task in known]
        forests = [
            RandomForestClassifier(40, min_samples_leaf=2, random_state=seed).fit(task.X, task.y) for task in known
        ]
        pooled = np.full((2, len(x)), np.nan)
        pooled[0, inside] = np.mean([model.decision_function(x[inside]) for model in linear], axis=0)
        pooled[1, inside] = np.mean([model.predict_proba(x[inside])[:, 1] for model in forests], axis=0)
        for assay in new.tolist():
            here = np.flatnonzero((fold == number) & (labels[:, assay] >= 0))
            for draw in range(draws):
                order = np.random.default_rng([seed, number, assay, draw]).permutation(here)
                y = labels[order, assay]
                support = np.concatenate([order[y == value][:SHOTS] for value in (1, 0)])
                query = np.setdiff1d(order, support)
                if min(np.bincount(labels[query, assay], minlength=2)) < 5:
                    continue
                said = predictions(meta, x[support], labels[support, assay], x[query])
                said |= {"pooled logistic regressions": pooled[0, query], "pooled forests": pooled[1, query]}
                for name, score in said.items():
                    found.setdefault(name, {}).setdefault(assay, []).append(auc(score, labels[query, assay]))
    print(f"  seed {seed}: learned in {seconds:.1f} s (a fold); {meta.prior_.settings['choice']}", flush=True)
    return {name: np.array([np.mean(values[assay]) for assay in new.tolist()]) for name, values in found.items()}


def predictions(meta, x: np.ndarray, y: np.ndarray, query: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of the query molecules by what sees the support molecules."""
    return {
        "own logistic regression": LogisticRegression(max_iter=500).fit(x, y).decision_function(query),
        "own forest": RandomForestClassifier(50, random_state=0).fit(x, y).predict_proba(query)[:, 1],
        "learned": meta.adapt(x, y).predict_proba(query)[:, 1],
    }


def show(found: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Print the mean AUC, its range over seeds, and differences to what was learned with an interval over assays."""
    means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    print(f"  {'':30s}AUC    seeds            learned minus it, 95 % interval over assays")
    for name in sorted(means, key=lambda name: means[name]):
        each = [one[name].mean() for one in found]
        gap = np.array([one["learned"] - one[name] for one in found])
        told = "" if name == "learned" else interval(gap)
        print(f"  {name:30s}{means[name]:.3f}  {min(each):.3f} to {max(each):.3f}   {told}".rstrip())
    best = max((name for name in means if name != "learned"), key=lambda name: means[name])
    gap = means["learned"] - means[best]
    print(f"  What was learned is {abs(gap):.3f} {'above' if gap > 0 else 'BELOW'} the best plain method ({best}).")
    return means


def interval(gap: np.ndarray) -> str:
    """Mean, and bootstrap interval over assays."""
    rng, each = np.random.default_rng(0), gap.ravel()
    again = each[rng.integers(len(each), size=(2000, len(each)))].mean(axis=1)
    return f"{each.mean():+.3f} ({np.quantile(again, 0.025):+.3f} to {np.quantile(again, 0.975):+.3f})"


def made_up(
    number: int = 24, new: int = 8, seeds: int = 3, draws: int = 2, columns: int = 48, measured: int = 120
) -> dict[str, float]:
    """Learn on some made-up assays, test on ``new`` others; a seed draws the assays and which molecules are whose."""
    smiles, parts = molecules()
    x, name = fingerprints(smiles, columns)
    print(f"{number - new} made-up assays to learn from, {new} others to test on, {len(x)} made-up molecules, {name}")
    order, found = np.arange(number), []
    for seed in range(seeds):
        labels = assays(parts, number, old=number - new, measured=measured, seed=seed)
        found.append(compare(x, labels, order[:-new], order[-new:], folds=2, tested=1, draws=draws, seed=seed))
    return show(found)


def tox21(new: int = 3, seeds: int = 1, tested: int = 3, draws: int = 7) -> None:
    """Nine assays of Tox21 to learn from, the last three to test on; fingerprints come with the file."""
    data = os.environ.get("UPSTAIRS_DATA") or pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    path = pathlib.Path(data) / "molecules" / "tox21.npz"
    if not path.exists():
        raise SystemExit(
            f"--full reads {path}, which does not exist; set UPSTAIRS_DATA to the folder that holds molecules/."
        )
    file = np.load(path, allow_pickle=False)
    x = np.unpackbits(file["ecfp4_1024_packed"], axis=1).astype(float)
    labels = file["labels"].astype(int)
    order = np.arange(labels.shape[1])
    print(
        f"Tox21: {len(order) - new} assays to learn from, {', '.join(file['tasks'][-new:])} to test on, {len(x)} molecules"
    )
    show(
        [
            compare(x, labels, order[:-new], order[-new:], folds=5, tested=tested, draws=draws, seed=seed)
            for seed in range(seeds)
        ]
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore", up.FamiliarityWarning)  # a support of equal halves is unlike any older assay
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="Tox21")
    if parser.parse_args().full:
        tox21()
    else:
        made_up()
