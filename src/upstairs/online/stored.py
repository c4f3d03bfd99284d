"""A contest in mid-stream as JSON values and arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from upstairs.learners.adaptation import Adapted
from upstairs.online.contest import Challenger, Contest, Known
from upstairs.online.worlds import World

__all__ = ["contest_restored", "contest_stored"]


def contest_stored(contest: Contest) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Write all candidates; the prior, which all of them are adapted from, is written elsewhere."""
    worlds = {f"known {place}": entry.world for place, entry in enumerate(contest.known)}
    worlds["earlier"] = contest.earlier
    for place, entry in enumerate(contest.challengers):
        worlds |= {f"challenger {place}": entry.world, f"before {place}": entry.before}
    document: dict[str, Any] = {
        "holding": contest.holding,
        "rows": contest.rows,
        "met": contest.met,
        "known": [[entry.name, entry.last] for entry in contest.known],
        "ages": [entry.age for entry in contest.challengers],
        "worlds": {},
    }
    arrays: dict[str, np.ndarray] = {"weight": contest.weight}
    for name, world in worlds.items():
        document["worlds"][name] = [world.learned, world.total, world.adapted.rows, world.adapted.familiarity]
        arrays |= {f"{name}/x": world.x, f"{name}/y": world.y}
        arrays |= {f"{name}/state/{key}": np.asarray(array) for key, array in world.adapted.state.items()}
    return document, arrays


def contest_restored(begun: Contest, document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Contest:
    """Undo `contest_stored`.

    Parameters
    ----------
    begun : Contest
        That has just begun with the same prior.
    document, arrays
        As written.
    """
    worlds = {name: _world(name, entry, arrays, begun.newborn) for name, entry in document["worlds"].items()}
    known = [Known(worlds[f"known {place}"], name, last) for place, (name, last) in enumerate(document["known"])]
    challengers = [
        Challenger(worlds[f"challenger {place}"], worlds[f"before {place}"], age)
        for place, age in enumerate(document["ages"])
    ]
    return replace(
        begun,
        known=tuple(known),
        holding=document["holding"],
        challengers=tuple(challengers),
        weight=arrays["weight"],
        earlier=worlds["earlier"],
        rows=document["rows"],
        met=document["met"],
    )


def _world(name: str, entry: Any, arrays: Mapping[str, np.ndarray], blank: World) -> World:
    learned, total, rows, familiarity = entry
    start = f"{name}/state/"
    state = {key.removeprefix(start): array for key, array in arrays.items() if key.startswith(start)}
    adapted = Adapted(blank.adapted.rule, blank.adapted.params, state, rows, True, familiarity)
    return World(arrays[f"{name}/x"], arrays[f"{name}/y"], adapted, learned, total)
