"""Every public method of the running Python's Path is served, and names are handled as on any path."""

from __future__ import annotations

import copy
import operator
import os
import pickle
import sys
from pathlib import Path, PurePath, PureWindowsPath

import pytest

from tempscope.errors import UnsupportedError
from tempscope.storages.memory import MemoryPath


def refused(kind, action, *args) -> bool:
    """Return whether *action* raises *kind*, as it shall."""
    try:
        action(*args)
    except kind:
        return True
    return False


PLAIN = {"cwd", "home", "from_uri"}

SERVED = {
    "absolute": lambda p: p.absolute() == p,
    "anchor": lambda p: p.anchor == "/",
    "chmod": lambda p: p.chmod(0o640) is None and p.stat().st_mode & 0o777 == 0o640,
    "copy": lambda p: p.copy(p.with_name("c")).read_bytes() == b"content",
    "copy_into": lambda p: p.copy_into(p.parent / "d").read_bytes() == b"content",
    "drive": lambda p: p.drive == "",
    "exists": lambda p: p.exists() and not (p / "x").exists(),
    "expanduser": lambda p: p.expanduser() == p,
    "full_match": lambda p: p.full_match("**/f.tar.gz"),
    "glob": lambda p: list(p.parent.glob("*.gz")) == [p],
    "group": lambda p: isinstance(p.group(), str),
    "hardlink_to": lambda p: p.with_name("h").hardlink_to(p) is None and p.stat().st_nlink == 2,
    "info": lambda p: p.info is not None,
    "is_absolute": lambda p: p.is_absolute(),
    "is_block_device": lambda p: not p.is_block_device(),
    "is_char_device": lambda p: not p.is_char_device(),
    "is_dir": lambda p: p.parent.is_dir() and not p.is_dir(),
    "is_fifo": lambda p: not p.is_fifo(),
    "is_file": lambda p: p.is_file() and not p.parent.is_file(),
    "is_junction": lambda p: not p.is_junction(),
    "is_mount": lambda p: not p.is_mount(),
    "is_reserved": lambda p: not p.is_reserved(),
    "is_relative_to": lambda p: p.is_relative_to(p.parent) and not p.is_relative_to("/other"),
    "is_socket": lambda p: not p.is_socket(),
    "is_symlink": lambda p: not p.is_symlink(),
    "iterdir": lambda p: sorted(c.name for c in p.parent.iterdir()) == ["d", "f.tar.gz"],
    "joinpath": lambda p: p.joinpath("a", "b") == p / "a" / "b",
    "lchmod": lambda p: sys.platform != "linux" or refused(NotImplementedError, p.lchmod, 0o600),
    "link_to": lambda p: p.link_to(p.with_name("l")) is None and p.stat().st_nlink == 2,
    "lstat": lambda p: p.lstat().st_size == 7,
    "match": lambda p: p.match("*.gz") and not p.match("*.txt"),
    "mkdir": lambda p: (p.parent / "m").mkdir() is None and (p.parent / "m").is_dir(),
    "move": lambda p: p.move(p.with_name("m")).read_bytes() == b"content" and not p.exists(),
    "move_into": lambda p: p.move_into(p.parent / "d").read_bytes() == b"content" and not p.exists(),
    "name": lambda p: p.name == "f.tar.gz",
    "open": lambda p: p.open().read() == "content",
    "owner": lambda p: isinstance(p.owner(), str),
    "parent": lambda p: (p / "x").parent == p,
    "parents": lambda p: p.parents[0] == p.parent and p.parents[-1] == Path("/"),
    "parser": lambda p: p.parser is os.path,
    "parts": lambda p: p.parts[0] == "/" and p.parts[-1] == "f.tar.gz",
    "read_bytes": lambda p: p.read_bytes() == b"content",
    "read_text": lambda p: p.read_text() == "content",
    "readlink": lambda p: refused(OSError, p.readlink),
    "relative_to": lambda p: p.relative_to(p.parent) == Path("f.tar.gz"),
    "rename": lambda p: p.rename(p.with_name("n")).read_bytes() == b"content" and not p.exists(),
    "replace": lambda p: p.replace(p.with_name("n")).read_bytes() == b"content" and not p.exists(),
    "resolve": lambda p: (p.parent / "d" / ".." / p.name).resolve() == p == p.resolve(strict=True),
    "rglob": lambda p: p in list(p.parent.rglob("*")),
    "rmdir": lambda p: (p.parent / "d").rmdir() is None and not (p.parent / "d").exists(),
    "root": lambda p: p.root == "/",
    "samefile": lambda p: p.samefile(p) and not p.samefile(p.parent) and not p.samefile("/"),
    "stat": lambda p: p.stat().st_size == 7,
    "stem": lambda p: p.stem == "f.tar",
    "suffix": lambda p: p.suffix == ".gz",
    "suffixes": lambda p: p.suffixes == [".tar", ".gz"],
    "symlink_to": lambda p: refused(PermissionError, p.with_name("s").symlink_to, p),
    "touch": lambda p: p.with_name("t").touch() is None and p.with_name("t").is_file(),
    "unlink": lambda p: p.unlink() is None and not p.exists() and p.unlink(missing_ok=True) is None,
    "walk": lambda p: [len(found) for found in p.parent.walk()] == [3, 3],
    "with_name": lambda p: p.with_name("x").name == "x",
    "with_segments": lambda p: p.with_segments(p, "x") == p / "x",
    "with_stem": lambda p: p.with_stem("x").name == "x.gz",
    "with_suffix": lambda p: p.with_suffix(".x").name == "f.tar.x",
    "write_bytes": lambda p: p.write_bytes(b"new") == 3 and p.read_bytes() == b"new",
    "write_text": lambda p: p.write_text("new") == 3 and p.read_bytes() == b"new",
}
TEXT = {"as_posix", "as_uri"}
PUBLIC = {name for name in dir(Path) if not name.startswith("_")}


