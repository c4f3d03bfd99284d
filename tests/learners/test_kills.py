"""Training that is killed at any moment and called again ends with the same prior, bit for bit."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import numpy as np

import upstairs as up
from upstairs.tasks.synthetic import Sinusoids

SCRIPT = textwrap.dedent(
    """
    import sys
    sys.path.insert(0, sys.argv[1])
    from test_kills import kill_me

    def tell(event):
        if event.kind == "progress":
            print("step", event.step, flush=True)

    kill_me(sys.argv[2], tell)
    """
)


def kill_me(folder: str | None = None, callback: object = None) -> up.Prior:
    training = up.Training(steps=3000, validate_every=500, checkpoint=folder, checkpoint_seconds=0, callback=callback)  # type: ignore[arg-type]
    net = {"name": "mlp", "sizes": (8,)}
    return (
        up.MetaNeuralNetwork("maml", net=net, training=training, shots=5)
        .meta_fit(Sinusoids().sample(50, 20, random_state=0))
        .prior_
    )


def test_kills_at_random_moments_leave_no_trace(tmp_path: pathlib.Path) -> None:
    """Twenty times kill -9, each in the run that the one before left; then a call that ends."""
    command = [sys.executable, "-c", SCRIPT, str(pathlib.Path(__file__).parent), str(tmp_path / "run")]
    rng, killed = np.random.default_rng(1), 0
    for _ in range(20):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ))
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(timeout=float(rng.uniform(0.0, 0.25)))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
        process.stdout.close()
    assert killed >= 10
    assert kill_me(str(tmp_path / "run")) == kill_me()
