"""Chapter 5, second part: taking in what is somebody else's."""

from __future__ import annotations

import os
from pathlib import Path

from tempscope.model import Usage
from tempscope.protocols import TempArea
from tempscope.testing.storage._calls import content_of, names_in, publish, stage
from tempscope.testing.storage._chapter import Chapter, OpenArea
from tempscope.testing.storage.publish import Cancelled


__all__ = ["Staging"]


class Staging(Chapter):
    """How an input comes in, and that its source never suffers."""

    def test_5_5_source_stays(self, open_area: OpenArea, source: Path) -> None:
        """
        A source's content, mode, times and link target stay as they are, whatever happens to the staged
        file.
        """
        link = source.with_name("link")
        link.symlink_to(source)
        before = _state(source)
        for writable in (True, False):
            for given in (source, link):
                area = open_area()
                area.delete(stage(area, given, writable=writable).path)
                publish(
                    area, stage(area, given, writable=writable).path, source.with_name("product"), mode=0o600
                )
                stage(area, given, "removed", writable=writable)
                area.remove()
        assert _state(source) == before
        assert link.readlink() == source
        assert not source.is_symlink()

    def test_5_6_cancelled_copy(self, area: TempArea, source: Path) -> None:
        """Nothing of a copy that failed or was cancelled stays, and its name is free."""

        def cancel(done: int, total: int) -> None:
            raise Cancelled

        try:
            stage(area, source, "name", progress=cancel)
        except Cancelled:
            assert names_in(area.directory) == []
            assert area.usage() == Usage()
            assert content_of(stage(area, source, "name").path) == content_of(source)

    def test_5_10_writable_shares_nothing(self, area: TempArea, source: Path) -> None:
        """What was taken in to be written to can be, and no write through it reaches the source."""
        source.chmod(0o440)
        before = _state(source)
        staged = stage(area, source, writable=True)
        with staged.path.open("r+b") as file:
            file.write(b"changed")
        staged.path.chmod(0o600)
        assert staged.path.read_bytes()[:7] == b"changed"
        assert _state(source) == before

    def test_5_11_what_is_told(self, area: TempArea, source: Path) -> None:
        """A staged file tells where it stands, what its source was, how it came in, and what that saved."""
        for name, writable in (("writable", True), ("read_only", False)):
            staged = stage(area, source, name, writable=writable)
            assert staged.path != source
            assert staged.source == source
            assert staged.method in ("hardlink", "reflink", "copy")
            assert staged.bytes_saved == (0 if staged.method == "copy" else source.stat().st_size)
            staged.verify()

    def test_5_12_alias_is_verified(self, open_area: OpenArea, outside: Path) -> None:
        """A read-only input that is no alias of its source passes verify, whatever becomes of either."""
        area = open_area()
        source = outside / "small"
        source.write_bytes(b"content")
        staged = stage(area, source, writable=False)
        if staged.method == "hardlink":
            # Clause 9.3 is about aliases.
            return
        source.write_bytes(b"another content")
        staged.verify()
        staged.path.chmod(0o600)
        staged.path.write_bytes(b"a third")
        staged.verify()
        assert source.read_bytes() == b"another content"


def _state(path: Path) -> tuple[bytes, int, int]:
    status = os.stat(path)
    return content_of(path), status.st_mode, status.st_mtime_ns
