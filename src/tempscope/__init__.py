"""
Temporary files with an owner, a lifetime and a policy.

The names below are all there is; what is heavy is imported when its name is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tempscope._late import late
from tempscope.errors import (
    BaseDirectoryError,
    CleanupFailed,
    ConfigurationError,
    ForeignPathError,
    ForkedScopeError,
    HandOverError,
    InvalidNameError,
    LeaseLostError,
    LeftoverError,
    NameTakenError,
    NoOpenScopeError,
    PathMissingError,
    PickledScopeError,
    QuotaExceededError,
    ScopeBusyError,
    ScopeClosedError,
    ScopeEnteredError,
    ScopeError,
    StagedSourceChangedError,
    StorageError,
    StorageFull,
    TempscopeError,
    UnsupportedError,
)
from tempscope.manager import TempFileManager
from tempscope.policies.on_close import DeleteOnClose, KeepAll, KeepOnFailure
from tempscope.scopes import TempScopes, current_scope, in_scope
from tempscope.storages.local import LocalDiskStorage, RamDiskStorage


if TYPE_CHECKING:
    from tempscope.container import PerScope, TempContainer, check_container, use_storage
    from tempscope.janitor import Janitor, stats, sweep
    from tempscope.model import (
        Capability,
        CleanupReport,
        Entry,
        Instant,
        Outcome,
        Removal,
        ScopeRecord,
        Stats,
        SweepReport,
        Usage,
        Verdict,
    )
    from tempscope.policies import ExpireAfter, KeepLast, SizeBudget, in_order, keep_if_all, keep_if_any
    from tempscope.pressure import is_disk_pressure, is_memory_pressure
    from tempscope.protocols import CleanupPolicy, Clock, Progress, StagedFile, TempArea, TempStorage
    from tempscope.settings import Settings
    from tempscope.signals import install_signal_handlers, uninstall_signal_handlers
    from tempscope.storages.hardlink import HardlinkStorage
    from tempscope.storages.memory import MemoryStorage

__version__ = "0.1.0.dev0"

__all__ = [
    "BaseDirectoryError",
    "Capability",
    "CleanupFailed",
    "CleanupPolicy",
    "CleanupReport",
    "Clock",
    "ConfigurationError",
    "DeleteOnClose",
    "Entry",
    "ExpireAfter",
    "ForeignPathError",
    "ForkedScopeError",
    "HandOverError",
    "HardlinkStorage",
    "Instant",
    "InvalidNameError",
    "Janitor",
    "KeepAll",
    "KeepLast",
    "KeepOnFailure",
    "LeaseLostError",
    "LeftoverError",
    "LocalDiskStorage",
    "MemoryStorage",
    "NameTakenError",
    "NoOpenScopeError",
    "Outcome",
    "PathMissingError",
    "PerScope",
    "PickledScopeError",
    "Progress",
    "QuotaExceededError",
    "RamDiskStorage",
    "Removal",
    "ScopeBusyError",
    "ScopeClosedError",
    "ScopeEnteredError",
    "ScopeError",
    "ScopeRecord",
    "Settings",
    "SizeBudget",
    "StagedFile",
    "StagedSourceChangedError",
    "Stats",
    "StorageError",
    "StorageFull",
    "SweepReport",
    "TempArea",
    "TempContainer",
    "TempFileManager",
    "TempScopes",
    "TempStorage",
    "TempscopeError",
    "UnsupportedError",
    "Usage",
    "Verdict",
    "check_container",
    "current_scope",
    "in_order",
    "in_scope",
    "install_signal_handlers",
    "is_disk_pressure",
    "is_memory_pressure",
    "keep_if_all",
    "keep_if_any",
    "stats",
    "sweep",
    "uninstall_signal_handlers",
    "use_storage",
]

_HOMES = {
    "tempscope.janitor": ("Janitor", "stats", "sweep"),
    "tempscope.container": ("PerScope", "TempContainer", "check_container", "use_storage"),
    "tempscope.model": (
        "Capability",
        "CleanupReport",
        "Entry",
        "Instant",
        "Outcome",
        "Removal",
        "ScopeRecord",
        "Stats",
        "SweepReport",
        "Usage",
        "Verdict",
    ),
    "tempscope.policies": ("ExpireAfter", "KeepLast", "SizeBudget", "in_order", "keep_if_all", "keep_if_any"),
    "tempscope.pressure": ("is_disk_pressure", "is_memory_pressure"),
    "tempscope.protocols": ("CleanupPolicy", "Clock", "Progress", "StagedFile", "TempArea", "TempStorage"),
    "tempscope.settings": ("Settings",),
    "tempscope.signals": ("install_signal_handlers", "uninstall_signal_handlers"),
    "tempscope.storages.hardlink": ("HardlinkStorage",),
    "tempscope.storages.memory": ("MemoryStorage",),
}


__getattr__ = late(__name__, {name: module for module, names in _HOMES.items() for name in names})


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
