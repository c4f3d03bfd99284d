"""Examples run, and show what they say they show."""

from __future__ import annotations

import pathlib
import re
import runpy

import pytest

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "settings_from_experience.py"


@pytest.mark.skipif(not EXAMPLE.exists(), reason="a source distribution has no examples")
def test_settings_from_experience(capsys):
    runpy.run_path(str(EXAMPLE))
    said = capsys.readouterr().out
    default, recommended = (float(value) for value in re.findall(r"tree, .*: ([\d.]+)", said))
    assert recommended < 0.5 * default
    assert "Experience(9 tasks in 9 groups, 7 settings" in said


@pytest.mark.skipif(not EXAMPLE.exists(), reason="a source distribution has no examples")
def test_classic(capsys):
    example = runpy.run_path(str(EXAMPLE.with_name("classic.py")))
    assert example["one_task"]() >= 0.85
    found = example["family"](
        tasks=64, steps=20, test_tasks=3, seeds=1, lengths=(10,), plain_rows=(10, 200), our_rows=(10,)
    )
    assert {name: values.shape for name, values in found.items()}["upstairs, 10 rows"] == (1, 3)
    assert found["network, 10 epochs, 200 rows"].mean() > found["network, 10 epochs, 10 rows"].mean()
    assert "One task, 800 rows: test accuracy" in capsys.readouterr().out
