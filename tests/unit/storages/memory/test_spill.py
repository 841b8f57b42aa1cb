"""Moving to disk: the real place is asked for, a file grows too large, a program writes beside."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.unit.faults import PlainStorage

from tempscope.errors import ConfigurationError, StorageError, StorageFull, UnsupportedError
from tempscope.model import Capability, Instant, ScopeRecord
from tempscope.storages.memory import MemoryStorage, _spill


def test_an_area_that_only_uses_paths_never_touches_the_disk(spill_area, tmp_path):
    """Making, writing, reading, listing and showing make nothing on the disk, not even a directory."""
    path = spill_area.create_file("file")
    path.write_text("content")
    repr((path, list(path.parent.iterdir()), spill_area.usage()))
    assert spill_area.remove().removed == 1
    assert not (tmp_path / "disk").exists()


@pytest.mark.parametrize("ask", [str, os.fspath, lambda path: open(path).close(), os.stat])
def test_asking_for_the_text_moves_the_file_and_nothing_else(ask, spill_area, on_disk):
    """The file asked for is on the disk with its content, mode and times; the others stay in memory."""
    path, other = spill_area.create_file("file"), spill_area.create_file("other")
    path.write_bytes(b"content")
    other.write_bytes(b"content")
    path.chmod(0o640)
    path._set_times(10**18, 2 * 10**18)
    ask(path)
    assert on_disk() == {"file"}
    status = os.stat(path)
    assert (status.st_size, status.st_mode & 0o777, status.st_mtime_ns) == (7, 0o640, 2 * 10**18)
    assert spill_area.tree.volume.bytes == 7
    assert spill_area.tree.volume.files == 1
    assert sorted(found.name for found in spill_area.directory.iterdir()) == ["file", "other"]


def test_one_truth_remains_in_both_directions(spill_area):
    """What a program changes is seen through the path, and what the path changes by the program."""
    path = spill_area.create_file("file")
    text = str(path)
    Path(text).write_text("by the program")
    assert path.read_text() == "by the program"
    path.write_text("by the path")
    assert Path(text).read_text() == "by the path"
    os.unlink(text)
    assert not path.exists()
    path.write_text("again")
    assert Path(text).read_text() == "again"
    path.unlink()
    assert not os.path.exists(text)
    path.touch()
    path.chmod(0o400)
    assert os.stat(text).st_mode & 0o777 == 0o400


def test_a_program_reads_and_writes(spill_area):
    """A command is given paths like any others: it reads what is there and makes what is not."""
    source, target = spill_area.create_file("in"), spill_area.create_dir("sub") / "deep" / "out"
    source.write_text("content")
    (target.parent).mkdir()
    subprocess.run(
        [sys.executable, "-c", "import sys, shutil; shutil.copy(*sys.argv[1:])", source, target], check=True
    )
    assert target.read_text() == "content"
    assert [path.name for path in target.parent.iterdir()] == ["out"]


def test_what_a_program_makes_beside_is_seen(spill_area):
    """Names that a program makes up in a directory it was told of are listed, read, renamed and removed."""
    pattern = spill_area.create_dir("sub") / "part-%d"
    memory = pattern.with_name("memory")
    memory.write_text("m")
    Path(str(pattern) % 1).write_text("one")
    part = pattern.with_name("part-1")
    assert part.read_text() == "one"
    assert sorted(path.name for path in pattern.parent.iterdir()) == ["memory", "part-1"]
    assert part.rename(memory).read_text() == "one"
    assert [path.name for path in pattern.parent.iterdir()] == ["memory"]
    memory.unlink()
    pattern.parent.rmdir()
    pattern.parent.mkdir()
    assert os.path.isdir(pattern.parent)


def test_a_name_told_before_its_directory_was_made_is_the_disks(spill_area):
    """A text given out for a place whose directory is made later is where the file is."""
    text = str(spill_area.directory / "later" / "file")
    (spill_area.directory / "later").mkdir()
    (spill_area.directory / "later" / "file").write_text("content")
    assert Path(text).read_text() == "content"


def test_a_directory_moves_with_all_in_it(spill_area, on_disk):
    """Asking for a directory's text moves everything below, with modes and times; what is beside stays."""
    top = spill_area.create_dir("top")
    (top / "sub").mkdir()
    (top / "sub" / "file").write_text("content")
    (top / "sub").chmod(0o500)
    top._set_times(1, 10**18)
    spill_area.create_file("beside")
    real = Path(str(top))
    assert on_disk() == {"top", "sub", "file"}
    assert (real / "sub" / "file").read_text() == "content"
    assert (real / "sub").stat().st_mode & 0o777 == 0o500
    assert real.stat().st_mtime_ns == 10**18
    assert (top / "sub" / "file").read_text() == "content"
    assert spill_area.tree.volume.files == 1
    (top / "sub").chmod(0o700)
    shutil.rmtree(top)
    assert not top.exists()


