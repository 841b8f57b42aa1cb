"""What each version's plain paths read of a path in memory; all versions on any Python."""

from __future__ import annotations

import io
from pathlib import Path, PurePath, PureWindowsPath

import pytest

from tempscope.storages.memory import _file, _internals_311, _internals_312, _internals_313, _node


def stand_in(module, plain: PurePath):
    """Return an object with the internals of one version over *plain*, which notes when it moves."""

    class StandIn(module.Internals):
        moved = False

        def _plain(self):
            return plain

        def _moved(self):
            self.moved = True
            return str(plain)

    return StandIn()


def test_what_builds_a_path_moves_it_and_what_compares_does_not():
    """The parts that Path(p) takes move the file; those that comparisons read do not."""
    old, new = stand_in(_internals_311, PurePath("/a/b")), stand_in(_internals_312, PurePath("/a/b"))
    assert (old._cparts, old._drv, old._root) == (["/", "a", "b"], "", "/")
    assert (new._tail, new._drv, new._root, new._str_normcase) == (["a", "b"], "", "/", "/a/b")
    assert new._parts_normcase == ["", "a", "b"]
    assert not old.moved
    assert not new.moved
    assert old._parts == ["/", "a", "b"]
    assert new._raw_paths == ["/a/b"]
    assert old.moved
    assert new.moved


def test_windows_compares_without_case():
    """On a platform with drives the comparable text is in lower case."""
    assert stand_in(_internals_312, PureWindowsPath("C:/A"))._parts_normcase == ["c:", "a"]


def test_the_bases_promise_nothing_of_their_own():
    """The internals need a path to stand on."""
    for module in (_internals_311, _internals_312):
        with pytest.raises(NotImplementedError):
            module.Internals()._plain()
        with pytest.raises(NotImplementedError):
            module.Internals()._moved()
    with pytest.raises(NotImplementedError):
        _internals_311.Internals()._goal("x")


def test_what_only_one_version_has(tmp_path, monkeypatch):
    """full_match and from_uri ask the plain path; link_to is the deprecated reverse of hardlink_to."""

    class Plain(PurePath if hasattr(PurePath, "with_segments") else type(PurePath())):
        def full_match(self, pattern, *, case_sensitive=None):
            return pattern, case_sensitive

    assert stand_in(_internals_313, Plain("/a")).full_match("*", case_sensitive=True) == ("*", True)
    monkeypatch.setattr(Path, "from_uri", classmethod(lambda cls, uri: (cls, uri)), raising=False)
    assert _internals_313.Internals.from_uri("file:///a") == (Path, "file:///a")

    class Old(_internals_311.Internals, type(Path())):
        _parts = _cparts = _drv = _root = None

        def _goal(self, target):
            return target

    class Target:
        def hardlink_to(self, other):
            self.linked = other

    target, old = Target(), object.__new__(Old)
    with pytest.warns(DeprecationWarning, match="hardlink_to"):
        old.link_to(target)
    assert target.linked is old


def test_an_object_whose_making_failed_goes_silently():
    """A stream that was never set up is collected without a word."""
    del [_file.MemoryRaw.__new__(_file.MemoryRaw)][0]


def test_a_child_gets_fresh_locks(storage):
    """After a fork no lock is one that a thread of the parent may hold."""
    lock = storage._volume.lock
    _node._renew_locks()
    assert storage._volume.lock is not lock


def test_a_system_that_does_not_tell_its_umask(monkeypatch):
    """Where the system's status has no umask the usual one counts."""
    monkeypatch.setattr("builtins.open", lambda *args, **kwargs: io.StringIO("Name: x\n"))
    assert _node.read_umask() == 0o022
