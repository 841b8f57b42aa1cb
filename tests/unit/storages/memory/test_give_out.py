"""Publishing from memory: the destination is the old file or the new, whole."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

import pytest

from tempscope.errors import ForeignPathError, NameTakenError, PathMissingError, StorageError, StorageFull
from tempscope.storages import MemoryStorage, _destination, _unnamed
from tempscope.storages.memory import _give_out
from tempscope.storages.memory._transfer import set_times


def give(area, path, destination, **changes):
    """Publish *path* of *area* as most do, but for *changes*."""
    usual = {"overwrite": True, "durable": False, "mode": None, "progress": None}
    return area.give_out(path, destination, **usual | changes)


@pytest.fixture(params=["memory", "disk"])
def publish(request, spill_area, tmp_path):
    """Publish ``file``, or another path, which is in memory or has moved to disk before."""
    path = spill_area.create_file("file")
    path.write_bytes(b"content")
    if request.param == "disk":
        str(path)
    (tmp_path / "out").mkdir()

    def publish(destination, path=path, *, overwrite=True, durable=False, mode=None, progress=None):
        return give(
            spill_area, path, destination, overwrite=overwrite, durable=durable, mode=mode, progress=progress
        )

    publish.path = path
    return publish


@pytest.fixture(params=["without a name", "beside"])
def way(request, monkeypatch):
    """How a file is written: without a name until it is whole, or where there are no such files, beside."""
    if request.param == "beside":
        monkeypatch.setattr(_unnamed, "_TMPFILE", 0)
    return request.param


@pytest.fixture
def out(tmp_path):
    """Where things are published to."""
    return tmp_path / "out"


def test_a_published_file_is_there_and_gone_here(publish, out):
    """The file is at its destination, with the umask's mode, and no longer in the scope."""
    before = os.umask(0o027)
    try:
        assert publish(out / "final") == out / "final"
    finally:
        os.umask(before)
    assert (out / "final").read_bytes() == b"content"
    assert stat.S_IMODE((out / "final").stat().st_mode) == 0o640
    assert os.listdir(out) == ["final"]
    assert not publish.path.exists()


def test_the_mode_is_as_asked_or_as_it_was(publish, out, spill_area):
    """mode= decides; without it the mode of what was there."""
    (out / "final").write_text("old")
    (out / "final").chmod(0o604)
    publish(out / "final")
    assert stat.S_IMODE((out / "final").stat().st_mode) == 0o604
    publish(out / "final", spill_area.create_file("next"), mode=0o755)
    assert stat.S_IMODE((out / "final").stat().st_mode) == 0o755


def test_without_overwrite_what_is_there_stays(publish, out):
    """overwrite=False refuses an existing name, leaves both files as they are, and works for a new one."""
    (out / "final").write_text("old")
    with pytest.raises(NameTakenError):
        publish(out / "final", overwrite=False)
    assert (out / "final").read_text() == "old"
    assert publish.path.read_bytes() == b"content"
    (out / "directory").mkdir()
    with pytest.raises(NameTakenError):
        publish(out / "directory", overwrite=False)
    publish(out / "new", overwrite=False)
    assert sorted(os.listdir(out)) == ["directory", "final", "new"]
    assert (out / "new").stat().st_nlink == 1


def test_a_link_at_the_destination_is_replaced(publish, out, tmp_path):
    """A symbolic link there is replaced, not followed."""
    (tmp_path / "target").write_text("target")
    (out / "final").symlink_to(tmp_path / "target")
    publish(out / "final")
    assert not (out / "final").is_symlink()
    assert (tmp_path / "target").read_text() == "target"


def test_what_cannot_be_published_stays(publish, out, spill_area, tmp_path):
    """A missing parent, a directory there, a foreign path, a missing file: the file stays ours."""
    (out / "directory").mkdir()
    with pytest.raises(PathMissingError, match="directory"):
        publish(out / "missing" / "final")
    with pytest.raises(StorageError):
        publish(out / "directory")
    with pytest.raises(ForeignPathError):
        publish(out / "final", tmp_path / "elsewhere")
    with pytest.raises(ForeignPathError):
        publish(spill_area.directory / "inside")
    with pytest.raises(ForeignPathError):
        publish(out / "final", spill_area.directory)
    with pytest.raises(FileNotFoundError):
        publish(out / "final", spill_area.directory / "nothing")
    assert publish.path.read_bytes() == b"content"
    assert os.listdir(out) == ["directory"]


