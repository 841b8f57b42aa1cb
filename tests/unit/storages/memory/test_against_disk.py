"""A directory in memory behaves, step by step, as one on the disk: results, states and error numbers."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tempscope.model import Instant, ScopeRecord
from tempscope.storages.local import LocalDiskStorage
from tempscope.storages.memory import MemoryPath, MemoryStorage


NAMES = ["a", "b", "a/b", "a/a", "b/a", "a/b/a", "a/../b", "b/..", "a/..", "a/a/.."]
PATTERNS = ["*", "**/*", "**/a", "a/*", "*/b", "[ab]", "a/../*", "**"]
MODES = ["r", "w", "a", "x", "r+", "w+", "a+", "x+"]

names = st.sampled_from(NAMES)
handles = st.integers(0, 2)
data = st.binary(max_size=20)
texts = st.text("ab\n\rä€", max_size=12)
newlines = st.sampled_from([None, "", "\n", "\r\n", "\r"])
step = st.one_of(
    st.tuples(st.just("write_bytes"), names, data),
    st.tuples(st.just("read_bytes"), names),
    st.tuples(st.just("mkdir"), names, st.booleans(), st.booleans()),
    st.tuples(st.sampled_from(["unlink", "rmdir", "listing", "stat", "kinds", "tree", "walk"]), names),
    st.tuples(st.just("glob"), names, st.sampled_from(PATTERNS)),
    st.tuples(st.just("write_text"), names, texts, newlines),
    st.tuples(st.just("read_text"), names),
    st.tuples(st.just("touch"), names, st.booleans()),
    st.tuples(
        st.sampled_from(["rename", "replace", "hardlink_to", "samefile", "copy", "move"]), names, names
    ),
    st.tuples(st.just("chmod"), names, st.sampled_from([0o600, 0o640, 0o755, 0o700])),
    st.tuples(st.just("open"), names, st.sampled_from(MODES), st.sampled_from([-1, 0, 7]), handles),
    st.tuples(st.just("open_text"), names, st.sampled_from(MODES), newlines, handles),
    st.tuples(st.just("write"), handles, data),
    st.tuples(st.just("readline"), handles, st.integers(-1, 12)),
    st.tuples(st.just("read"), handles, st.integers(-1, 12)),
    st.tuples(st.just("seek"), handles, st.integers(-3, 30), st.sampled_from([0, 1, 2])),
    st.tuples(st.just("truncate"), handles, st.none() | st.integers(0, 30)),
    st.tuples(st.sampled_from(["tell", "flush", "close", "size"]), handles),
)
ON_HANDLES = {"write", "read", "readline", "seek", "truncate", "tell", "flush", "close"}
DIRECT = {"write_bytes", "read_bytes", "unlink", "rmdir", "chmod"}


def copy(source: Path, target: Path) -> None:
    """Copy as pathlib does it from Python 3.14 on, in plain words."""
    if source == target or source in target.parents or (target.exists() and source.samefile(target)):
        raise OSError(errno.EINVAL, "the same")
    if source.is_dir():
        target.mkdir()
        for child in source.iterdir():
            copy(child, target / child.name)
    else:
        target.write_bytes(source.read_bytes())


class World:
    """A directory and some open files, on one side."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.files: dict[int, Any] = {}

    def do(self, what: str, *args: Any) -> Any:
        """Do one step; return what can be compared with the other side."""
        try:
            own = getattr(self, f"do_{what}", None)
            return "ok", own(*args) if own is not None else self.other(what, *args)
        except (OSError, ValueError) as error:
            return type(error).__mro__[-4].__name__, getattr(error, "errno", None)

    def other(self, what: str, *args: Any) -> Any:
        if what in DIRECT:
            return getattr(self.top / args[0], what)(*args[1:])
        if what in ON_HANDLES and args[0] in self.files:
            return getattr(self.files[args[0]], what)(*args[1:])
        return None

    def do_mkdir(self, name: str, parents: bool, exist_ok: bool) -> None:
        (self.top / name).mkdir(parents=parents, exist_ok=exist_ok)

    def do_touch(self, name: str, exist_ok: bool) -> None:
        (self.top / name).touch(exist_ok=exist_ok)

    def do_rename(self, name: str, target: str) -> bool:
        return (self.top / name).rename(self.top / target) == self.top / target

    def do_replace(self, name: str, target: str) -> bool:
        return (self.top / name).replace(self.top / target) == self.top / target

    def do_hardlink_to(self, name: str, target: str) -> None:
        (self.top / name).hardlink_to(self.top / target)

    def do_samefile(self, name: str, target: str) -> tuple[bool]:
        return ((self.top / name).samefile(self.top / target),)

    def do_open(self, name: str, mode: str, buffering: int, handle: int) -> None:
        file = (self.top / name).open(f"{mode}b", buffering)
        if handle in self.files:
            self.files.pop(handle).close()
        self.files[handle] = file

    def do_open_text(self, name: str, mode: str, newline: str | None, handle: int) -> None:
        file = (self.top / name).open(mode, encoding="utf-8", newline=newline)
        if handle in self.files:
            self.files.pop(handle).close()
        self.files[handle] = file

    def do_write(self, handle: int, data: bytes) -> Any:
        file = self.files.get(handle)
        if file is None:
            return None
        return file.write(data.decode("latin-1") if hasattr(file, "encoding") else data)

    def do_write_text(self, name: str, text: str, newline: str | None) -> int:
        return (self.top / name).write_text(text, encoding="utf-8", newline=newline)

    def do_read_text(self, name: str) -> str:
        return (self.top / name).read_text(encoding="utf-8")

    def do_copy(self, name: str, target: str) -> None:
        source = self.top / name
        source.copy(self.top / target) if isinstance(source, MemoryPath) else copy(source, self.top / target)

    def do_move(self, name: str, target: str) -> None:
        source = self.top / name
        move = source.move if isinstance(source, MemoryPath) else source.replace
        move(self.top / target)

    def do_glob(self, name: str, pattern: str) -> list[str]:
        start = self.top / name
        return [*sorted(os.sep.join(path.relative_to(start).parts) for path in start.glob(pattern)), "."]

    def do_walk(self, name: str) -> list[Any]:
        start = self.top / name
        if isinstance(start, MemoryPath):
            met = list(start.walk())
        else:
            met = [(Path(top), *rest) for top, *rest in os.walk(start)]
        depth = len(start.parts)
        return sorted([len(top.parts) - depth, sorted(dirs), sorted(files)] for top, dirs, files in met)

    def do_size(self, handle: int) -> Any:
        if handle in self.files:
            file = self.files[handle]
            return file.closed, file.closed or (file.readable(), file.writable(), file.mode)
        return None

    def do_listing(self, name: str) -> list[str]:
        return [*sorted(path.name for path in (self.top / name).iterdir()), "."]

    def do_kinds(self, name: str) -> tuple[bool, ...]:
        path = self.top / name
        return (
            path.exists(),
            path.is_dir(),
            path.is_file(),
            path.is_symlink(),
            path.is_fifo(),
            path.is_mount(),
        )

    def do_stat(self, name: str) -> tuple[int, ...]:
        status = (self.top / name).stat()
        if stat.S_ISDIR(status.st_mode):
            return (status.st_mode,)
        return status.st_mode, status.st_size, status.st_nlink

    def do_tree(self, name: str) -> list[Any]:
        """Tell everything, whatever *name* is."""
        found: list[Any] = []
        for path in sorted(self.top.rglob("*"), key=lambda path: path.relative_to(self.top)):
            status = path.stat()
            content = path.read_bytes() if path.is_file() else len(list(path.iterdir()))
            found.append((path.relative_to(self.top).as_posix(), status.st_mode, content))
        return [*found, "."]

    def close(self) -> None:
        for file in self.files.values():
            file.close()


