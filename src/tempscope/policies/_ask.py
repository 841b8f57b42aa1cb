"""
Asking a policy that somebody else wrote, without trusting its answer's shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from tempscope.errors import ConfigurationError
from tempscope.model import Instant, ScopeRecord, Verdict
from tempscope.protocols import CleanupPolicy


__all__ = ["check_policy", "verdicts_of"]

_MEMBERS = ("may_keep", "at_close", "select")


def check_policy(value: object, *, what: str = "policy") -> CleanupPolicy:
    """
    Return *value* if it has the shape of a policy.

    Raises:
        ConfigurationError: If it is a class, or lacks a member of
            :class:`~tempscope.protocols.CleanupPolicy`; the message names *what*.
    """
    if isinstance(value, type):
        raise ConfigurationError(f"{what} cannot be the class {value.__name__}: write {value.__name__}()")
    missing = [name for name in _MEMBERS if not hasattr(value, name)]
    if missing:
        raise ConfigurationError(
            f"{what} cannot be {value!r}: it has no {' and no '.join(missing)}; a policy such as "
            "DeleteOnClose() is expected"
        )
    return cast("CleanupPolicy", value)


def verdicts_of(policy: CleanupPolicy, kept: Sequence[ScopeRecord], now: Instant) -> Sequence[Verdict]:
    """
    Return what *policy* decides about *kept*: one verdict for each, in the same order.

    Raises:
        ConfigurationError: If the policy gave more, fewer, or verdicts about other scopes, so that
            nobody can tell which it meant; nothing may be deleted then.
    """
    verdicts = list(policy.select(kept, now))
    if len(verdicts) != len(kept):
        raise ConfigurationError(
            f"{policy!r} gave {len(verdicts)} verdicts about {len(kept)} scopes; "
            "it must give one for each, in the same order"
        )
    for record, verdict in zip(kept, verdicts, strict=True):
        if verdict.token not in ("", record.token):
            raise ConfigurationError(
                f"{policy!r} gave a verdict about {verdict.token!r} where one about {record.token!r} belongs"
            )
    return verdicts
