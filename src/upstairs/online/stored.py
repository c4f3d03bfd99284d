"""A contest in mid-stream, with those that follow it, as JSON values and arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from upstairs.online.contest import Challenger, Contest, Known
from upstairs.online.following import Following
from upstairs.online.worlds import World, Worlds

__all__ = ["contest_restored", "contest_stored", "following_restored", "following_stored"]


def contest_stored(contest: Contest, worlds: Worlds) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Write all candidates; the prior, which all of them are adapted from, is written elsewhere."""
    named = {f"known {place}": entry.world for place, entry in enumerate(contest.known)}
    named |= {"earlier": contest.earlier, "chunk_start": contest.chunk_start, "newborn": contest.newborn}
    for place, entry in enumerate(contest.challengers):
        named |= {f"challenger {place}": entry.world, f"before {place}": entry.before}
    document: dict[str, Any] = {
        "holding": contest.holding,
        "since": contest.since,
        "rows": contest.rows,
        "met": contest.met,
        "known": [[entry.name, entry.last] for entry in contest.known],
        "ages": [entry.age for entry in contest.challengers],
    }
    document["worlds"], arrays = _stored(named, worlds)
    return document, arrays | {"weight": contest.weight}


def contest_restored(document: Mapping[str, Any], arrays: Mapping[str, np.ndarray], worlds: Worlds) -> Contest:
    """Undo `contest_stored`; ``worlds`` are of the same prior."""
    named = {name: _world(name, entry, arrays, worlds) for name, entry in document["worlds"].items()}
    known = [Known(named[f"known {place}"], name, last) for place, (name, last) in enumerate(document["known"])]
    challengers = [
        Challenger(named[f"challenger {place}"], named[f"before {place}"], age)
        for place, age in enumerate(document["ages"])
    ]
    return Contest(
        tuple(known),
        document["holding"],
        tuple(challengers),
        named["newborn"],
        arrays["weight"],
        named["earlier"],
        named["chunk_start"],
        document["since"],
        document["rows"],
        document["met"],
    )


def following_stored(following: Following, makers: tuple[Worlds, ...]) -> tuple[list[Any], dict[str, np.ndarray]]:
    """Write followers and weights."""
    entries, arrays = [], {"following": following.weight}
    for place, (maker, world) in enumerate(zip(makers, following.worlds, strict=True)):
        found, more = _stored({f"follower {place}": world}, maker)
        entries += list(found.values())
        arrays |= more
    return entries, arrays


def following_restored(
    entries: list[Any], arrays: Mapping[str, np.ndarray], begun: Following, makers: tuple[Worlds, ...]
) -> Following:
    """Undo `following_stored`; ``begun`` are followers that have just begun."""
    found = zip(makers, entries, strict=True)
    worlds = tuple(_world(f"follower {place}", entry, arrays, maker) for place, (maker, entry) in enumerate(found))
    return replace(begun, worlds=worlds, weight=arrays["following"])


def _stored(named: Mapping[str, World], worlds: Worlds) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    entries: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, world in named.items():
        entries[name], found = worlds.stored(world)
        arrays |= {f"{name}/{key}": array for key, array in found.items()}
    return entries, arrays


def _world(name: str, entry: list[Any], arrays: Mapping[str, np.ndarray], worlds: Worlds) -> World:
    start = f"{name}/"
    return worlds.restored(entry, {key[len(start) :]: array for key, array in arrays.items() if key.startswith(start)})