def test_the_areas_directory_moves_with_everything(spill_area):
    """Asking for the area's own directory moves all of it; what is made later is made there."""
    path = spill_area.create_file("file")
    path.write_text("content")
    real = Path(str(spill_area.directory))
    assert (real / "file").read_text() == path.read_text() == "content"
    assert spill_area.create_file("new").is_file()
    assert spill_area.create_dir("dir").is_dir()
    assert sorted(os.listdir(real)) == ["dir", "file", "new"]
    assert str(spill_area.directory) == str(real)
    assert (spill_area.tree.volume.files, spill_area.usage().files) == (0, 2)


def test_open_files_go_on_where_they_were(spill_area):
    """Files open while theirs moves keep positions and modes, and both sides see each other's writes."""
    path = spill_area.create_file("file")
    path.write_bytes(b"0123456789")
    with (
        path.open("rb", buffering=0) as reader,
        path.open("r+b", buffering=0) as both,
        path.open("ab", buffering=0) as appender,
    ):
        reader.seek(2)
        both.seek(4)
        text = str(path)
        assert (reader.tell(), both.tell(), appender.tell()) == (2, 4, 10)
        both.write(b"XY")
        appender.write(b"end")
        assert Path(text).read_bytes() == b"0123XY6789end"
        assert reader.read(3) == b"23X"
        assert reader.readall() == b"Y6789end"
        assert both.readinto(bytearray(2)) == 2
        os.unlink(text)
        assert both.seek(0) == 0
        assert both.truncate(3) == 3
        assert both.read() == b"012"


def test_a_descriptor_is_of_the_real_file(spill_area, on_disk):
    """Fileno moves the file, and the descriptor stands where the stream stood."""
    path = spill_area.create_file("file")
    path.write_bytes(b"0123456789")
    with path.open("rb", buffering=0) as handle:
        handle.seek(3)
        assert os.read(handle.fileno(), 3) == b"345"
        assert handle.read(1) == b"6"
        assert handle.fileno() == handle.fileno()
    assert on_disk() == {"file"}


def test_a_descriptor_finds_its_file_under_its_present_name(spill_area, on_disk):
    """A file that was renamed since it was opened moves to the place of its present name."""
    path = spill_area.create_file("old")
    with path.open("w+b") as handle:
        handle.write(b"content")
        path.rename(spill_area.create_dir("sub") / "new")
        handle.flush()
        os.fsync(handle.fileno())
    assert on_disk() == {"sub", "new"}


def test_a_file_without_a_name_has_a_descriptor_and_stays_without(spill_area, on_disk):
    """Fileno of an unlinked file gives a descriptor and no name on the disk."""
    path = spill_area.create_file("file")
    with path.open("w+b") as handle:
        handle.write(b"content")
        handle.flush()
        path.unlink()
        assert os.pread(handle.fileno(), 7, 0) == b"content"
        assert on_disk() == set()
        assert spill_area.tree.volume.bytes == 0
    assert spill_area.tree.volume.files == 0


def test_all_names_of_a_file_move_together(spill_area, spilling, record):
    """Hard links are of one file on the disk too, in other directories and scopes as well."""
    path = spill_area.create_file("file")
    path.write_text("content")
    near = spill_area.create_dir("sub") / "near"
    far = spilling.open_area(record()).directory / "far"
    near.hardlink_to(path)
    far.hardlink_to(path)
    real = os.stat(path)
    assert real.st_nlink == 3
    assert os.stat(near).st_ino == os.stat(far).st_ino == real.st_ino
    far.write_text("new")
    assert path.read_text() == "new"


