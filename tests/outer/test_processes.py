"""Two processes that train together, on this machine."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import upstairs as up
from upstairs.outer import devices, processes
from upstairs.tasks.synthetic import Sinusoids

SCRIPT = textwrap.dedent(
    """
    import sys
    import jax
    jax.distributed.initialize(sys.argv[2], 2, int(sys.argv[3]))
    sys.path.insert(0, sys.argv[1])
    from test_processes import both
    both(sys.argv[4])
    """
)


def learned(checkpoint: str | None = None, end: int | None = None) -> up.Prior:
    training = up.Training(
        steps=40, batch=7, validate_every=10, checkpoint=checkpoint, callback=lambda event: event.step == end
    )
    meta = up.MetaNeuralNetwork("ridge", net={"name": "mlp", "sizes": (8,)}, training=training, shots=5)
    return meta.meta_fit(Sinusoids().sample(30, 20, random_state=0)).prior_


def both(folder: str) -> None:
    """What each of two processes does: a prior from all steps, and a run that ends half way."""
    number = 0 if processes.is_first() else 1
    prior = learned()
    half = learned(f"{folder}/run", end=20)
    assert devices.shards(7) == devices.shards(1) == 2  # one process has 4 tasks, the other 3
    np.savez(f"{folder}/{number}.npz", **prior.arrays)
    told = {"hash": prior.hash, "half": half.hash, "outer": half.settings["outer"]}
    pathlib.Path(folder, f"{number}.json").write_text(json.dumps(told))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_two_processes_give_the_prior_of_one_and_hand_over_a_checkpoint(tmp_path: pathlib.Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    words = [sys.executable, "-c", SCRIPT, str(pathlib.Path(__file__).parent), address]
    pair = [subprocess.Popen([*words, number, str(tmp_path)], env=dict(os.environ)) for number in ("0", "1")]
    assert [process.wait(timeout=300) for process in pair] == [0, 0]
    told = [json.loads((tmp_path / f"{number}.json").read_text()) for number in (0, 1)]
    assert told[0] == told[1]  # the same bits in both
    assert told[0]["outer"]["steps"] == 20
    alone = learned()
    with np.load(tmp_path / "0.npz") as together:
        for name, array in alone.arrays.items():
            np.testing.assert_allclose(together[name], array, rtol=1e-5, atol=1e-5, err_msg=name)
    continued = learned(str(tmp_path / "run"))
    for name, array in alone.arrays.items():
        np.testing.assert_allclose(continued.arrays[name], array, rtol=1e-5, atol=1e-5, err_msg=name)
    assert "ended" not in continued.settings["outer"]


def test_processes_that_find_different_checkpoints_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(processes, "agreed", lambda number: number + 1)
    with pytest.raises(up.StorageError, match="is not the same folder for all processes"):
        learned(str(tmp_path))
