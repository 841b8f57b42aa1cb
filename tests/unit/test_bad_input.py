"""Bad input at the manager: a clear error of ours, and nothing made."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tempscope.errors import (
    ConfigurationError,
    ForeignPathError,
    InvalidNameError,
    NameTakenError,
    PickledScopeError,
    ScopeEnteredError,
    StorageError,
    TempscopeError,
)
from tempscope.janitor import sweep
from tempscope.manager import TempFileManager
from tempscope.policies import DeleteOnClose, KeepAll, KeepOnFailure
from tempscope.scopes import TempScopes
from tempscope.storages import HardlinkStorage, LocalDiskStorage, MemoryStorage


BAD_NAMES = [
    "",
    " ",
    ".",
    "..",
    "a/b",
    "/etc/passwd",
    "../x",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a\x85b",
    "\ud800",
    "x" * 256,
    "ü" * 128,
    ".tempscope-record",
    b"bytes",
    5,
    ["list"],
]
BAD_AFFIXES = ["a/b", "../x", "..", "a..b", "a\0b", "a\nb", "\ud800", "x" * 250, b"bytes", 5, ["list"]]
Left = Callable[[], list[str]]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
@pytest.mark.parametrize(
    "make",
    [
        lambda job, name: job.new_file(name=name),
        lambda job, name: job.new_file(name=name, create=False),
        lambda job, name: job.new_dir(name=name),
        lambda job, name: job.create_temp_file(name=name),
        lambda job, name: job.create_temp_dir(name=name),
    ],
    ids=["new_file", "reserve", "new_dir", "create_temp_file", "create_temp_dir"],
)
def test_bad_names(
    scopes: TempScopes, base: Path, make: Callable[[TempFileManager, Any], object], name: Any
) -> None:
    """What cannot be a name is refused when it is given, before anything is made."""
    with scopes.open() as job:
        with pytest.raises(InvalidNameError):
            make(job, name)
        assert list(base.iterdir()) == []


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_bad_names_for_staging(scopes: TempScopes, tmp_path: Path, name: Any) -> None:
    """A staged file is given no bad name either, and none stays behind."""
    source = tmp_path / "source"
    source.touch()
    with scopes.open() as job:
        with pytest.raises(InvalidNameError):
            job.stage(source, name=name)
        assert list(job.directory.iterdir()) == []


@pytest.mark.parametrize("text", BAD_AFFIXES, ids=ascii)
def test_bad_affixes(scopes: TempScopes, base: Path, text: Any) -> None:
    """A prefix or suffix that cannot be part of a name is refused before anything is made."""
    with scopes.open() as job:
        for make in (
            lambda: job.new_file(text),
            lambda: job.new_file(prefix=text),
            lambda: job.new_file(text, create=False),
            lambda: job.new_dir(text),
            lambda: job.create_temp_file(text),
            lambda: job.create_temp_file(prefix=text),
            lambda: job.create_temp_dir(text),
        ):
            with pytest.raises(InvalidNameError):
                make()
    with pytest.raises(InvalidNameError):
        TempFileManager(text, base)
    assert list(base.iterdir()) == []


def test_good_names_are_taken_as_they_are(scopes: TempScopes) -> None:
    """Everything else is a name: spaces, dots, quotes, other scripts, 255 bytes."""
    names = ["a b", "...", "-rf", "$(x)", "'\"", "日本語", "e\u0301", "x" * 255, "CON", ".hidden", "a..b"]
    with scopes.open() as job:
        for name in names:
            assert job.new_file(name=name).name == name
        assert sorted(path.name for path in job.directory.iterdir()) == sorted(names)


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", "\0", "日本語", "x" * 1000])
def test_a_jobs_name_is_a_label(storage: LocalDiskStorage, base: Path, name: str) -> None:
    """Any text names a job, and never becomes a path."""
    for job in (TempScopes(storage).open(name), TempFileManager(storage=storage, name=name)):
        with job, job.scope(name) as child:
            made = [job.new_file(), child.new_file()]
            assert child.name == name
            assert all(path.is_relative_to(base) for path in made)
            assert not any("etc" in path.parts for path in made)


@pytest.mark.parametrize("name", [5, b"job", "x" * 1001, ["list"]], ids=ascii)
def test_a_jobs_name_that_is_no_text(storage: LocalDiskStorage, name: Any) -> None:
    """A name that is not text, or endless, is refused wherever a scope is opened."""
    scopes = TempScopes(storage)
    with scopes.open() as job:
        for make in (
            lambda: scopes.open(name),
            lambda: job.scope(name),
            lambda: TempFileManager(storage=storage, name=name),
            lambda: TempScopes(storage, label=name),
        ):
            with pytest.raises(InvalidNameError):
                make()


@pytest.mark.parametrize("what", [None, object(), "DeleteOnClose", 5])
def test_a_policy_that_is_none(storage: LocalDiskStorage, what: Any) -> None:
    """What cannot decide is refused where it is given."""
    with pytest.raises(ConfigurationError, match="a policy such as"):
        TempScopes(storage, what)
    if what is None:
        return
    with TempScopes(storage).open() as job:
        for make in (
            lambda: TempScopes(storage).open(policy=what),
            lambda: job.scope(policy=what),
            lambda: TempFileManager(storage=storage, policy=what),
        ):
            with pytest.raises(ConfigurationError, match="a policy such as"):
                make()


@pytest.mark.parametrize("policy", [DeleteOnClose, KeepAll, KeepOnFailure])
def test_the_class_of_a_policy(storage: LocalDiskStorage, policy: Any) -> None:
    """A policy's class in place of a policy is refused where it is given, with what to write instead."""
    name = policy.__name__
    with TempScopes(storage).open() as job:
        for make in (
            lambda: TempScopes(storage, policy),
            lambda: TempScopes(storage).open(policy=policy),
            lambda: job.scope(policy=policy),
            lambda: TempFileManager(storage=storage, policy=policy),
            lambda: sweep(storage, policy=policy),
        ):
            with pytest.raises(ConfigurationError) as caught:
                make()
            assert str(caught.value) == f"policy cannot be the class {name}: write {name}()"


