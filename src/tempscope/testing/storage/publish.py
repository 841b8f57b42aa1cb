"""Chapter 5, first part: atomic publish."""

from __future__ import annotations

from pathlib import Path

import pytest

from tempscope.errors import ForeignPathError, NameTakenError, PathMissingError, StorageError
from tempscope.model import Capability
from tempscope.protocols import TempArea, TempStorage
from tempscope.testing.storage._calls import brief, content_of, names_in, publish, stage
from tempscope.testing.storage._chapter import Chapter, OpenArea, Peek
from tempscope.testing.storage._umask import umask


__all__ = ["Publish"]

_LARGE = bytes(range(256)) * (3 << 12)


class Cancelled(Exception):
    """Raised by a job that does not want the rest of a copy."""


class Publish(Chapter):
    """How a finished file leaves."""

    def test_5_1_old_or_new(self, area: TempArea, outside: Path) -> None:
        """Whoever looks at the destination sees the old content or the new, whole, and then the new."""
        for durable in (False, True):
            path, destination = area.create_file("file"), outside / "product"
            path.write_bytes(_LARGE)
            destination.write_bytes(b"old")
            seen = {b"old"}

            def look(done: int, total: int, seen: set[bytes] = seen, place: Path = destination) -> None:
                seen.add(place.read_bytes())

            assert publish(area, path, destination, durable=durable, progress=look) == destination
            assert {brief(content) for content in seen} <= {b"old", brief(_LARGE)}
            assert content_of(destination) == brief(_LARGE)
            assert names_in(outside) == ["product"]
            assert names_in(area.directory) == []

    def test_5_2_without_overwriting(self, area: TempArea, outside: Path) -> None:
        """
        Without overwrite an existing destination raises NameTakenError, even one that appears meanwhile.
        """
        path, destination = area.create_file("file"), outside / "product"
        path.write_bytes(_LARGE)
        destination.write_bytes(b"old")
        directory = outside / "directory"
        directory.mkdir()
        for taken in (destination, directory):
            with pytest.raises(NameTakenError):
                publish(area, path, taken, overwrite=False)
        late = outside / "late"
        came: list[int] = []

        def come_first(done: int, total: int) -> None:
            came.append(late.write_bytes(b"somebody else's"))

        try:
            publish(area, path, late, overwrite=False, progress=come_first)
        except NameTakenError:
            assert content_of(path) == brief(_LARGE)
        # A storage that does it in one step, in which nobody can come first, has told no progress.
        assert content_of(late) == (b"somebody else's" if came else brief(_LARGE))
        assert destination.read_bytes() == b"old"
        assert names_in(outside) == ["directory", "late", "product"]

    def test_5_3_failed(self, area: TempArea, outside: Path) -> None:
        """If publishing fails the file is still in the area, and nothing half-written is visible."""
        path, destination = area.create_file("file"), outside / "product"
        path.write_bytes(_LARGE)
        with pytest.raises(PathMissingError):
            publish(area, path, outside / "missing" / "product")
        try:
            publish(area, path, destination, progress=_cancel)
        except Cancelled:
            assert content_of(path) == brief(_LARGE)
            assert names_in(outside) == []
            publish(area, path, destination)
        assert content_of(destination) == brief(_LARGE)

    def test_5_4_link_replaced(self, area: TempArea, outside: Path) -> None:
        """A link at the destination is replaced, not followed."""
        target, link = outside / "target", outside / "link"
        target.write_bytes(b"target")
        link.symlink_to(target)
        path = area.create_file("file")
        path.write_bytes(b"new")
        publish(area, path, link)
        assert not link.is_symlink()
        assert (link.read_bytes(), target.read_bytes()) == (b"new", b"target")

    def test_5_7_mode(self, area: TempArea, outside: Path) -> None:
        """The product has the mode asked for, else what the destination had, else 0o666 less the umask."""
        given, present, fresh = (outside / name for name in ("given", "present", "fresh"))
        present.write_bytes(b"old")
        present.chmod(0o604)
        with umask(0o027):
            publish(area, area.create_file("file"), given, mode=0o641)
            publish(area, area.create_file("file"), present)
            publish(area, area.create_file("file"), fresh)
        assert [path.stat().st_mode & 0o7777 for path in (given, present, fresh)] == [0o641, 0o604, 0o640]

    def test_5_8_not_into_the_area(self, area: TempArea, outside: Path) -> None:
        """What would be published into its own area, and the area itself, raise ForeignPathError and stay."""
        path = area.create_file("file")
        path.write_bytes(b"content")
        with pytest.raises(ForeignPathError):
            publish(area, path, area.directory / "product")
        with pytest.raises(ForeignPathError):
            publish(area, area.directory, outside / "product")
        assert path.read_bytes() == b"content"
        assert names_in(area.directory) == ["file"]
        assert names_in(outside) == []

    def test_5_9_product_is_no_alias(
        self, storage: TempStorage, open_area: OpenArea, area: TempArea, outside: Path
    ) -> None:
        """What was taken in and published shares nothing with its source."""
        source = open_area().create_file("source") if _may_link(storage) else outside / "source"
        source.write_bytes(b"source")
        staged = stage(area, source, writable=False)
        product = publish(area, staged.path, outside / "product")
        with product.open("ab") as file:
            file.write(b" changed")
        product.chmod(0o600)
        assert source.read_bytes() == b"source"
        assert product.read_bytes() == b"source changed"

    def test_5_13_gone_for_a_witness(self, area: TempArea, outside: Path, witness: Peek) -> None:
        """What was published has left the area for whoever looks past the storage."""
        path = area.create_file("file")
        path.write_bytes(b"content")
        assert witness(path) == b"content"
        publish(area, path, outside / "product")
        assert witness(path) is None
        assert (outside / "product").read_bytes() == b"content"

    def test_5_14_directory(self, area: TempArea, outside: Path) -> None:
        """A directory is published whole, over nothing that has something in it, or is refused and stays."""
        destination, in_use = outside / "product", outside / "in use"
        in_use.mkdir()
        (in_use / "theirs").write_bytes(b"theirs")
        path = area.create_dir("dir")
        (path / "sub").mkdir()
        (path / "sub" / "file").write_bytes(b"content")
        for overwrite in (True, False):
            with pytest.raises(StorageError):
                publish(area, path, in_use, overwrite=overwrite)
        assert names_in(in_use) == ["theirs"]
        try:
            publish(area, path, destination)
        except StorageError:
            assert (path / "sub" / "file").read_bytes() == b"content"
            assert names_in(outside) == ["in use"]
        else:
            assert (destination / "sub" / "file").read_bytes() == b"content"
            assert names_in(area.directory) == []
            assert names_in(outside) == ["in use", "product"]


def _may_link(storage: TempStorage) -> bool:
    return Capability.HARD_LINKS in storage.capabilities


def _cancel(done: int, total: int) -> None:
    raise Cancelled
