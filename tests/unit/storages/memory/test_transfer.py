"""Copying and moving by path, between memory and disk, files and trees."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest


@pytest.fixture
def top(area):
    """A small tree in memory only."""
    top = area.create_dir("top")
    (top / "sub").mkdir()
    (top / "sub" / "file").write_bytes(b"content")
    (top / "sub" / "file").chmod(0o640)
    (top / "sub" / "file")._set_times(10**18, 2 * 10**18)
    return top


@pytest.mark.parametrize("metadata", [True, False])
def test_a_tree_is_copied_to_anywhere(metadata, top, tmp_path):
    """Copy makes the same tree in memory or on the disk, with modes and times if asked for."""
    for target in (top.with_name("copy"), tmp_path / "copy", str(tmp_path / "text")):
        made = top.copy(target, preserve_metadata=metadata)
        assert made == (target if isinstance(target, Path) else Path(target))
        copy = made / "sub" / "file"
        assert copy.read_bytes() == b"content"
        assert (copy.stat().st_mtime_ns == 2 * 10**18) is metadata
        assert (copy.stat().st_mode & 0o777 == 0o640) is metadata
    assert (top / "sub" / "file").exists()


def test_copying_keeps_to_the_rules_of_files(top):
    """A copy onto a file replaces its content, onto a directory fails, onto itself or into itself too."""
    file = top / "sub" / "file"
    file.with_name("other").write_text("longer than that")
    assert file.copy(file.with_name("other")).read_bytes() == b"content"
    with pytest.raises(FileExistsError):
        (top / "sub").copy(top.parent / "top")
    with pytest.raises(IsADirectoryError):
        file.copy(top)
    for target in (file, file / "below"):
        with pytest.raises(OSError, match="Errno") as error:
            file.copy(target)
        assert error.value.errno == errno.EINVAL
    assert file.read_bytes() == b"content"


def test_a_file_is_never_copied_onto_itself(top):
    """By whatever name the target goes, a copy of a file onto itself is refused and loses nothing."""
    path = top / "same"
    path.write_bytes(b"content")
    (top / "other").hardlink_to(path)
    (top / "directory").mkdir(exist_ok=True)
    for name in ("same", "other", "directory/../same"):
        with pytest.raises(OSError, match="Invalid") as error:
            path.copy(top / name)
        assert error.value.errno == errno.EINVAL
    assert path.read_bytes() == b"content"


def test_moving_goes_by_rename_or_by_copy(top, tmp_path, spill_area):
    """Move renames in memory and copies out of it; the source is gone either way."""
    moved = top.move(top.with_name("moved"))
    assert not top.exists()
    assert moved.move_into(tmp_path) == tmp_path / "moved"
    assert (tmp_path / "moved" / "sub" / "file").stat().st_mode & 0o777 == 0o640
    assert not moved.exists()
    with pytest.raises(FileNotFoundError):
        moved.move(tmp_path / "again")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    full = spill_area.create_dir("full")
    with pytest.raises(OSError, match="Errno") as error:
        full.move_into(tmp_path)
    assert error.value.errno == errno.ENOTEMPTY


def test_links_are_copied_as_asked(spill_area, tmp_path):
    """A symbolic link is copied as a link, or as what it means; times are kept on the disk too."""
    file = spill_area.create_file("file")
    file.write_text("content")
    link = file.with_name("link")
    link.symlink_to("file")
    assert link.copy(tmp_path / "file", preserve_metadata=True).read_text() == "content"
    assert os.readlink(link.copy(tmp_path / "link", follow_symlinks=False)) == "file"
    target = spill_area.create_file("target")
    os.fspath(target)
    file._set_times(10**18, 10**18)
    assert file.copy(target, preserve_metadata=True).stat().st_mtime_ns == 10**18
    assert link.copy_into(spill_area.create_dir("dir")).read_text() == "content"