def test_a_destination_that_leads_in_circles(publish, out):
    """A loop of links in the destination's path is not blamed on what is published."""
    (out / "loop").symlink_to("loop")
    with pytest.raises(StorageError, match="Too many levels"):
        publish(out / "loop" / "final")
    assert publish.path.read_bytes() == b"content"


def test_inside_the_scope_is_no_destination(publish, spill_area):
    """A destination below the scope's own real place is refused."""
    with pytest.raises(ForeignPathError, match="outlives"):
        publish(Path(str(spill_area.directory / "told")).parent / "inside")


@pytest.mark.parametrize("durable", [True, False])
def test_durable_syncs_the_file_before_and_the_directory_after_it_has_its_name(
    durable, area, out, way, monkeypatch
):
    """The order is write, sync the file, name it, sync the directory; without durable nothing is synced."""
    out.mkdir()
    path = area.create_file("file")
    path.write_bytes(b"content")
    calls = []
    sync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: calls.append(("sync", stat.S_ISDIR(os.fstat(fd).st_mode))) or sync(fd)
    )
    name = "rename" if way == "beside" else "link"
    really = getattr(os, name)
    monkeypatch.setattr(os, name, lambda *names, **fds: calls.append((name,)) or really(*names, **fds))
    give(area, path, out / "final", durable=durable)
    assert calls == ([("sync", False), (name,), ("sync", True)] if durable else [(name,)])


def test_progress_is_told_and_can_cancel(area, out, way):
    """Progress hears of each piece; what it raises ends the copy, and nothing half-written stays."""
    out.mkdir()
    path = area.create_file("file")
    path.write_bytes(bytes(3 << 20))
    seen = []

    def cancel(done, total):
        seen.append((done, total))
        if done == 2 << 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give(area, path, out / "final", progress=cancel)
    assert os.listdir(out) == []
    assert path.stat().st_size == 3 << 20
    give(area, path, out / "final", progress=lambda *now: seen.append(now))
    assert seen[:2] == [(1 << 20, 3 << 20), (2 << 20, 3 << 20)]
    assert seen[-1] == (3 << 20, 3 << 20)


def test_a_file_is_whole_before_it_has_a_name(area, out):
    """Nothing is to be seen beside the destination while it is written."""
    out.mkdir()
    path = area.create_file("file")
    path.write_bytes(bytes(2 << 20))
    seen = []
    for expected in ([], ["final"]):
        give(area, path, out / "final", progress=lambda *_: seen.append(os.listdir(out)))
        assert seen == [expected, expected]
        seen.clear()
        path = area.create_file("file")
        path.write_bytes(bytes(2 << 20))
    assert (out / "final").stat().st_size == 2 << 20


def test_what_cannot_be_named_is_written_again_beside(area, out, monkeypatch):
    """Where a file without a name cannot be given one, as without /proc, it is written beside."""
    out.mkdir()
    path = area.create_file("file")
    path.write_bytes(bytes(2 << 20))
    really, seen = os.link, []

    def without_proc(source, target, **options):
        if str(source).startswith("/proc/"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return really(source, target, **options)

    monkeypatch.setattr(os, "link", without_proc)
    give(area, path, out / "final", overwrite=False, durable=True, progress=lambda *now: seen.append(now))
    assert (out / "final").stat().st_size == 2 << 20
    assert os.listdir(out) == ["final"]
    assert seen == [(1 << 20, 2 << 20), (2 << 20, 2 << 20)] * 2


def test_a_full_disk_leaves_nothing_half_written(area, out, way, monkeypatch):
    """If the destination has no room the error is StorageFull, and the file is still in the scope."""
    out.mkdir()
    path = area.create_file("file")
    path.write_bytes(b"content")

    def fail(*args):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fchmod", fail)
    with pytest.raises(StorageFull):
        give(area, path, out / "final", durable=True)
    assert os.listdir(out) == []
    assert path.read_bytes() == b"content"


def test_progress_is_told_of_what_is_there(area, out, monkeypatch):
    """Trap: what is still buffered is not there: on a full disk nobody is told of it."""
    out.mkdir()
    path = area.create_file("file")
    path.write_bytes(b"content")

    class Full(io.RawIOBase):
        def writable(self):
            return True

        def write(self, piece):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_give_out, "open_without_name", lambda *_: io.BufferedWriter(Full()))
    seen = []
    with pytest.raises(StorageFull):
        give(area, path, out / "final", progress=lambda *now: seen.append(now))
    assert seen == []