def test_links_across_the_border_move_both(spill_area):
    """A hard link to, or beside, what is on the disk is made there."""
    path = spill_area.create_file("file")
    path.write_text("content")
    text = str(path)
    new = path.with_name("new")
    new.hardlink_to(text)
    assert os.stat(text).st_nlink == 2
    assert new.samefile(text)
    with pytest.raises(FileExistsError):
        new.hardlink_to(path)


def test_symbolic_links_are_made_on_the_disk(spill_area):
    """With a place to spill to a symbolic link works, and what it means moves there too."""
    path = spill_area.create_file("file")
    path.write_text("content")
    for name, target in (("absolute", path), ("relative", "file")):
        link = path.with_name(name)
        link.symlink_to(target)
        assert link.is_symlink()
        assert link.read_text() == "content"
        assert link.resolve() == path
        assert os.fspath(link.readlink()) in (str(path), "file")
        assert (link / ".." / "file").exists() is False
    with pytest.raises(FileExistsError):
        spill_area.create_file("taken").symlink_to(path)
    directory = spill_area.create_dir("directory")
    (directory / "inner").write_text("inner")
    path.with_name("to").symlink_to("directory")
    assert (path.with_name("to") / ".." / "file").read_text() == "content"


def test_without_a_disk_links_and_borders_are_refused(area, spill_area, tmp_path, storage, record):
    """A symbolic link is EPERM, a rename or link to elsewhere EXDEV, as between two file systems."""
    path = area.create_file("file")
    with pytest.raises(PermissionError) as error:
        path.with_name("link").symlink_to("file")
    assert error.value.errno == errno.EPERM
    with pytest.raises(FileExistsError):
        path.symlink_to(path)
    with pytest.raises(OSError, match="Errno") as error:
        path.readlink()
    assert error.value.errno == errno.EINVAL
    (tmp_path / "outside").touch()
    elsewhere = spill_area.create_file("elsewhere")
    for action in (
        lambda: path.rename(tmp_path / "x"),
        lambda: path.rename(elsewhere),
        lambda: elsewhere.rename(path),
        lambda: path.with_name("y").hardlink_to(tmp_path / "outside"),
        lambda: path.with_name("y").hardlink_to(elsewhere),
        lambda: elsewhere.with_name("y").hardlink_to(path),
    ):
        with pytest.raises(OSError, match="Errno") as error:
            action()
        assert error.value.errno == errno.EXDEV
    with pytest.raises(FileNotFoundError):
        path.with_name("nothing").rename(tmp_path / "x")


def test_a_rename_out_of_memory_goes_over_the_disk(spill_area, tmp_path):
    """With a place to spill to a file can be renamed to any place of the same file system."""
    path = spill_area.create_file("file")
    path.write_text("content")
    assert path.rename(tmp_path / "out") == tmp_path / "out"
    assert (tmp_path / "out").read_text() == "content"
    assert not path.exists()
    path.hardlink_to(tmp_path / "out")
    assert path.read_text() == "content"
    (spill_area.create_dir("sub") / "inner").touch()
    str(spill_area.directory / "sub" / "inner")
    (spill_area.directory / "sub").rename(spill_area.directory / "moved")
    assert (spill_area.directory / "moved" / "inner").is_file()


def test_names_move_between_scopes_of_one_storage(area, storage, record):
    """A rename or link from one scope's area to another's stays in memory."""
    other = storage.open_area(record()).directory / "there"
    path = area.create_file("here")
    path.write_text("content")
    assert path.rename(other) is other
    assert other.read_text() == "content"
    path.hardlink_to(other)
    assert path.samefile(other)


# -- growing