@pytest.fixture
def file(area) -> MemoryPath:
    """A file beside an empty directory, in memory only."""
    area.create_dir("d")
    path = area.create_file("f.tar.gz")
    path.write_bytes(b"content")
    return path


def test_every_public_name_of_the_running_path_has_a_check_here():
    """Whatever this Python's Path can do is on one of the three lists, so a new method fails here first."""
    assert PUBLIC - PLAIN - TEXT - SERVED.keys() == set()


def test_a_path_in_memory_is_a_path(file):
    """A path in memory is an instance of Path, of this platform's Path, and of PathLike."""
    assert isinstance(file, Path)
    assert isinstance(file, type(Path()))
    assert isinstance(file, os.PathLike)


@pytest.mark.parametrize("name", sorted(SERVED))
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:.*is_reserved:DeprecationWarning",
    "ignore:.*link_to:DeprecationWarning",
)
def test_each_method_is_served_from_memory(name, file):
    """Each method works where there is no disk to go to, and gives what it would give there."""
    if name in PUBLIC or hasattr(MemoryPath, name):
        assert SERVED[name](file)


@pytest.mark.parametrize("name", sorted(PLAIN & PUBLIC))
def test_what_is_elsewhere_is_a_plain_path(name):
    """The current directory, the home directory and URIs give plain paths."""
    arguments = ("file:///etc",) if name == "from_uri" else ()
    assert type(getattr(MemoryPath, name)(*arguments)) is type(Path())


@pytest.mark.parametrize(
    "ask",
    [str, os.fspath, bytes, format, pickle.dumps, open, os.stat, MemoryPath.as_uri, MemoryPath.as_posix],
    ids=lambda ask: ask.__name__,
)
def test_asking_for_the_text_says_what_to_configure(ask, file):
    """Without a place to spill to, whatever needs the text raises an error that names the setting."""
    with pytest.raises(UnsupportedError, match="spill_to"):
        ask(file)


