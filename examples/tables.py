"""A new chick, school or patient: a few rows, and a model with intervals.

    python examples/tables.py             # growth of 50 chicks, half a minute
    python examples/tables.py --full      # schools and patients, some minutes; needs the folder of UPSTAIRS_DATA

Every table has one task: a chick weighed at some ages, a school with its pupils, a patient with their visits. Tasks are alike but not the
same. Some are held out; of each of these a few rows are known and the others are predicted.

1. Does it help? `upstairs.evaluate` plays the same episodes with what was learned and with all baselines that apply: a model
   of the task's rows alone ("no-meta", and one with settings tuned on them), one model of all tasks ("pooled"), that model with
   a level of the task's own ("pooled + offset"), and the classical mixed-effects model ("linear Gaussian prior").
2. The model of one new task: predictions with intervals, after no row at all (`adapt_zero`), two and five.
3. What if the new task is unlike all others? It says so (`familiarity_`), and ``guard=True`` drops the prior where rows speak
   clearly against it.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import warnings

import numpy as np
import pandas as pd

import upstairs as up
from upstairs.evaluate import EvaluationResult
from upstairs.tasks.bundled import chick_weights

LEARNED, GUARDED = "learned", "learned, guard"


def evaluated(
    tasks: up.TaskSet,
    *,
    splits: int = 3,
    shots: tuple = (2, 5),
    baselines="auto",
    test: float = 0.3,
    order=None,
    **settings,
) -> list[EvaluationResult]:
    """Learn on most tasks and test on the others, beside all baselines; a split draws which.

    ``order=True``: the rows known are the first ones. Other settings are those of the learner.
    """
    results = []
    for split in range(splits):
        train, _, new = tasks.split(valid=0.0, test=test, random_state=split)
        meta = up.MetaNeuralNetwork(random_state=split, **settings).meta_fit(train)
        learners = {LEARNED: meta, GUARDED: meta.learner(guard=True)}  # the same prior
        results.append(
            up.evaluate(
                learners,
                new,
                train=train,
                shots=list(shots),
                draws=3 if order is None else 1,
                baselines=baselines,
                order=order,
                random_state=split,
            )
        )
        print(f"  split {split}: {meta.prior_.settings['choice']}", flush=True)
    return results


def show(results: list[EvaluationResult]) -> dict[tuple[str, int], float]:
    """Print mean squared errors, targets in standard deviations: means over splits, and differences to the best baseline.

    Differences are over all test tasks; one that was tested in several splits counts once.
    """
    together, means = EvaluationResult.concatenate(results), {}
    for shots in together.shots:
        rows = together.table(shots)
        best = next(row.learner for row in rows if row.reference)
        print(
            f"  {shots} rows of the task known, {rows[0].tasks} test tasks; differences to {best}, 95 % intervals over tasks"
        )
        coverage = {row.learner: row.mean for row in together.table(shots, "coverage")}
        for row in rows:
            each = [r.mean for one in results for r in one.table(shots) if r.learner == row.learner]
            gap = (
                ""
                if row.reference
                else f"{row.difference:+.3f} ({row.difference_low:+.3f} to {row.difference_high:+.3f})"
            )
            holds = f"{100 * coverage[row.learner]:3.0f} % in its 90 % interval" if row.learner in coverage else ""
            splits = f"splits {min(each):.3f} to {max(each):.3f}"
            print(f"    {row.learner:24s}{np.mean(each):6.3f}  {splits}  {gap:26s}  {holds}".rstrip())
            means[row.learner, shots] = float(np.mean(each))
        row = next(row for row in rows if row.learner == LEARNED)
        sure = row.difference_high < 0 or row.difference_low > 0
        how = "less" if row.difference < 0 else "MORE"
        print(f"    {LEARNED}: {how} error than the best baseline{'' if sure else ', but the interval holds zero'}.")
    return means


def one_chick(tasks: up.TaskSet) -> None:
    """Adapt to a chick that was not learned on, as its weights come in, and to one that no chick is like."""
    train, _, new = tasks.split(valid=0.0, test=0.3, random_state=0)
    meta = up.MetaNeuralNetwork().meta_fit(train)
    chick = new[0]
    ages, y = np.asarray(chick.X.columns[0]), chick.y
    later = frame(chick, slice(8, None))
    print(
        f"\n{chick.name} at the age of {ages[8:].astype(int).tolist()} days weighs {y[8:].astype(int).tolist()} g; predicted,"
    )
    print("with 90 % intervals, when so many of its first weights are known:")
    for rows in (0, 2, 5):
        model = meta.adapt(frame(chick, slice(rows)), y[:rows]) if rows else meta.adapt_zero(later)
        low, high = model.predict_interval(later, 0.9).T
        said = [f"{m:.0f} ({a:.0f} to {b:.0f})" for m, a, b in zip(model.predict(later), low, high, strict=True)]
        print(f"  {rows}: {', '.join(said)}")

    print("\nA chick that loses 30 g a day, 5 weights known; error of the others in g:")
    strange = 1000.0 - 30.0 * ages
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", up.FamiliarityWarning)  # said below
        for guard in (False, True):
            model = meta.learner(guard=guard).fit(frame(chick, slice(5)), strange[:5])
            error = np.abs(model.predict(later) - strange[8:]).mean()
            print(
                f"  guard={guard!s:5}  {error:5.0f}   familiarity {model.familiarity_:.0f} (0 to 100; 0: fits worse than all of the chicks)"
            )


def frame(task: up.Task, rows: slice) -> pd.DataFrame:
    """Some rows of a task as a data frame."""
    return pd.DataFrame(dict(zip(task.columns, task.X.columns, strict=True))).iloc[rows]


def chicks(splits: int = 3, shots: tuple = (2, 5), baselines="auto", **settings) -> dict[tuple[str, int], float]:
    """Growth of chicks; the rows known are the first ones, and the later ones are predicted."""
    print("Weights of chicks: learn on 35, predict how 15 others go on growing from their first weights")
    return show(evaluated(chick_weights(), splits=splits, shots=shots, baselines=baselines, order=True, **settings))


def families(names: tuple = ("school_ilea", "parkinsons_updrs"), splits: int = 3) -> None:
    """Schools with their pupils, and patients with their visits."""
    data = os.environ.get("UPSTAIRS_DATA") or pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    for name in names:
        path = pathlib.Path(data) / "task_families" / f"{name}.csv.gz"
        if not path.exists():
            raise SystemExit(
                f"--full reads {path}, which does not exist; set UPSTAIRS_DATA to the folder of task_families/."
            )
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
        tasks = up.TaskSet.from_frame(table, task="task", target="target", kind="regression")
        print(f"\n{name}: {len(tasks)} tasks, {len(table)} rows, three tenths of the tasks held out")
        show(evaluated(tasks, splits=splits))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="schools and patients")
    if parser.parse_args().full:
        families()
    else:
        chicks()
        one_chick(chick_weights())