@pytest.mark.parametrize("make", [TempScopes, lambda storage: TempFileManager(storage=storage)])
def test_the_class_of_a_storage(make: Callable[[Any], object]) -> None:
    """A storage's class in place of a storage is refused where it is given, with what to write instead."""
    with pytest.raises(ConfigurationError) as caught:
        make(LocalDiskStorage)
    assert str(caught.value) == "storage cannot be the class LocalDiskStorage: write LocalDiskStorage()"


@pytest.mark.parametrize("what", [object(), "/tmp", 5])
def test_a_storage_that_is_none(what: Any) -> None:
    """What opens no areas is refused where it is given."""
    with pytest.raises(ConfigurationError, match="no storage"):
        TempScopes(what)
    with pytest.raises(ConfigurationError, match="no storage"):
        TempFileManager(storage=what)


def test_a_base_directory_and_a_storage(storage: LocalDiskStorage, tmp_path: Path) -> None:
    """A storage has its own base directory: giving both is refused."""
    with pytest.raises(ConfigurationError, match="either base_dir or storage"):
        TempFileManager(base_dir=tmp_path, storage=storage)


@pytest.mark.parametrize("path", ["", "a\0b", b"a\0b"])
def test_paths_that_are_none(scopes: TempScopes, path: Any) -> None:
    """An empty path, or one with a NUL, is refused by every call that takes one."""
    with scopes.open() as job:
        for use in (job.register_file, job.stage, job.keep, lambda path: job.publish(job.new_file(), path)):
            with pytest.raises(StorageError, match="cannot be a path"):
                use(path)


def test_paths_of_others(scopes: TempScopes, tmp_path: Path) -> None:
    """Publishing or keeping what is not in the scope is refused, and touches nothing."""
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    with scopes.open() as other, scopes.open() as job:
        foreign = other.new_file()
        job.new_file()
        for path in (theirs, foreign, job.directory / ".." / "x", job.directory):
            with pytest.raises(ForeignPathError):
                job.publish(path, tmp_path / "out")
            with pytest.raises(ForeignPathError):
                job.keep(path)
        assert foreign.exists()
    assert theirs.read_text() == "theirs"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("mode", "shown", "tail"),
    [
        (644, "644", "; 644 is 0o1204"),
        (0o4755, "2541", "; 2541 is 0o4755"),
        (0o10000, "4096", "; 4096 is 0o10000"),
        (-1, "-1", ""),
        ("0644", "'0644'", ""),
        (True, "True", ""),
    ],
)
def test_permissions_that_are_none(
    scopes: TempScopes, tmp_path: Path, mode: Any, shown: str, tail: str
) -> None:
    """What are no permissions, or has set-id bits, is refused before anything is published."""
    said = f"mode cannot be {shown}: write it octal, from 0 to 0o777, such as 0o644{tail}"
    with scopes.open() as job:
        path = job.new_file()
        for publish in (job.publish, lambda *args, **kwargs: asyncio.run(job.apublish(*args, **kwargs))):
            with pytest.raises(ConfigurationError) as caught:
                publish(path, tmp_path / "out", mode=mode)
            assert str(caught.value) == said
        assert path.exists()
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode", [0, 0o777])
def test_permissions_at_the_bounds(scopes: TempScopes, tmp_path: Path, mode: int) -> None:
    """All permissions from none to all of them are set as given."""
    with scopes.open() as job:
        published = job.publish(job.new_file(), tmp_path / "out", mode=mode)
        assert published.stat().st_mode & 0o7777 == mode


