"""One logger, constant messages, structured fields; never a secret."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tempscope import _log
from tempscope.policies import KeepAll
from tempscope.scopes import TempScopes
from tempscope.storages import HardlinkStorage, LocalDiskStorage

from .faults import HookedStorage, leaving_behind


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[logging.LogRecord]]:
    """Return the records so far, debug ones too."""
    caplog.set_level(logging.DEBUG, logger="tempscope")
    return lambda: [record for record in caplog.records if record.name == "tempscope"]


def fields(record: logging.LogRecord) -> dict[str, object]:
    """Return the structured fields of *record*."""
    return {
        key.removeprefix("tempscope_"): value for key, value in vars(record).items() if "tempscope_" in key
    }


def test_everything_is_said_by_one_logger(
    lines: Callable[[], list[logging.LogRecord]], scopes: TempScopes
) -> None:
    """All lines come from the logger ``tempscope``, which has a handler that says nothing by itself."""
    with scopes.open("job") as job:
        job.new_file()
    assert lines()
    assert logging.getLogger("tempscope") is _log.LOGGER
    assert any(isinstance(handler, logging.NullHandler) for handler in _log.LOGGER.handlers)


def test_a_life_in_debug_lines(
    lines: Callable[[], list[logging.LogRecord]], base: Path, tmp_path: Path
) -> None:
    """Each creation, staging, publishing, keeping and deletion is a debug line with fields."""
    source, outside, taken_back = (tmp_path / name for name in ("in", "outside", "taken"))
    for path in (source, outside, taken_back):
        path.write_text("x")
    with TempScopes(HardlinkStorage(base)).open("job") as job:
        staged = job.stage(source)
        job.publish(job.new_file(), tmp_path / "out")
        job.keep(job.new_file())
        job.register_file(outside)
        job.register_file(taken_back)
        job.unregister_file(taken_back)
        del staged
    said = {record.message: fields(record) for record in lines()}
    assert said["file staged"] == {"scope": "job", "how": "hardlink", "bytes_saved": 1}
    assert said["file published"] == {"scope": "job", "path": str(tmp_path / "out")}
    assert said["outside path registered"] == {"path": str(taken_back)}
    assert said["outside path unregistered"] == {"path": str(taken_back)}
    assert said["outside path deleted"] == {"path": str(outside)}
    assert said["scope closed"] == {"scope": "job", "outcome": "ok"}
    assert {"path given up", "area made", "area ended"} <= set(said)
    assert {record.levelno for record in lines()} == {logging.DEBUG}


def test_keeping_is_a_debug_line(
    lines: Callable[[], list[logging.LogRecord]], storage: LocalDiskStorage
) -> None:
    """A kept scope says where and why; it was meant, so nobody is warned."""
    with TempScopes(storage, KeepAll()).open("job") as job:
        job.new_file()
    (kept,) = [record for record in lines() if record.message == "scope kept"]
    assert job.report is not None
    assert fields(kept) == {
        "scope": "job",
        "path": str(job.report.directory),
        "reason": "everything is kept",
    }
    assert kept.levelno == logging.DEBUG


def test_leftovers_are_warnings_without_file_names(
    hooked: HookedStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A warning has the scope, counts and reasons; a file's name can be a secret.

    Security rule 14.
    """
    hooked.hooks.before["remove"] = leaving_behind("/x/password-of-anna", "it is in use")
    with TempScopes(hooked).open("job") as job:
        job.new_file()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert fields(record) == {"scope": "job", "failed": 1, "skipped": 0, "reason": "it is in use"}
    assert "password-of-anna" not in str(vars(record))


def test_fields_are_escaped(lines: Callable[[], list[logging.LogRecord]], scopes: TempScopes) -> None:
    """Control characters of names cannot forge lines."""
    with scopes.open("job\nERROR all is lost") as job:
        job.new_file()
    assert {fields(record).get("scope") for record in lines()} <= {r"job\nERROR all is lost", None}


def test_nothing_is_built_for_nobody(scopes: TempScopes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without somebody who listens at debug level no fields are built."""
    monkeypatch.setattr(_log, "own_fields", lambda fields: pytest.fail("built"))
    assert not _log.debugging()
    with scopes.open() as job:
        job.new_file()


def test_debugging_tells_who_listens(lines: Callable[[], list[logging.LogRecord]]) -> None:
    """``debugging()`` says whether debug lines go anywhere."""
    assert _log.debugging()
