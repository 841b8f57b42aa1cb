"""Listeners: what they are told, in which order, and that a failing one harms nothing."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tempscope import (
    CleanupReport,
    DeleteOnClose,
    KeepAll,
    KeepOnFailure,
    LocalDiskStorage,
    MemoryStorage,
    TempScopes,
)
from tempscope.errors import CleanupFailed, ConfigurationError, LeftoverError, StorageError
from tempscope.listeners import LoggingListener
from tempscope.model import Event, Removal
from tempscope.storages._area import LocalArea
from tempscope.testing import FaultyStorage


@pytest.fixture
def events() -> list[Event]:
    """What was told."""
    return []


def listening(storage: Any, events: list[Event], policy: Any = None, **options: Any) -> TempScopes:
    """Return what opens scopes that tell *events*."""
    return TempScopes(storage, policy or DeleteOnClose(), listeners=[events.append], **options)


def kinds(events: Iterable[Event]) -> list[str]:
    """Return the kinds of *events*."""
    return [event.kind for event in events]


def test_the_life_of_a_scope_is_told(storage: LocalDiskStorage, events: list[Event], tmp_path: Path) -> None:
    """Each thing that is done in a scope is told when it is done, and the close last."""
    source = tmp_path / "source"
    source.write_text("content")
    with listening(storage, events, label="video").open("job") as scope:
        with scope.create_temp_file() as path:
            made = path
        directory = scope.new_dir()
        reserved = scope.new_file(name="clip.mkv", create=False)
        staged = scope.stage(source)
        kept = scope.keep(scope.new_file(name="mine"))
        scope.publish(staged.path, tmp_path / "goal")
    told = [(event.kind, event.path, event.source) for event in events]
    assert told == [
        ("created", made, None),
        ("removed", made, None),
        ("created", directory, None),
        ("created", reserved, None),
        ("staged", staged.path, source),
        ("created", staged.path.with_name("mine"), None),
        ("kept", kept, staged.path.with_name("mine")),
        ("published", tmp_path / "goal", staged.path),
        ("removed", None, None),
        ("closed", None, None),
    ]
    assert {(event.scope, event.label) for event in events} == {("job", "video")}
    assert events[-1].removal == scope.report
    assert events[-1].reason == "ok"
    assert events[4].reason in ("copy", "reflink")


def test_a_kept_scope_is_told(storage: LocalDiskStorage, events: list[Event]) -> None:
    """A scope that its policy keeps is told with where it stands and why; a failed job as failed."""
    with (
        pytest.raises(ZeroDivisionError),
        listening(storage, events, KeepOnFailure()).open("job") as scope,
    ):
        scope.new_file()
        raise ZeroDivisionError
    assert kinds(events) == ["created", "kept", "closed"]
    assert scope.report is not None
    assert events[1].path == scope.report.directory
    assert "it failed" in events[1].reason
    assert events[2].reason == "failed"


def test_an_empty_scope_and_its_children_are_told(storage: LocalDiskStorage, events: list[Event]) -> None:
    """A scope in which nothing happened is told when it closes; a child's events are told to the same."""
    with listening(storage, events).open("parent") as scope, scope.scope("child"):
        pass
    assert [(event.kind, event.scope) for event in events] == [("closed", "child"), ("closed", "parent")]


def test_async_scopes_are_told(storage: LocalDiskStorage, events: list[Event], tmp_path: Path) -> None:
    """Async scopes tell the same."""

    async def main() -> None:
        async with listening(storage, events).open("job") as scope:
            async with scope.create_temp_file():
                pass
            await scope.acleanup_all()

    asyncio.run(main())
    # The file by its block, and the scope's directory by its close.
    assert kinds(events) == ["created", "removed", "removed", "closed"]