def test_names_are_handled_without_moving_anything(spill_area, on_disk):
    """Joining, comparing, hashing, taking apart and showing leave the file in memory."""
    path = spill_area.create_dir("sub") / "file.txt"
    path.write_bytes(b"content")
    assert path.parent.parent == spill_area.directory
    assert path.relative_to(spill_area.directory) == Path("sub/file.txt")
    assert path.relative_to(path.parent.parent.parent).parts[1:] == ("sub", "file.txt")
    assert path.with_suffix(".x").with_name("y").with_stem("z").name == "z"
    assert len({path, spill_area.directory / "sub" / "file.txt"}) == 1
    assert path in path.parent.iterdir()
    assert sorted([path, path.parent]) == [path.parent, path]
    assert path.match("sub/*.txt")
    assert "file.txt" in repr(path)
    assert path.display == repr(path)[len("MemoryPath('") : -2]
    assert on_disk() == set()


def test_a_path_equals_the_plain_path_of_its_text(spill_area, area):
    """A path in memory and the plain path of its text are equal, and sort and hash alike."""
    path = spill_area.create_file("file")
    plain = Path(str(path))
    assert type(plain) is type(Path())
    assert path == plain
    assert plain == path
    assert hash(plain) == hash(path)
    assert {plain: 1}[path] == 1
    assert path <= plain <= path >= plain >= path
    assert not path < plain
    assert not plain > path
    assert path != str(path)
    assert path != area.create_file("file")
    assert path != PureWindowsPath("file")
    assert PureWindowsPath("file") != path
    with pytest.raises(TypeError):
        path < 1  # noqa: B015
    for compare in (operator.le, operator.gt, operator.ge):
        with pytest.raises(TypeError):
            compare(path, 1)


def test_a_plain_path_of_a_path_in_memory_is_its_real_place(spill_area):
    """Path(p), and joining a plain path with one in memory, move the file to where that finds it."""
    for name, make in {"a": Path, "b": PurePath, "c": Path("x").joinpath}.items():
        path = spill_area.create_file(name)
        path.write_text("content")
        assert Path(make(path)).read_text() == "content"
    assert Path("/x") / path is path
    assert "/x" / path is path
    with pytest.raises(TypeError):
        1 / path


def test_without_a_disk_a_plain_path_leads_nowhere(file):
    """Path(p) cannot be told from comparing, so without a place to spill to it builds a path to nothing."""
    plain = Path(file)
    assert type(plain) is type(Path())
    assert plain == file
    assert plain.is_relative_to(file.parent)
    assert not Path("/other").is_relative_to(file.parent)
    with pytest.raises(FileNotFoundError, match="tempscope-memory"):
        plain.read_bytes()


def test_plain_paths_can_be_compared_with_one_in_memory(spill_area, on_disk):
    """Plain paths can be asked how they stand to a path in memory, which stays there."""
    path = spill_area.create_dir("sub")
    plain = Path(*path.parts) / "x"
    assert plain.is_relative_to(path)
    assert plain.relative_to(path) == Path("x")
    assert path in plain.parents


def test_joining_goes_where_the_text_goes(spill_area):
    """What is joined stays in memory inside the area, and is a plain path outside of it."""
    top = spill_area.directory
    inside = str(top / "x")
    assert type(top / inside) is MemoryPath
    assert type(top / "/etc") is type(Path())
    assert type(top.joinpath("a", "/etc", "b")) is type(Path())
    assert type(top.joinpath("/etc", inside)) is MemoryPath
    assert top / "." / "" / "a/./b" == top / "a" / "b"
    assert top / Path("a/b") == top / "a" / "b"
    assert top.with_segments(inside) == top / "x"
    assert top.with_segments("/etc", top) == top
    assert top.with_segments("/", inside) == top / "x"
    assert top.with_segments("/etc", "x") == Path("/etc/x")
    assert top.with_segments() == Path()
    assert MemoryPath("/etc") == Path("/etc")
    assert type(top.parent) is type(Path())
    assert type(top.with_name("x")) is type(Path())
    assert top.with_name(top.name) == top
    assert top.name == Path(str(top)).name
    with pytest.raises(TypeError):
        top / 5
    with pytest.raises(TypeError):
        top / b"x"


