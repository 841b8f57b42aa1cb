"""The switch that turns warnings on, and what each call says then."""

from __future__ import annotations

import asyncio
import inspect
import re
import warnings
from pathlib import Path
from types import FunctionType

import pytest

from tempscope.compat import file_cleanup, resource_manager, temp_file_manager, warn_on_use


def calls_of(place: Path) -> dict[str, object]:
    """Return every call of the three APIs, by the name that its warning tells."""
    cleaner = file_cleanup.FileCleanupManager(place)
    resources = resource_manager.ResourceManager("app")
    source = place / "input"
    source.touch()
    return {
        "get_temp_manager()": temp_file_manager.get_temp_manager,
        "TempFileContext": lambda: file_cleanup.TempFileContext(place),
        "FileCleanupManager": lambda: file_cleanup.FileCleanupManager(place),
        "track_file()": lambda: cleaner.track_file(place / "a"),
        "untrack_file()": lambda: cleaner.untrack_file(place / "a"),
        "cleanup_file()": lambda: asyncio.run(cleaner.cleanup_file(place / "a")),
        "cleanup_directory()": lambda: asyncio.run(cleaner.cleanup_directory(place / "a")),
        "cleanup_old_files()": lambda: asyncio.run(cleaner.cleanup_old_files()),
        "cleanup_all_tracked()": lambda: asyncio.run(cleaner.cleanup_all_tracked()),
        "start_periodic_cleanup()": lambda: asyncio.run(started(cleaner)),
        "stop_periodic_cleanup()": lambda: asyncio.run(cleaner.stop_periodic_cleanup()),
        "get_stats()": cleaner.get_stats,
        "ResourceManager": lambda: resource_manager.ResourceManager("app"),
        "register_temp_file()": lambda: resources.register_temp_file(place / "a"),
        "register_cleanup_callback()": lambda: resources.register_cleanup_callback(print),
        "optimize_large_file_access()": lambda: resources.optimize_large_file_access(source),
        "create_temp_hardlink()": lambda: resources.create_temp_hardlink(source),
        "create_temp_directory()": resources.create_temp_directory,
        "cleanup_temp_directory()": lambda: resources.cleanup_temp_directory(place / "app_a"),
        "is_memory_pressure()": resources.is_memory_pressure,
        "should_cleanup_early()": resources.should_cleanup_early,
        "cleanup()": resources.cleanup,
    }


async def started(cleaner: file_cleanup.FileCleanupManager) -> None:
    """Call what needs a running loop."""
    cleaner.start_periodic_cleanup()


def test_silent_by_default(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Nobody who did not ask is warned."""
    for call in calls_of(tmp_path).values():
        call()  # type: ignore[operator]
    assert not recwarn.list


def test_every_call_names_what_to_call_instead(tmp_path: Path) -> None:
    """With the switch on, each call warns, in its own name, at the caller's line, until it is off again."""
    calls = calls_of(tmp_path)
    warn_on_use()
    try:
        for name, call in calls.items():
            told = f"{re.escape(name)} is there for older programs: use "
            with pytest.warns(DeprecationWarning, match=told) as caught:
                call()  # type: ignore[operator]
            if not name.startswith(("c", "s")):
                assert caught[0].filename == __file__
    finally:
        warn_on_use(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        temp_file_manager.get_temp_manager()


def test_no_call_is_forgotten(tmp_path: Path) -> None:
    """Every public method of the two classes is among the calls above."""
    names = {name.removesuffix("()") for name in calls_of(tmp_path)}
    for owner in (file_cleanup.FileCleanupManager, resource_manager.ResourceManager):
        functions = {name for name, value in vars(owner).items() if isinstance(value, FunctionType)}
        public = {name for name in functions if not name.startswith("_")}
        # What is new has nothing to move from.
        assert public - names <= {"leftovers"}
        assert inspect.getdoc(owner)
