"""The remover, on real trees: deep, wide, forbidden, mounted, swapped, moved and written to meanwhile."""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tempscope.model import Removal
from tempscope.storages import _delete, _openat2
from tempscope.storages._delete import remove_contents, remove_entry

from .conftest import as_nobody, in_child, needs_root


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    """The directory that holds what is removed, open."""
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)
    # Should a test fail: pytest's own removal of old directories gives up on deep trees.
    subprocess.run(["rm", "-rf", tmp_path / "x"], check=False)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A directory outside of what is removed; that it was not touched is checked at the end."""
    place = tmp_path / "canary"
    place.mkdir()
    (place / "file").write_text("alive")
    (place / "file").chmod(0o640)
    os.utime(place / "file", ns=(1, 1))
    yield place
    status = (place / "file").stat()
    assert (place / "file").read_text() == "alive"
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o640, 1)
    assert [entry.name for entry in place.iterdir()] == ["file"]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts something on a directory that is made for it."""
    places: list[Path] = []

    def mount(*arguments: str | Path, on: Path) -> Path:
        on.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", *map(str, arguments), str(on)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"mount {' '.join(map(str, arguments))} failed: {done.stderr.strip()}")
        places.append(on)
        return on

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


def attribute(flag: str, path: Path) -> None:
    """Set or clear an attribute of a file, as chattr does."""
    done = subprocess.run(["chattr", flag, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"chattr {flag} failed: {done.stderr.strip()}")


def tree(place: Path) -> Path:
    """Make a small tree of eight things in four directories."""
    (place / "a" / "b" / "c").mkdir(parents=True)
    for name in ("a/1", "a/b/2", "a/b/c/3"):
        (place / name).write_text("x")
    (place / "a" / "link").symlink_to("1")
    return place


def chain(place: Path, depth: int) -> None:
    """Make *depth* directories, one in the other, a file in the last."""
    place.mkdir()
    fd = os.open(place, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 8, dir_fd=fd)
        below = os.open("d" * 8, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("last", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)


def fail_to_unlink_once(mocker: MockerFixture) -> None:
    """Have the next ``unlink`` fail with an input/output error, and none after it."""
    unlink, errors = os.unlink, [OSError(errno.EIO, "broken")]

    def hooked(name: str, *, dir_fd: int) -> None:
        if errors:
            raise errors.pop()
        unlink(name, dir_fd=dir_fd)

    mocker.patch.object(os, "unlink", hooked)


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def test_a_tree_goes_whole_and_is_counted(tmp_path, top):
    """A directory goes with all below it; what went and the bytes it freed are counted."""
    tree(tmp_path / "x")
    (tmp_path / "x" / "a" / "big").write_bytes(b"x" * 100_000)
    removal = remove_entry(top, "x")
    assert not (tmp_path / "x").exists()
    assert removal.removed == 9
    assert removal.removed_bytes >= 100_000
    assert removal.complete
    assert removal.entries == ()


def test_a_file_and_a_link_go_and_a_missing_name_is_fine(tmp_path, top, canary):
    """A single file or link goes by its own name, with its bytes; a missing name counts nothing."""
    (tmp_path / "file").write_bytes(b"x" * 10_000)
    (tmp_path / "link").symlink_to(canary)
    assert remove_entry(top, "file") == Removal(removed=1, removed_bytes=12_288)
    assert remove_entry(top, "link").removed == 1
    assert remove_entry(top, "gone") == Removal()
    assert not (tmp_path / "link").is_symlink()


def test_only_the_contents_go(tmp_path):
    """Emptying a directory leaves the directory."""
    tree(tmp_path / "x")
    fd = os.open(tmp_path / "x", os.O_RDONLY)
    assert remove_contents(fd).removed == 7
    assert os.listdir(fd) == []
    os.close(fd)


def test_twenty_thousand_levels_and_sixteen_descriptors(tmp_path, top):
    """
    Row 94: a tree of 20,000 levels, whose path is far longer than PATH_MAX, goes with 16 descriptors in all.

    Trap 30: deep trees, RecursionError and EMFILE (cpython #89727).
    """
    chain(tmp_path / "x", 20_000)

    def job() -> list[Any]:
        soft = max(map(int, os.listdir("/proc/self/fd"))) + 1
        # What the test runner holds is not ours: all numbers below the limit are taken but sixteen.
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft + 16, soft + 16))
        taken = []
        try:
            while True:
                taken.append(os.dup(top))
        except OSError:
            for fd in taken[-16:]:
                os.close(fd)
        removal = remove_entry(top, "x")
        return [removal.removed, removal.failed, [entry.reason for entry in removal.entries]]

    assert in_child(job) == [20_002, 0, []]
    assert not (tmp_path / "x").exists()


def test_descriptors_do_not_grow_with_depth_and_none_is_left(tmp_path, top, mocker):
    """At any moment of a deep removal only a handful of descriptors is open, and afterwards none."""
    chain(tmp_path / "x", 300)
    before, most = descriptors(), 0
    scandir = os.scandir

    def counting(fd: int) -> Any:
        nonlocal most
        most = max(most, descriptors())
        return scandir(fd)

    mocker.patch.object(os, "scandir", counting)
    assert remove_entry(top, "x").complete
    mocker.stopall()
    assert most - before <= 8
    assert descriptors() == before


