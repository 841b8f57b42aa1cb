"""
The policies: what stays when a scope closes, and what a sweep removes later.

Each module is imported when one of its names is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tempscope._late import late


if TYPE_CHECKING:
    from tempscope.policies._ask import check_policy, verdicts_of
    from tempscope.policies.combine import in_order, keep_if_all, keep_if_any
    from tempscope.policies.keep_last import KeepLast
    from tempscope.policies.max_age import ExpireAfter
    from tempscope.policies.on_close import DeleteOnClose, KeepAll, KeepOnFailure
    from tempscope.policies.size_budget import SizeBudget


__all__ = [
    "DeleteOnClose",
    "ExpireAfter",
    "KeepAll",
    "KeepLast",
    "KeepOnFailure",
    "SizeBudget",
    "check_policy",
    "in_order",
    "keep_if_all",
    "keep_if_any",
    "verdicts_of",
]

__getattr__ = late(
    __name__,
    {
        "DeleteOnClose": "tempscope.policies.on_close",
        "ExpireAfter": "tempscope.policies.max_age",
        "KeepAll": "tempscope.policies.on_close",
        "KeepLast": "tempscope.policies.keep_last",
        "KeepOnFailure": "tempscope.policies.on_close",
        "SizeBudget": "tempscope.policies.size_budget",
        "check_policy": "tempscope.policies._ask",
        "in_order": "tempscope.policies.combine",
        "keep_if_all": "tempscope.policies.combine",
        "keep_if_any": "tempscope.policies.combine",
        "verdicts_of": "tempscope.policies._ask",
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
