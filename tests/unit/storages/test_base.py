"""Finding the base directory, and judging whether it is safe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tempscope.errors import BaseDirectoryError
from tempscope.storages import _base
from tempscope.storages._base import absolute, check_base, find_base

from .conftest import in_child


def test_a_path_is_absolute_from_birth(tmp_path, monkeypatch):
    """
    Trap 39: relative path and chdir (tempfile 3.27): a path is made absolute once.

    Bytes and Path objects too.
    """
    monkeypatch.chdir(tmp_path)
    assert (
        absolute("x", "base") == absolute(Path("x"), "base") == absolute(b"x", "base") == str(tmp_path / "x")
    )


@pytest.mark.parametrize("text", ["", "a\0b"])
def test_what_is_no_path(text):
    """An empty path, or one with NUL, is refused before any system call."""
    with pytest.raises(BaseDirectoryError, match="the base .* cannot be a path"):
        absolute(text, "base")


def test_a_current_directory_that_is_gone(tmp_path):
    """Row 92: relative to a current directory that was deleted, nothing is guessed."""

    def job() -> str:
        (tmp_path / "d").mkdir()
        os.chdir(tmp_path / "d")
        (tmp_path / "d").rmdir()
        try:
            return absolute("x", "base")
        except BaseDirectoryError as error:
            return str(error)

    assert "make it absolute" in in_child(job)


def test_the_environment_decides(tmp_path):
    """
    Ours first and explicit, then TMPDIR, TEMP, TMP, then the system's.

    An empty variable counts for nothing.
    """
    one, two = str(tmp_path), str(tmp_path.parent)
    assert find_base({"TEMPSCOPE_BASE_DIR": one, "TMPDIR": two}) == (one, True)
    assert find_base({"TEMPSCOPE_BASE_DIR": "", "TMPDIR": two, "TMP": one}) == (two, False)
    assert find_base({"TEMP": two, "TMP": one}) == (two, False)
    assert find_base({"TMP": one}) == (one, False)
    assert find_base({}) == ("/tmp", False)
    assert find_base() == (os.environ["TEMPSCOPE_BASE_DIR"], True)
    assert find_base({"TEMPSCOPE_BASE_DIR": f"{one}/not/yet"}) == (f"{one}/not/yet", True)


@pytest.mark.parametrize("variable", ["TEMPSCOPE_BASE_DIR", "TMPDIR"])
def test_a_relative_variable_is_refused(variable):
    """Row 92: a relative variable is refused, never resolved against the current directory."""
    with pytest.raises(BaseDirectoryError, match=f"{variable} is 'here', a relative path"):
        find_base({variable: "here"})


def test_a_variable_that_is_no_directory_is_refused(tmp_path):
    """Row 92: a TMPDIR that is missing, or a file, is refused; nothing else is taken silently."""
    (tmp_path / "file").write_text("")
    for name in ("none", "file"):
        with pytest.raises(BaseDirectoryError, match="no directory: set it, TEMPSCOPE_BASE_DIR or base_dir"):
            find_base({"TMPDIR": str(tmp_path / name)})


def test_a_system_without_a_place(mocker):
    """
    Row 92: with no temporary directory at all the error says which setting to use.

    Never the current directory.
    """
    mocker.patch.object(os.path, "isdir", return_value=False)
    with pytest.raises(BaseDirectoryError, match="/usr/tmp.*set TEMPSCOPE_BASE_DIR"):
        find_base({})
    mocker.patch.object(_base, "_ON_POSIX", new=False)
    with pytest.raises(BaseDirectoryError, match="Temp"):
        find_base({"SYSTEMROOT": "D:\\Win"})


@pytest.mark.parametrize(
    ("mode", "explicit", "safe"),
    [
        (0o1777, False, True),
        (0o755, False, True),
        (0o777, False, False),
        (0o775, False, False),
        (0o777, True, True),
    ],
)
def test_where_others_could_take_away_what_we_make(tmp_path, mode, explicit, safe):
    """Row 91: writable by others without the sticky bit is refused, unless it was named explicitly."""
    tmp_path.chmod(mode)
    if safe:
        check_base(str(tmp_path), tmp_path.stat(), explicit=explicit)
        return
    with pytest.raises(BaseDirectoryError, match=r"mode 07.*chmod \+t it"):
        check_base(str(tmp_path), tmp_path.stat(), explicit=explicit)