def test_a_clean_up_is_told(storage: LocalDiskStorage, events: list[Event]) -> None:
    """A clean-up tells what it removed, with its report; one that failed in a callback tells that."""
    with listening(storage, events).open("job") as scope:
        scope.new_file()
        report = scope.cleanup_all()
        assert events[-1] == Event(kind="removed", scope="job", removal=report)
        scope.register_cleanup_callback(lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            scope.cleanup_all()
        assert (events[-1].kind, events[-1].reason) == ("failed", "ZeroDivisionError")


def test_an_outside_path_that_is_kept_is_told(
    storage: LocalDiskStorage, events: list[Event], tmp_path: Path
) -> None:
    """A registered path that is kept is told, where it is."""
    path = tmp_path / "outside"
    path.touch()
    with listening(storage, events).open("job") as scope:
        scope.register_file(path)
        scope.keep(path)
    assert (events[0].kind, events[0].path) == ("kept", path)
    assert path.exists()


def test_failures_are_told(events: list[Event]) -> None:
    """Leftovers and failed callbacks are told with their reasons, before the close."""
    left = Removal(failed=1)
    faulty = FaultyStorage(MemoryStorage())
    scopes = listening(faulty, events, strict=True)
    inner = faulty.inner
    assert isinstance(inner, MemoryStorage)
    scope = scopes.open("job")
    scope.new_file()
    area = scope._area
    assert area is not None
    area.remove = lambda: left  # type: ignore[method-assign]
    with pytest.raises(LeftoverError):
        scope.close()
    assert kinds(events) == ["created", "failed", "closed"]
    assert isinstance(events[1].removal, CleanupReport)
    assert events[1].reason == "LeftoverError"


def test_a_file_that_stays_is_told(
    storage: LocalDiskStorage, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that could not be deleted when its block ended is told as failed."""
    with listening(storage, events).open("job") as scope:
        with scope.create_temp_file():
            monkeypatch.setattr(LocalArea, "delete", lambda area, path: Removal(skipped=1))
        assert kinds(events) == ["created", "failed"]


def test_a_failing_listener_harms_nothing(
    storage: LocalDiskStorage, events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    """Row 86: a listener that fails is logged, by kinds alone; the others are told, and the job goes on."""

    def broken(event: Event) -> None:
        raise ZeroDivisionError("secret")

    scopes = TempScopes(storage, KeepAll(), listeners=[broken, events.append, broken])
    with scopes.open("job") as scope:
        scope.new_file().write_text("content")
    assert kinds(events) == ["created", "kept", "closed"]
    assert scope.report is not None
    assert scope.report.complete
    assert caplog.text.count("a listener failed") == 6
    assert "secret" not in caplog.text


def test_an_interrupt_in_a_listener_reaches_the_job(storage: LocalDiskStorage) -> None:
    """An interrupt that comes while a listener runs is the job's, and the scope is cleaned up."""

    def interrupted(event: Event) -> None:
        if event.kind == "created":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), TempScopes(storage, listeners=[interrupted]).open() as scope:
        scope.new_file()
    assert scope.outcome is not None
    assert scope.outcome.kind == "cancelled"
    assert not list(Path(str(storage.base_dir)).rglob("tempscope_*"))


def test_errors_stay_what_they_are(events: list[Event]) -> None:
    """What could not be made is not told, and its error is the job's."""
    faulty = FaultyStorage(MemoryStorage())
    faulty.fail("create_file", StorageError("no"))
    with listening(faulty, events).open("job") as scope, pytest.raises(StorageError):
        scope.new_file()
    assert kinds(events) == ["closed"]


def test_several_callbacks_that_fail(storage: LocalDiskStorage, events: list[Event]) -> None:
    """Failing callbacks of a closing scope are told once, together."""
    scope = listening(storage, events).open("job")
    scope.register_cleanup_callback(lambda: 1 / 0)
    scope.register_cleanup_callback(lambda: {}["no"])
    with pytest.raises(CleanupFailed):
        scope.close()
    assert [(event.kind, event.reason) for event in events] == [
        ("failed", "KeyError; ZeroDivisionError"),
        ("closed", "ok"),
    ]


@pytest.mark.parametrize("given", [print, 3, [3], [LoggingListener], None])
def test_what_is_no_listener(given: Any) -> None:
    """Listeners are a collection of functions; anything else is refused at once."""
    with pytest.raises(ConfigurationError, match="listener"):
        TempScopes(MemoryStorage(), listeners=given)


# -- logging


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, Any]]:
    """Return level, message and path of what was logged by the listener."""
    return [
        (record.levelname, record.getMessage(), getattr(record, "tempscope_path", None))
        for record in caplog.records
        if hasattr(record, "tempscope_event")
    ]


def test_events_are_logged(storage: LocalDiskStorage, caplog: pytest.LogCaptureFixture) -> None:
    """The logging listener logs each event by a constant message, without paths above debug level."""
    caplog.set_level(logging.INFO, "tempscope")
    with TempScopes(storage, label="video", listeners=[LoggingListener()]).open("job\nforged") as scope:
        scope.new_file()
    assert logged(caplog) == [
        ("INFO", "a temporary file was created", None),
        ("INFO", "temporary files were removed", None),
        ("INFO", "a scope was closed", None),
    ]
    record = caplog.records[-1]
    assert (record.tempscope_scope, record.tempscope_label) == ("job\\nforged", "video")  # type: ignore[attr-defined]
    assert (record.tempscope_reason, record.tempscope_removed) == ("ok", 2)  # type: ignore[attr-defined]
    assert os.sep not in "".join(map(str, vars(record).get("tempscope_path", "")))


def test_paths_are_logged_for_debugging(storage: LocalDiskStorage, caplog: pytest.LogCaptureFixture) -> None:
    """At debug level paths are logged too, to whatever logger was given."""
    logger = logging.getLogger("mine")
    caplog.set_level(logging.DEBUG, "mine")
    listener = LoggingListener(logging.DEBUG, logger)
    with TempScopes(storage, listeners=[listener]).open() as scope:
        path = scope.new_file()
    assert ("DEBUG", "a temporary file was created", str(path)) in logged(caplog)
    assert "LoggingListener(10, <Logger mine (DEBUG)>)" in repr(listener)


def test_a_failure_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A failure is logged as a warning at least; what nobody listens to is not logged."""
    listener = LoggingListener()
    listener(Event(kind="failed", scope="job", reason="no"))
    listener(Event(kind="swept"))
    assert logged(caplog) == [("WARNING", "something was left behind", None)]


def test_memory_paths_stay_in_memory(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Logging an event of a file in memory does not move it to the disk."""
    caplog.set_level(logging.DEBUG, "tempscope")
    storage = MemoryStorage(spill_to=LocalDiskStorage(tmp_path))
    with TempScopes(storage, listeners=[LoggingListener(logging.DEBUG)]).open() as scope:
        scope.new_file()
        assert list(tmp_path.iterdir()) == []
    storage.close()
