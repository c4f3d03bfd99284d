"""Run every example, its small version, in a process of its own; stop at the first that fails.

    python examples/run_all.py            # or: make examples
    python examples/run_all.py tables     # some of them

Prints the seconds of each and the total. If one fails, what it printed follows, and the exit code is 1.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLES = (
    "tables",
    "vision",
    "language",
    "bioinformatics",
    "streams",
    "optimisation",
    "settings_from_experience",
    "classic",
)


def run_all(paths: Sequence[pathlib.Path]) -> int:
    """Run scripts in turn; the exit code."""
    total = 0.0
    for path in paths:
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(path)], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        seconds = time.perf_counter() - begun
        total += seconds
        print(f"{path.stem:28s}{seconds:7.1f} s{'' if done.returncode == 0 else '  FAILED'}", flush=True)
        if done.returncode:
            print(f"\n{done.stdout.rstrip()}\n\n{path.name} ended with exit code {done.returncode}.")
            return 1
    print(f"{'total':28s}{total:7.1f} s")
    return 0


if __name__ == "__main__":
    names = sys.argv[1:] or EXAMPLES
    unknown = [name for name in names if name not in EXAMPLES]
    if unknown:
        raise SystemExit(f"No example is called {', '.join(unknown)}; there are {', '.join(EXAMPLES)}.")
    raise SystemExit(run_all([HERE / f"{name}.py" for name in names]))
