"""
Watching who makes temporary files and scopes, and where: by traces, each with a short traceback.

Scopes are seen through the register of open ones, raw files through the audit events of
:mod:`tempfile`, which it raises however its functions were imported.
"""

from __future__ import annotations

import contextlib
import functools
import linecache
import os
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import attrs

from tempscope import _open_scopes
from tempscope._scope import Scope
from tempscope.errors import TempscopeError
from tempscope.manager import TempFileManager
from tempscope.model import Usage
from tempscope.protocols import TempArea


__all__ = ["Owner", "Trace", "Watch"]

_EVENTS = ("tempfile.mkstemp", "tempfile.mkdtemp")
_PLACES = 3
_MAKERS = {"anyio", "asyncio", "concurrent", "contextlib", "dependency_injector", "functools", "tempfile"}
_MAKERS |= {"tempscope", "threading", "trio"}
_RUNNERS = {"_pytest", "pluggy"}
_PLAIN_PATH = type(Path())

_watching: list[Watch] = []
_hooked: list[bool] = []


@attrs.define(eq=False)
class Owner:
    """A test, or a fixture that outlives one, and whether it is over."""

    name: str
    over: bool = False


@attrs.frozen(eq=False)
class Trace:
    """
    One thing that was made: by whom, where, and how to find out what is left of it.

    Attributes:
        left: Returns it in words, and the path if there is one; None when it is gone.
    """

    owner: Owner
    places: tuple[tuple[str, int, str], ...]
    left: Callable[[], tuple[str, str | None] | None]

    def where(self, directory: Path) -> Iterator[str]:
        """Tell where it was made, line by line, the innermost first; files as seen from *directory*."""
        for file, line, function in self.places:
            source = linecache.getline(file, line).strip()
            yield f"at {file.removeprefix(f'{directory}{os.sep}')}:{line} in {function}: {source}"


@attrs.define(eq=False)
class Watch:
    """
    Traces of what is made between :meth:`start` and :meth:`stop` while somebody owns it.

    Lives as long as a test session; any thread may make things.
    Two may be on at once, as when a test runs a session of its own.
    """

    owner: Owner | None = None
    _traces: dict[object, Trace] = attrs.field(factory=dict)
    _undo: contextlib.ExitStack = attrs.field(factory=contextlib.ExitStack)

    def start(self) -> None:
        """Begin to watch."""
        if not _hooked:
            # For good: a hook cannot be taken away.
            sys.addaudithook(_audit)
            _hooked.append(True)
        _watching.append(self)
        self._undo.callback(_watching.remove, self)
        for home, name, watched in (
            (_open_scopes, "note", self._noting),
            (_open_scopes, "forget", self._forgetting),
            (TempFileManager, "keep", self._keeping),
        ):
            original = getattr(home, name)
            setattr(home, name, _seen_by(watched, original))
            self._undo.callback(setattr, home, name, original)

    def stop(self) -> None:
        """End it; everything is as it was before."""
        self._undo.close()

    @contextlib.contextmanager
    def owned_by(self, owner: Owner) -> Iterator[None]:
        """Let *owner* have what is made in a ``with`` block."""
        before, self.owner = self.owner, owner
        try:
            yield
        finally:
            self.owner = before

    def take(self) -> list[Trace]:
        """Return, once, the traces of owners that are over."""
        over = {key: trace for key, trace in list(self._traces.items()) if trace.owner.over}
        for key in over:
            del self._traces[key]
        return list(over.values())

    def _add(self, key: object, left: Callable[[], tuple[str, str | None] | None]) -> None:
        if self.owner is not None:
            self._traces[key] = Trace(self.owner, _places(sys._getframe(1)), left)

    # -- what is seen

    def _noting(self, note: Callable[[Scope], None], scope: Scope) -> None:
        note(scope)
        self._add(id(scope), functools.partial(_open_scope, weakref.ref(scope)))

    def _forgetting(self, forget: Callable[[Scope], None], scope: Scope) -> None:
        forget(scope)
        trace = self._traces.pop(id(scope), None)
        directory = scope._report.directory if scope._report is not None else None
        if trace is not None and type(directory) is _PLAIN_PATH:
            left = functools.partial(_kept, f"scope {scope._shown!r} was kept", str(directory))
            self._traces[object()] = attrs.evolve(trace, left=left)

    def _keeping(self, keep: Callable[..., Path], manager: TempFileManager, path: Any) -> Path:
        kept = keep(manager, path)
        if kept == Path(os.path.abspath(path)):
            # A path outside of the scope, which was there before.
            return kept
        self._add(object(), functools.partial(_kept, "a path was kept for good", str(kept)))
        return kept

    def made(self, path: str) -> None:
        """See a raw temporary file or directory that is about to be made."""
        # What is there already belongs to somebody else: tempfile will try another name.
        if not os.path.lexists(path):
            self._add(object(), functools.partial(_kept, "a temporary file or directory", path))


def _seen_by(watched: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    # A function, because only that is a method where it stands in a class.
    @functools.wraps(original)
    def seen(*args: Any, **kwargs: Any) -> Any:
        return watched(original, *args, **kwargs)

    return seen


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event in _EVENTS:
        for watch in _watching:
            watch.made(os.path.abspath(os.fsdecode(args[0])))


# The interpreter traces hooks only if they ask for it, and coverage measures by tracing.
_audit.__dict__["__cantrace__"] = True


def _open_scope(reference: weakref.ref[Scope]) -> tuple[str, str | None] | None:
    scope = reference()
    if scope is None or scope.closed or (scope._standalone and not scope._has_files and not scope._entered):
        return None
    return f"scope {scope._shown!r} is open{_where_files_are(scope._area)}", None


def _where_files_are(area: TempArea | None) -> str:
    try:
        # Where there are none, asking for the directory would make it.
        if area is None or area.usage() == Usage():
            return ""
        return f", its files in {_displayed(area.directory)}"
    except TempscopeError:
        # Its storage is closed, or cannot tell.
        return ""


def _displayed(path: Path) -> str:
    # The text of a path in memory would move the file to disk.
    return getattr(path, "display", None) or str(path)


def _kept(what: str, path: str) -> tuple[str, str | None] | None:
    return (f"{what}: {path}", path) if os.path.lexists(path) else None


def _places(frame: FrameType) -> tuple[tuple[str, int, str], ...]:
    """Return the innermost places in the code of those who use us, up to the test's runner."""
    places: list[tuple[str, int, str]] = []
    for outer, line in traceback.walk_stack(frame):
        home = outer.f_globals.get("__name__", "").partition(".")[0]
        if len(places) == _PLACES or (home in _RUNNERS and places):
            break
        if home not in _MAKERS | _RUNNERS:
            places.append((outer.f_code.co_filename, line, outer.f_code.co_name))
    return tuple(places)
