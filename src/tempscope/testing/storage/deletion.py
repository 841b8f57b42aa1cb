"""Chapter 4: deletion and closing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tempscope.errors import ForeignPathError, ScopeClosedError, UnsupportedError
from tempscope.model import Capability, Removal, Usage
from tempscope.protocols import TempArea, TempStorage
from tempscope.testing.storage._calls import names_in, publish, stage, told_by
from tempscope.testing.storage._chapter import Chapter, OpenArea, Peek, a_record


__all__ = ["Deletion"]


class Deletion(Chapter):
    """What goes, what must not, and that it is told."""

    def test_4_1_delete_whole(self, area: TempArea) -> None:
        """Deleting removes a file, or a directory with all below it, and counts each."""
        stays = area.create_file("stays")
        file, directory = area.create_file("file"), area.create_dir("dir")
        (directory / "sub").mkdir()
        (directory / "sub" / "leaf").write_bytes(b"leaf")
        assert area.delete(file).removed == 1
        assert area.delete(directory).removed == 3
        assert names_in(area.directory) == ["stays"]
        assert stays.exists()

    def test_4_2_delete_twice(self, area: TempArea) -> None:
        """Deleting or removing again is not an error, and counts nothing."""
        file, directory = area.create_file("file"), area.create_dir("dir")
        area.delete(file)
        area.delete(directory)
        assert area.delete(file) == Removal()
        assert area.delete(directory) == Removal()
        assert area.delete(directory / "below") == Removal()
        area.create_file("file")
        area.remove()
        assert area.remove() == Removal()

    def test_4_3_closed(self, storage: TempStorage, open_area: OpenArea, source: Path) -> None:
        """
        After remove or retain whatever makes, moves or deletes raises ScopeClosedError; usage is nothing.
        """
        removed, unused = open_area(), open_area()
        path = removed.create_file("file")
        removed.remove()
        unused.remove()
        _check_closed(removed, path, source)
        _check_closed(unused, path, source)
        with pytest.raises((ScopeClosedError, UnsupportedError)):
            removed.retain(a_record())
        if Capability.RETAIN in storage.capabilities:
            record = a_record()
            retained = open_area(record)
            path = retained.create_file("file")
            retained.retain(record)
            _check_closed(retained, path, source)

    def test_4_4_closed_once(self, storage: TempStorage, open_area: OpenArea) -> None:
        """The first of remove and retain decides: a retained area stays whole, a removed one stays gone."""
        record = a_record()
        area = open_area(record)
        area.create_file("file").write_bytes(b"content")
        if Capability.RETAIN not in storage.capabilities:
            area.remove()
            assert told_by(storage, record) == []
            return
        kept = area.retain(record)
        assert area.retain(record).directory == kept.directory
        assert area.remove() == Removal()
        assert kept.directory is not None
        assert (kept.directory / "file").read_bytes() == b"content"
        removed = open_area()
        removed.create_file("file")
        removed.remove()
        with pytest.raises(ScopeClosedError):
            removed.retain(a_record())

    def test_4_5_leftovers_are_told(self, area: TempArea) -> None:
        """What could not be removed is in the result, and the rest is gone."""
        directory = area.create_dir("dir")
        for name in ("sealed", "open"):
            (directory / name).mkdir()
            (directory / name / "leaf").write_bytes(b"leaf")
        (directory / "sealed" / "leaf").chmod(0)
        (directory / "sealed").chmod(0o500)
        removal = area.delete(directory)
        assert removal.complete == (not directory.exists())
        assert not (directory / "open").exists()
        assert bool(removal.leftovers) == directory.exists()

    def test_4_6_directory_stays_usable(self, area: TempArea) -> None:
        """Deleting the area's own directory empties it, and it stays usable."""
        (area.create_dir("dir") / "leaf").write_bytes(b"leaf")
        area.create_file("file")
        directory = area.directory
        assert area.delete(directory).complete
        assert names_in(directory) == []
        assert area.create_file("file").parent == directory

    def test_4_7_links_lead_nowhere(self, area: TempArea, outside: Path) -> None:
        """Nothing outside the area is ever touched, whatever links in it say."""
        (outside / "dir").mkdir()
        for path in (outside / "file", outside / "dir" / "leaf"):
            path.write_bytes(b"outside")
        area.create_file("file")
        links = [area.directory / "to_file", area.directory / "to_dir", area.create_dir("dir") / "to_dir"]
        _link(links[0], outside / "file")
        for link in links[1:]:
            _link(link, outside / "dir")
        _delete_through(area, links[1] / "leaf")
        _delete_through(area, links[2] / "leaf")
        area.delete(links[0])
        area.delete(links[1])
        area.delete(area.directory / "dir")
        _link(links[1], outside / "dir")
        area.remove()
        assert (outside / "file").read_bytes() == b"outside"
        assert (outside / "dir" / "leaf").read_bytes() == b"outside"

    def test_4_8_closing_the_storage(self, storage: TempStorage, open_area: OpenArea) -> None:
        """Closing the storage removes its open areas."""
        areas = [open_area(), open_area()]
        paths = [area.create_file("file") for area in areas]
        storage.close()
        for area, path in zip(areas, paths, strict=True):
            assert not path.exists()
            with pytest.raises(ScopeClosedError):
                area.create_file("another")

    def test_4_9_closed_storage(self, storage: TempStorage) -> None:
        """Closing the storage twice is not an error, and afterwards it opens no area."""
        storage.close()
        storage.close()
        with pytest.raises(ScopeClosedError):
            storage.open_area(a_record())

    def test_4_10_gone_for_a_witness(self, open_area: OpenArea, witness: Peek) -> None:
        """What was deleted or removed is gone for whoever looks past the storage."""
        area = open_area()
        deleted, removed = area.create_file("deleted"), area.create_file("removed")
        area.delete(deleted)
        assert (witness(deleted), witness(removed)) == (None, b"")
        area.remove()
        assert witness(removed) is None


def _check_closed(area: TempArea, path: Path, source: Path) -> None:
    forbidden: list[Callable[[], object]] = [
        lambda: area.directory,
        lambda: area.create_file("another"),
        lambda: area.create_dir("another"),
        lambda: stage(area, source),
        lambda: publish(area, path, source.parent / "product"),
        lambda: area.delete(path),
    ]
    for call in forbidden:
        with pytest.raises(ScopeClosedError):
            call()
    assert area.usage() == Usage()
    assert not (source.parent / "product").exists()


def _link(link: Path, target: Path) -> None:
    """Make a link, where there are links; file systems without them refuse by EPERM."""
    with contextlib.suppress(UnsupportedError, PermissionError):
        link.symlink_to(target)


def _delete_through(area: TempArea, path: Path) -> None:
    try:
        assert area.delete(path) == Removal(), "the link was followed"
    except ForeignPathError:
        pass
