"""Chapter 6: errors, and what private means."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tempscope.errors import (
    ForeignPathError,
    NameTakenError,
    PathMissingError,
    StorageError,
    StorageFull,
)
from tempscope.protocols import TempArea
from tempscope.testing.storage._calls import names_in, publish, stage
from tempscope.testing.storage._chapter import Chapter, OpenArea
from tempscope.testing.storage._umask import umask


__all__ = ["Errors"]


class Errors(Chapter):
    """That what goes wrong is told, and that nobody else can read what is in a scope."""

    @pytest.mark.parametrize("mask", [0o000, 0o077, 0o777], ids=oct)
    def test_6_1_private(self, open_area: OpenArea, mask: int) -> None:
        """Files have mode 0600 and directories 0700 from their first moment, whatever the umask."""
        with umask(mask):
            area = open_area()
            paths = [area.create_file("file"), area.create_dir("dir"), area.directory]
        assert [path.stat().st_mode & 0o777 for path in paths] == [0o600, 0o700, 0o700]

    def test_6_2_no_room(self, open_area: OpenArea) -> None:
        """
        Without room, be it of descriptors, StorageFull is raised, nothing half-made stays, and later it
        works.
        """
        used, unused = open_area(), open_area()
        used.create_file("before").write_bytes(b"content")
        for area in (used, unused):
            with _no_more_descriptors():
                made = _made_without_room(area)
            if not made:
                area.create_file("file")
            assert "file" in names_in(area.directory)
        assert names_in(used.directory) == ["before", "file"]
        assert (used.directory / "before").read_bytes() == b"content"

    def test_6_3_missing(self, area: TempArea, outside: Path) -> None:
        """What is missing raises PathMissingError: a source, a file to publish, a destination's directory."""
        path = area.create_file("file")
        with pytest.raises(PathMissingError):
            stage(area, outside / "missing")
        with pytest.raises(PathMissingError):
            publish(area, area.directory / "missing", outside / "product")
        with pytest.raises(PathMissingError):
            publish(area, path, outside / "missing" / "product")
        assert names_in(area.directory) == ["file"]
        assert names_in(outside) == []

    def test_6_4_errors_say_which(self, area: TempArea, outside: Path) -> None:
        """An error about a path carries it, and its message shows the name."""
        area.create_file("taken")
        missing, foreign = outside / "missing", outside / "foreign"
        with pytest.raises(NameTakenError, match="taken") as taken:
            area.create_file("taken")
        with pytest.raises(PathMissingError, match="missing") as absent:
            stage(area, missing)
        with pytest.raises(ForeignPathError, match="foreign") as strange:
            area.delete(foreign)
        assert [Path(_name_of(error.value)).name for error in (taken, absent, strange)] == [
            "taken",
            "missing",
            "foreign",
        ]

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this platform has no named pipes")
    def test_6_5_no_file(self, area: TempArea, outside: Path) -> None:
        """A source that is neither file nor directory raises StorageError, and is not waited for."""
        pipe = outside / "pipe"
        os.mkfifo(pipe)
        with pytest.raises(StorageError):
            stage(area, pipe)
        assert names_in(area.directory) == []


def _name_of(error: object) -> str:
    path = getattr(error, "path", None)
    assert path is not None, f"{error!r} has no path"
    return path.name if isinstance(path, Path) else str(path)


def _made_without_room(area: TempArea) -> bool:
    try:
        area.create_file("file")
    except StorageFull:
        return False
    # In memory there is room for more.
    return True


@contextmanager
def _no_more_descriptors() -> Iterator[None]:
    """Let nobody in this process open anything."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
