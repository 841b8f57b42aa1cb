"""
Measuring several contestants in one run, and showing how they compare.

Each runs in turn, many rounds over, and its best round counts: what disturbs the machine meanwhile
disturbs all of them.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import attrs


__all__ = ["Contestants", "Mark", "measure", "show"]

Contestants = dict[str, Callable[[], object]]


@attrs.frozen
class Mark:
    """
    What the design promises: *ours* takes at most *limit* times as long as *theirs*.

    Attributes:
        aim: What it should be one day; None for nothing better than the limit.
    """

    ours: str
    theirs: str
    limit: float
    aim: float | None = None


def measure(contestants: Contestants, times: int = 1, rounds: int = 25) -> dict[str, float]:
    """Return the seconds that each contestant takes once: the best of *rounds*, of *times* calls each."""
    best = dict.fromkeys(contestants, float("inf"))
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, function in contestants.items():
                started = time.perf_counter()
                for _ in range(times):
                    function()
                best[name] = min(best[name], (time.perf_counter() - started) / times)
    finally:
        gc.enable()
    return best


def show(title: str, found: dict[str, float], *marks: Mark) -> bool:
    """Print one table; return whether all marks are reached."""
    print(f"\n{title}")
    first = next(iter(found.values()))
    for name, seconds in found.items():
        print(f"  {name:<20} {seconds * 1e6:11.2f} µs {seconds / first:7.2f}")
    reached = True
    for mark in marks:
        ratio = found[mark.ours] / found[mark.theirs]
        reached &= ratio <= mark.limit
        aim = "" if mark.aim is None else f", aiming for {mark.aim:.2f}"
        verdict = "reached" if ratio <= mark.limit else "MISSED"
        print(f"  {mark.ours} / {mark.theirs}: {ratio:.3f}, at most {mark.limit:.3f}{aim}: {verdict}")
    return reached
