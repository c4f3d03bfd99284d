"""Real task families: the default learner beside the plain methods, on the same frozen episodes, eight splits.

    python benchmarks/families.py [family ...]

Each row is one call of ``upstairs evaluate`` on the CSV file as it is (folder ``UPSTAIRS_DATA``, default
``../shared/data``). Writes ``families.md`` beside itself: figures that fell short come first.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from upstairs.evaluate import EvaluationResult

HERE = pathlib.Path(__file__).resolve().parent
DATA = pathlib.Path(os.environ.get("UPSTAIRS_DATA", HERE.parent.parent / "shared" / "data")) / "task_families"
LEARNER, GUARDED = "neural-network", "neural-network, guard"
REGRESSION = ["computer_survey", "school_ilea", "parkinsons_updrs", "exam_london65", "bdf_language", "insteval"]
EXTRA = {
    "insteval": ["--baselines", "no-meta,pooled,pooled + offset,linear Gaussian prior"],
    "landmine": ["--shots", "20,40,80,160"],
}


def run(family: str) -> tuple[EvaluationResult, str]:
    """Call the command line on one family; the result and what it printed."""
    kind = "regression" if family in REGRESSION else "classification"
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "result.json"
        command = [sys.executable, "-m", "upstairs", "evaluate", "--train", str(DATA / f"{family}.csv.gz")]
        command += [
            "--task",
            "task",
            "--target",
            "target",
            "--kind",
            kind,
            "--shots",
            "5",
            "--splits",
            "0:7",
            "--guard",
        ]
        command += [*EXTRA.get(family, []), "--json", str(out)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        record: dict[str, Any] = json.loads(out.read_text())
    return EvaluationResult.from_dict(record), done.stdout


def regression_line(family: str, result: EvaluationResult) -> str:
    """Ratios of mean errors, with intervals over tasks."""
    linear = result.ratio(LEARNER, "linear Gaussian prior", 5)
    offset = result.ratio(LEARNER, "pooled + offset", 5)
    guard = result.ratio(GUARDED, LEARNER, 5)
    coverage = next(row.mean for row in result.table(5, "coverage") if row.learner == LEARNER)
    cells = [
        family,
        f"{linear.value:.3f} ({linear.low:.3f} to {linear.high:.3f})",
        f"{offset.value:.3f} ({offset.low:.3f} to {offset.high:.3f})",
        f"{coverage:.3f}",
        f"{guard.value:.3f}",
        f"{result.meta_seconds[LEARNER]:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main(families: list[str]) -> None:
    """Run the families and write the report."""
    lines = [
        "# Real families, eight splits (a quarter of the tasks held out), default settings",
        "",
        "| family, 5 support rows | error / linear Gaussian prior | error / pooled + offset "
        "| 90 % interval covers | guard costs | learning s, all splits |",
        "|---|---|---|---|---|---|",
    ]
    printed = []
    for family in families:
        result, text = run(family)
        printed.append(f"## {family}\n\n```\n{text.strip()}\n```\n")
        if family in REGRESSION:
            lines.append(regression_line(family, result))
            print(lines[-1], flush=True)
        else:
            print(text, flush=True)
    (HERE / "families.md").write_text("\n".join(lines) + "\n\n" + "\n".join(printed))


if __name__ == "__main__":
    main(sys.argv[1:] or [*REGRESSION, "landmine"])