def compare(steps: list[tuple[Any, ...]], memory: World, disk: World, disturb: Any = None) -> None:
    """Do all *steps* on both sides; both must answer alike."""
    try:
        for number, (what, *args) in enumerate([*steps, ("tree", "a")]):
            if disturb is not None:
                disturb(number, memory)
            expected, got = disk.do(what, *args), memory.do(what, *args)
            assert got == expected, (what, args)
    finally:
        disk.close()
        memory.close()


def fresh_record() -> ScopeRecord:
    """Return a record of some scope."""
    return ScopeRecord(token="a" * 26, opened=Instant(0, 0))


@given(st.lists(step, max_size=40))
@example([("write_bytes", "b", b"x"), ("mkdir", "a", False, False), ("copy", "b", "a/../b")])
@example([("write_bytes", "b", b"x"), ("hardlink_to", "a", "b"), ("copy", "b", "a"), ("move", "a", "b")])
def test_every_sequence_of_steps_has_the_same_results_as_on_disk(steps: list[tuple[Any, ...]]) -> None:
    """Any sequence of operations gives the same results, contents, modes and error numbers as on the disk."""
    with tempfile.TemporaryDirectory() as place, MemoryStorage() as storage:
        top = Path(place, "top")
        top.mkdir(mode=0o700)
        area = storage.open_area(fresh_record())
        compare(steps, World(area.directory), World(top))
        volume = area.tree.volume
        # For counting, whatever the steps did to the modes.
        volume._ask_who()
        volume._privileged = True
        files = [path.stat() for path in area.directory.rglob("*") if path.is_file()]
        sizes = {status.st_ino: status.st_size for status in files}
        assert (volume.files, volume.bytes) == (area.usage().directories + len(sizes), sum(sizes.values()))


