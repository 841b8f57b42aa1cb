"""
Those of the records in :mod:`tempscope.model` that no scope needs, made when one is first asked for.
"""

from __future__ import annotations

import attrs

from tempscope.model import Instant, Record, Removal, ScopeState, TrackerState


__all__ = ["JanitorStatus", "OwnerStats", "StateStats", "Stats", "SweepReport", "TrackedPath"]


@attrs.frozen
class TrackedPath(Record):
    """
    A path outside every scope that somebody deletes by its age (``TrackedPaths``).

    Attributes:
        path: Which, absolute.

        identity: What it was: device, inode and birth time; empty if it was not there yet.

        by: Who tracks it: a text that means something to the tracker.

        tracker: Whether the process that tracks it is this one, another that lives, or gone.
    """

    path: str
    identity: str
    by: str
    tracker: TrackerState


@attrs.frozen(kw_only=True)
class SweepReport(Removal):
    """
    What a sweep did, or with ``dry_run`` would do.

    ``removed`` and ``kept`` count scopes and registered outside paths; ``entries`` name each.

    Attributes:
        dry_run: Whether nothing was touched.

        live: How many living owners (or scopes, on a storage without processes) were met.

        seconds: How long it took.

        cut_short: Whether its budget was used up, or it was told to stop, before all was looked at.
    """

    dry_run: bool = False
    live: int = 0
    seconds: float = attrs.field(default=0.0, eq=False)
    cut_short: bool = False


@attrs.frozen(kw_only=True)
class JanitorStatus(Record):
    """
    What a janitor of this process is doing, and has done.

    Other processes' janitors, and sweeps that were called without one, are not in it.

    Attributes:
        running: Whether it makes passes by itself now.

        sweeping: Whether a pass is going on now.

        passes: How many passes are complete since it was made, or since the process was forked.

        failures: How many of them could not do all that they should.

        removed: How many scopes and registered outside paths they removed.

        removed_bytes: How many bytes they freed.

        seconds: How long they took together.

        last: When the last one began; None before the first.

        last_report: What the last one did, to which scope and why.

        next_in: In how many seconds the next one begins by itself; None if none will.
    """

    running: bool = False
    sweeping: bool = False
    passes: int = 0
    failures: int = 0
    removed: int = 0
    removed_bytes: int = 0
    seconds: float = 0.0
    last: Instant | None = None
    last_report: SweepReport | None = None
    next_in: float | None = None


@attrs.frozen(kw_only=True)
class StateStats(Record):
    """
    What is in one state.

    Attributes:
        state: Which.

        scopes: How many scopes, given-up paths or begun deletions.

        files: How many files they have.

        bytes: How many bytes are allocated to them.

        oldest_seconds: The age of the oldest: since it was closed, or opened if it never was; 0 where
            no record says.
    """

    state: ScopeState
    scopes: int = 0
    files: int = 0
    bytes: int = 0
    oldest_seconds: float = 0.0


@attrs.frozen(kw_only=True)
class OwnerStats(Record):
    """
    A process that has open scopes, or died with some.

    Attributes:
        pid: Its number, which means something in its own namespace only; 0 where nobody knows.

        application: Whose scopes they are.

        alive: Whether its lease is held.

        scopes: How many they are.

        bytes: How many bytes are allocated to them.

        held_by: Who holds the lease, in words, where that is known.
    """

    pid: int = 0
    application: str = ""
    alive: bool = True
    scopes: int = 0
    bytes: int = 0
    held_by: str | None = None


@attrs.frozen(kw_only=True)
class Stats(Record):
    """
    What is in a storage, or below a base directory, across processes.

    Attributes:
        live: How many scopes are open.

        retained: How many were kept by a policy.

        given_up: How many paths were taken out of our hands by ``keep()``.

        handed_over: How many scopes wait to be taken over.

        orphaned: How many scopes a dead owner left behind.

        trash: How many deletions were begun and are not finished.

        files: How many files all of them have.

        bytes: How many bytes are allocated to all of them.

        states: The same and more, state by state.

        owners: The processes behind the open and the orphaned ones.
    """

    live: int = 0
    retained: int = 0
    given_up: int = 0
    handed_over: int = 0
    orphaned: int = 0
    trash: int = 0
    files: int = 0
    bytes: int = 0
    states: tuple[StateStats, ...] = ()
    owners: tuple[OwnerStats, ...] = ()
