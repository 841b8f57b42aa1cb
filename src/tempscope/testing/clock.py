"""A clock that a test sets."""

from __future__ import annotations

import threading

import attrs

from tempscope.model import Instant


__all__ = ["FakeClock"]


class FakeClock:
    """
    Tells the time that the test says it is; it stands still by itself.

    Lives as long as its test; shared by all threads.
    It is a :class:`~tempscope.protocols.Clock`.

    Args:
        wall: Where the wall clock begins, in seconds since the epoch.

        boot: How many seconds ago the machine started.

        boot_id: Names that start; empty is a machine on which nobody knows.
    """

    __slots__ = ("_boots", "_lock", "_now")

    def __init__(
        self, wall: float = 1_700_000_000.0, boot: float = 10_000.0, boot_id: str = "boot-1"
    ) -> None:
        self._now = Instant(wall, boot, boot_id)
        self._boots = 1
        self._lock = threading.Lock()

    def now(self) -> Instant:
        """Return the present by both clocks."""
        return self._now

    def advance(self, seconds: float) -> Instant:
        """Let *seconds* pass, on both clocks, and return the new present."""
        return self._move(seconds, seconds)

    def step_wall(self, seconds: float) -> Instant:
        """Set the wall clock forward by *seconds*, or back; no time passes."""
        return self._move(seconds, 0.0)

    def step_boot(self, seconds: float) -> Instant:
        """Let *seconds* pass that the wall clock misses, as if somebody had stopped it meanwhile."""
        return self._move(0.0, seconds)

    def reboot(self, seconds: float = 0.0) -> Instant:
        """Start the machine again: it was off for *seconds*, boot time begins at 0, the boot is another."""
        with self._lock:
            self._boots += 1
            known = f"boot-{self._boots}" if self._now.boot_id else ""
            self._now = Instant(self._now.wall + seconds, 0.0, known)
            return self._now

    def _move(self, wall: float, boot: float) -> Instant:
        if boot < 0:
            raise ValueError(f"boot time cannot go back, and {boot!r} is less than 0: step_wall() may")
        with self._lock:
            self._now = attrs.evolve(self._now, wall=self._now.wall + wall, boot=self._now.boot + boot)
            return self._now

    def __repr__(self) -> str:
        now = self._now
        return f"FakeClock(wall={now.wall!r}, boot={now.boot!r}, boot_id={now.boot_id!r})"
