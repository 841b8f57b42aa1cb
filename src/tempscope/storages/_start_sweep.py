"""
The small sweep when a process makes its instance: only what is surely dead, and only for a moment.

A program that is started again and again so keeps its root clean without anybody's doing.
"""

from __future__ import annotations

import time

from tempscope import _log
from tempscope._clock import SystemClock
from tempscope.model import Instant, ScopeRecord, Verdict
from tempscope.storages._scan import DiskSweep


__all__ = ["sweep_at_start"]

_SECONDS = 0.25
_THINGS = 200
_ENTRIES_EACH = 5_000
_TRASH = Verdict(False, "its deletion was begun")


def sweep_at_start(base_dir: str | None, *, trust_locks: bool) -> None:
    """
    Take back what dead processes left under the root in *base_dir*, for a quarter of a second.

    Never raises: what it does not get to, another sweep does.
    """
    try:
        _sweep(DiskSweep(base_dir, trust_locks=trust_locks, budget=_ENTRIES_EACH))
    except Exception as error:
        _log.debug("the sweep at the start was given up", error=type(error).__name__)


def _sweep(sweep: DiskSweep) -> None:
    deadline, done, now = time.monotonic() + _SECONDS, 0, SystemClock().now()
    with sweep:
        for record in sweep.records():
            if time.monotonic() > deadline or done >= _THINGS:
                break
            verdict = _verdict_on(record, now)
            if verdict is not None:
                done += 1
                sweep.reclaim(record.never_closed_by(now), verdict)
    _log.debug("swept at the start", done=done)


def _verdict_on(record: ScopeRecord, now: Instant) -> Verdict | None:
    if record.state == "trash":
        return _TRASH
    if record.state == "orphaned":
        return record.never_closed_by(now).verdict
    return None
