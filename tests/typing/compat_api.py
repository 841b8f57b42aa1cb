"""
The older APIs as type checkers see them: checked by mypy and pyright, never run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

from tempscope import HardlinkStorage, LocalDiskStorage, MemoryStorage, TempFileManager
from tempscope.compat import temp_file_manager, warn_on_use
from tempscope.compat.file_cleanup import FileCleanupManager, TempFileContext, temp_file_async
from tempscope.compat.resource_manager import ResourceManager
from tempscope.protocols import TrackedPaths


# Every storage on disk remembers tracked paths.
REMEMBERING: list[TrackedPaths] = [LocalDiskStorage(), HardlinkStorage()]
FORGETFUL: list[TrackedPaths] = [MemoryStorage()]  # type: ignore[list-item]


def the_first() -> None:
    assert_type(temp_file_manager.get_temp_manager(), TempFileManager)
    manager = temp_file_manager.TempFileManager("app_", Path("base"))
    with manager.create_temp_file(".mp3", "job_", False) as path:
        assert_type(path, Path)
    warn_on_use()
    warn_on_use(False)


async def the_second() -> None:
    with TempFileContext("file", cleanup_on_error=False) as path:
        assert_type(path, Path)
    async with temp_file_async(Path("file")) as path:
        assert_type(path, Path)
    manager = FileCleanupManager("base", 24, 0.5, storage=LocalDiskStorage())
    manager.track_file("file")
    assert_type(await manager.cleanup_file("file"), bool)
    assert_type(await manager.cleanup_directory(Path("dir"), recursive=False), bool)
    assert_type(await manager.cleanup_old_files(1.5, adopt=True), dict[str, Any])
    assert_type(await manager.cleanup_all_tracked(), int)
    assert_type(manager.get_stats(), dict[str, Any])
    TempFileContext(None)  # type: ignore[arg-type]


def the_third() -> None:
    resources = ResourceManager("app", storage=HardlinkStorage())
    assert_type(resources.create_temp_hardlink("in", writable=True), Path)
    assert_type(resources.optimize_large_file_access(Path("in")), Path)
    assert_type(resources.create_temp_directory("pipeline"), Path)
    resources.create_temp_directory("other")  # type: ignore[arg-type]
    assert_type(resources.leftovers(), list[Path])
    assert_type(resources.is_memory_pressure(), bool)
    assert_type(resources.should_cleanup_early(), bool)
