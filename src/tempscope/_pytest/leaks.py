"""The detector of leaks: what a test left, told when the test is over."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from tempscope._pytest.watch import Owner, Trace, Watch


__all__ = ["LeakDetector"]

_CUT_SHORT = pytest.StashKey[bool]()
_MARKER = "allow_temp_leaks"


class LeakDetector:
    """
    Tells of scopes that a test left open, and of temporary files that it left.

    Lives as long as the session, whose hooks it serves.
    What a fixture made that outlives the test counts when that fixture is over.
    Nothing below pytest's own base directory is a leak, because pytest removes that; an open scope
    is one wherever its files are.

    Not promised: files made without :mod:`tempfile` or in another process, and which of two threads
    made something.

    Args:
        config: The session's.

        mode: Whether a leak is a warning or an error of the test's teardown.

        warning: The class of the warning.
    """

    def __init__(
        self, config: pytest.Config, mode: Literal["warn", "fail"], warning: type[pytest.PytestWarning]
    ) -> None:
        self._config = config
        self._mode = mode
        self._warning = warning
        self._ignored: Sequence[str] = config.getini("tempscope_leaks_ignore")
        self._watch = Watch()
        self._fixtures: dict[Any, Owner] = {}
        self._watch.start()

    def pytest_unconfigure(self) -> None:
        """Stop watching."""
        self._watch.stop()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Let a test own what is made while it runs."""
        with self._watch.owned_by(Owner(item.nodeid)):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """Let a fixture that outlives the test own what is made while it is set up."""
        if fixturedef.scope == "function":
            return (yield)
        owner = self._fixtures[fixturedef] = Owner(f"{fixturedef.scope} fixture {fixturedef.argname!r}")
        with self._watch.owned_by(owner):
            return (yield)

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Know that a fixture is over."""
        owner = self._fixtures.pop(fixturedef, None)
        if owner is not None:
            owner.over = True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Know whether a test came to its end."""
        if call.excinfo is not None:
            item.stash[_CUT_SHORT] = True
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        """Look at what is left, after everything else was torn down."""
        try:
            yield
        except BaseException:
            item.stash[_CUT_SHORT] = True
            raise
        finally:
            told = self._look(item)
            if told and item.stash.get(_CUT_SHORT, False):
                # It could not clean up, and is not blamed twice.
                item.add_report_section("teardown", "temporary files", told)
                told = ""
        if told and self._mode == "fail":
            pytest.fail(told, pytrace=False)
        if told:
            item.warn(self._warning(told))

    def _look(self, item: pytest.Item) -> str:
        owner = self._watch.owner
        assert owner is not None
        owner.over = True
        left = list(self._left(owner, self._watch.take()))
        if not left or item.get_closest_marker(_MARKER) is not None:
            return ""
        return "\n".join([f"{owner.name} left temporary files or scopes:", *left])

    def _left(self, test: Owner, traces: Sequence[Trace]) -> Iterator[str]:
        for trace in traces:
            left = trace.left()
            if left is None:
                continue
            words, path = left
            if path is None or not self._is_fine(path):
                yield f"- {words}" + ("" if trace.owner is test else f" (of {trace.owner.name})")
                yield from (f"    made {place}" for place in trace.where(self._config.invocation_params.dir))

    def _is_fine(self, path: str) -> bool:
        names = (path, os.path.basename(path))
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in self._ignored for name in names):
            return True
        return Path(os.path.realpath(path)).is_relative_to(self._base())

    def _base(self) -> Path:
        # What the fixture tmp_path_factory is.
        factory = self._config._tmp_path_factory  # type: ignore[attr-defined]  # has no public name
        base: Path = factory.getbasetemp()
        # Under xdist the directory of all workers, where they may share something.
        return base.parent if hasattr(self._config, "workerinput") else base
