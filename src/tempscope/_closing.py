"""
The end of a scope: its exits, then its files, then telling what happened.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING

import attrs

from tempscope import _log, _shield
from tempscope._exits import Failures
from tempscope._outcomes import describe
from tempscope.errors import CleanupFailed, LeftoverError, ScopeClosedError
from tempscope.model import CleanupReport, Entry, Outcome, Removal, ScopeRecord, Verdict
from tempscope.protocols import CleanupPolicy, StagedFile, TempArea


if TYPE_CHECKING:
    from tempscope._scope import Scope

__all__ = ["ChildExit", "CleanUp", "Closing", "ask", "is_closing_here", "reasons"]

_SHOWN_LEFTOVERS = 3
_going_on: dict[Closing, int] = {}


def is_closing_here() -> bool:
    """Return whether a scope is just being closed in this thread, or by a task of its event loop."""
    return get_ident() in list(_going_on.values())


@attrs.frozen
class ChildExit:
    """Closes a child that is still open when its parent closes; the child takes the parent's outcome."""

    child: weakref.ref[Scope]

    def run(self, exc: BaseException | None) -> None:
        """Close it; nothing is left to do for one that was forgotten."""
        child = self.child()
        if child is not None:
            child._close(_outcome_of_parent(child))

    async def arun(self, exc: BaseException | None) -> None:
        """Close it without blocking the event loop, however it was entered."""
        child = self.child()
        if child is not None:
            await child._aclose(_outcome_of_parent(child))


def _outcome_of_parent(child: Scope) -> Outcome:
    parent = child._parent
    assert parent is not None and parent._outcome is not None
    return parent._outcome


@attrs.define(eq=False)
class CleanUp:
    """One ``cleanup_all``: everything goes, whatever the policy, and the scope stays open."""

    scope: Scope
    failures: Failures = attrs.Factory(Failures)
    removal: Removal = Removal()

    def run(self) -> CleanupReport:
        """Clean up this scope and its open children; raise what callbacks raised."""
        for scope in list(_with_open_children(self.scope)):
            self._callbacks(scope)
            self._files(scope)
        return self._tell()

    async def arun(self) -> CleanupReport:
        """Do the same on an event loop: files go in a worker thread, whatever is cancelled."""
        for scope in list(_with_open_children(self.scope)):
            self._callbacks(scope)
            try:
                await _shield.complete(partial(self._files, scope))
            except BaseException as error:
                self.failures.add(error)
        return self._tell()

    def _callbacks(self, scope: Scope) -> None:
        for callback in scope._exits.pop_callbacks() if scope._exits is not None else ():
            try:
                callback.run(None)
            except BaseException as error:
                self.failures.add(error)

    def _files(self, scope: Scope) -> None:
        with scope._lock:
            scope._generation += 1
            scope._reserved = None
        for step in (self._staged, self._outside, self._area):
            try:
                step(scope)
            except BaseException as error:
                self.failures.add(error)

    def _staged(self, scope: Scope) -> None:
        verify_all(scope._staged or [], self.failures)

    def _outside(self, scope: Scope) -> None:
        if scope._outside is not None:
            for removal in scope._outside.remove_all(scope._sources or ()):
                self.removal += removal

    def _area(self, scope: Scope) -> None:
        if scope._area is None:
            return
        try:
            self.removal += scope._area.delete(scope._area.directory)
        except ScopeClosedError:
            # It is being closed meanwhile, and its files go with that.
            if scope._outcome is None:
                raise

    def _tell(self) -> CleanupReport:
        if not self.removal.complete:
            _log.warn(
                "a clean-up left something behind",
                scope=self.scope._shown,
                failed=self.removal.failed,
                skipped=self.removal.skipped,
                reason=reasons(self.removal),
            )
        report = _report(self.scope, self.removal, self.failures)
        if report.removed:
            self.scope._tell("removed", removal=report)
        if report.errors or not report.complete:
            self.scope._tell("failed", reason=reasons(report, report.errors), removal=report)
        raise_failures("cleaning up", self.scope, self.failures, None)
        return report


