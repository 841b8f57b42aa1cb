"""
The storages: where the bytes of temporary files live.

What the author of another storage needs is here too: :func:`check_name` and :func:`new_token`; and
what looks after quotas: :func:`check_quotas`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tempscope._late import late
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

__getattr__ = late(
    __name__,
    {
        "HardlinkStorage": "tempscope.storages.hardlink",
        "Identity": "tempscope.storages._identity",
        "MARKER": "tempscope.storages._root",
        "MemoryPath": "tempscope.storages.memory",
        "MemoryStorage": "tempscope.storages.memory",
        "check_quotas": "tempscope.storages._quota",
        "identify": "tempscope.storages._identity",
        "is_still_there": "tempscope.storages._outside",
        "remove_outside": "tempscope.storages._outside",
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