def test_a_hundred_thousand_files_in_bounded_memory(tmp_path, top, full):
    """Trap 31: a huge flat directory (cpython #76634) goes in memory that does not grow with it."""
    (tmp_path / "x").mkdir()
    fd = os.open(tmp_path / "x", os.O_RDONLY)
    count = 100_000 if full else 20_000
    for number in range(count):
        os.close(os.open(str(number), os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    tracemalloc.start()
    removal = remove_entry(top, "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert removal.removed == count + 1
    assert peak < 1 << 20


def test_more_subdirectories_than_are_remembered_at_once(tmp_path, top, mocker):
    """A directory of more subdirectories than one listing remembers is listed again until it is empty."""
    mocker.patch.object(_delete, "_SUBDIRECTORIES_AT_ONCE", 5)
    for number in range(23):
        (tmp_path / "x" / str(number)).mkdir(parents=True)
    assert remove_entry(top, "x").removed == 24


@needs_root
def test_forbidden_directories_of_ours_are_repaired(open_to_all):
    """
    Row 95: our directories of mode 0000, 0300, 0400 and 0500, deep and empty ones too, go all the same.

    Trap 32: read-only files and directories, no-exec directories (cpython #79325).
    """

    def job() -> list[int]:
        os.chdir(open_to_all)
        for mode in (0o000, 0o300, 0o400, 0o500):
            home = Path("x", f"{mode:o}")
            deep = home / "1/2/3/4/5/6/7"
            (deep / "empty").mkdir(parents=True)
            (deep / "file").write_text("x")
            (deep / "file").chmod(0o000)
            for place in (deep / "empty", deep, *list(deep.parents)[:-2]):
                place.chmod(mode)
        fd = os.open(".", os.O_RDONLY)
        removal = remove_entry(fd, "x")
        return [removal.failed, removal.removed]

    assert in_child(lambda: as_nobody(job)) == [0, 1 + 4 * 10]
    assert not (open_to_all / "x").exists()


@needs_root
def test_the_directory_an_entry_is_removed_from_is_never_changed(open_to_all):
    """
    Row 19: what a single entry is removed from may be the user's own, so its mode stays whatever happens.

    Security rule 8: nothing of anybody else's is widened.
    """

    def job() -> list[Any]:
        home = open_to_all / "home"
        (home / "dir").mkdir(parents=True)
        (home / "file").write_text("x")
        (home / "dir").chmod(0o000)
        home.chmod(0o500)
        fd = os.open(home, os.O_RDONLY)
        removals = [remove_entry(fd, name) for name in ("file", "dir")]
        home_mode = stat.S_IMODE(os.fstat(fd).st_mode)
        os.chmod(home, 0o000)
        removals.append(remove_entry(fd, "file"))
        return [home_mode, *([r.failed, r.removed, r.entries[0].errno] for r in removals)]

    denied = [1, 0, errno.EACCES]
    assert in_child(lambda: as_nobody(job)) == [0o500, denied, denied, denied]


@needs_root
def test_somebody_elses_directory_is_reported(open_to_all):
    """Row 19: a directory of another user in the tree is reported and not forced; the rest goes."""
    (open_to_all / "x").mkdir()
    os.chown(open_to_all / "x", 65534, 65534)
    (open_to_all / "x" / "theirs").mkdir(0o700)
    (open_to_all / "x" / "theirs" / "file").write_text("x")
    (open_to_all / "x" / "readable").mkdir(0o755)
    (open_to_all / "x" / "readable" / "file").write_text("x")
    (open_to_all / "x" / "ours").write_text("x")

    def job() -> list[Any]:
        fd = os.open(open_to_all, os.O_RDONLY)
        removal = remove_entry(fd, "x")
        return [removal.removed, sorted([e.path, e.errno] for e in removal.entries)]

    assert in_child(lambda: as_nobody(job)) == [
        1,
        [["x/readable/file", errno.EACCES], ["x/theirs", errno.EACCES]],
    ]


@needs_root
def test_immutable_things_are_reported_once_and_the_rest_goes(tmp_path, top):
    """
    Row 95: an immutable file and an append-only directory are each reported once; everything else goes.

    Trap 33: immutable attribute (cpython #135812).
    """
    place = tree(tmp_path / "x")
    (place / "only").mkdir()
    (place / "only" / "kept").write_text("x")
    attribute("+i", place / "a" / "b" / "2")
    attribute("+a", place / "only")
    try:
        removal = remove_entry(top, "x")
    finally:
        attribute("-i", place / "a" / "b" / "2")
        attribute("-a", place / "only")
    assert sorted((e.path, e.kind, e.errno) for e in removal.entries) == [
        ("x/a/b/2", "failed", errno.EPERM),
        ("x/only/kept", "failed", errno.EPERM),
    ]
    assert (removal.failed, removal.removed) == (2, 4)
    assert remove_entry(top, "x").complete


def test_reports_are_bounded(tmp_path, top, mocker):
    """However much cannot be removed, only so many entries are told; all are counted."""
    mocker.patch.object(_delete, "_ENTRIES_REPORTED", 3)
    mocker.patch.object(os, "unlink", side_effect=OSError(errno.EIO, "broken"))
    (tmp_path / "x").mkdir()
    for number in range(10):
        (tmp_path / "x" / str(number)).write_text("x")
    removal = remove_entry(top, "x")
    assert (removal.failed, len(removal.entries)) == (10, 3)


def test_a_long_way_down_is_told_by_its_end(tmp_path, top, mocker):
    """The path in a report shows the last names of a deep place."""
    chain(tmp_path / "x", 12)
    mocker.patch.object(os, "unlink", side_effect=OSError(errno.EIO, "broken"))
    (entry,) = remove_entry(top, "x").entries
    assert entry.path == "/".join(["…", *["dddddddd"] * 7, "last"])


@needs_root
def test_special_files_are_unlinked_and_never_opened(tmp_path, top):
    """
    Row 96: a FIFO, a socket, a device and a sticky file are unlinked, and never opened.

    Trap 38: FIFOs, sockets, devices: open must not block.
    """
    place = tmp_path / "x"
    place.mkdir()
    os.mkfifo(place / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(place)
        server.bind("socket")
        os.chdir(here)
    os.mknod(place / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (place / "sticky").write_text("x")
    (place / "sticky").chmod(0o1644)

    def job() -> list[Any]:
        opened: list[str] = []
        sys.addaudithook(
            lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None
        )
        removal = remove_entry(top, "x")
        return [removal.removed, removal.failed, list(opened)]

    assert in_child(job) == [5, 0, []]


def test_links_are_unlinked_and_never_followed(tmp_path, top, canary):
    """
    Row 97: links to outside, dangling, to themselves and in a loop are unlinked, and never followed.

    Trap 40: dangling symlinks. Trap 26: the target's mode (CVE-2023-6597).
    """
    place = tmp_path / "x"
    place.mkdir(mode=0o700)
    for name, target in {
        "dir": canary,
        "file": canary / "file",
        "none": "none-there",
        "me": "me",
        "a": "b",
    }.items():
        (place / name).symlink_to(target)
    (place / "b").symlink_to("a")
    place.chmod(0o500)
    removal = remove_entry(top, "x")
    assert (removal.removed, removal.failed) == (7, 0)


@needs_root
def test_a_hard_link_of_the_users_file_leaves_the_file_alone(open_to_all):
    """
    Row 98: removing a hard link in a read-only directory changes neither content, mode nor time of the file.

    Trap 25: hardlinked source chmodded by cleanup, 0444 to 0700 (all CPythons).
    """

    def job() -> list[Any]:
        os.chdir(open_to_all)
        source, place = Path("source"), Path("x")
        source.write_text("mine")
        source.chmod(0o444)
        os.utime(source, ns=(5, 5))
        place.mkdir()
        os.link(source, place / "link")
        place.chmod(0o500)
        fd = os.open(".", os.O_RDONLY)
        removal = remove_entry(fd, "x")
        after = source.stat()
        return [
            removal.failed,
            removal.removed,
            source.read_text(),
            after.st_mode & 0o777,
            after.st_mtime_ns,
            after.st_nlink,
        ]

    assert in_child(lambda: as_nobody(job)) == [0, 2, "mine", 0o444, 5, 1]


def test_a_linked_file_frees_nothing(tmp_path, top):
    """What another link still holds counts as removed, and frees nothing."""
    (tmp_path / "x").mkdir()
    (tmp_path / "kept").write_bytes(b"x" * 100_000)
    os.link(tmp_path / "kept", tmp_path / "x" / "link")
    removal = remove_entry(top, "x")
    assert removal.removed == 2
    assert removal.removed_bytes < 100_000


def test_undecodable_names_go_and_are_printable(tmp_path, top, mocker):
    """Row 110: names that are no UTF-8 are removed; in a report they are printable."""
    os.makedirs(os.fsencode(tmp_path) + b"/x/\xff\xfe/\xf0")
    os.close(os.open(os.fsencode(tmp_path) + b"/x/\xff\xfe/\n\x80", os.O_CREAT))
    mocker.patch.object(os, "unlink", side_effect=OSError(errno.EIO, "broken"))
    (entry,) = remove_entry(top, "x").entries
    mocker.stopall()
    assert entry.path == "x/\\xff\\xfe/\\n\\x80"
    assert remove_entry(top, "x").removed == 3


def test_undecodable_names_go_in_the_c_locale(tmp_path):
    """Row 110: with LANG=C and without UTF-8 mode, the same names are removed."""
    os.makedirs(os.fsencode(tmp_path) + b"/x/\xff\xc3\xa9")
    program = (
        "import os, sys; from tempscope.storages._delete import remove_entry\n"
        "print(remove_entry(os.open(sys.argv[1], os.O_RDONLY), 'x').removed)"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "2\n", done.stderr


# -- mounts


@needs_root
@pytest.mark.parametrize("way", ["openat2", "mount ids"])
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_a_mount_inside_is_not_entered(tmp_path, top, canary, mounted, mocker, way, kind):
    """
    Row 52: a mount in the tree, of the same device too, is neither entered nor emptied; it is reported.

    Trap 29: bind mount inside the tree (systemd #12692). Security rule 7.
    """
    place = tree(tmp_path / "x")
    if kind == "bind":
        mounted("--bind", canary, on=place / "mount")
    else:
        mounted("-t", "tmpfs", "tmpfs", on=place / "mount")
        (place / "mount" / "file").write_text("alive")
    if way == "mount ids":
        mocker.patch.object(_openat2, "_openat2", return_value=None)
    removal = remove_entry(top, "x")
    assert [(e.path, e.kind, e.errno) for e in removal.entries] == [("x/mount", "skipped", errno.EXDEV)]
    assert "mount point" in removal.entries[0].reason
    assert os.listdir(place) == ["mount"]
    assert (place / "mount" / "file").read_text() == "alive"


@needs_root
def test_a_mount_on_a_file_and_one_that_is_the_entry_itself(tmp_path, top, canary, mounted):
    """Row 24: a file that is mounted over stays and is reported; so does an entry that is a mount."""
    place = tree(tmp_path / "x")
    subprocess.run(["mount", "--bind", canary / "file", place / "a" / "1"], check=True)
    try:
        removal = remove_entry(top, "x")
    finally:
        subprocess.run(["umount", place / "a" / "1"], check=True)
    assert [(e.path, e.errno) for e in removal.entries] == [("x/a/1", errno.EBUSY)]
    mounted("--bind", canary, on=tmp_path / "m")
    assert [(e.path, e.kind) for e in remove_entry(top, "m").entries] == [("m", "skipped")]


@needs_root
def test_a_mount_that_appears_during_the_walk(tmp_path, top, canary, mounted, port):
    """
    Row 52: what is mounted over a directory after we entered it is not touched.

    The directory stays, reported.
    """
    place = tree(tmp_path / "x")
    port.before_listing(2, lambda: mounted("--bind", canary, on=place / "a"))
    removal = remove_entry(top, "x")
    assert [(e.path, e.errno) for e in removal.entries] == [("x/a", errno.EBUSY)]


# -- races, made to happen between two chosen calls


class Port:
    """Runs something before the n-th listing, or the n-th opening of a subdirectory."""

    def __init__(self) -> None:
        self._listings: dict[int, Callable[[], object]] = {}
        self._openings: dict[int, Callable[[], object]] = {}
        self.listed = self.opened = 0
        self._scandir, self._open = os.scandir, _delete.open_subdirectory

    def before_listing(self, number: int, act: Callable[[], object]) -> None:
        self._listings[number] = act

    def before_opening(self, number: int, act: Callable[[], object]) -> None:
        self._openings[number] = act

    def scandir(self, fd: int) -> Any:
        self.listed += 1
        self._listings.pop(self.listed, lambda: None)()
        return self._scandir(fd)

    def open_subdirectory(self, fd: int, name: str) -> Any:
        self.opened += 1
        self._openings.pop(self.opened, lambda: None)()
        return self._open(fd, name)

    @property
    def fired(self) -> bool:
        return not (self._listings or self._openings)


@pytest.fixture
def port(mocker) -> Iterator[Port]:
    """The two calls through which the remover sees the tree; that everything planned happened is checked."""
    port = Port()
    mocker.patch.object(os, "scandir", port.scandir)
    mocker.patch.object(_delete, "open_subdirectory", port.open_subdirectory)
    yield port
    assert port.fired


def swap(place: Path, make: Callable[[Path], object]) -> Callable[[], None]:
    """Return what puts something else in the place of the directory *place*."""

    def act() -> None:
        place.rename(place.with_name(f"{place.name}-was"))
        make(place)

    return act


@pytest.mark.parametrize("way", ["openat2", "plain"])
def test_a_directory_swapped_for_a_link(tmp_path, top, canary, port, mocker, way):
    """
    Row 48: a directory that becomes a link between listing and opening is unlinked; its target stays.

    Trap 27: directory swapped for a symlink during cleanup (CVE-2022-21658). Security rule 6.
    """
    if way == "plain":
        mocker.patch.object(_openat2, "_openat2", return_value=None)
    place = tree(tmp_path / "x")
    port.before_opening(2, swap(place / "a", lambda path: path.symlink_to(canary)))
    removal = remove_entry(top, "x")
    assert removal.complete
    assert not place.exists()


@pytest.mark.parametrize("way", ["openat2", "plain"])
def test_a_directory_swapped_for_a_fifo(tmp_path, top, port, mocker, way):
    """Row 49: a directory that becomes a FIFO is unlinked, without waiting for its other end."""
    if way == "plain":
        mocker.patch.object(_openat2, "_openat2", return_value=None)
    place = tree(tmp_path / "x")
    port.before_opening(2, swap(place / "a", os.mkfifo))
    assert remove_entry(top, "x").complete
    assert not place.exists()


def test_an_emptied_directory_swapped_for_a_link(tmp_path, top, canary, mocker):
    """Row 48: a directory that becomes a link just before it is removed is unlinked as one."""
    place = tree(tmp_path / "x")
    rmdir, acts = os.rmdir, [swap(place / "a", lambda path: path.symlink_to(canary))]

    def hooked(name: str, *, dir_fd: int) -> None:
        if name == "a" and acts:
            acts.pop()()
        rmdir(name, dir_fd=dir_fd)

    mocker.patch.object(os, "rmdir", hooked)
    assert remove_entry(top, "x").complete
    assert acts == []
    assert not place.exists()


def test_a_file_swapped_for_a_directory(tmp_path, top, mocker):
    """A file that becomes a directory between listing and unlinking is removed as a directory."""
    place = tmp_path / "x"
    place.mkdir()
    (place / "f").write_text("x")
    unlink, acts = os.unlink, [lambda: ((place / "f").unlink(), tree(place / "f"))]

    def hooked(name: str, *, dir_fd: int | None = None) -> None:
        if name == "f" and acts:
            acts.pop()()
        unlink(name, dir_fd=dir_fd)

    mocker.patch.object(os, "unlink", hooked)
    assert remove_entry(top, "x").complete
    assert not place.exists()


def test_a_name_that_always_is_the_other_kind_ends_by_the_budget(tmp_path, top, mocker):
    """Row 49: somebody who swaps directory and file for ever cannot make us go on for ever (P8)."""
    (tmp_path / "x" / "d").mkdir(parents=True)
    mocker.patch.object(_delete, "open_subdirectory", side_effect=_only_as_file(_delete.open_subdirectory))
    removal = remove_entry(top, "x", budget=50)
    assert [e.reason for e in removal.entries] == ["the budget was used up; removing again goes on"]


def _only_as_file(really: Callable[[int, str], Any]) -> Callable[[int, str], Any]:
    def open_subdirectory(fd: int, name: str) -> Any:
        if name == "d":
            raise OSError(errno.ENOTDIR, "a file at this moment")
        return really(fd, name)

    return open_subdirectory


def test_a_subtree_that_moves_away_takes_nothing_with_it(tmp_path, top, canary, port):
    """Going up finds another parent if the directory was moved: nothing there is touched, the rest goes."""
    place = tmp_path / "x"
    (place / "1/2/3/4/5/6/7").mkdir(parents=True)
    for name in ("1/b", "1/2/3/4/5/b"):
        (place / name).write_text("x")
    away = tmp_path / "away"
    away.mkdir()
    (away / "file").write_text("alive")
    # What a walk that believed in any parent would take for the fifth level.
    (tmp_path / "5").mkdir()
    # In the eighth listing we stand in 7; it is moved, with 6, to where a file is that is not ours.
    port.before_listing(8, lambda: (place / "1/2/3/4/5/6").rename(away / "6"))
    removal = remove_entry(top, "x")
    assert removal.complete
    assert not place.exists()
    assert (away / "file").read_text() == "alive"
    assert (tmp_path / "5").is_dir()


def test_a_tree_that_moves_again_and_again_is_given_up(tmp_path, top, mocker):
    """After a few moved subtrees the removal ends and says so (P8)."""
    (tmp_path / "x/1/2/3/4/5/6/7").mkdir(parents=True)
    really = _delete.open_directory
    mocker.patch.object(_delete, "open_directory", lambda name, dir_fd: really(".", dir_fd=dir_fd))
    before = descriptors()
    mocker.patch.object(os, "rmdir", side_effect=OSError(errno.ENOTEMPTY, "busy"))
    removal = remove_entry(top, "x")
    assert [e.reason for e in removal.entries] == ["directories were moved while they were being removed"]
    assert descriptors() == before


def test_what_failed_before_a_move_is_told_once(tmp_path, top, port, mocker):
    """After starting over, what still cannot be removed is reported once, not twice."""
    place = tmp_path / "x"
    (place / "a/2/3/4/5/6/7").mkdir(parents=True)
    (place / "stuck").write_text("x")
    unlink = os.unlink

    def hooked(name: str, *, dir_fd: int) -> None:
        if name == "stuck":
            raise OSError(errno.EPERM, "no")
        unlink(name, dir_fd=dir_fd)

    mocker.patch.object(os, "unlink", hooked)
    port.before_listing(8, lambda: (place / "a/2/3/4/5/6").rename(tmp_path / "away"))
    removal = remove_entry(top, "x")
    assert [(e.path, e.errno) for e in removal.entries] == [("x/stuck", errno.EPERM)]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_the_way_up_that_cannot_be_opened(tmp_path, top, mocker, code):
    """Row 16: an error on the way up is no end: the walk starts over, and the tree still goes."""
    chain(tmp_path / "x", 10)
    really, failures = _delete.open_directory, [code]

    def hooked(name: str, *, dir_fd: int) -> Any:
        if failures:
            raise OSError(failures.pop(), "no")
        return really(name, dir_fd=dir_fd)

    mocker.patch.object(_delete, "open_directory", hooked)
    assert remove_entry(top, "x").complete
    assert not (tmp_path / "x").exists()


def test_entries_that_vanish_are_fine(tmp_path, top, port):
    """
    Trap 35: an entry that vanishes mid-walk, file, directory or the whole tree.

    Is a success (cpython #73885).
    """
    place = tree(tmp_path / "x")
    port.before_opening(2, lambda: subprocess.run(["rm", "-rf", place / "a"], check=True))
    assert remove_entry(top, "x").complete
    place = tree(tmp_path / "y")
    port.before_listing(4, lambda: subprocess.run(["rm", "-rf", place], check=True))
    assert remove_entry(top, "y").complete


def test_an_unlinked_file_that_vanished_meanwhile(tmp_path, top, mocker):
    """
    Row 26: a file that is gone when we unlink it, or ask for its size.

    Counts nothing and fails nothing.
    """
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "f").write_text("x")
    unlink = os.unlink

    def hooked(name: str, *, dir_fd: int) -> None:
        unlink(name, dir_fd=dir_fd)
        unlink(name, dir_fd=dir_fd)

    mocker.patch.object(os, "unlink", hooked)
    assert remove_entry(top, "x").removed == 1


def test_a_directory_that_is_made_anew_each_time_ends(tmp_path, top, mocker):
    """
    Row 53: a directory that is filled again whenever it was emptied is tried a bounded number of times.

    Trap 34: writer still active, ENOTEMPTY (go #43547): never an endless loop.
    """
    place = tmp_path / "x"
    (place / "a").mkdir(parents=True)
    rmdir, calls = os.rmdir, []

    def hooked(name: str, *, dir_fd: int) -> None:
        calls.append(name)
        if name == "a":
            (place / "a" / f"new{len(calls)}").write_text("x")
        rmdir(name, dir_fd=dir_fd)

    mocker.patch.object(os, "rmdir", hooked)
    removal = remove_entry(top, "x")
    assert calls == ["a"] * 3
    assert [(e.path, e.errno) for e in removal.entries] == [("x/a", errno.ENOTEMPTY)]


def test_a_late_file_only_costs_another_round(tmp_path, top, mocker):
    """Row 53: what appears once while its directory is removed goes in the next round."""
    place = tree(tmp_path / "x")
    rmdir, late = os.rmdir, ["x", "b", "c"]

    def hooked(name: str, *, dir_fd: int) -> None:
        if name in late:
            late.remove(name)
            os.close(os.open(f"{name}/late", os.O_CREAT, dir_fd=dir_fd))
        rmdir(name, dir_fd=dir_fd)

    mocker.patch.object(os, "rmdir", hooked)
    removal = remove_entry(top, "x")
    assert removal.complete
    assert not place.exists()
    assert late == []


def test_a_writer_that_never_stops(tmp_path, top):
    """
    Row 53: with a thread that creates files all the time, the removal still ends.

    With a report or without.
    """
    place = tmp_path / "x"
    for number in range(50):
        (place / str(number)).mkdir(parents=True)
    stop, started = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                (place / str(number % 50)).mkdir(parents=True, exist_ok=True)
                (place / str(number % 50) / f"f{number}").touch()
            except OSError:
                pass
            started.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert started.wait(30)
    removal = remove_entry(top, "x")
    stop.set()
    writer.join()
    assert all(entry.errno in (errno.ENOTEMPTY, None) for entry in removal.entries)
    assert remove_entry(top, "x").complete


def test_a_budget_bounds_the_work_and_the_next_call_goes_on(tmp_path, top):
    """Row 54: a budget ends a removal early; each further call makes progress until all is gone."""
    for name in ("a", "b"):
        (tmp_path / "x" / name).mkdir(parents=True)
        for number in range(30):
            (tmp_path / "x" / name / str(number)).write_text("x")
    first = remove_entry(top, "x", budget=20)
    assert not first.complete
    assert 0 < first.removed <= 20
    calls = 1
    while not remove_entry(top, "x", budget=20).complete:
        calls += 1
    assert 3 <= calls <= 8
    assert not (tmp_path / "x").exists()


def test_something_else_by_that_name_is_left_alone(tmp_path, top, port):
    """
    Security rule 4: where the inode is known, another one by the same name is left alone.

    Also one swapped in late.
    """
    place = tree(tmp_path / "x")
    (tmp_path / "f").write_text("x")
    other = os.lstat(tmp_path)
    for name in ("x", "f"):
        removal = remove_entry(top, name, expected=(other.st_dev, other.st_ino))
        assert [(e.path, e.kind, e.errno) for e in removal.entries] == [(name, "skipped", errno.ESTALE)]
    status = place.lstat()
    port.before_opening(1, swap(place, tree))
    removal = remove_entry(top, "x", expected=(status.st_dev, status.st_ino))
    assert [e.kind for e in removal.entries] == ["skipped"]
    assert (place / "a" / "b" / "c" / "3").exists()


# -- what is probably in it


def removed_as_guessed(top: int, place: Path, *likely: str) -> Removal:
    """Remove *place* as an area does that knows what it made."""
    status = place.lstat()
    return remove_entry(top, place.name, expected=(status.st_dev, status.st_ino), likely=likely)


def test_what_is_known_to_be_there_goes_without_being_listed(tmp_path, top, mocker):
    """A directory with nothing but the files that were made in it goes without a listing; all is counted."""
    place = tmp_path / "x"
    place.mkdir()
    (place / "file").write_bytes(b"x" * 100_000)
    (place / "linked").write_bytes(b"x" * 100_000)
    os.link(place / "linked", tmp_path / "other name")
    blocks = place.stat().st_blocks + (place / "file").stat().st_blocks
    listed = mocker.spy(os, "scandir")
    assert removed_as_guessed(top, place, "file", "gone already", "linked") == Removal(
        removed=3, removed_bytes=blocks * 512
    )
    assert listed.call_count == 0
    assert not place.exists()


def test_what_was_not_known_to_be_there_goes_too(tmp_path, top, canary):
    """Where there is more, or a directory or link has a file's name, all goes and nothing else."""
    place = tree(tmp_path / "x")
    (place / "file").touch()
    (place / "link").symlink_to(canary)
    removal = removed_as_guessed(top, place, "file", "a", "link")
    assert (removal.removed, removal.complete) == (10, True)
    assert not place.exists()


def test_a_wrong_guess_costs_no_round(tmp_path, top, mocker):
    """Row 53: a late file is met after a wrong guess as often as after a listing."""
    place = tree(tmp_path / "x")
    rmdir, late = os.rmdir, ["x"] * (_delete._ROUNDS - 1)

    def hooked(name: str, *, dir_fd: int) -> None:
        if name in late and not (place / "a").exists():
            late.remove(name)
            os.close(os.open(f"{name}/late", os.O_CREAT, dir_fd=dir_fd))
        rmdir(name, dir_fd=dir_fd)

    mocker.patch.object(os, "rmdir", hooked)
    assert removed_as_guessed(top, place, "file").complete
    assert late == []


def test_an_error_of_what_is_likely_there_is_told_and_the_rest_goes(tmp_path, top, mocker):
    """P4: an error of unlinking is told once also where nothing is listed; the rest goes all the same."""
    place = tree(tmp_path / "x")
    (place / "file").touch()
    fail_to_unlink_once(mocker)
    assert [(e.path, e.errno) for e in removed_as_guessed(top, place, "file").entries] == [
        ("x/file", errno.EIO)
    ]
    assert os.listdir(place) == ["file"]


def test_an_error_of_removing_what_is_known_is_told(tmp_path, top, mocker):
    """P4: an error of removing the emptied directory is told once."""
    place = tmp_path / "x"
    place.mkdir()
    (place / "file").touch()
    mocker.patch.object(os, "rmdir", side_effect=OSError(errno.EIO, "broken"))
    assert [e.errno for e in removed_as_guessed(top, place, "file").entries] == [errno.EIO]
    assert os.listdir(place) == []


def test_what_cannot_be_looked_at_goes_and_counts_nothing(tmp_path, top, mocker):
    """A file that is known and cannot be looked at is removed, and counts no bytes."""
    place = tmp_path / "x"
    place.mkdir()
    (place / "file").write_bytes(b"x" * 100_000)
    blocks, look = place.stat().st_blocks, os.stat

    def hooked(name: str, **options: Any) -> os.stat_result:
        if name == "file":
            raise OSError(errno.EIO, "broken")
        return look(name, **options)

    mocker.patch.object(os, "stat", hooked)
    assert removed_as_guessed(top, place, "file") == Removal(removed=2, removed_bytes=blocks * 512)


def test_another_directory_is_not_taken_for_what_is_known(tmp_path, top, port):
    """Security rule 4: files by the same names in a directory that was put in its place stay."""
    place = tmp_path / "x"
    place.mkdir()
    (place / "file").touch()
    port.before_opening(1, swap(place, lambda path: (path.mkdir(), (path / "file").touch())))
    assert [entry.kind for entry in removed_as_guessed(top, place, "file").entries] == ["skipped"]
    assert (place / "file").exists()


def test_what_is_marked_stays(tmp_path, top, mocker):
    """A directory with the marker in it stays, as one that cannot be looked at; the rest goes."""
    place = tree(tmp_path / "x")
    (place / "a" / "b" / "marker").touch()
    removal = remove_entry(top, "x", spared="marker")
    assert [(e.path, e.kind, e.errno) for e in removal.entries] == [("x/a/b", "skipped", errno.EBUSY)]
    assert (place / "a" / "b" / "c" / "3").exists()
    assert not (place / "a" / "1").exists()
    look = os.stat

    def hooked(name: str, **options: Any) -> os.stat_result:
        if name == "other":
            raise OSError(errno.EIO, "broken")
        return look(name, **options)

    mocker.patch.object(os, "stat", hooked)
    removal = remove_entry(top, "x", spared="other")
    assert [(e.path, e.kind, e.errno) for e in removal.entries] == [("x", "failed", errno.EIO)]
    assert (place / "a" / "b" / "c" / "3").exists()


# -- errors of the system


def test_no_descriptors_at_all_is_reported_once(tmp_path, top):
    """P7: with no descriptor left the removal ends with one report, and works once there are some."""
    tree(tmp_path / "x")

    def job() -> list[Any]:
        taken = [os.dup(top)]
        soft = max(map(int, os.listdir("/proc/self/fd"))) + 4
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
        try:
            while True:
                taken.append(os.dup(top))
        except OSError:
            pass
        # The import system has done all that needs descriptors.
        reasons = [(e.path, e.errno) for e in remove_entry(top, "x").entries]
        for fd in taken:
            os.close(fd)
        return [reasons, remove_entry(top, "x").complete]

    assert in_child(job) == [[["x", errno.EMFILE]], True]


@pytest.mark.parametrize("where", ["scandir", "open_subdirectory", "open_directory"])
def test_kept_descriptors_are_given_back_when_they_run_out(tmp_path, top, mocker, where):
    """EMFILE: the descriptors that are kept for the way up are released, and the walk goes on."""
    chain(tmp_path / "x", 12)
    module = os if where == "scandir" else _delete
    really, calls = getattr(module, where), []

    def hooked(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == (1 if where == "open_directory" else 8):
            raise OSError(errno.EMFILE, "no more")
        return really(*args, **kwargs)

    mocker.patch.object(module, where, hooked)
    assert remove_entry(top, "x").complete
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("call", ["scandir", "rmdir", "stat"])
def test_an_input_output_error_is_told_once(tmp_path, top, mocker, call):
    """Row 16: an error of a call is reported once, and the next removal finishes."""
    place = tree(tmp_path / "x")
    mocker.patch.object(os, call, side_effect=OSError(errno.EIO, "broken"))
    removal = remove_entry(top, "x")
    mocker.stopall()
    assert {e.errno for e in removal.entries} == {errno.EIO}
    assert removal.failed == 1
    assert remove_entry(top, "x").complete
    assert not place.exists()


def test_kinds_and_sizes_that_nobody_knows(tmp_path, top, mocker):
    """Where the system does not tell an entry's kind or size, it goes all the same, uncounted in bytes."""
    tree(tmp_path / "x")

    class Mute:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name = entry.name

        def is_dir(self, *, follow_symlinks: bool) -> bool:
            raise OSError(errno.EIO, "no")

        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            raise OSError(errno.EIO, "no")

    really = os.scandir

    class Listing:
        def __init__(self, fd: int) -> None:
            self._entries = really(fd)

        def __enter__(self) -> Iterator[Mute]:
            return map(Mute, self._entries)

        def __exit__(self, *_: object) -> None:
            self._entries.close()

    mocker.patch.object(os, "scandir", Listing)
    assert remove_entry(top, "x").removed == 8


def test_a_platform_that_answers_eperm_for_a_directory(tmp_path, top, mocker):
    """
    On the BSDs, unlink says EPERM for a directory.

    That is looked at, and the directory goes. Tested by a fake.
    """
    place = tree(tmp_path / "x")
    unlink = os.unlink

    def hooked(name: str, *, dir_fd: int) -> None:
        try:
            unlink(name, dir_fd=dir_fd)
        except IsADirectoryError:
            raise PermissionError(errno.EPERM, "no") from None

    mocker.patch.object(os, "unlink", hooked)
    mocker.patch.object(_delete, "_is_directory", return_value=False)
    mocker.patch.object(_delete.sys, "platform", "darwin")
    assert remove_entry(top, "x").complete
    assert not place.exists()
    mocker.patch.object(os, "unlink", side_effect=PermissionError(errno.EPERM, "no"))
    (tmp_path / "f").write_text("x")
    assert [e.errno for e in remove_entry(top, "f").entries] == [errno.EPERM]
    assert _delete._means_directory(PermissionError(errno.EPERM, "no"), top, "gone") is False


def test_a_budget_that_ends_deep_down_leaves_no_descriptor(tmp_path, top):
    """Row 54: wherever the budget ends, no descriptor stays open."""
    chain(tmp_path / "x", 20)
    before = descriptors()
    removal = remove_entry(top, "x", budget=15)
    assert removal.failed == 1
    assert descriptors() == before


def test_what_is_stuck_is_passed_over_when_its_directory_is_listed_again(tmp_path, top, mocker):
    """What cannot be removed is tried and told once, however often its directory is listed."""
    place = tmp_path / "x"
    (place / "d").mkdir(parents=True)
    (place / "stuck").write_text("x")
    unlink, rmdir, tried, late = os.unlink, os.rmdir, [], ["d"]

    def hooked(name: str, *, dir_fd: int) -> None:
        tried.append(name)
        if name == "stuck":
            raise OSError(errno.EIO, "broken")
        unlink(name, dir_fd=dir_fd)

    def filled(name: str, *, dir_fd: int) -> None:
        if name in late:
            late.remove(name)
            (place / "d" / "late").write_text("x")
        rmdir(name, dir_fd=dir_fd)

    mocker.patch.object(os, "unlink", hooked)
    mocker.patch.object(os, "rmdir", filled)
    assert remove_entry(top, "x").failed == 1
    assert sorted(tried) == ["late", "stuck"]


def test_a_directory_that_is_gone_when_it_is_listed(tmp_path, top, mocker):
    """Row 26: a directory that vanished between opening and listing is a success."""
    (tmp_path / "x").mkdir()
    mocker.patch.object(os, "scandir", side_effect=OSError(errno.ENOENT, "gone"))
    assert remove_entry(top, "x").complete


def test_the_bytes_of_a_great_many_files_are_told_from_some(tmp_path, top, mocker):
    """Up to a number of files their bytes are exact; of more, each one looked at stands for many."""
    mocker.patch.object(_delete, "_EXACTLY", 3)
    mocker.patch.object(_delete, "_EVERY", 4)
    (tmp_path / "x").mkdir()
    for number in range(11):
        (tmp_path / "x" / str(number)).write_bytes(b"x" * 4096)
    own = os.stat(tmp_path / "x").st_blocks * 512
    looked = mocker.patch.object(_delete, "_freed_by", side_effect=_delete._freed_by)
    assert remove_entry(top, "x") == Removal(removed=12, removed_bytes=own + 3 * 4096 + 2 * 4 * 4096)
    assert looked.call_count == 5


def test_files_are_removed_without_being_looked_at(tmp_path, top, mocker):
    """Of a great many files, one call each is all that most of them cost."""
    (tmp_path / "x").mkdir()
    for number in range(_delete._EXACTLY + 2 * _delete._EVERY):
        (tmp_path / "x" / str(number)).touch()
    looked = mocker.patch.object(_delete, "_freed_by", return_value=0)
    assert remove_entry(top, "x").complete
    assert looked.call_count in (_delete._EXACTLY + 1, _delete._EXACTLY + 2)


def test_a_single_error_is_told_and_not_tried_away(tmp_path, top, mocker):
    """P4: one error of unlinking is told once, although a second try would have gone well."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "f").touch()
    fail_to_unlink_once(mocker)
    assert [entry.errno for entry in remove_entry(top, "x").entries] == [errno.EIO]


def test_the_standard_librarys_remover_is_not_used():
    """
    Security rule 19: what lies in our directories is never left to the standard library's remover.

    So that no interpreter's version of it matters; only the tests' own tools, and what is published from
    memory, which nobody else has seen yet, are removed by it.
    """
    package = Path(_delete.__file__).parents[1]
    words = ("rmtree(", "TemporaryDirectory(", "NamedTemporaryFile(", "mkdtemp(")
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if any(word in path.read_text(encoding="utf-8") for word in words)
    }
    assert users <= {"storages/memory/_give_out.py", "testing/stateful.py"}
