"""
What happens when a scope closes: delete it, keep it, or keep it if something went wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, get_args

import attrs

from tempscope.errors import ConfigurationError
from tempscope.model import Instant, OutcomeKind, ScopeRecord, Verdict
from tempscope.policies._kept import (
    OUTCOMES,
    delete,
    ended,
    keep,
    newest_first,
    outcome_kind,
    size,
    within_budget,
)
from tempscope.units import check_count, format_duration, format_size, parse_duration, parse_size


if TYPE_CHECKING:
    from datetime import timedelta


__all__ = ["DeleteOnClose", "KeepAll", "KeepOnFailure"]


@attrs.frozen
class DeleteOnClose:
    """
    Keep nothing, however the job went.

    A value: share it between all scopes and threads.

    A sweep with this policy also deletes what another policy kept for the same application.
    """

    @property
    def may_keep(self) -> bool:
        """False: nothing is ever kept."""
        return False

    def at_close(self, record: ScopeRecord) -> Verdict:
        """Delete the scope."""
        return delete(record, "nothing is kept")

    def select(self, kept: Sequence[ScopeRecord], now: Instant) -> list[Verdict]:
        """Delete all of them."""
        return [self.at_close(record) for record in kept]


@attrs.frozen
class KeepAll:
    """
    Keep everything until somebody decides otherwise: for looking into a problem, not for ever.

    A value: share it between all scopes and threads.

    Not promised: any bound.
    Times that another policy wrote down are not looked at, and stay written down.
    """

    @property
    def may_keep(self) -> bool:
        """True."""
        return True

    def at_close(self, record: ScopeRecord) -> Verdict:
        """Keep the scope."""
        return keep(record, "everything is kept")

    def select(self, kept: Sequence[ScopeRecord], now: Instant) -> list[Verdict]:
        """Keep all of them."""
        return [self.at_close(record) for record in kept]


def _check_outcomes(value: object) -> tuple[OutcomeKind, ...]:
    wanted = list(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else []
    if not wanted or any(kind not in get_args(OutcomeKind) for kind in wanted):
        raise ConfigurationError(
            f"on cannot be {value!r}: it must be a tuple of one or more of {', '.join(map(repr, OUTCOMES))}"
        )
    return tuple(kind for kind in OUTCOMES if kind in wanted)


def _check_at_most(value: int | None) -> int | None:
    return None if value is None else check_count(value, what="at_most")


def _check_for(value: timedelta | str | None) -> str | None:
    return None if value is None else format_duration(parse_duration(value, what="for_"))


def _check_up_to(value: str | None) -> str | None:
    return None if value is None else format_size(parse_size(value, what="up_to"), exact=True)


def _parse_for(policy: KeepOnFailure) -> float | None:
    return None if policy.for_ is None else parse_duration(policy.for_)


def _parse_up_to(policy: KeepOnFailure) -> int | None:
    return None if policy.up_to is None else parse_size(policy.up_to)


@attrs.frozen(kw_only=True)
class KeepOnFailure:
    """
    Keep the scopes of jobs that went wrong, bounded by count, age and bytes.

    A value: share it between all scopes and threads.
    The bounds hold for all scopes of the application together and are applied by a sweep; between
    two sweeps there may be more.
    A scope that alone exceeds *up_to* goes at the next sweep and drags no other along.

    Args:
        on: Which outcomes count as a failure.

        at_most: How many scopes are kept, the newest; None is no bound.

        for_: How long each is kept after its closing: text such as ``"7d"`` or a timedelta; None
            is no bound.

        up_to: How many bytes they may occupy together, as text such as ``"10GiB"``; the newest
            stay; None is no bound.

    Raises:
        ConfigurationError: If an argument is out of its range; the message says which.
    """

    on: tuple[OutcomeKind, ...] = attrs.field(default=("failed", "never_closed"), converter=_check_outcomes)
    at_most: int | None = attrs.field(default=10, converter=_check_at_most)
    for_: str | None = attrs.field(default="7d", converter=_check_for)
    up_to: str | None = attrs.field(default="10GiB", converter=_check_up_to)
    _seconds: float | None = attrs.field(
        default=attrs.Factory(_parse_for, takes_self=True), init=False, repr=False, eq=False
    )
    _bytes: int | None = attrs.field(
        default=attrs.Factory(_parse_up_to, takes_self=True), init=False, repr=False, eq=False
    )

    @property
    def may_keep(self) -> bool:
        """True."""
        return True

    def at_close(self, record: ScopeRecord) -> Verdict:
        """Keep the scope, for the given time, if its outcome counts as a failure."""
        if outcome_kind(record) not in self.on:
            return delete(record, ended(record))
        return keep(record, f"{ended(record)}{self._bound(' and is kept for')}", self._seconds)

    def select(self, kept: Sequence[ScopeRecord], now: Instant) -> list[Verdict]:
        """Delete what is no failure, too old, too much or over the budget; the newest stay."""
        verdicts = {record.token: self._alone(record, now) for record in kept}
        staying = newest_first((record for record in kept if verdicts[record.token].keep), now)
        for record in self._over_budget(staying):
            verdicts[record.token] = delete(record, f"with newer ones it exceeds the budget of {self.up_to}")
        for record in staying[self.at_most :] if self.at_most else ():
            verdicts[record.token] = delete(record, f"{self.at_most} newer ones are kept")
        return [verdicts[record.token] for record in kept]

    def _alone(self, record: ScopeRecord, now: Instant) -> Verdict:
        if record.expired(now):
            return delete(record, "its time has passed")
        if self._seconds is not None and record.age(now) >= self._seconds:
            return delete(record, f"it is older than {self.for_}")
        if self._bytes is not None and size(record) > self._bytes:
            return delete(record, f"it alone exceeds the budget of {self.up_to}")
        return self.at_close(record)

    def _over_budget(self, newest: list[ScopeRecord]) -> list[ScopeRecord]:
        return [] if self._bytes is None else newest[within_budget(newest, self._bytes) :]

    def _bound(self, words: str) -> str:
        return f"{words} {self.for_}" if self.for_ else ""