@pytest.mark.parametrize("how", ["write_bytes", "write", "truncate", "renamed", "unlinked"])
def test_a_file_that_grows_too_large_moves_at_once(how, disk, record, on_disk):
    """Up to spill_above a file stays in memory; the write that passes it goes to the disk."""
    with MemoryStorage(spill_to=disk, spill_above="10B", max_bytes=20) as storage:
        area = storage.open_area(record())
        path = area.create_file("file")
        path.write_bytes(bytes(10))
        assert on_disk() == set()
        if how == "write_bytes":
            path.write_bytes(bytes(30))
        else:
            with path.open("r+b", buffering=0) as handle:
                if how == "renamed":
                    path = path.rename(path.with_name("new"))
                if how == "unlinked":
                    path.unlink()
                handle.seek(10)
                assert (handle.truncate(30) if how == "truncate" else handle.write(bytes(20))) in (20, 30)
                assert handle.seek(0, 2) == 30
                handle.write(b"")
        if how == "unlinked":
            assert on_disk() == set()
        else:
            assert on_disk() == {path.name}
            assert path.read_bytes() == bytes(30)
        assert storage._volume.bytes == 0


def test_a_file_that_grows_after_its_scope_ended_stays_in_memory(disk, record):
    """An open file outlives its scope; there is no place any more to which it could move."""
    with MemoryStorage(spill_to=disk, spill_above=10) as storage:
        area = storage.open_area(record())
        with area.create_file("file").open("w+b", buffering=0) as handle:
            area.remove()
            handle.write(bytes(20))
            handle.seek(0)
            assert handle.read() == bytes(20)
            with pytest.raises(OSError, match="spill_to"):
                handle.fileno()
        assert storage._volume.bytes == 0


# -- failures


def test_a_place_without_real_paths_is_refused():
    """spill_to must be a storage that has real paths."""
    with pytest.raises(ConfigurationError, match="real paths"):
        MemoryStorage(spill_to=MemoryStorage())


def test_capabilities_say_whether_paths_are_real(storage, spilling, tmp_path):
    """With a place to spill to paths are real, and what needs a disk can be as far as that place can it."""
    own = {Capability.RETAIN, Capability.UNNAMED_FILES}
    more = {Capability.REAL_PATHS, Capability.HAND_OVER, Capability.COMMAND_LEASE}
    assert storage.capabilities == own
    assert spilling.capabilities == own | more
    assert MemoryStorage(spill_to=PlainStorage(tmp_path)).capabilities == own | {Capability.REAL_PATHS}


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        ("utime", StorageError),
        ("chmod", StorageFull),
        ("open", StorageFull),
        ("mkdir", StorageFull),
        ("utime", None),
        ("builtin", StorageFull),
    ],
)
def test_what_cannot_move_stays_in_memory(broken, kind, spill_area, monkeypatch, on_disk):
    """If the disk refuses, the error says so, nothing half-written stays, and the file is as it was."""
    path = spill_area.create_dir("sub") / "file"
    path.write_text("content")
    real = str(spill_area.directory / "told")

    real_open = open

    def fail(*args, **kwargs):
        raise KeyboardInterrupt if kind is None else OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch, path.open("r") as handle:
        if broken == "builtin":
            patch.setattr(
                "builtins.open",
                lambda fd, *args, **kwargs: os.close(fd) or fail() if type(fd) is int else real_open(fd),
            )
        else:
            patch.setattr(os, broken, fail)
        with pytest.raises(kind or KeyboardInterrupt):
            os.fspath(path)
        assert handle.read() == "content"
    assert "file" not in on_disk()
    assert path.read_text() == "content"
    assert spill_area.tree.volume.bytes == 7
    assert Path(path).read_text() == "content"
    assert os.path.dirname(real) == str(spill_area.directory)


def test_a_name_that_a_program_took_gives_way(spill_area):
    """A program that guessed a name which is ours in memory loses it when ours moves to disk."""
    path, told = spill_area.create_file("ours"), spill_area.create_file("told")
    path.write_text("ours")
    Path(str(told)).with_name("ours").write_text("the program's")
    assert path.read_text() == "ours"
    assert Path(str(path)).read_text() == "ours"


def test_a_directory_that_a_program_made_is_joined(spill_area):
    """A directory that a program made under the name of one in memory is used when that moves."""
    told, ours = spill_area.create_file("told"), spill_area.create_dir("ours")
    (ours / "file").write_text("content")
    (Path(str(told)).parent / "ours").mkdir()
    assert Path(str(ours), "file").read_text() == "content"


