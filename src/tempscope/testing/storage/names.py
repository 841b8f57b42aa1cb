"""Chapter 1: names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tempscope.errors import InvalidNameError, NameTakenError
from tempscope.model import Usage
from tempscope.protocols import TempArea
from tempscope.testing.storage._calls import names_in, stage
from tempscope.testing.storage._chapter import Chapter


__all__ = ["Names"]

_NO_NAMES = ["", " ", ".", "..", "a/b", "/a", "../a", "a\0b", "a\nb", "x" * 256, "é" * 128, "\ud800"]
_NAMES = ["clip.mkv", "with space", "-rf", "..a", "MiXed", "日本語.txt", "x" * 255]


class Names(Chapter):
    """What a file may be called, and that it is called so."""

    def test_1_1_no_name(self, area: TempArea, source: Path) -> None:
        """A name that cannot be one raises InvalidNameError, before anything is made."""
        for name in _NO_NAMES:
            with pytest.raises(InvalidNameError):
                area.create_file(name)
            with pytest.raises(InvalidNameError):
                area.create_dir(name)
            with pytest.raises(InvalidNameError):
                stage(area, source, name)
        assert area.usage() == Usage()
        assert names_in(area.directory) == []

    def test_1_2_name_taken(self, area: TempArea, source: Path) -> None:
        """A name that is taken raises NameTakenError, and what has it stays as it is."""
        file = area.create_file("file")
        file.write_bytes(b"first")
        inner = area.create_dir("dir") / "inner"
        inner.write_bytes(b"inside")
        for name in ("file", "dir"):
            with pytest.raises(NameTakenError):
                area.create_file(name)
            with pytest.raises(NameTakenError):
                area.create_dir(name)
            with pytest.raises(NameTakenError):
                stage(area, source, name)
        assert (file.read_bytes(), inner.read_bytes()) == (b"first", b"inside")

    def test_1_3_exactly_that_name(self, area: TempArea) -> None:
        """
        What was made is called exactly as asked, stands in the area's directory, and its path is absolute.
        """
        for name in _NAMES:
            for create in (area.create_file, area.create_dir):
                path = create(name)
                assert isinstance(path, Path)
                assert path.name == name
                assert path.is_absolute()
                assert path.parent == area.directory
                assert names_in(area.directory) == [name]
                area.delete(path)

    def test_1_4_name_free_again(self, area: TempArea) -> None:
        """A name is free again once what had it was deleted."""
        path = area.create_file("name")
        path.write_bytes(b"old")
        area.delete(path)
        assert area.create_file("name").read_bytes() == b""
        area.delete(path)
        assert area.create_dir("name").is_dir()
