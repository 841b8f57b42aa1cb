"""
Keep the newest scopes of each kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import attrs

from tempscope.errors import ConfigurationError
from tempscope.model import Instant, ScopeRecord, Verdict
from tempscope.policies._kept import delete, ended, keep, newest_first
from tempscope.units import check_count


__all__ = ["KeepLast"]

Per: TypeAlias = Literal["label", "name", "application"]


def _check_n(value: int) -> int:
    return check_count(value, what="n")


def _check_per(value: Per) -> Per:
    if value not in get_args(Per):
        raise ConfigurationError(f"per cannot be {value!r}: it must be 'label', 'name' or 'application'")
    return value


@attrs.frozen
class KeepLast:
    """
    Keep the newest scopes of each kind, however their jobs went.

    A value: share it between all scopes and threads.
    Every scope is kept when it closes; a sweep deletes those that newer ones replaced.

    Args:
        n: How many are kept of each kind, at least one.

        per: What makes a kind: ``"label"`` (from :class:`~tempscope.TempScopes`), ``"name"`` (the
            job's) or ``"application"`` (all together); scopes without a label, or name, are one
            kind.

    Raises:
        ConfigurationError: If an argument is out of its range; the message says which.
    """

    n: int = attrs.field(converter=_check_n)
    per: Per = attrs.field(default="label", converter=_check_per)

    @property
    def may_keep(self) -> bool:
        """True."""
        return True

    def at_close(self, record: ScopeRecord) -> Verdict:
        """Keep the scope."""
        return keep(record, f"{ended(record)} and is the newest")

    def select(self, kept: Sequence[ScopeRecord], now: Instant) -> list[Verdict]:
        """Delete what newer ones of its kind replaced, or whose own time has passed."""
        seen: Counter[str | None] = Counter()
        verdicts: dict[str, Verdict] = {}
        for record in newest_first(kept, now):
            verdicts[record.token] = self._decide(record, now, seen)
        return [verdicts[record.token] for record in kept]

    def _decide(self, record: ScopeRecord, now: Instant, seen: Counter[str | None]) -> Verdict:
        if record.expired(now):
            return delete(record, "its time has passed")
        kind: str | None = getattr(record, self.per)
        seen[kind] += 1
        if seen[kind] > self.n:
            return delete(record, f"{self.n} newer ones of the same {self.per} are kept")
        return keep(record, f"it is among the newest {self.n} of the same {self.per}")
