"""
The policies: what stays when a scope closes, and what a sweep removes later.

Each module is imported when one of its names is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING


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

_HOMES = {
    "DeleteOnClose": "on_close",
    "ExpireAfter": "max_age",
    "KeepAll": "on_close",
    "KeepLast": "keep_last",
    "KeepOnFailure": "on_close",
    "SizeBudget": "size_budget",
    "check_policy": "_ask",
    "in_order": "combine",
    "keep_if_all": "combine",
    "keep_if_any": "combine",
    "verdicts_of": "_ask",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
