"""
The pytest plugin: fixtures, a detector of leaks, and what failed tests leave to be looked at.

Installed with the package and found by pytest itself.
It is imported in every test session, whoever uses it, so nothing else is imported before a fixture
is asked for or the detector is turned on; and the detector is off by default.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import pytest


if TYPE_CHECKING:
    from tempscope._pytest.files import FilesOfTest
    from tempscope.manager import TempFileManager
    from tempscope.scopes import TempScopes
    from tempscope.storages import LocalDiskStorage

__all__ = [
    "TempLeakWarning",
    "memory_manager",
    "temp_application",
    "temp_container",
    "temp_manager",
    "temp_scopes",
    "temp_storage",
]

_Mode: TypeAlias = Literal["off", "warn", "fail"]
_MODES = ("off", "warn", "fail")
_RETENTION = {
    "tempscope_retention_policy": (
        "",
        "whose tests' scopes stay: failed, all or none (default: failed, unless that of tmp_path is none)",
    ),
    "tempscope_retention_count": ("10", "how many tests' scopes stay in one run at most"),
    "tempscope_retention_size": ("1GiB", "how large they may be together: '500MiB', '2GiB'"),
}
_FILES: pytest.StashKey[FilesOfTest] = pytest.StashKey()
# pytest shows a section of a test that failed if its title tells of the teardown.
_SECTION = "Temporary files, at teardown"
_MARKER = "allow_temp_leaks(reason): what this test leaves in temporary files and open scopes is meant"


class TempLeakWarning(pytest.PytestWarning):
    """A test left temporary files or open scopes behind, and ``tempscope_leaks`` is ``warn``."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, for the command line and for the configuration file."""
    group = parser.getgroup("tempscope", "temporary files")
    group.addoption(
        "--tempscope-leaks",
        choices=_MODES,
        help="what to do about tests that leave temporary files or open scopes (default: as configured)",
    )
    parser.addini("tempscope_leaks", "the same: off, warn or fail", default="off")
    parser.addini(
        "tempscope_leaks_ignore",
        "files and directories that are no leak: patterns such as 'pymp-*', for a name or a whole path",
        type="linelist",
        # The one that multiprocessing makes when it first needs it, and removes at exit.
        default=["pymp-*"],
    )
    for name, (default, words) in _RETENTION.items():
        parser.addini(name, words, default=default)


def pytest_configure(config: pytest.Config) -> None:
    """Introduce the marker, check what is configured, and turn the detector on if it is wanted."""
    config.addinivalue_line("markers", _MARKER)
    if any(config.getini(name) != default for name, (default, _) in _RETENTION.items()):
        from tempscope._pytest.retention import Retention

        Retention.configured(config)
    mode = _mode_of(config)
    if mode != "off":
        from tempscope._pytest.leaks import LeakDetector

        detector = LeakDetector(config, mode, TempLeakWarning)
        config.pluginmanager.register(detector, "tempscope-leaks")


def _mode_of(config: pytest.Config) -> _Mode:
    mode = config.getoption("--tempscope-leaks") or config.getini("tempscope_leaks")
    if mode not in _MODES:
        raise pytest.UsageError(f"tempscope_leaks is {mode!r}: allowed are {', '.join(_MODES)}")
    return cast(_Mode, mode)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell the files of a test that uses our fixtures how the test goes, and settle them at its end."""
    report = yield
    files = item.stash.get(_FILES, None)
    if files is not None:
        files.went(report, call.excinfo)
        if report.when == "teardown":
            del item.stash[_FILES]
            told = files.settle()
            if told:
                report.sections.append((_SECTION, told))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell of the files of tests that failed in their setup, for which pytest shows no section."""
    reports = terminalreporter.stats
    failed = {report.nodeid for report in reports.get("error", ()) if report.when == "setup"}
    for report in reports.get("", ()):
        if report.when == "teardown" and report.nodeid in failed:
            for title, told in report.sections:
                if title == _SECTION:
                    terminalreporter.section(f"Temporary files of {report.nodeid}")
                    terminalreporter.line(told)


@pytest.fixture
def _tempscope_files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FilesOfTest:
    from tempscope._pytest.files import FilesOfTest

    files = request.node.stash[_FILES] = FilesOfTest.of(request.node, tmp_path_factory)
    return files


@pytest.fixture
def temp_storage(_tempscope_files: FilesOfTest) -> LocalDiskStorage:
    """
    Give a storage on disk that is this test's alone, under pytest's base directory.

    Everything in it goes after the test; if the test failed, what its scopes kept stays.
    """
    return _tempscope_files.storage


@pytest.fixture
def temp_scopes(_tempscope_files: FilesOfTest) -> TempScopes:
    """Give what opens scopes on :func:`temp_storage`; if the test fails, its failed jobs' scopes stay."""
    return _tempscope_files.scopes()


@pytest.fixture
def temp_manager(_tempscope_files: FilesOfTest) -> Iterator[TempFileManager]:
    """
    Give a manager on :func:`temp_storage`: the current scope while the test runs.

    It closes after the test, with the test's own exception if it failed; its files stay then.
    """
    yield from _tempscope_files.scope(_tempscope_files.storage)


@pytest.fixture
def memory_manager(_tempscope_files: FilesOfTest) -> Iterator[TempFileManager]:
    """
    Give the same in memory: nothing is written to disk before somebody needs a real path.

    If the test failed its files are written to disk, to be looked at.
    """
    yield from _tempscope_files.scope(_tempscope_files.memory())


@pytest.fixture
def temp_application() -> Any:
    """
    Give the application's container for :func:`temp_container`: define this fixture in your conftest.py.

    By default there is none.
    """
    return None


@pytest.fixture
def temp_container(temp_application: Any, _tempscope_files: FilesOfTest) -> Iterator[Any]:
    """
    Give a container whose scopes live on :func:`temp_storage`; override in it what you like.

    It is what :func:`temp_application` gives, each :class:`~tempscope.TempContainer` in it with the
    test's storage; without one it is a :class:`~tempscope.TempContainer` alone.
    Overrides and configuration are as they were after the test.
    Not promised: anything about objects that the application's singletons made during the test.
    """
    from tempscope._pytest.overrides import container_of_test

    with container_of_test(temp_application, _tempscope_files) as container:
        yield container
