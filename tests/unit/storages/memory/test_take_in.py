"""Staging into memory: what is no file is refused, and a torn copy is none."""

from __future__ import annotations

import os

import pytest

from tempscope.errors import PathMissingError, StagedSourceChangedError, StorageError
from tempscope.storages.memory import _take_in


def take_in(area, source, progress=None):
    """Stage as a manager does."""
    return area.take_in(source, "in", writable=False, progress=progress)


def test_a_pipe_in_a_tree_is_refused(area, tmp_path):
    """A pipe in a directory is named, not waited for; nothing of the directory stays."""
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "file").write_text("x")
    os.mkfifo(tmp_path / "tree" / "sub" / "pipe")
    with pytest.raises(StorageError, match="sub/pipe' is neither a file nor a directory") as caught:
        take_in(area, tmp_path / "tree")
    assert caught.value.path == tmp_path / "tree" / "sub" / "pipe"
    assert list(area.directory.iterdir()) == []


def test_a_source_that_becomes_a_pipe(area, tmp_path, monkeypatch):
    """A source that becomes a pipe after we looked is not read."""
    (tmp_path / "file").write_text("x")
    really = _take_in._opened

    def opened(source):
        source.unlink()
        os.mkfifo(source)
        return really(source)

    monkeypatch.setattr(_take_in, "_opened", opened)
    with pytest.raises(StorageError, match="neither"):
        take_in(area, tmp_path / "file")
    assert list(area.directory.iterdir()) == []


def test_a_source_that_changes_while_it_is_read(area, tmp_path):
    """A source that is written to while it is read is an error, and nothing of the copy stays."""
    (tmp_path / "file").write_text("x")

    def grow(done, total):
        (tmp_path / "file").write_text("longer")

    with pytest.raises(StagedSourceChangedError, match="size") as caught:
        take_in(area, tmp_path / "file", grow)
    assert caught.value.path == tmp_path / "file"
    assert list(area.directory.iterdir()) == []


def test_a_source_that_is_saved_atomically_while_it_is_read(area, tmp_path):
    """An editor that puts another file in the source's place tears nothing: the copy is the old content."""
    (tmp_path / "file").write_text("old")

    def save(done, total):
        (tmp_path / "new").write_text("and longer")
        (tmp_path / "new").rename(tmp_path / "file")

    assert take_in(area, tmp_path / "file", save).path.read_text() == "old"


def test_a_source_below_a_file(area, tmp_path):
    """What cannot be there because its parent is a file is missing."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(PathMissingError):
        take_in(area, tmp_path / "file" / "below")
