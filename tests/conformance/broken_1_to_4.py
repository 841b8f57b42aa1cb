"""One broken storage for each clause of chapters 1 to 4."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import attrs

from tempscope import ForeignPathError, NameTakenError, PathMissingError, Removal, ScopeClosedError

from .breaking import Area, Storage, breaks


@breaks("1.1")
class MendsNames(Area):
    def create_file(self, name):
        return self.inner.create_file(name.replace("/", "_") or "unnamed")


@breaks("1.2")
class EmptiesWhatIsThere(Area):
    def create_file(self, name):
        try:
            return self.inner.create_file(name)
        except NameTakenError:
            if (self.inner.directory / name).is_file():
                (self.inner.directory / name).write_bytes(b"")
            raise


@breaks("1.3")
class LowersNames(Area):
    def create_file(self, name):
        return self.inner.create_file(name.lower())


@breaks("1.4")
class RemembersNames(Area):
    def create_file(self, name):
        used = self.__dict__.setdefault("used", set())
        if name in used:
            raise NameTakenError(f"{name} was used", path=name)
        used.add(name)
        return self.inner.create_file(name)


@breaks("2.1")
class GreetsInNewFiles(Area):
    def create_file(self, name):
        path = self.inner.create_file(name)
        path.write_bytes(b"hello")
        return path


class ShoutingPath(type(Path())):
    """Writes something else than it was given."""

    def write_bytes(self, data):
        return super().write_bytes(data.upper())


@breaks("2.2", "disk")
class WritesSomethingElse(Area):
    def create_file(self, name):
        return ShoutingPath(self.inner.create_file(name))


@breaks("2.3")
class LeavesANote(Area):
    def create_dir(self, name):
        self.inner.create_file(f"note-for-{name}")
        return self.inner.create_dir(name)


@breaks("2.4")
class KnowsOnlyItsOwn(Area):
    def delete(self, path):
        if self.inner.directory not in (path, path.parent):
            raise ForeignPathError(f"{path!r} was not made here", path=path)
        return self.inner.delete(path)


@breaks("2.5")
class TakesTheStart(Area):
    def take_in(self, source, name, **options):
        staged = self.inner.take_in(source, name, **options)
        staged.path.write_bytes(source.read_bytes()[:4096])
        return staged


@breaks("2.6")
class TakesNoSubdirectories(Area):
    def take_in(self, source, name, **options):
        staged = self.inner.take_in(source, name, **options)
        for child in staged.path.iterdir():
            self.inner.delete(child)
        return staged


class BufferedPath(type(Path())):
    """Keeps what is written, and never writes it out."""

    def write_bytes(self, data):
        self.kept = data

    def read_bytes(self):
        return self.kept


@breaks("2.7", "disk")
class NeverWritesOut(Area):
    def create_file(self, name):
        return BufferedPath(self.inner.create_file(name))


@breaks("3.1", "disk")
class MakesItAtOnce(Storage):
    def open_area(self, record):
        area = self.inner.open_area(record)
        area.create_dir("ready")
        return area


@breaks("3.2")
class OneAreaForAll(Storage):
    def open_area(self, record):
        if "shared" not in self.__dict__:
            self.shared = self.inner.open_area(record)
        return SharedArea(self.shared, self)


class SharedArea(Area):
    def create_file(self, name):
        try:
            return self.inner.create_file(name)
        except NameTakenError:
            return self.inner.directory / name


@breaks("3.3")
class RemovesTheFollowing(Storage):
    def open_area(self, record):
        before = self.__dict__.get("last")
        self.last = RemovesItsNext(self.inner.open_area(record), self)
        if before is not None:
            before.next = self.last
        return self.last


class RemovesItsNext(Area):
    next = None

    def remove(self):
        if self.next is not None:
            self.next.inner.remove()
        return self.inner.remove()


@breaks("3.4")
class KeepsOnlyFiles(Area):
    def retain(self, record):
        for path in list(self.inner.directory.iterdir()):
            if path.is_dir():
                self.inner.delete(path)
        return self.inner.retain(record)


@breaks("3.5", "disk")
class DeletesForOthers(Area):
    def delete(self, path):
        try:
            return self.inner.delete(path)
        except ForeignPathError:
            path.unlink()
            return Removal(removed=1)


@breaks("3.6")
class UsesAreasAgain(Storage):
    def open_area(self, record):
        if "only" not in self.__dict__:
            self.only = self.inner.open_area(record)
        return EmptiedInstead(self.only, self)


class EmptiedInstead(Area):
    def remove(self):
        return self.inner.delete(self.inner.directory)


@breaks("4.1")
class CountsTrees(Area):
    def delete(self, path):
        self.inner.delete(path)
        return Removal(removed=1)


@breaks("4.2")
class DeletesOnce(Area):
    def delete(self, path):
        if not path.exists():
            raise PathMissingError(f"{path!r} is not there", path=path)
        return self.inner.delete(path)


@breaks("4.3")
class StaysOpen(Area):
    def remove(self):
        return self.inner.delete(self.inner.directory)


@breaks("4.4")
class RemovesWhatIsKept(Area):
    def retain(self, record):
        self.kept = self.inner.retain(record)
        return self.kept

    def remove(self):
        if "kept" in self.__dict__:
            return self.storage.inner.reclaim(self.kept, attrs.evolve(self.kept.never_closed, keep=False))
        return self.inner.remove()


@breaks("4.5")
class StopsHalfWay(Area):
    def delete(self, path):
        if not path.is_dir():
            return self.inner.delete(path)
        child = min(path.iterdir(), default=path)
        self.inner.delete(child)
        return Removal(removed=1)


@breaks("4.6")
class ClosesWhenEmptied(Area):
    def delete(self, path):
        if path == self.inner.directory:
            return self.inner.remove()
        return self.inner.delete(path)


@breaks("4.7", "disk")
class FollowsLinks(Area):
    def delete(self, path):
        real = Path(os.path.realpath(path))
        if real != path:
            real.unlink() if real.is_file() else shutil.rmtree(real)
        return self.inner.delete(path)


@breaks("4.8")
class ClosesAndForgets(Storage):
    def close(self):
        self.closed = True

    def open_area(self, record):
        if "closed" in self.__dict__:
            raise ScopeClosedError("closed")
        return self.inner.open_area(record)


@breaks("4.9")
class OpensForEver(Storage):
    def close(self):
        self.inner.__init__()


@breaks("4.10", "disk")
class OnlySaysSo(Area):
    def delete(self, path):
        return Removal(removed=1)