def test_a_locked_directory_is_on_disk_open_enough(spill_area):
    """A directory that its owner may not write to still lets one of its files move."""
    top = spill_area.create_dir("top")
    (top / "file").write_text("content")
    top.chmod(0o500)
    assert Path(str(top / "file")).read_text() == "content"
    assert os.stat(Path(*top.parts)).st_mode & 0o777 == 0o700
    top.chmod(0o750)
    assert os.stat(Path(*top.parts)).st_mode & 0o777 == 0o750


def test_dots_in_a_text_work_on_the_disk(spill_area):
    """A text with '..' in it means on the disk what the path means."""
    spill_area.create_dir("sub")
    spill_area.create_file("file").write_text("content")
    path = spill_area.directory / "sub" / ".." / "file"
    assert Path(str(path)).read_text() == path.read_text() == "content"
    assert os.path.isdir(spill_area.directory / "..")
    assert not os.path.exists(spill_area.directory / "nothing" / ".." / "file2")


def test_after_the_end_the_text_is_only_text(spill_area, spilling):
    """The path of a closed scope still has its text, and nothing is made for it."""
    path, told = spill_area.create_file("file"), spill_area.create_file("told")
    text = str(told)
    spill_area.remove()
    assert str(told) == text
    assert str(path) == os.path.join(os.path.dirname(text), "file")
    assert not os.path.exists(os.path.dirname(text))
    assert not told.exists()


def test_a_scope_can_be_moved_as_a_whole(spill_area, area):
    """Spill moves everything and gives the area over there; without a place it cannot."""
    spill_area.create_file("file").write_text("content")
    real = spill_area.spill()
    assert (real.directory / "file").read_text() == "content"
    with pytest.raises(UnsupportedError):
        area.spill()


def test_a_path_is_a_field_of_records(spill_area, on_disk):
    """A record that holds a path shows it without moving anything."""
    assert spill_area.record.to_dict()["directory"] == spill_area.directory.display
    assert on_disk() == set()


def test_a_file_of_many_names_moves_with_all_or_with_none(spill_area, monkeypatch, on_disk):
    """If one of a file's names cannot be made on the disk, all stay in memory, and nothing is left there."""
    path = spill_area.create_file("file")
    path.write_text("content")
    other = spill_area.create_dir("sub") / "other"
    other.hardlink_to(path)

    def fail(*args):
        raise OSError(errno.EMLINK, "too many")

    with path.open() as handle, monkeypatch.context() as patch:
        patch.setattr(os, "link", fail)
        with pytest.raises(StorageFull):
            os.fspath(path)
        assert handle.read() == "content"
    assert on_disk() <= {"sub"}
    assert path.read_text() == other.read_text() == "content"
    Path(*other.parts).write_text("a program's")
    assert os.stat(path).st_nlink == 2
    assert other.read_text() == "content"


def test_on_the_disk_names_end_as_in_memory(spill_area):
    """Directories and links that are on the disk are removed, linked and left by '..' there."""
    top = spill_area.create_dir("top")
    (top / "sub").mkdir()
    os.fspath(top)
    assert sorted(path.name for path in (top / "sub" / "..").iterdir()) == ["sub"]
    assert (top / "sub" / ".." / "..").samefile(spill_area.directory)
    assert spill_area.delete(top / "sub").removed == 1
    top.rmdir()
    assert not top.exists()
    file = spill_area.create_file("file")
    told = spill_area.directory / "told"
    os.fspath(told)
    told.hardlink_to(file)
    assert os.stat(told).st_nlink == 2


def test_the_areas_own_directory_cannot_be_moved_or_removed(area):
    """The area's directory belongs to the storage: removing or renaming it is EBUSY."""
    file = area.create_file("file")
    assert file.rename(file) is file
    for action in (
        area.directory.rmdir,
        lambda: area.directory.rename(area.directory / "x"),
        lambda: file.rename(area.directory),
    ):
        with pytest.raises(OSError, match="Errno") as error:
            action()
        assert error.value.errno in (errno.EBUSY, errno.ENOTEMPTY)
    file.unlink()
    with pytest.raises(OSError, match="Errno") as error:
        area.directory.rmdir()
    assert error.value.errno == errno.EBUSY