@given(st.lists(step, max_size=30), st.dictionaries(st.integers(0, 30), names, max_size=3))
def test_moving_to_disk_at_any_moment_changes_no_result(
    steps: list[tuple[Any, ...]], moments: dict[int, str]
) -> None:
    """Whatever moves to its real place, at whatever moment, every later operation answers as before."""
    with tempfile.TemporaryDirectory() as place:
        top = Path(place, "top")
        top.mkdir(mode=0o700)
        disk = LocalDiskStorage(place, sweep_on_start=False)
        with MemoryStorage(spill_to=disk) as storage:
            area = storage.open_area(fresh_record())

            def disturb(number: int, memory: World) -> None:
                if number in moments:
                    os.fspath(memory.top / moments[number])

            compare(steps, World(area.directory), World(top), disturb)
        assert not list(Path(place).glob("tempscope-*/i-*/a*"))
        assert storage._volume.bytes == storage._volume.files == 0
        disk.close()


MISTAKES = [
    ("read_bytes", "nothing"),
    ("read_bytes", "nothing/below"),
    ("read_bytes", "file/below"),
    ("read_bytes", "directory"),
    ("read_bytes", "n" * 300),
    ("write_bytes", "directory", b""),
    ("write_bytes", "nothing/below", b""),
    ("mkdir", "file", False, False),
    ("mkdir", "file", False, True),
    ("mkdir", "directory", False, False),
    ("mkdir", "nothing/below", False, False),
    ("mkdir", "file/below", True, True),
    ("rmdir", "directory"),
    ("rmdir", "file"),
    ("rmdir", "nothing"),
    ("unlink", "directory"),
    ("unlink", "nothing"),
    ("unlink", "directory/.."),
    ("rmdir", "directory/.."),
    ("rename", "directory/..", "other"),
    ("rename", "file", "directory/.."),
    ("touch", "file", False),
    ("touch", "nothing/below", True),
    ("touch", "file/below", True),
    ("listing", "file"),
    ("listing", "nothing"),
    ("rename", "nothing", "other"),
    ("rename", "file", "directory"),
    ("rename", "file", "nothing/below"),
    ("rename", "directory", "file"),
    ("rename", "directory", "directory/inside/deep"),
    ("rename", "directory/inside", "directory"),
    ("rename", "directory/plain", "directory"),
    ("rename", "empty", "directory"),
    ("hardlink_to", "file", "file"),
    ("hardlink_to", "new", "directory"),
    ("hardlink_to", "new", "nothing"),
    ("chmod", "nothing", 0o600),
    ("stat", "nothing"),
    ("stat", "file/.."),
    ("samefile", "file", "nothing"),
    ("kinds", "zero\0byte"),
    ("stat", "zero\0byte"),
    *[("open", "directory", mode, -1, 0) for mode in MODES],
    *[("open", "nothing/below", mode, -1, 0) for mode in MODES],
    ("open", "file", "x", -1, 0),
    ("open", "nothing", "r", -1, 0),
]


@pytest.mark.parametrize(
    "mistake", MISTAKES, ids=lambda mistake: "-".join(map(str, mistake))[:40].replace("\0", "0")
)
def test_a_mistake_fails_as_on_disk(mistake: tuple[Any, ...], area: Any, tmp_path: Path) -> None:
    """The same mistake raises the same class with the same errno as on the disk."""
    worlds = World(area.directory), World(tmp_path)
    for world in worlds:
        (world.top / "file").write_bytes(b"content")
        (world.top / "directory" / "inside").mkdir(parents=True)
        (world.top / "directory" / "plain").touch()
        (world.top / "empty").mkdir()
    memory, disk = (world.do(*mistake) for world in worlds)
    assert memory == disk
    assert mistake[0] == "kinds" or memory[0] != "ok"
    for world in worlds:
        world.close()