def test_a_file_system_without_hard_links_still_refuses_what_is_there(area, out, monkeypatch):
    """Where link(2) cannot, the name is claimed first; what is there already stays."""
    monkeypatch.setattr(_unnamed, "_TMPFILE", 0)
    out.mkdir()
    path = area.create_file("file")
    path.write_bytes(b"content")
    (out / "taken").write_text("old")
    codes = iter([errno.EPERM, errno.EIO])

    def fail(*args, **kwargs):
        raise OSError(next(codes), "no links")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(NameTakenError):
        give(area, path, out / "taken", overwrite=False)
    give(area, path, out / "final", overwrite=False)
    assert (out / "final").read_bytes() == b"content"
    assert (out / "taken").read_text() == "old"
    with pytest.raises(StorageError):
        give(area, area.create_file("other"), out / "third", overwrite=False)
    assert sorted(os.listdir(out)) == ["final", "taken"]


# -- directories


@pytest.fixture
def top(spill_area):
    """A directory with a directory, a file, and a link that is on the disk."""
    top = spill_area.create_dir("top")
    (top / "sub").mkdir(mode=0o750)
    (top / "sub" / "file").write_bytes(b"content")
    (top / "sub" / "link").symlink_to("file")
    return top


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_directory_is_published_whole(overwrite, spill_area, top, out):
    """A directory goes out with all in it, links as links, and is gone here."""
    out.mkdir()
    seen = []
    give(
        spill_area,
        top,
        out / "final",
        overwrite=overwrite,
        durable=True,
        mode=0o711,
        progress=lambda *now: seen.append(now),
    )
    assert (out / "final" / "sub" / "file").read_bytes() == b"content"
    assert os.readlink(out / "final" / "sub" / "link") == "file"
    assert stat.S_IMODE((out / "final").stat().st_mode) == 0o711
    assert stat.S_IMODE((out / "final" / "sub").stat().st_mode) == 0o750
    assert seen[-1][0] == 7
    assert not top.exists()
    assert os.listdir(out) == ["final"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_directory_in_use_is_not_replaced(overwrite, spill_area, top, out):
    """A directory with something in it stays; nothing of the new one is left beside it."""
    (out / "final").mkdir(parents=True)
    (out / "final" / "old").write_text("old")
    with pytest.raises(StorageError):
        give(spill_area, top, out / "final", overwrite=overwrite)
    assert os.listdir(out) == ["final"]
    assert os.listdir(out / "final") == ["old"]
    assert (top / "sub" / "file").exists()


def test_a_claimed_directory_is_given_back(spill_area, top, out, monkeypatch):
    """If the last step fails, the destination that was claimed for it is free again."""
    out.mkdir()

    def fail(*args, **fds):
        raise OSError(errno.EIO, "broken")

    def cannot(*args):
        raise OSError(errno.ENOSYS, "no flags")

    monkeypatch.setattr(_destination, "rename_to_free", cannot)
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(StorageError):
        give(spill_area, top, out / "final", overwrite=False)
    assert os.listdir(out) == []


# -- to another scope


@pytest.fixture(params=["of this storage", "of another"])
def other(request, storage, record):
    """The directory of another scope."""
    if request.param == "of another":
        storage = request.getfixturevalue("second")
    return storage.open_area(record()).directory


@pytest.fixture
def second():
    """Another storage, with room for little."""
    with MemoryStorage(max_bytes=100) as storage:
        yield storage


def test_to_another_scope_it_stays_in_memory(area, other):
    """A destination in another scope's area takes the file without a disk, by the same rules."""
    path = area.create_file("file")
    path.write_text("content")
    set_times(path, 1, 2)
    other._tree.volume._umask = 0o027
    assert give(area, path, other / "final", overwrite=False, durable=True) is not None
    assert (other / "final").read_text() == "content"
    assert stat.S_IMODE((other / "final").stat().st_mode) == 0o640
    assert (other / "final").stat().st_mtime_ns == 2
    assert not path.exists()
    second = area.create_file("second")
    with pytest.raises(NameTakenError):
        give(area, second, other / "final", overwrite=False)
    (other / "final").chmod(0o604)
    give(area, second, other / "final")
    assert stat.S_IMODE((other / "final").stat().st_mode) == 0o604
    give(area, area.create_file("third"), other / "final", mode=0o600)
    assert stat.S_IMODE((other / "final").stat().st_mode) == 0o600
    for mode, result in ((None, 0o755), (0o750, 0o750)):
        directory = area.create_dir(f"dir {mode}")
        (directory / "in").touch()
        (other / f"dir {mode}").mkdir()
        give(area, directory, other / f"dir {mode}", mode=mode)
        assert (other / f"dir {mode}" / "in").exists()
        (other / f"dir {mode}" / "in").unlink()
        (other / f"dir {mode}").chmod(0o755 if mode is None else 0o700)
        again = area.create_dir(f"again {mode}")
        give(area, again, other / f"dir {mode}", mode=mode)
        assert stat.S_IMODE((other / f"dir {mode}").stat().st_mode) == result
    with pytest.raises(ForeignPathError):
        give(area, area.create_file("x"), area.directory / "y")


@pytest.mark.parametrize(
    ("kind", "place", "code", "words"),
    [
        ("file", "full", errno.EISDIR, "is a directory"),
        ("directory", "taken", errno.ENOTDIR, "is a file, which no directory replaces"),
        ("directory", "full", errno.ENOTEMPTY, "never replaced"),
        ("file", "gone/x", errno.ENOENT, "its directory .* is not there"),
        ("file", "taken/x", errno.ENOENT, "its directory .* is not there"),
        ("file", "", errno.EISDIR, "a scope's own directory"),
        ("directory", "", errno.EISDIR, "a scope's own directory"),
    ],
)
def test_bad_places_in_another_scope(area, other, kind, place, code, words):
    """What is refused on disk is refused in memory, by the same errors, and both scopes stay as they were."""
    (other / "full").mkdir()
    (other / "full" / "in").write_text("theirs")
    (other / "taken").write_text("theirs")
    path = area.create_file("p") if kind == "file" else area.create_dir("p")
    with pytest.raises(StorageError, match=words) as caught:
        give(area, path, other / place)
    assert (caught.value.errno, caught.value.scope) == (code, area._label())
    assert path.exists()
    assert sorted(p.name for p in other.rglob("*")) == ["full", "in", "taken"]
    assert (other / "taken").read_text() == "theirs"


def test_no_room_in_another_storage(area, second, record):
    """What does not fit leaves the old content there, and nothing of the new; the scope keeps it."""
    there = second.open_area(record()).directory
    (there / "final").write_bytes(b"old")
    top = area.create_dir("top")
    (top / "small").write_bytes(b"x")
    (top / "large").write_bytes(bytes(200))
    with pytest.raises(StorageFull):
        give(area, top / "large", there / "final")
    with pytest.raises(StorageFull):
        give(area, top, there / "directory")
    assert (there / "final").read_bytes() == b"old"
    assert [path.name for path in there.iterdir()] == ["final"]
    assert (top / "large").stat().st_size == 200


def test_links_in_another_scope(spilling, record):
    """A link there is replaced by a file, whatever it leads to; it is in the way without overwrite."""
    area, there = spilling.open_area(record()), spilling.open_area(record()).directory
    there._tree.volume._umask = 0o022
    (there / "directory").mkdir()
    for target in ("directory", "nowhere"):
        link = there / f"to {target}"
        link.symlink_to(target)
        path = area.create_file(f"for {target}")
        with pytest.raises(NameTakenError):
            give(area, path, link, overwrite=False)
        directory = area.create_dir(f"dir for {target}")
        with pytest.raises(StorageError, match="is a link, which no directory replaces"):
            give(area, directory, link)
        assert link.is_symlink()
        give(area, path, link)
        assert not link.is_symlink()
        assert stat.S_IMODE(link.stat().st_mode) == 0o644
    assert (there / "directory").is_dir()


def test_two_storages_publish_to_each_other(area, second, record, mocker):
    """The locks of two storages are taken in the same order, whichever of them publishes: no deadlock."""
    there = second.open_area(record())
    one, two = area.create_file("one"), there.create_file("two")
    held, orders = [], set()

    class Watched:
        def __init__(self, name, lock):
            self.name, self.lock = name, lock

        def __enter__(self):
            self.lock.acquire()
            if self.name not in held:
                orders.update((outer, self.name) for outer in held)
            held.append(self.name)

        def __exit__(self, *_):
            held.pop()
            self.lock.release()

    for name, each in (("one", area), ("two", there)):
        mocker.patch.object(each.tree.volume, "lock", Watched(name, each.tree.volume.lock))
    give(area, one, there.directory / "one")
    give(there, two, area.directory / "two")
    assert (two.exists(), len(orders)) == (False, 1)