def test_the_name_of_an_open_file_is_its_path(area, spill_area, on_disk):
    """A file's name is the path, which a command can be given; without a disk it is text for people."""
    with spill_area.create_file("file").open() as file:
        assert file.name == spill_area.directory / "file"
        assert on_disk() == set()
        assert os.path.exists(file.name)
    with area.create_file("file").open("rb") as file:
        assert file.name == (area.directory / "file").display


def test_threads_write_while_their_file_moves(spill_area):
    """Of threads that append while the file moves to disk, each record is there, whole."""
    path = spill_area.create_file("file")
    start = threading.Barrier(4)

    def append(letter: bytes) -> None:
        with path.open("ab", buffering=0) as file:
            start.wait()
            for _ in range(200):
                file.write(letter * 10)

    threads = [threading.Thread(target=append, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    start.wait()
    text = os.fspath(path)
    for thread in threads:
        thread.join()
    content = Path(text).read_bytes()
    records = [content[start : start + 10] for start in range(0, len(content), 10)]
    assert sorted(records) == sorted(letter * 10 for letter in (b"a", b"b", b"c") for _ in range(200))


def test_racing_threads_agree_on_the_place(spill_area, tmp_path):
    """Of threads that ask for a scope's place first, all get the same one."""
    start, texts = threading.Barrier(8), []

    def ask() -> None:
        start.wait()
        texts.append(spill_area.directory.parts)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(texts)) == 1
    assert len(list((tmp_path / "disk").glob("tempscope-*/i-*/a*"))) == 1


class Elsewhere(PlainStorage):
    """A storage that hands over but has no journal."""

    capabilities = frozenset([Capability.REAL_PATHS, Capability.HAND_OVER])

    def take_over(self, token):
        record = ScopeRecord(token=token, opened=Instant(1.0, 1.0))
        area = self.open_area(record)
        area.create_file("file")
        return record, area, {"/outside": ""}, []


def test_taking_over_from_a_storage_without_a_journal(tmp_path):
    """What the other storage does not journal need not be taken back there."""
    with MemoryStorage(spill_to=Elsewhere(tmp_path)) as storage:
        _, area, outside, _ = storage.take_over("token")
        assert [path.name for path in area.directory.iterdir()] == ["file"]
        assert outside == {"/outside": ""}


def test_large_files_move_when_memory_runs_short(spilling, record, on_disk):
    """spill() moves the files of at least a size, of live and kept scopes, and says how much left memory."""
    area, kept = spilling.open_area(record()), spilling.open_area(record())
    large, small = area.create_file("large"), area.create_file("small")
    large.write_bytes(b"x" * 200_000)
    small.write_bytes(b"x" * 10)
    (area.create_dir("deep") / "linked").hardlink_to(large)
    kept.create_file("kept").write_bytes(b"x" * 100_000)
    kept.retain(record())
    assert spilling.spill(at_least="64KiB") == 300_000
    assert on_disk() == {"large", "deep", "linked", "kept"}
    assert spilling._volume.bytes == 10
    assert large.read_bytes() == b"x" * 200_000
    assert spilling.spill() == 0
    assert spilling.spill(at_least=0) == 10


def test_what_changes_while_others_move_stays_as_it_is(spilling, record, mocker, on_disk):
    """A file that is gone, or another one, when its turn comes is left alone; so is an area that ended."""
    area, ending = spilling.open_area(record()), spilling.open_area(record())
    first, second, third = (area.create_file(name) for name in ("first", "second", "third"))
    for number, path in enumerate((first, second, third)):
        path.write_bytes(b"x" * (3000 - number))
    ending.create_file("file").write_bytes(b"x")
    really = _spill.settle

    def meanwhile(tree, names):
        second.unlink()
        third.unlink()
        third.mkdir()
        (third / "inside").touch()
        ending.remove()
        mocker.stop(patched)
        return really(tree, names)

    patched = mocker.patch.object(_spill, "settle", side_effect=meanwhile)
    spilling.spill(at_least=1)
    assert on_disk() == {"first"}
    assert not second.exists()
    assert third.is_dir()


def test_nowhere_to_spill_to():
    """spill() of a storage that cannot is refused, and so is what is no size."""
    with MemoryStorage() as storage:
        with pytest.raises(UnsupportedError, match="nowhere to spill to"):
            storage.spill()
        with pytest.raises(ConfigurationError, match="at_least"):
            storage.spill(at_least="much")
