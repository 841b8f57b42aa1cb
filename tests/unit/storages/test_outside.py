"""Deleting a registered outside path: only if it still is what was registered."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import attrs
import pytest

from tempscope.model import Removal
from tempscope.storages import _outside
from tempscope.storages._identity import Identity, identify
from tempscope.storages._outside import remove_outside
from tempscope.storages._token import new_token

from .conftest import as_nobody, in_child, needs_root


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A registered file."""
    (tmp_path / "f").write_bytes(b"x" * 5_000)
    return str(tmp_path / "f")


def known(path: str) -> Identity:
    """Return what *path* is."""
    identity = identify(path)
    assert identity is not None
    return identity


@pytest.mark.parametrize("sweeping", [False, True])
def test_what_still_is_what_was_registered_goes(path, sweeping):
    """A file whose identity holds is removed, with its bytes; when it is gone there is nothing to do."""
    identity = known(path)
    assert remove_outside(path, identity, sweeping=sweeping) == Removal(removed=1, removed_bytes=8192)
    assert remove_outside(path, identity, sweeping=sweeping) == Removal()


def test_a_directory_a_link_and_a_dangling_link_go(tmp_path):
    """A directory goes with all in it; a link, dangling too, goes by its own name. Trap 40: dangling link."""
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "target").write_text("x")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("none")
    for name in ("d", "link", "dangling"):
        assert remove_outside(str(tmp_path / name), known(str(tmp_path / name))).complete
    assert os.listdir(tmp_path) == ["target"]


@pytest.mark.parametrize(
    ("differs", "word"),
    [("device", "not the file"), ("inode", "not the file"), ("birth", "birth time"), ("handle", "handle")],
)
@pytest.mark.parametrize("sweeping", [False, True])
def test_another_file_by_that_name_stays(path, differs, word, sweeping):
    """
    Whichever part of the identity differs, the file is kept and reported.

    By the living process and by a sweep.
    """
    now = known(path)
    before = attrs.evolve(now, **{differs: "00" if differs == "handle" else getattr(now, differs) + 1})
    (entry,) = remove_outside(path, before, sweeping=sweeping).entries
    assert entry.kind == "skipped"
    assert word in entry.reason
    assert os.path.exists(path)


def test_without_a_birth_time(path):
    """Without a birth time the living process goes by device and inode, and a sweep keeps and reports."""
    identity = attrs.evolve(known(path), birth=0, handle="")
    removal = remove_outside(path, identity, sweeping=True)
    assert (removal.skipped, removal.entries[0].kind) == (1, "skipped")
    assert remove_outside(path, identity).removed == 1


@pytest.mark.parametrize("sweeping", [False, True])
def test_an_unknown_birth_time_decides_nothing(path, sweeping, monkeypatch):
    """P4, row 16: a birth time that cannot be read decides nothing: the path stays, as a failure."""
    before = known(path)
    blind = lambda *args, **options: attrs.evolve(identify(*args, **options), birth=0)  # noqa: E731
    with monkeypatch.context() as patched:
        patched.setattr(_outside, "identify", blind)
        assert remove_outside(path, before, sweeping=sweeping).failed == 1
        assert remove_outside(path, attrs.evolve(before, inode=1), sweeping=sweeping).skipped == 1
    assert remove_outside(path, before, sweeping=sweeping).removed == 1


def test_registered_before_it_existed(path, tmp_path):
    """
    What was not there when it was registered is deleted by the living process only.

    Unless its name is ours.
    """
    assert remove_outside(path, None, sweeping=True).skipped == 1
    assert remove_outside(path, None).removed == 1
    ours = tmp_path / f".tempscope-{new_token()}"
    ours.write_text("half a copy")
    assert remove_outside(str(ours), None, sweeping=True).removed == 1
    like = tmp_path / ".tempscope-notes"
    like.write_text("the user's")
    assert remove_outside(str(like), None, sweeping=True).skipped == 1


@pytest.mark.parametrize("tail", ["..", ".", ""])
def test_a_path_that_is_no_name_is_left(tmp_path, tail):
    """Row 103: whatever a journal says, '..' and the like are never removed."""
    (tmp_path / "d").mkdir()
    removal = remove_outside(f"{tmp_path}/d/{tail}", known(str(tmp_path)))
    assert removal.skipped == 1
    assert (tmp_path / "d").exists()


def test_a_parent_that_is_gone_or_unusable(tmp_path):
    """A path whose directory is gone is gone; one that cannot be looked at is reported."""
    assert remove_outside(f"{tmp_path}/none/f", Identity(1, 1, 1)) == Removal()
    (tmp_path / "file").write_text("x")
    assert remove_outside(f"{tmp_path}/file/f", Identity(1, 1, 1)) == Removal()
    (tmp_path / "loop").symlink_to("loop")
    removal = remove_outside(f"{tmp_path}/loop/f", Identity(1, 1, 1))
    assert (removal.failed, removal.entries[0].kind) == (1, "failed")


@needs_root
def test_the_users_directory_keeps_its_mode(open_to_all):
    """P2: a path in a read-only directory of the user is reported; the directory's mode stays as it is."""

    def job() -> list[object]:
        home = open_to_all / "home"
        home.mkdir()
        (home / "f").write_text("x")
        identity = known(str(home / "f"))
        home.chmod(0o500)
        removal = remove_outside(str(home / "f"), identity)
        return [removal.failed, stat.S_IMODE(home.stat().st_mode)]

    assert in_child(lambda: as_nobody(job)) == [1, 0o500]


def test_a_dry_run_touches_nothing(path):
    """Row 109: a dry run says what would go, and leaves it."""
    assert remove_outside(path, known(path), dry_run=True).removed == 1
    assert os.path.exists(path)