def _with_open_children(scope: Scope) -> Iterator[Scope]:
    for exit_ in scope._exits or ():
        child = exit_.child() if isinstance(exit_, ChildExit) else None
        if child is not None and not child._closed:
            yield from _with_open_children(child)
    yield scope


@attrs.define(eq=False)
class Closing:
    """
    One scope's closing; used by one thread or task, once.

    Nothing that happens here stops the rest, and nothing hides the job's own exception.
    """

    scope: Scope
    outcome: Outcome
    failures: Failures = attrs.Factory(Failures)
    removal: Removal = Removal()
    verdict: Verdict | None = None
    directory: Path | None = None

    @property
    def exc(self) -> BaseException | None:
        """What the job raised."""
        return self.outcome.exception

    def run(self) -> CleanupReport:
        """Close the scope in this thread."""
        try:
            _going_on[self] = get_ident()
            # Exits may register others, so this goes on until there are none.
            while (exits := self.scope._pending()) is not None:
                exits.run(self.exc, self.failures)
            self.settle_files()
            return self.tell()
        finally:
            _going_on.pop(self, None)

    async def arun(self) -> CleanupReport:
        """Close the scope on an event loop: files go in a worker thread, whatever is cancelled."""
        try:
            _going_on[self] = get_ident()
            return await self._run_on_loop()
        finally:
            _going_on.pop(self, None)

    async def _run_on_loop(self) -> CleanupReport:
        try:
            while (exits := self.scope._pending()) is not None:
                await exits.arun(self.exc, self.failures)
            if self.scope._has_files:
                await _shield.complete(self.settle_files)
        except GeneratorExit as error:
            # The loop throws this task away: what is left is done here and now.
            self.failures.add(error)
            return self.run()
        except BaseException as error:
            self.failures.add(error)
        return self.tell()

    def settle_files(self) -> None:
        """Settle the files; an interrupt is remembered, and the step done again from where it was."""
        for step in (self._staged, self._outside, self._area):
            if self._interrupted(step):
                self._interrupted(step)

    def _interrupted(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except Exception as error:
            self.failures.add(error)
        except BaseException as error:
            self.failures.add(error)
            return True
        return False

    def _staged(self) -> None:
        verify_all(self.scope._staged or [], self.failures)

    def _outside(self) -> None:
        if self.scope._outside is not None:
            for removal in self.scope._outside.remove_all(self.scope._sources or ()):
                self.removal += removal

    def _area(self) -> None:
        area = self.scope._area
        if area is None:
            return
        if self.scope._policy.may_keep:
            record = self.scope._record_at_close(self.outcome)
            self.verdict = ask(self.scope._policy, record, self.failures)
            if self.verdict.keep:
                self._retain(area, attrs.evolve(record, verdict=self.verdict))
                return
        self.removal += area.remove()

    def _retain(self, area: TempArea, record: ScopeRecord) -> None:
        try:
            self.directory = area.retain(record).directory
        except Exception as error:
            path = getattr(error, "path", None) or ""
            # The text of a path in memory would move it to disk; what it displays does not.
            entry = Entry(
                str(getattr(path, "display", path)),
                "failed",
                f"it could not be kept safely: {describe(error)}",
            )
            self.removal += Removal(failed=1, entries=(entry,))

    # -- telling

    def tell(self) -> CleanupReport:
        """Log, report, and raise what is to be raised."""
        if self.directory is not None:
            # Kept on purpose, so it is in the report, but nobody has to look after it.
            _log.debug("scope kept", scope=self.scope._shown, path=self.directory, reason=self._why)
        report = _report(self.scope, self.removal, self.failures, self.outcome, self.verdict, self.directory)
        if not report.complete:
            self._warn(report)
            if self.scope._strict:
                self.failures.add(self._leftover_error(report))
                report = attrs.evolve(report, errors=tuple(self.failures.errors))
        self.scope._closed_with(report)
        self._tell_listeners(report)
        raise_failures("closing", self.scope, self.failures, self.exc)
        return report

    def _tell_listeners(self, report: CleanupReport) -> None:
        scope = self.scope
        if not scope._listeners:
            return
        if report.directory is not None:
            scope._tell("kept", path=report.directory, reason=self._why, removal=report)
        if report.removed:
            scope._tell("removed", reason=self._why, removal=report)
        if report.errors or not report.complete:
            scope._tell("failed", reason=reasons(report, report.errors), removal=report)
        scope._tell("closed", reason=self.outcome.kind, removal=report)

    @property
    def _why(self) -> str:
        return self.verdict.reason if self.verdict is not None else ""

    def _warn(self, report: CleanupReport) -> None:
        # What was skipped may be nobody's to remove, such as a registered file that was replaced.
        _log.warn(
            "a scope left something behind; the next sweep tries again"
            if report.failed
            else "a scope left something alone",
            scope=report.scope,
            failed=report.failed,
            skipped=report.skipped,
            reason=reasons(report),
        )

    def _leftover_error(self, report: CleanupReport) -> LeftoverError:
        left = report.leftovers
        shown = "; ".join(f"{entry.path}: {entry.reason}" for entry in left[:_SHOWN_LEFTOVERS])
        error = LeftoverError(
            f"scope {report.scope!r} left {report.failed + report.skipped} things behind: {shown}",
            path=left[0].path if left else None,
            scope=report.scope,
        )
        error.report = report
        return error


def _report(
    scope: Scope,
    removal: Removal,
    failures: Failures,
    outcome: Outcome | None = None,
    verdict: Verdict | None = None,
    directory: Path | None = None,
) -> CleanupReport:
    return CleanupReport(
        removed=removal.removed,
        removed_bytes=removal.removed_bytes,
        kept=removal.kept,
        skipped=removal.skipped,
        failed=removal.failed,
        entries=removal.entries,
        scope=scope._shown,
        outcome=outcome,
        verdict=verdict,
        directory=directory,
        errors=tuple(failures.errors),
    )


def reasons(removal: Removal, errors: Iterable[BaseException] = ()) -> str:
    """Return why things stayed or failed, in words that hold no path: of an error its type alone."""
    kinds = {type(error).__name__ for error in errors}
    return "; ".join(sorted({entry.reason for entry in removal.leftovers} | kinds))


def ask(policy: CleanupPolicy, record: ScopeRecord, failures: Failures | None = None) -> Verdict:
    """Ask *policy* about *record*; what cannot be decided is kept, and what was raised goes to *failures*."""
    try:
        verdict = policy.at_close(record)
        if not isinstance(verdict, Verdict):
            raise TypeError(f"{policy!r} gave {verdict!r}, which is no verdict")
        return verdict
    except Exception as error:
        if failures is not None:
            failures.add(error)
        return Verdict(keep=True, reason=f"the policy failed: {type(error).__name__}")


def verify_all(staged: list[StagedFile], failures: Failures) -> None:
    """Check what was staged by hard link, the newest first; each once."""
    for each in _taken(staged):
        try:
            each.verify()
        except Exception as error:
            failures.add(error)


def _taken(staged: list[StagedFile]) -> Iterator[StagedFile]:
    while True:
        try:
            yield staged.pop()
        except IndexError:
            return


def raise_failures(doing: str, scope: Scope, failures: Failures, exc: BaseException | None) -> None:
    """
    Raise what closing, or cleaning up, has to raise.

    The job's own exception always wins: what else went wrong becomes notes on it.
    An interrupt is raised last, one error as itself, several as a group.
    """
    errors, interrupt = failures.errors, failures.interrupt
    told = exc if exc is not None else interrupt
    if told is not None:
        for error in errors:
            told.add_note(f"tempscope: {doing} scope {scope._shown!r} also raised {describe(error)}")
    if interrupt is not None and interrupt is not exc:
        raise interrupt
    if told is not None or not errors:
        return
    if len(errors) == 1:
        raise errors[0]
    raise CleanupFailed(
        f"{doing} scope {scope._shown!r} raised {len(errors)} errors", errors, scope=scope._shown
    )
