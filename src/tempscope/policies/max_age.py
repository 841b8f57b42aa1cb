"""
Keep every scope for a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from tempscope.model import Instant, ScopeRecord, Verdict
from tempscope.policies._kept import delete, ended, keep
from tempscope.units import format_duration, parse_duration


if TYPE_CHECKING:
    from datetime import timedelta


__all__ = ["ExpireAfter"]


def _check_ttl(value: timedelta | str) -> str:
    return format_duration(parse_duration(value, what="ttl"))


def _parse_ttl(policy: ExpireAfter) -> float:
    return parse_duration(policy.ttl)


@attrs.frozen
class ExpireAfter:
    """
    Keep every scope, however its job went, until it is of a given age.

    A value: share it between all scopes and threads.
    Age counts from the scope's own record, by boot time and wall time (see
    :meth:`~tempscope.Instant.seconds_since`), never from its files' times.

    Args:
        ttl: How long a scope stays after its closing: text such as ``"24h"`` or a timedelta.

    Raises:
        ConfigurationError: If *ttl* is no duration, or not more than zero.
    """

    ttl: str = attrs.field(converter=_check_ttl)
    _seconds: float = attrs.field(
        default=attrs.Factory(_parse_ttl, takes_self=True), init=False, repr=False, eq=False
    )

    @property
    def may_keep(self) -> bool:
        """True."""
        return True

    def at_close(self, record: ScopeRecord) -> Verdict:
        """Keep the scope for the given time."""
        return keep(record, f"{ended(record)} and is kept for {self.ttl}", self._seconds)

    def select(self, kept: Sequence[ScopeRecord], now: Instant) -> list[Verdict]:
        """Delete what is of age, or whose own time has passed."""
        return [self._decide(record, now) for record in kept]

    def _decide(self, record: ScopeRecord, now: Instant) -> Verdict:
        if record.expired(now):
            return delete(record, "its time has passed")
        if record.age(now) >= self._seconds:
            return delete(record, f"it is older than {self.ttl}")
        return self.at_close(record)
