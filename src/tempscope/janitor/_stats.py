"""
What is where, across processes: :func:`stats`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import attrs

from tempscope._clock import SystemClock
from tempscope.janitor._place import Place, storage_at
from tempscope.model import Instant, Owner, OwnerStats, ScopeRecord, ScopeState, StateStats, Stats
from tempscope.protocols import Surveyable


__all__ = ["count", "stats"]


def stats(storage_or_base_dir: Place) -> Stats:
    """
    Count what is in a storage, or below a base directory, across processes and applications.

    Nothing is changed; living processes are not disturbed.
    Costs a walk over the files of open and orphaned scopes; for a retained one the size counts that it
    had when it was kept.

    Args:
        storage_or_base_dir: A storage, or the base directory of one on a file system; None for the
            one that the environment names.

    Returns:
        Counts, allocated bytes, ages and owners.

    Raises:
        BaseDirectoryError: If the root cannot be ours.

        ConfigurationError: If the argument is neither.

    Not promised: a snapshot; what comes, goes or changes its state meanwhile may be missing, or counted
    twice.  What was removed is not in it: a :class:`Janitor` tells that of its own passes.
    """
    storage = storage_at(storage_or_base_dir, "stats()")
    records = storage.survey() if isinstance(storage, Surveyable) else storage.areas()
    return count(records, SystemClock().now())


def count(records: Iterable[ScopeRecord], now: Instant) -> Stats:
    """Return the statistics of *records* as of *now*."""
    states: dict[ScopeState, _Sum] = {state: _Sum() for state in get_args(ScopeState)}
    owners: dict[tuple[Owner | None, str, ScopeState, str | None], _Sum] = {}
    for record in records:
        states[record.state].add(record, now)
        if record.state in ("live", "orphaned"):
            key = (record.owner, record.application, record.state, record.held_by)
            owners.setdefault(key, _Sum()).add(record, now)
    everything = states.values()
    return Stats(
        **{state: told.scopes for state, told in states.items()},
        files=sum(told.files for told in everything),
        bytes=sum(told.bytes for told in everything),
        states=tuple(_state(state, told) for state, told in states.items()),
        owners=tuple(_owner(*key, told) for key, told in owners.items()),
    )


@attrs.define
class _Sum:
    scopes: int = 0
    files: int = 0
    bytes: int = 0
    oldest: float = 0.0

    def add(self, record: ScopeRecord, now: Instant) -> None:
        self.scopes += 1
        if record.usage is not None:
            self.files += record.usage.files
            self.bytes += record.usage.bytes
        # A record that could not be read has no time.
        if record.opened.wall:
            self.oldest = max(self.oldest, record.age(now))


def _state(state: ScopeState, told: _Sum) -> StateStats:
    return StateStats(
        state=state, scopes=told.scopes, files=told.files, bytes=told.bytes, oldest_seconds=told.oldest
    )


def _owner(
    owner: Owner | None, application: str, state: ScopeState, held_by: str | None, told: _Sum
) -> OwnerStats:
    return OwnerStats(
        pid=owner.pid if owner is not None else 0,
        application=application,
        alive=state == "live",
        scopes=told.scopes,
        bytes=told.bytes,
        held_by=held_by,
    )