def test_relative_paths_are_found_for_any_base(spill_area):
    """relative_to and is_relative_to answer as plain paths do, whatever the other is."""
    path = spill_area.directory / "a" / "b"
    plain = Path(str(path))
    for base in (plain.parent, str(plain.parent), plain.parent.parent.parent, spill_area.directory):
        assert path.relative_to(base) == plain.relative_to(str(base))
        assert path.is_relative_to(base)
    for base in ("/other", path / "c", path.parent / "d"):
        with pytest.raises(ValueError, match="is not in the subpath of"):
            path.relative_to(base)
        assert not path.is_relative_to(base)
    with pytest.raises(ValueError, match="name"):
        path.with_name("a/b")
    with pytest.raises(ValueError, match="suffix"):
        path.with_suffix("x")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="relative_to(walk_up=True) came with Python 3.12")
def test_walking_up_gives_the_way_back(area):
    """relative_to(walk_up=True) finds the way through the common directory."""
    assert (area.directory / "a").relative_to(area.directory / "b", walk_up=True) == Path("../a")


def test_a_long_name_is_a_name(area):
    """A name may have as many bytes as on the disk, and no more."""
    path = area.directory / ("ä" * 127)
    path.write_bytes(b"content")
    assert path.read_bytes() == b"content"
    with pytest.raises(OSError, match="too long"):
        (area.directory / ("ä" * 128)).write_bytes(b"")


def test_renaming_goes_by_way_of_dots(area):
    """What is renamed and where to may be told with '..' on the way."""
    top = area.directory
    (top / "a").mkdir()
    (top / "b").mkdir()
    (top / "a" / ".." / "b").rename(top / "a" / ".." / "a" / "c")
    assert (top / "a" / "c").is_dir()
    assert not (top / "b").exists()


def test_copies_of_a_path_are_the_path(file):
    """Copy and deepcopy, as attrs.asdict makes them, keep the path in memory."""
    assert copy.copy(file) is file
    assert copy.deepcopy({"path": file})["path"] is file


def test_a_path_travels_to_another_process_by_its_text(spill_area):
    """Pickling moves the file to disk and gives a plain path of it."""
    path = spill_area.create_file("file")
    path.write_text("content")
    assert pickle.loads(pickle.dumps(path)).read_text() == "content"


def test_the_text_is_the_real_place_from_birth(spill_area):
    """The text does not change when the file moves to it, and is below the area's directory."""
    path = spill_area.create_file("file")
    before = path.parts
    assert Path(str(path)).parts == before
    assert f"{path}" == str(path) == os.fspath(path) == os.fsdecode(bytes(path)) == path.as_posix()
    assert path.as_uri() == Path(str(path)).as_uri()


def test_leaving_the_area_by_dots_is_the_disk(spill_area):
    """A path that leads out of the area by '..' means what it means on the disk."""
    outside = spill_area.directory / ".."
    assert outside.is_dir()
    assert outside.samefile(spill_area.directory.parent)
    assert type(outside.resolve()) is type(Path())


def test_resolving_strictly_needs_the_file(area):
    """resolve(strict=True) raises for what is not there; without strict it only tidies the text."""
    path = area.directory / "a" / ".." / "b"
    assert path.resolve() == area.directory / "b"
    with pytest.raises(FileNotFoundError):
        path.resolve(strict=True)
    with pytest.raises(FileNotFoundError):
        path.stat()
