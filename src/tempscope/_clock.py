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

        def now(self) -> Instant:
            """Return the present; boot time runs on through suspend (``clock_gettime(2)``)."""
            return Instant(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), boot_id())

    else:

        def now(self) -> Instant:
            """Return the present; without a boot clock wall time alone decides ages."""
            return Instant(time.time(), time.monotonic(), "")
