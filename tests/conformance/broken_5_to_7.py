"""One broken storage for each clause of chapters 5 to 7."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import attrs

from tempscope import (
    ForeignPathError,
    NameTakenError,
    PathMissingError,
    StorageError,
    StorageFull,
    Usage,
)

from .breaking import Area, Storage, breaks


@breaks("5.1")
class WritesInPlace(Area):
    def give_out(self, path, destination, *, progress, **options):
        content = path.read_bytes()
        with open(destination, "wb", buffering=0) as file:
            file.write(content[:9])
            if progress is not None:
                progress(9, len(content))
            file.write(content[9:])
        self.inner.delete(path)
        return destination


@breaks("5.2")
class LooksFirst(Area):
    def give_out(self, path, destination, *, overwrite, **options):
        if not overwrite and destination.exists():
            raise NameTakenError("it is there", path=destination)
        return self.inner.give_out(path, destination, overwrite=True, **options)


@breaks("5.3")
class LetsGoFirst(Area):
    def give_out(self, path, destination, *, progress, **options):
        content = path.read_bytes()
        if not destination.parent.exists():
            raise PathMissingError("no such place", path=destination)
        self.inner.delete(path)
        if progress is not None:
            progress(0, len(content))
        destination.write_bytes(content)
        return destination


@breaks("5.4")
class FollowsTheLink(Area):
    def give_out(self, path, destination, **options):
        return self.inner.give_out(path, Path(os.path.realpath(destination)), **options)


@breaks("5.5", "disk")
class TouchesTheSource(Area):
    def take_in(self, source, name, **options):
        staged = self.inner.take_in(source, name, **options)
        os.utime(source)
        return staged


@breaks("5.6")
class LeavesThePart(Area):
    def take_in(self, source, name, **options):
        try:
            return self.inner.take_in(source, name, **options)
        except Exception:
            self.inner.create_file(name)
            raise


@breaks("5.7")
class AlwaysPrivate(Area):
    def give_out(self, path, destination, *, mode, **options):
        return self.inner.give_out(path, destination, mode=0o600, **options)


@breaks("5.8")
class PublishesIntoItself(Area):
    def give_out(self, path, destination, **options):
        try:
            return self.inner.give_out(path, destination, **options)
        except ForeignPathError:
            destination.write_bytes(b"")
            return destination


@breaks("5.9", "links")
class PublishesTheAlias(Area):
    def give_out(self, path, destination, **options):
        path.rename(destination)
        return destination


@breaks("5.10", "links")
class AlwaysLinks(Area):
    def take_in(self, source, name, *, writable, progress):
        staged = self.inner.take_in(source, name, writable=False, progress=progress)
        staged.path.chmod(0o600)
        return staged


@breaks("5.11")
class BoastsOfSavings(Area):
    def take_in(self, source, name, **options):
        staged = self.inner.take_in(source, name, **options)
        return attrs.evolve(staged, bytes_saved=source.stat().st_size)


class Suspicious:
    """A staged file that takes any change of its source for its own."""

    def __init__(self, staged, content):
        self._staged = staged
        self._content = content

    def __getattr__(self, name):
        return getattr(self._staged, name)

    def verify(self):
        assert self.source.read_bytes() == self._content


@breaks("5.12")
class VerifiesTheSource(Area):
    def take_in(self, source, name, **options):
        return Suspicious(self.inner.take_in(source, name, **options), source.read_bytes())


@breaks("5.13", "disk")
class CopiesOut(Area):
    def give_out(self, path, destination, **options):
        shutil.copyfile(path, destination)
        return destination


@breaks("5.14")
class ReplacesDirectories(Area):
    def give_out(self, path, destination, **options):
        if destination.is_dir():
            shutil.rmtree(destination)
        return self.inner.give_out(path, destination, **options)


@breaks("6.1")
class ByTheUmask(Area):
    def create_file(self, name):
        path = self.inner.create_file(name)
        mask = os.umask(0)
        os.umask(mask)
        path.chmod(0o666 & ~mask)
        return path


@breaks("6.2", "disk")
class SaysSomethingElse(Area):
    def create_file(self, name):
        try:
            return self.inner.create_file(name)
        except StorageFull as error:
            raise StorageError("it did not work") from error


@breaks("6.3")
class PublishesNothing(Area):
    def give_out(self, path, destination, **options):
        return self.inner.give_out(path, destination, **options) if path.exists() else destination


@breaks("6.4")
class SaysLittle(Area):
    def create_file(self, name):
        try:
            return self.inner.create_file(name)
        except NameTakenError:
            raise NameTakenError("that name is taken") from None


@breaks("6.5")
class TakesPipesForEmptyFiles(Area):
    def take_in(self, source, name, **options):
        if source.is_fifo():
            return self.inner.create_file(name)
        return self.inner.take_in(source, name, **options)


@breaks("7.1")
class CountsNamesTwice(Area):
    def usage(self):
        usage = self.inner.usage()
        size = sum(path.stat().st_size for path in self.inner.directory.rglob("*") if path.is_file())
        return attrs.evolve(usage, bytes=size)


@breaks("7.2")
class OnlyGrows(Area):
    most = Usage()

    def usage(self):
        now = self.inner.usage()
        self.most = max(self.most, now, key=lambda usage: usage.bytes)
        return self.most


@breaks("7.3")
class CountsAll(Storage):
    def open_area(self, record):
        area = CountsOthers(self.inner.open_area(record), self)
        self.__dict__.setdefault("opened", []).append(area)
        return area


class CountsOthers(Area):
    def usage(self):
        return sum((area.inner.usage() for area in self.storage.opened), Usage())


@breaks("7.4")
class GuessesProgress(Area):
    def take_in(self, source, name, *, progress, **options):
        staged = self.inner.take_in(source, name, progress=None, **options)
        if progress is not None:
            progress(50, 100)
        return staged
