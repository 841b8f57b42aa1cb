"""
What the policies here have in common: how scopes are ordered, and how verdicts are worded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from tempscope.model import Instant, OutcomeKind, ScopeRecord, Verdict


__all__ = [
    "OUTCOMES",
    "delete",
    "ended",
    "keep",
    "newest_first",
    "outcome_kind",
    "size",
    "within_budget",
]

OUTCOMES: dict[OutcomeKind, str] = {
    "ok": "it ended well",
    "failed": "it failed",
    "cancelled": "it was cancelled",
    "retry": "it will be tried again",
    "never_closed": "it was never closed",
}


def outcome_kind(record: ScopeRecord) -> OutcomeKind:
    """Return how the scope ended; without an outcome it was never closed."""
    return record.outcome.kind if record.outcome else "never_closed"


def ended(record: ScopeRecord) -> str:
    """Return how the scope ended, in words; never the exception's text, which may hold secrets."""
    return OUTCOMES.get(outcome_kind(record), f"it ended as {outcome_kind(record)!r}")


def keep(record: ScopeRecord, reason: str, for_seconds: float | None = None) -> Verdict:
    """Return the verdict that keeps *record*; a shorter time that was written down before stays."""
    before = record.verdict
    if before is None:
        return Verdict(keep=True, reason=reason, for_seconds=for_seconds, token=record.token)
    times = [time for time in (before.for_seconds, for_seconds) if time is not None]
    return Verdict(
        keep=True,
        reason=reason,
        until=before.until,
        for_seconds=min(times, default=None),
        token=record.token,
    )


def delete(record: ScopeRecord, reason: str) -> Verdict:
    """Return the verdict that deletes *record*."""
    return Verdict(keep=False, reason=reason, token=record.token)


def newest_first(records: Iterable[ScopeRecord], now: Instant) -> list[ScopeRecord]:
    """
    Return *records*, the last closed first.

    Those of the present boot are ordered by boot time, which never steps; all others by wall time.
    Each record's place depends on it and *now* alone, so removing some never reorders the rest.
    A scope told twice is there once.
    """
    once = {record.token: record for record in records}
    return sorted(once.values(), key=lambda record: _moment(record, now), reverse=True)


def within_budget(records: Sequence[ScopeRecord], budget: int) -> int:
    """Return how many of *records*, from the first on, occupy at most *budget* bytes together."""
    return sum(total <= budget for total in accumulate(size(record) for record in records))


def size(record: ScopeRecord) -> int:
    """
    Return how many bytes deleting *record* would free, as last measured; never measured is none.

    What other links hold, as the user's own name of a staged input does, costs nothing and frees nothing.
    A storage that does not tell what is freeable is taken at the bytes that it tells.
    """
    return (record.usage.freeable_bytes or record.usage.bytes) if record.usage else 0


def _moment(record: ScopeRecord, now: Instant) -> tuple[float, str]:
    then = record.closed or record.opened
    if now.boot_id and then.boot_id == now.boot_id:
        return (now.wall - (now.boot - then.boot), record.token)
    return (then.wall, record.token)
