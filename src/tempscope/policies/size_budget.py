"""
Keep what fits into a number of bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import attrs

from tempscope.errors import ConfigurationError
from tempscope.model import Instant, ScopeRecord, Verdict
from tempscope.policies._kept import delete, ended, keep, newest_first, size, within_budget
from tempscope.units import format_size, parse_size


__all__ = ["SizeBudget"]

First: TypeAlias = Literal["oldest", "largest"]


def _check_max_bytes(value: int | str) -> int:
    return parse_size(value, what="max_bytes", bare=True)


def _check_first(value: First) -> First:
    if value not in get_args(First):
        raise ConfigurationError(f"first cannot be {value!r}: it must be 'oldest' or 'largest'")
    return value


def _show_size(value: int) -> str:
    return repr(format_size(value, exact=True))


@attrs.frozen
class SizeBudget:
    """
    Keep scopes, however their jobs went, as long as all of them fit into a budget.

    A value: share it between all scopes and threads.
    The budget holds for all scopes of the application together and is applied by a sweep; between
    two sweeps there may be more.
    Scopes are whole: what does not fit goes with all its files.
    A scope that alone exceeds the budget goes first and drags no other along.

    Not promised: to count a scope that was never measured; it counts as nothing.

    Args:
        max_bytes: How many bytes all kept scopes may occupy: text such as ``"10GiB"``, or a whole
            number of bytes.

        first: Which go first when they do not fit: the ``"oldest"`` or the ``"largest"``.

    Raises:
        ConfigurationError: If an argument is out of its range; the message says which.
    """

    max_bytes: int = attrs.field(converter=_check_max_bytes, repr=_show_size)
    first: First = attrs.field(default="oldest", converter=_check_first)

    @property
    def may_keep(self) -> bool:
        """True."""
        return True

    def at_close(self, record: ScopeRecord) -> Verdict:
        """Keep the scope; whether it fits is seen with the others."""
        return keep(record, f"{ended(record)} and is kept while the budget lasts")

    def select(self, kept: Sequence[ScopeRecord], now: Instant) -> list[Verdict]:
        """Delete what does not fit, or whose own time has passed."""
        verdicts = {record.token: self._alone(record, now) for record in kept}
        order = self._last_to_go_first([r for r in kept if verdicts[r.token].keep], now)
        for record in order[within_budget(order, self.max_bytes) :]:
            reason = f"it is among the {self.first} and all together exceed the budget of {self._budget}"
            verdicts[record.token] = delete(record, reason)
        return [verdicts[record.token] for record in kept]

    def _alone(self, record: ScopeRecord, now: Instant) -> Verdict:
        if record.expired(now):
            return delete(record, "its time has passed")
        if size(record) > self.max_bytes:
            return delete(record, f"it alone exceeds the budget of {self._budget}")
        return keep(record, f"it fits into the budget of {self._budget}")

    def _last_to_go_first(self, records: list[ScopeRecord], now: Instant) -> list[ScopeRecord]:
        order = newest_first(records, now)
        return order if self.first == "oldest" else sorted(order, key=size)

    @property
    def _budget(self) -> str:
        return format_size(self.max_bytes, exact=True)
