"""
What is where, across processes: :func:`stats`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import attrs

from tempscope._clock import SystemClock
from tempscope.janitor._place import Place, storage_at
from tempscope.model import Instant, OwnerStats, ScopeRecord, ScopeState, StateStats, Stats, Usage
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
    states: dict[ScopeState, StateStats] = {state: StateStats(state=state) for state in get_args(ScopeState)}
    owners: dict[tuple[object, ...], OwnerStats] = {}
    for record in records:
        usage = record.usage or Usage()
        state = states[record.state]
        states[record.state] = attrs.evolve(
            state,
            scopes=state.scopes + 1,
            files=state.files + usage.files,
            bytes=state.bytes + usage.bytes,
            oldest_seconds=max(state.oldest_seconds, _age(record, now)),
        )
        if record.state in ("live", "orphaned"):
            _count_owner(owners, record, usage)
    return Stats(
        **{state: told.scopes for state, told in states.items()},
        files=sum(told.files for told in states.values()),
        bytes=sum(told.bytes for told in states.values()),
        states=tuple(states.values()),
        owners=tuple(owners.values()),
    )


def _count_owner(owners: dict[tuple[object, ...], OwnerStats], record: ScopeRecord, usage: Usage) -> None:
    key = (record.owner, record.application, record.state)
    known = owners.get(key) or OwnerStats(
        pid=record.owner.pid if record.owner is not None else 0,
        application=record.application,
        alive=record.state == "live",
        held_by=record.held_by,
    )
    owners[key] = attrs.evolve(known, scopes=known.scopes + 1, bytes=known.bytes + usage.bytes)


def _age(record: ScopeRecord, now: Instant) -> float:
    # A record that could not be read has no time.
    return record.age(now) if record.opened.wall else 0.0
