from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upstairs.cli import main


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def shops(numbers: range) -> list[dict[str, Any]]:
    rows = []
    for shop in numbers:
        rng = np.random.default_rng([7, shop])
        level, slope = rng.normal(3.0, 1.0), rng.normal(1.0, 0.3)
        for _ in range(12):
            ads = float(rng.normal())
            revenue = level + slope * ads + 0.2 * float(rng.normal())
            size = "" if rng.random() < 0.1 else round(float(rng.normal()), 3)
            kind = str(rng.choice(["city", "rural"]))
            rows.append({"shop": f"s{shop:02d}", "ads": ads, "size": size, "kind": kind, "revenue": revenue})
    return rows


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of 18 shops to learn from, 2 new ones, and the same with a yes-or-no target."""
    place = tmp_path_factory.mktemp("cli")
    write(place / "train.csv", shops(range(18)))
    write(place / "new.csv", shops(range(18, 20)))
    for name, numbers in (("sold.csv", range(18)), ("sold_new.csv", range(18, 19))):
        rows = [{**row, "revenue": "yes" if row["revenue"] > 3.0 else "no"} for row in shops(numbers)]
        write(place / name, rows)
    each = place / "each"
    each.mkdir()
    for shop in range(6):
        rows = [{key: value for key, value in row.items() if key != "shop"} for row in shops(range(shop, shop + 1))]
        write(each / f"s{shop:02d}.csv", rows)
    return place


@pytest.fixture(scope="session")
def prior(folder: Path) -> Path:
    """A prior of the 18 shops."""
    out = folder / "prior"
    words = ["fit", str(folder / "train.csv"), "--task", "shop", "--target", "revenue", "--prior-mean", "linear"]
    assert main([*words, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def model(folder: Path, prior: Path) -> Path:
    """A model adapted to one new shop."""
    out = folder / "model"
    words = ["adapt", str(prior), str(folder / "new.csv"), "--target", "revenue", "--task", "shop", "--only", "s18"]
    assert main([*words, "--out", str(out)]) == 0
    return out