@pytest.fixture(params=["disk", "hard links", "memory"])
def each(request: pytest.FixtureRequest, storage: LocalDiskStorage, base: Path) -> TempScopes:
    """What opens scopes on each kind of storage."""
    if request.param == "memory":
        return TempScopes(MemoryStorage())
    return TempScopes(storage if request.param == "disk" else HardlinkStorage(base))


def test_publishing_what_only_has_a_path(each: TempScopes, tmp_path: Path) -> None:
    """What is no path but has one, or gives one, is refused with how to get at it."""
    (tmp_path / "f.txt").touch()
    with each.open() as job:
        with pytest.raises(ConfigurationError, match=r"^a Staged\w+ cannot be published: give its \.path$"):
            job.publish(job.stage(tmp_path / "f.txt"), tmp_path / "out")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="not entered.* cannot be published: enter it by with"):
            job.publish(job.create_temp_file(), tmp_path / "out")  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [None, 5, object(), ["list"]])
def test_publishing_what_is_no_path(scopes: TempScopes, tmp_path: Path, path: Any) -> None:
    """What is neither a path nor an open file is refused by name."""
    with scopes.open() as job, pytest.raises(ConfigurationError) as caught:
        job.publish(path, tmp_path / "out")
    said = f"{path!r} cannot be published: give a path of the scope, or an open file of unnamed_file()"
    assert str(caught.value) == said


def test_publishing_the_scopes_own_directory(each: TempScopes, tmp_path: Path) -> None:
    """The directory of the scope itself is refused as that, with what can be published instead."""
    with each.open() as job, pytest.raises(ForeignPathError) as caught:
        job.publish(job.directory, tmp_path / "out")
    said = " is the scope's own directory, which ends with it: name what is in it, or a new_dir()"
    assert str(caught.value).endswith(said)


def test_staging_by_a_name_that_is_taken(each: TempScopes, tmp_path: Path) -> None:
    """The error of a taken name tells the name, not the source, be it a file or a directory."""
    (tmp_path / "f.txt").touch()
    (tmp_path / "d").mkdir()
    with each.open() as job:
        job.new_file(name="out.mkv")
        for source in ("f.txt", "d"):
            with pytest.raises(NameTakenError) as caught:
                job.stage(tmp_path / source, name="out.mkv")
            assert caught.value.strerror == "the name 'out.mkv' is taken in this scope"


@pytest.mark.parametrize("callback", [None, 5, "print"])
def test_a_callback_that_cannot_be_called(scopes: TempScopes, callback: Any) -> None:
    """It is refused when it is registered, not when the scope closes."""
    with scopes.open() as job, pytest.raises(ConfigurationError, match="cannot be called"):
        job.register_cleanup_callback(callback)


@pytest.mark.parametrize("function", [None, 5, "print"])
def test_binding_what_cannot_be_called(scopes: TempScopes, function: Any) -> None:
    """It is refused when it is bound, not in some thread."""
    with scopes.open() as job, pytest.raises(ConfigurationError, match="cannot be called"):
        job.bind(function)


@pytest.mark.parametrize("exc", ["failed", ValueError, 5, False])
def test_closing_with_what_is_no_exception(scopes: TempScopes, exc: Any) -> None:
    """What is no exception is refused, and the scope is still open."""
    with scopes.open() as job:
        for close in (job.close, lambda exc: asyncio.run(job.aclose(exc))):
            with pytest.raises(ConfigurationError) as caught:
                close(exc)
            said = f"exc cannot be {exc!r}: give the exception that ended the job, or None if it ended well"
            assert str(caught.value) == said
        assert job.new_file().exists()


@pytest.mark.parametrize("place", ["/var/tmp", Path("/var/tmp"), LocalDiskStorage, object()])
def test_spilling_to_what_is_no_storage(place: Any) -> None:
    """A directory, or the class of a storage, is no place to spill to."""
    with pytest.raises(ConfigurationError, match=r"spill_to cannot be .*: give a storage on a disk"):
        MemoryStorage(spill_to=place)


def test_a_callback_that_nobody_would_await(scopes: TempScopes) -> None:
    """A coroutine function is refused as a callback."""

    async def callback() -> None:
        """Do nothing."""

    with scopes.open() as job, pytest.raises(ConfigurationError, match="nobody would await"):
        job.register_cleanup_callback(callback)


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_managers_are_not_copied(scopes: TempScopes, way: Callable[[object], object]) -> None:
    """Pickling and copying raise an error that is also a ``TypeError`` and says what to do."""
    with scopes.open() as job, pytest.raises(TypeError, match="detach") as caught:
        way(job)
    assert isinstance(caught.value, PickledScopeError)


def test_errors_say_which_scope(scopes: TempScopes) -> None:
    """An error of a scope carries the scope's name."""
    job = scopes.open("render")
    with job, pytest.raises(ScopeEnteredError) as caught:
        job.__enter__()
    assert caught.value.scope == "render"
    with pytest.raises(TempscopeError) as closed:
        job.new_file()
    assert closed.value.scope == "render"
