"""The clock of the running system; tests bring another one."""

from __future__ import annotations

import time
from functools import cache

from tempscope.model import Instant


__all__ = ["SystemClock", "boot_id"]


@cache
def boot_id() -> str:
    """Return what names this start of the machine, or an empty text where nobody knows."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read(64).strip()
    except (OSError, ValueError):
        return ""


class SystemClock:
    """Tells the system's time; holds nothing, shared by everybody."""

    __slots__ = ()

    if hasattr(time, "CLOCK_BOOTTIME"):

        def read(self) -> tuple[float, float]:
            """Return wall and boot time, for :meth:`at`; boot time runs on through suspend."""
            return time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)

        def at(self, reading: tuple[float, float]) -> Instant:
            """Return the instant of a *reading* that this process took."""
            return Instant(*reading, boot_id())

    else:

        def read(self) -> tuple[float, float]:
            """Return wall time and a monotonic one, for :meth:`at`."""
            return time.time(), time.monotonic()

        def at(self, reading: tuple[float, float]) -> Instant:
            """Return the instant of a *reading*; without a boot clock wall time alone decides ages."""
            return Instant(*reading, "")

    def now(self) -> Instant:
        """Return the present."""
        return self.at(self.read())
