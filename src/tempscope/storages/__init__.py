"""
The storages: where the bytes of temporary files live.

What the author of another storage needs is here too: :func:`check_name` and :func:`new_token`; and
what looks after quotas: :func:`check_quotas`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from tempscope._names import check_name
from tempscope.storages._base import absolute
from tempscope.storages._token import new_token
from tempscope.storages.local import LocalDiskStorage, RamDiskStorage


if TYPE_CHECKING:
    from tempscope.storages._identity import Identity, identify
    from tempscope.storages._outside import is_still_there, remove_outside
    from tempscope.storages._quota import check_quotas
    from tempscope.storages._root import MARKER
    from tempscope.storages.hardlink import HardlinkStorage
    from tempscope.storages.memory import MemoryPath, MemoryStorage

__all__ = [
    "MARKER",
    "HardlinkStorage",
    "Identity",
    "LocalDiskStorage",
    "MemoryPath",
    "MemoryStorage",
    "RamDiskStorage",
    "absolute",
    "check_name",
    "check_quotas",
    "identify",
    "is_still_there",
    "new_token",
    "remove_outside",
]

_HOMES = {
    "HardlinkStorage": "hardlink",
    "Identity": "_identity",
    "MARKER": "_root",
    "MemoryPath": "memory",
    "MemoryStorage": "memory",
    "check_quotas": "_quota",
    "identify": "_identity",
    "is_still_there": "_outside",
    "remove_outside": "_outside",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
