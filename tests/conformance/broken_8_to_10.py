"""One broken storage for each clause of chapters 8 to 10."""

from __future__ import annotations

import os
import threading

import attrs

from tempscope import (
    Capability,
    Entry,
    NameTakenError,
    Removal,
    ScopeClosedError,
    Verdict,
)

from .breaking import Area, Storage, breaks


@breaks("8.1")
class SharesNames(Area):
    def create_file(self, name):
        try:
            return self.inner.create_file(name)
        except NameTakenError:
            return self.inner.directory / name


@breaks("8.2")
class ForOneThread(Area):
    def create_file(self, name):
        owner = self.__dict__.setdefault("owner", threading.get_ident())
        if owner != threading.get_ident():
            raise RuntimeError("another thread made this")
        return self.inner.create_file(name)


@breaks("8.3")
class LastOneWins(Area):
    def give_out(self, path, destination, *, overwrite, **options):
        return self.inner.give_out(path, destination, overwrite=True, **options)


@breaks("8.4")
class MakesAfterTheEnd(Area):
    def create_file(self, name):
        try:
            return self.inner.create_file(name)
        except ScopeClosedError as error:
            raise FileNotFoundError(name) from error

    def remove(self):
        removal = self.inner.remove()
        try:
            self.create_file("late")
        except FileNotFoundError:
            raise RuntimeError("a thread was inside") from None
        return removal


@breaks("8.5")
class RemovesOnce(Area):
    def remove(self):
        removal = self.inner.remove()
        if removal == Removal():
            raise FileNotFoundError("it is gone")
        return removal


@breaks("8.6", "disk")
class OutlivesItsEnd(Storage):
    def open_area(self, record):
        try:
            return self.inner.open_area(record)
        except ScopeClosedError as error:
            raise OSError("too late") from error

    def close(self):
        self.inner.close()
        self.open_area(None)


@breaks("9.1")
class LearnsByDoing(Storage):
    used = False

    @property
    def capabilities(self):
        more = {Capability.COMMAND_LEASE} if self.used else set()
        return self.inner.capabilities | more

    def open_area(self, record):
        area = self.inner.open_area(record)
        self.used = True
        return area


class Declaring(Storage):
    """Declares more than is true."""

    more: frozenset[Capability] = frozenset()

    @property
    def capabilities(self):
        return self.inner.capabilities | self.more


@breaks("9.2")
class ClaimsRealPaths(Declaring):
    more = frozenset([Capability.REAL_PATHS])


@breaks("9.3", "disk")
class ClaimsHardLinks(Declaring):
    more = frozenset([Capability.HARD_LINKS])


@breaks("9.4", "disk")
class ForgetsWhatIsWanted(Storage):
    def areas(self):
        for record in self.inner.areas():
            yield attrs.evolve(record, never_closed=Verdict(keep=False))


@breaks("9.5")
class HidesThatItKeeps(Storage):
    @property
    def capabilities(self):
        return self.inner.capabilities - {Capability.RETAIN}


@breaks("9.6", "disk")
class GivesUpByCopying(Area):
    def give_up(self, path):
        given = self.inner.give_up(path)
        path.write_bytes(given.read_bytes())
        return given


@breaks("9.7", "disk")
class ClaimsToDeleteOutside(Area):
    def note_outside(self, path, identity):
        path.unlink(missing_ok=True)


@breaks("9.8", "able")
class HandsOverForEver(Storage):
    def take_over(self, token):
        area = self.inner.waiting.get(token)
        taken = self.inner.take_over(token)
        self.inner.waiting[token] = area
        return taken


@breaks("9.9", "able")
class LeasesAnew(Area):
    def lease_fd(self):
        self.fds = [*self.__dict__.get("fds", ()), os.dup(self.inner.lease_fd())]
        return self.fds[-1]

    def remove(self):
        for fd in self.__dict__.pop("fds", ()):
            os.close(fd)
        return self.inner.remove()


@breaks("9.10", "able")
class NamesThem(Area):
    def unnamed_file(self, mode):
        return self.inner.create_file("unnamed").open(mode)


@breaks("10.1")
class TellsOnlyTheKept(Storage):
    def areas(self):
        return [record for record in self.inner.areas() if record.state != "live"]


@breaks("10.2")
class TakesTheHeld(Storage):
    def open_area(self, record):
        area = self.inner.open_area(record)
        self.__dict__.setdefault("opened", {})[record.token] = area
        return area

    def reclaim(self, record, verdict):
        area = self.opened.get(record.token)
        return self.inner.reclaim(record, verdict) if verdict.keep or area is None else area.remove()


@breaks("10.3")
class AllDoTheWork(Storage):
    def reclaim(self, record, verdict):
        removal = self.inner.reclaim(record, verdict)
        return Removal(removed=1) if removal == Removal() else removal


@breaks("10.4")
class DeletesSome(Storage):
    def reclaim(self, record, verdict):
        for path in record.directory.iterdir():
            path.unlink()
        return Removal(removed=1)


@breaks("10.5")
class ForgetsTheVerdict(Storage):
    def reclaim(self, record, verdict):
        if verdict.keep:
            return Removal(kept=1, entries=(Entry("x", "kept", verdict.reason),))
        return self.inner.reclaim(record, verdict)


@breaks("10.6", "disk")
class SaysItIsReclaimed(Storage):
    def reclaim(self, record, verdict):
        return Removal(removed=1)
