"""Chapter 2: read back."""

from __future__ import annotations

from pathlib import Path

from tempscope.errors import StorageError
from tempscope.model import Usage
from tempscope.protocols import TempArea
from tempscope.testing.storage._calls import content_of, names_in, publish, stage
from tempscope.testing.storage._chapter import Chapter, Peek


__all__ = ["ReadBack"]


class ReadBack(Chapter):
    """That what was put in is what is there."""

    def test_2_1_new_is_empty(self, area: TempArea) -> None:
        """A new file is an empty file, and a new directory an empty directory."""
        file, directory = area.create_file("file"), area.create_dir("dir")
        assert file.is_file()
        assert file.read_bytes() == b""
        assert directory.is_dir()
        assert names_in(directory) == []

    def test_2_2_written_is_read(self, area: TempArea) -> None:
        """What is written through a path is read back through it, and through any path equal to it."""
        path = area.create_file("file")
        path.write_bytes(b"first")
        same = area.directory / "file"
        assert same == path
        assert (path.read_bytes(), same.read_bytes()) == (b"first", b"first")
        with same.open("ab") as file:
            file.write(b" and second")
        assert path.read_bytes() == b"first and second"
        assert path.stat().st_size == len(b"first and second")

    def test_2_3_directory_lists(self, area: TempArea) -> None:
        """The area's directory lists what was made in it, and nothing else."""
        assert names_in(area.directory) == []
        area.create_file("file")
        area.create_dir("dir")
        assert names_in(area.directory) == ["dir", "file"]

    def test_2_4_made_through_a_path(self, area: TempArea, outside: Path) -> None:
        """What is made through a path belongs to the area as if the area had made it."""
        directory = area.create_dir("dir")
        (directory / "sub").mkdir()
        for name in ("deleted", "published"):
            (directory / "sub" / name).write_bytes(name.encode())
        assert area.usage().files == 2
        area.delete(directory / "sub" / "deleted")
        publish(area, directory / "sub" / "published", outside / "product")
        assert (outside / "product").read_bytes() == b"published"
        assert names_in(directory / "sub") == []

    def test_2_5_taken_in_is_read(self, area: TempArea, source: Path) -> None:
        """What was taken in reads as its source does, under the name asked for."""
        for name, writable in (("writable", True), ("read_only", False)):
            staged = stage(area, source, name, writable=writable)
            assert staged.path == area.directory / name
            assert staged.source == source
            assert content_of(staged.path) == content_of(source)

    def test_2_6_directory_taken_in(self, area: TempArea, outside: Path) -> None:
        """A directory comes in whole, or it is refused with StorageError and nothing of it stays."""
        (outside / "tree" / "sub").mkdir(parents=True)
        (outside / "tree" / "sub" / "leaf").write_bytes(b"leaf")
        try:
            staged = stage(area, outside / "tree")
        except StorageError:
            assert names_in(area.directory) == []
            assert area.usage() == Usage()
        else:
            assert (staged.path / "sub" / "leaf").read_bytes() == b"leaf"
        assert (outside / "tree" / "sub" / "leaf").read_bytes() == b"leaf"

    def test_2_7_seen_by_a_witness(self, area: TempArea, witness: Peek) -> None:
        """What was written is there for whoever looks past the storage."""
        path = area.create_file("file")
        assert witness(path) == b""
        path.write_bytes(b"content")
        assert witness(path) == b"content"
        assert path.read_bytes() == b"content"
