"""
One pass: what goes, what stays, and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from tempscope import _log
from tempscope._clock import SystemClock
from tempscope._names import escape
from tempscope.janitor._budget import Spending, SweepBudget, check_budget
from tempscope.janitor._place import Place, shown, storage_at, sweeping_of
from tempscope.model import Entry, Instant, Removal, ScopeRecord, SweepReport, Verdict
from tempscope.policies import check_policy, verdicts_of
from tempscope.protocols import CleanupPolicy, Clock, Sweeping, TempStorage


__all__ = ["Sweep", "sweep"]

_HALF_DONE = Verdict(False, "its deletion was begun")
_FINISHED = Verdict(False, "its time has passed")


def sweep(
    storage_or_base_dir: Place,
    *,
    policy: CleanupPolicy | None = None,
    dry_run: bool = False,
    budget: SweepBudget | None = None,
) -> SweepReport:
    """
    Remove what no living owner holds and no record or policy wants.

    What dead processes left goes, or is retained, as their records say; registered outside paths
    go if they still are what was registered; begun deletions are finished; retained scopes go when
    their recorded time has passed.
    Whatever cannot be decided is left alone, and told.

    Any number of sweeps may run at once, in any number of processes, beside any number of living
    ones; sweeping again is not an error.
    An error about one thing stands in the report, and the sweep goes on.

    Args:
        storage_or_base_dir: A storage, or the base directory of one on a file system; None for the
            one that the environment names.

        policy: Decides about the retained scopes of its own application, which is the storage's, or
            this program; None to go by the recorded times alone.

        dry_run: Whether only to tell what would be done.  If nothing changes meanwhile, and time does
            not run out, the next sweep of the same arguments does just that.

        budget: How much may be done; None for all there is.

    Returns:
        What went, what stayed and why.

    Raises:
        BaseDirectoryError: If the root cannot be ours.

        StorageError: If not even the root can be looked at: no descriptor left, for one.

        ConfigurationError: If the first argument is neither, or *policy* or *budget* is none.
    """
    storage = storage_at(storage_or_base_dir, "sweep()")
    if policy is not None:
        check_policy(policy)
    spending = Spending(check_budget(budget), only_looks=dry_run)
    return Sweep(storage, policy, dry_run=dry_run, spending=spending).run()


@attrs.define(eq=False)
class Sweep:
    """
    One pass over one storage.

    Lives for one :meth:`run`; used by one thread.

    Args:
        storage: What to look over.

        policy: What decides about its application's retained scopes; None for nobody.

        dry_run: Whether to touch nothing.

        clock: Tells the time.

        spending: What the pass may cost.
    """

    storage: TempStorage
    policy: CleanupPolicy | None = None
    dry_run: bool = attrs.field(default=False, kw_only=True)
    clock: Clock = attrs.field(factory=SystemClock, kw_only=True)
    spending: Spending = attrs.field(factory=Spending, kw_only=True)
    _done: Removal = attrs.field(default=Removal(), init=False)
    _candidates: list[ScopeRecord] = attrs.field(factory=list, init=False)
    _last: list[ScopeRecord] = attrs.field(factory=list, init=False)

    def run(self) -> SweepReport:
        """Sweep, and tell what was done."""
        begun = self.clock.now()
        with sweeping_of(self.storage) as source:
            # A policy that saw only a part would decide about that part alone.
            if self._settle_what_is_clear(source, begun):
                for record, verdict in self._decided(begun):
                    self._reclaim(source, record, verdict)
                for record in self._last:
                    self._reclaim(source, record, _HALF_DONE)
            live, left = source.live, source.left
        return self._report(live, left, begun)

    def _settle_what_is_clear(self, source: Sweeping, now: Instant) -> bool:
        """Deal with all that needs no policy; returns whether all was looked at."""
        put_off = False
        for record in source.records():
            if record.state == "trash":
                # Something told before it, and put off, may still stand in it.
                self._last.append(record) if put_off else self._reclaim(source, record, _HALF_DONE)
                put_off = False
            else:
                put_off = self._meet(source, record, now) or put_off
            if self.spending.cut_short:
                return False
        return True

    def _report(self, live: int, left: Sequence[Entry], begun: Instant) -> SweepReport:
        done = self._done + Removal(skipped=len(left), entries=tuple(left))
        if done.failed:
            _log.warn("a sweep could not remove all that should go", failed=done.failed)
        _log.debug("swept", removed=done.removed, kept=done.kept, skipped=done.skipped, dry_run=self.dry_run)
        return SweepReport(
            **attrs.asdict(done, recurse=False),
            dry_run=self.dry_run,
            live=live,
            seconds=self.clock.now().seconds_since(begun),
            cut_short=self.spending.cut_short,
        )

    # -- deciding

    def _meet(self, source: Sweeping, record: ScopeRecord, now: Instant) -> bool:
        """Settle *record*, or put it off for the policy; returns whether it was put off."""
        if record.state == "given_up":
            self._keep(record, "it was given up by keep(), so it is nobody's to remove")
            return False
        if record.state == "handed_over" and not record.expired(now):
            self._keep(record, "it waits to be taken over")
            return False
        if record.state in ("orphaned", "handed_over"):
            record = record.never_closed_by(now)
            assert record.verdict is not None
            if not (record.verdict.keep and self._is_ours(record)):
                self._reclaim(source, record, record.verdict)
                return False
        self._candidates.append(record)
        return True

    def _is_ours(self, record: ScopeRecord) -> bool:
        own = getattr(self.storage, "application", None)
        return self.policy is not None and (own is None or record.application == own)

    def _decided(self, now: Instant) -> Iterator[tuple[ScopeRecord, Verdict]]:
        """Decide about what was kept: what is to be done, and to which."""
        ours = [record for record in self._candidates if self._is_ours(record)]
        verdicts = iter(self._ask(ours, now))
        for record in self._candidates:
            wanted = record.verdict or Verdict(True, "its record says no more")
            if self._is_ours(record):
                verdict = next(verdicts)
            else:
                verdict = _FINISHED if record.expired(now) else wanted
            if not verdict.keep:
                yield record, verdict
            elif record.state == "retained":
                self._keep(record, verdict.reason or wanted.reason)
            else:
                # Kept from now on, for as long as its owner wanted.
                yield record, wanted

    def _ask(self, ours: Sequence[ScopeRecord], now: Instant) -> Sequence[Verdict]:
        if self.policy is None or not ours:
            return ()
        try:
            return verdicts_of(self.policy, ours, now)
        except Exception as error:
            # What cannot be decided is kept.
            reason = f"the policy failed: {type(error).__name__}: {error}"
            self._done += Removal(failed=1, entries=(Entry(escape(repr(self.policy)), "failed", reason),))
            return [Verdict(True, f"the policy failed: {type(error).__name__}")] * len(ours)

    # -- doing

    def _keep(self, record: ScopeRecord, reason: str) -> None:
        self._done += Removal(kept=1, entries=(Entry(shown(record), "kept", reason),))

    def _reclaim(self, source: Sweeping, record: ScopeRecord, verdict: Verdict) -> None:
        if not self.spending.goes_on():
            return
        try:
            removal = source.reclaim(record, verdict, dry_run=self.dry_run, pace=self.spending.pace)
        except Exception as error:
            entry = Entry(shown(record), "failed", str(error), getattr(error, "errno", None))
            self._done += Removal(failed=1, entries=(entry,))
            return
        told = _in_scopes(record, verdict, removal, whole=not self.spending.cut_short)
        self._done += told
        self.spending.spend(removal.removed_bytes, counts=bool(told.removed or told.kept))


def _in_scopes(record: ScopeRecord, verdict: Verdict, removal: Removal, *, whole: bool) -> Removal:
    """Return what *removal* did to *record*'s scope, all of it or not, counted in scopes instead of files."""
    named = [entry for entry in removal.entries if entry.kind == "removed"]
    if not whole or removal.removed <= len(named) or removal.failed or removal.kept:
        return attrs.evolve(removal, removed=len(named))
    own = removal.removed_bytes - sum(entry.bytes for entry in named)
    entry = Entry(shown(record), "removed", verdict.reason, bytes=own)
    return attrs.evolve(removal, removed=len(named) + 1, entries=(*removal.entries, entry))
