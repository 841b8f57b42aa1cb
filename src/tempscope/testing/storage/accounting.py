"""Chapter 7: accounting."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tempscope.errors import UnsupportedError
from tempscope.model import Usage
from tempscope.protocols import TempArea
from tempscope.testing.storage._calls import publish, stage
from tempscope.testing.storage._chapter import Chapter, OpenArea


__all__ = ["Accounting"]

_CONTENT = b"x" * 40_000


class Accounting(Chapter):
    """What an area says that it occupies."""

    def test_7_1_usage(self, area: TempArea) -> None:
        """Usage counts files, directories and allocated bytes, each inode's bytes once."""
        path = area.create_file("file")
        path.write_bytes(_CONTENT)
        alone = area.usage()
        assert (alone.files, alone.directories) == (1, 0)
        assert len(_CONTENT) <= alone.bytes < 4 * len(_CONTENT)
        area.create_dir("dir")
        assert area.usage().directories == 1
        before = area.usage()
        # Where there are no links each file has one name.
        with contextlib.suppress(UnsupportedError):
            (area.directory / "dir" / "second").hardlink_to(path)
            assert area.usage().files == 2
            assert area.usage().bytes - before.bytes < len(_CONTENT)

    def test_7_2_usage_follows(self, area: TempArea, source: Path) -> None:
        """Usage follows what comes and goes, and is nothing when all has gone."""
        staged = stage(area, source)
        assert area.usage().files == 1
        assert area.usage().bytes >= source.stat().st_size
        publish(area, staged.path, source.with_name("product"))
        assert area.usage() == Usage()
        path = area.create_dir("dir") / "file"
        path.write_bytes(_CONTENT)
        area.delete(path)
        assert area.usage().files == 0
        area.delete(area.directory / "dir")
        assert area.usage() == Usage()

    def test_7_3_usage_is_its_own(self, open_area: OpenArea) -> None:
        """An area counts what is its own, and nothing of another's."""
        first, second = open_area(), open_area()
        first.create_file("file").write_bytes(_CONTENT)
        before = first.usage()
        second.create_file("file").write_bytes(_CONTENT * 2)
        assert first.usage() == before
        assert second.usage().files == 1

    def test_7_4_progress(self, area: TempArea, source: Path) -> None:
        """
        Progress is told bytes done, never fewer than before, and bytes in all, and ends with all of them.
        """
        told: list[tuple[int, int]] = []
        staged = stage(area, source, progress=lambda done, total: told.append((done, total)))
        _check(told, source.stat().st_size)
        told.clear()
        product = publish(
            area, staged.path, source.with_name("product"), progress=lambda *both: told.append(both)
        )
        _check(told, product.stat().st_size)


def _check(told: list[tuple[int, int]], size: int) -> None:
    """Check what was told, if anything had to be copied."""
    assert told == sorted(told)
    assert {total for _, total in told} <= {size}
    assert not told or told[-1] == (size, size)
