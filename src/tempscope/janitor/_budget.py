"""
How much one pass may do, and keeping to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from tempscope.errors import ConfigurationError
from tempscope.units import check_count, format_duration, format_size, parse_duration, parse_size


if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["Spending", "SweepBudget", "check_budget"]


def _check_entries(value: int | None) -> int | None:
    return None if value is None else check_count(value, what="entries")


def _check_seconds(value: timedelta | str | float | None) -> float | None:
    return None if value is None else parse_duration(value, what="seconds", bare="s")


def _check_rate(value: int | str | None) -> int | None:
    return None if value is None else parse_size(value, what="bytes_per_second", bare=True)


@attrs.frozen(kw_only=True)
class SweepBudget:
    """
    What one pass of a sweep may cost; what it does not get to, the next one does.

    A value: share it between all janitors.

    Args:
        entries: How many scopes, registered outside paths and begun deletions are dealt with: removed,
            or kept for the first time; what fails or is left alone costs nothing.  None is no bound.

        seconds: How long a pass may take: a number, text such as ``"30s"``, or a timedelta; a long
            removal stops in the middle and the next pass goes on.  None is no bound.

        bytes_per_second: How fast bytes may be freed on the average of a pass: a number, or text such
            as ``"100MiB"``; between the parts of a removal it pauses as long as that takes.  None is
            as fast as possible.

    Raises:
        ConfigurationError: If an argument is out of its range; the message says which.

    Not promised: that a single huge file is removed slowly, or that looking stops to the second.
    """

    entries: int | None = attrs.field(default=None, converter=_check_entries)
    seconds: float | None = attrs.field(default=None, converter=_check_seconds)
    bytes_per_second: int | None = attrs.field(default=None, converter=_check_rate)

    def __repr__(self) -> str:
        shown = []
        if self.entries is not None:
            shown.append(f"entries={self.entries}")
        if self.seconds is not None:
            shown.append(f"seconds={format_duration(self.seconds)!r}")
        if self.bytes_per_second is not None:
            shown.append(f"bytes_per_second={format_size(self.bytes_per_second, exact=True)!r}")
        return f"SweepBudget({', '.join(shown)})"


def check_budget(value: SweepBudget | None) -> SweepBudget:
    """
    Return *value*, or for None a budget without bounds.

    Raises:
        ConfigurationError: If it is neither.
    """
    if value is None:
        return SweepBudget()
    if not isinstance(value, SweepBudget):
        raise ConfigurationError(
            f"budget cannot be {value!r}: give a SweepBudget, such as SweepBudget(entries=500)"
        )
    return value


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@attrs.define(eq=False)
class Spending:
    """
    What a pass has spent of its budget so far.

    Lives for one pass; used by one thread.
    A pass that only looks counts entries alone: it takes no time that matters, and frees nothing.

    Args:
        budget: What it may spend.

        only_looks: Whether nothing is done.

        stopping: Whether somebody wants the pass to end.

        wait: Waits for a number of seconds; returns whether somebody wants the pass to end.

        timer: Tells the seconds.
    """

    budget: SweepBudget = SweepBudget()
    only_looks: bool = attrs.field(default=False, kw_only=True)
    stopping: Callable[[], bool] = attrs.field(default=lambda: False, kw_only=True)
    wait: Callable[[float], bool] = attrs.field(default=_sleep, kw_only=True)
    timer: Callable[[], float] = attrs.field(default=time.monotonic, kw_only=True)
    cut_short: bool = attrs.field(default=False, init=False)
    _entries: int = attrs.field(default=0, init=False)
    _bytes: int = attrs.field(default=0, init=False)
    _told: int = attrs.field(default=0, init=False)
    _begun: float = attrs.field(default=attrs.Factory(lambda self: self.timer(), takes_self=True), init=False)

    def goes_on(self) -> bool:
        """Return whether there is something left to spend; once there is not, the pass is cut short."""
        self.cut_short = self.cut_short or self.stopping() or self._entries_spent() or self._time_spent()
        return not self.cut_short

    def spend(self, freed: int, *, counts: bool) -> None:
        """Note that something was dealt with: *freed* bytes, its parts' among them, and whether it counts."""
        self._entries += counts
        self._pay(freed - self._told)
        self._told = 0

    def pace(self, freed: int) -> bool:
        """Note that a part of a removal freed so many bytes; return whether the removal may go on."""
        self._told += freed
        self._pay(freed)
        self.cut_short = self.cut_short or self.stopping() or self._time_spent()
        return not self.cut_short

    def _entries_spent(self) -> bool:
        return self.budget.entries is not None and self._entries >= self.budget.entries

    def _time_spent(self) -> bool:
        limit = self.budget.seconds
        return limit is not None and not self.only_looks and self.timer() - self._begun >= limit

    def _pay(self, freed: int) -> None:
        self._bytes += freed
        rate = self.budget.bytes_per_second
        if rate is None or self.only_looks:
            return
        ahead = self._begun + self._bytes / rate - self.timer()
        limit = self.budget.seconds
        if limit is not None:
            ahead = min(ahead, self._begun + limit - self.timer())
        if ahead > 0 and self.wait(ahead):
            self.cut_short = True
