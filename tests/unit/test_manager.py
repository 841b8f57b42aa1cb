"""What a job does with its manager: files, staging, publishing, outside paths, cleaning up."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from tempscope.errors import (
    BaseDirectoryError,
    CleanupFailed,
    ForeignPathError,
    NameTakenError,
    PathMissingError,
    ScopeClosedError,
    ScopeEnteredError,
    StorageError,
    UnsupportedError,
)
from tempscope.manager import TempFileManager
from tempscope.model import Entry, Removal, Usage
from tempscope.policies import KeepAll, KeepOnFailure
from tempscope.scopes import TempScopes
from tempscope.storages import HardlinkStorage, LocalDiskStorage
from tempscope.storages._journal import Journal

from .faults import PATIENCE, Gate, HookedStorage, Keeping, PlainStorage, leaving_behind, raising


Left = Callable[[], list[str]]


# Files for one block


def test_a_block_has_a_file(scopes: TempScopes) -> None:
    """``create_temp_file`` gives an empty private file, which goes when the block ends."""
    with scopes.open() as job:
        with job.create_temp_file(".mkv", "clip_") as path:
            assert path.name.startswith("clip_")
            assert path.suffix == ".mkv"
            assert path.stat().st_size == 0
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert path.parent == job.directory
        assert not path.exists()


def test_a_block_has_a_directory(scopes: TempScopes) -> None:
    """``create_temp_dir`` gives a private directory, which goes with all that is in it."""
    with scopes.open() as job:
        with job.create_temp_dir("frames_") as path:
            assert path.name.startswith("frames_")
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
            (path / "inner").mkdir()
            (path / "inner" / "1.png").touch()
        assert not path.exists()
        with job.create_temp_dir(name="exact") as exact:
            assert exact.name == "exact"


def test_blocks_serve_async_with(scopes: TempScopes) -> None:
    """The same objects serve ``async with``; a failing block deletes too where nothing is kept."""

    async def main() -> None:
        async with scopes.open() as job:
            async with job.create_temp_file() as path, job.create_temp_file(delete=False) as staying:
                assert path.exists()
            assert not path.exists()
            assert staying.exists()
            with pytest.raises(ZeroDivisionError):
                async with job.create_temp_file() as failing:
                    1 / 0  # noqa: B018
            assert not failing.exists()

    asyncio.run(main())


def test_delete_false_leaves_the_file_to_the_scope(scopes: TempScopes) -> None:
    """With ``delete=False`` the file outlives its block and goes with the scope."""
    with scopes.open() as job:
        with job.create_temp_file(delete=False) as path:
            pass
        assert path.exists()
    assert not path.exists()


def test_a_block_is_entered_once(scopes: TempScopes) -> None:
    """Entering the object of a block twice raises and makes no second file."""
    with scopes.open() as job, job.create_temp_file(name="x") as path:
        block = job.create_temp_file()
        with block, pytest.raises(ScopeEnteredError, match="entered before"):
            block.__enter__()
        assert list(job.directory.iterdir()) == [path]


def test_leaving_a_block_that_was_not_entered_does_nothing(hooked: HookedStorage) -> None:
    """An object whose file could not be made has nothing to delete."""
    with TempScopes(hooked).open() as job:
        job.new_file(name="x")
        block = job.create_temp_file(name="x")
        with pytest.raises(NameTakenError):
            block.__enter__()
        block.__exit__(None, None, None)
        asyncio.run(block.__aexit__(None, None, None))
        assert "delete" not in hooked.hooks.calls


def test_open_blocks_are_counted(scopes: TempScopes) -> None:
    """A scope knows how many blocks are entered, however they are left."""

    async def main() -> None:
        with scopes.open() as job:
            assert job._open_paths == 0
            async with job.create_temp_file():
                with job.create_temp_dir():
                    assert job._open_paths == 2
                assert job._open_paths == 1
            assert job._open_paths == 0

    asyncio.run(main())


def test_a_block_says_what_it_is(scopes: TempScopes) -> None:
    """The object of a block shows its path, once there is one, and its scope."""
    with scopes.open("job") as job:
        block = job.create_temp_file(name="x")
        assert repr(block) == "<TempPath not entered of 'job'>"
        with block as path:
            assert repr(path) in repr(block)


def test_a_block_that_ends_after_its_scope_is_no_error(storage: LocalDiskStorage) -> None:
    """When the scope closed first, its files went with it, or were kept; the block's end changes nothing."""
    for policy, stays in ((None, False), (KeepAll(), True)):
        job = TempScopes(storage).open(policy=policy)
        with job.create_temp_file(name="x"):
            report = job.close()
        assert (report.directory is not None and (report.directory / "x").exists()) is stays


def test_a_file_that_cannot_be_deleted_yet_is_a_warning(
    hooked: HookedStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """What a block's end cannot delete goes with the scope; a warning says so, without its name."""
    hooked.hooks.before["delete"] = leaving_behind("secret-name", "it is in use")
    with TempScopes(hooked).open("job") as job:
        with job.create_temp_file(name="secret-name") as path:
            pass
        assert path.exists()
        assert [(r.levelname, r.tempscope_reason) for r in caplog.records] == [  # type: ignore[attr-defined]
            ("WARNING", "it is in use")
        ]
        assert "secret-name" not in caplog.text
    assert not path.exists()


# Files for the scope


def test_new_file_and_new_dir_live_until_the_scope_closes(scopes: TempScopes) -> None:
    """Files and directories for the scope stay until it closes, with what was put into them."""
    with scopes.open() as job:
        file, directory = job.new_file(".srt", "subs_"), job.new_dir("frames_")
        (directory / "1.png").touch()
        assert file.name.startswith("subs_")
        assert file.name.endswith(".srt")
        assert directory.name.startswith("frames_")
        assert job.new_dir(name="exact").name == "exact"
    assert not file.exists()
    assert not directory.exists()


def test_unique_names_pass_over_the_jobs_own_files(scopes: TempScopes) -> None:
    """A file that the job made by itself where our next name would be stays as it is."""
    with scopes.open() as job:
        first = job.new_file(prefix="x")
        number = int(first.name[1:])
        own = job.directory / f"x{number + 1}"
        own.write_text("own")
        second = job.new_file(prefix="x")
        assert second not in (first, own)
        assert own.read_text() == "own"


def test_unique_names_give_up_some_time(hooked: HookedStorage) -> None:
    """When name after name is taken the error says so instead of trying for ever."""
    hooked.hooks.before["create_file"] = raising(NameTakenError("taken"))
    with (
        TempScopes(hooked).open() as job,
        pytest.raises(NameTakenError, match="no free name between 'a' and"),
    ):
        job.new_file(".b", "a")


def test_an_exact_name_is_made_once(scopes: TempScopes) -> None:
    """An exact name that is taken raises, and what has it stays as it is."""
    with scopes.open() as job:
        path = job.new_file(name="clip.mkv")
        path.write_text("mine")
        for make in (job.new_file, job.new_dir):
            with pytest.raises(NameTakenError):
                make(name="clip.mkv")
        assert path.read_text() == "mine"


def test_a_reserved_name_is_not_made(scopes: TempScopes) -> None:
    """``create=False`` reserves a name, exact or unique, for a program that makes its output itself."""
    with scopes.open() as job:
        exact = job.new_file(name="out.mkv", create=False)
        unique = job.new_file(".mkv", "out_", create=False)
        assert not exact.exists()
        assert not unique.exists()
        assert exact.parent == unique.parent == job.directory
        assert unique.suffix == ".mkv"
        exact.touch()
    assert not exact.exists()


def test_a_reserved_name_is_taken(scopes: TempScopes, tmp_path: Path) -> None:
    """While a name is reserved, nobody else gets it: not reserved, made or staged."""
    source = tmp_path / "out.mkv"
    source.touch()
    with scopes.open() as job:
        job.new_file(name="out.mkv", create=False)
        for take in (
            lambda: job.new_file(name="out.mkv", create=False),
            lambda: job.new_file(name="out.mkv"),
            lambda: job.new_dir(name="out.mkv"),
            lambda: job.stage(source, name="out.mkv"),
        ):
            with pytest.raises(NameTakenError, match="'out.mkv' is taken"):
                take()
        assert job.stage(source).path.name != "out.mkv"


def test_a_name_in_use_cannot_be_reserved(scopes: TempScopes) -> None:
    """A file, or a link that leads nowhere, has its name already."""
    with scopes.open() as job:
        job.new_file(name="file")
        (job.directory / "link").symlink_to("nowhere")
        for name in ("file", "link"):
            with pytest.raises(NameTakenError):
                job.new_file(name=name, create=False)


def test_a_reserved_name_is_free_again_when_its_file_left(storage: LocalDiskStorage, tmp_path: Path) -> None:
    """After its file was published, kept, or cleaned up, a reserved name can be used once more."""
    with TempScopes(storage).open() as job:
        for leave in (
            lambda path: job.publish(path, tmp_path / "out.mkv"),
            job.keep,
            lambda _: job.cleanup_all(),
        ):
            path = job.new_file(name="out.mkv", create=False)
            path.touch()
            leave(path)
        job.publish(job.new_file(), tmp_path / "other")
        assert job.new_file(name="out.mkv").exists()


def test_names_are_reserved_for_one_of_many_threads(scopes: TempScopes) -> None:
    """Of threads that make and reserve one exact name at once, one gets it."""
    start = threading.Barrier(8)
    got: list[Path] = []

    def take(number: int) -> None:
        start.wait(PATIENCE)
        try:
            got.append(job.new_file(name="one", create=bool(number % 2)))
        except NameTakenError:
            pass

    with scopes.open() as job:
        workers = [threading.Thread(target=take, args=(n,)) for n in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(PATIENCE)
    assert len(got) == 1


def test_a_first_file_that_fails_can_be_tried_again(hooked: HookedStorage) -> None:
    """When the storage could not open an area the scope stays usable."""
    hooked.hooks.before["open_area"] = raising(OSError("not now"))
    with TempScopes(hooked).open() as job:
        with pytest.raises(OSError, match="not now"):
            job.new_file()
        del hooked.hooks.before["open_area"]
        assert job.new_file().exists()


# In and out


def test_stage_takes_a_copy(scopes: TempScopes, tmp_path: Path) -> None:
    """A staged file has the source's content and name, stands in the scope, and says how it came in."""
    source = tmp_path / "input.mkv"
    source.write_bytes(b"video")
    with scopes.open() as job:
        staged = job.stage(source)
        assert staged.path == job.directory / "input.mkv"
        assert staged.path.read_bytes() == b"video"
        assert staged.source == source
        assert staged.method in ("copy", "reflink")
    assert source.read_bytes() == b"video"


def test_stage_names(scopes: TempScopes, tmp_path: Path) -> None:
    """The name is the one given, else the source's, made unique where it is taken or cannot be one."""
    source, odd = tmp_path / "input.mkv", tmp_path / "odd\nname"
    source.touch()
    odd.touch()
    with scopes.open() as job:
        assert job.stage(source, name="mine").path.name == "mine"
        assert job.stage(source).path.name == "input.mkv"
        again = job.stage(source).path.name
        assert again.endswith("-input.mkv")
        assert job.stage(odd).path.name.endswith("-input")
        with pytest.raises(NameTakenError):
            job.stage(source, name="mine")
        (job.directory / f"{int(again.partition('-')[0]) + 2}-input.mkv").touch()
        assert job.stage(source).path.exists()


def test_stage_gives_up_some_time(hooked: HookedStorage, tmp_path: Path) -> None:
    """When every name is taken, staging says so."""
    hooked.hooks.before["take_in"] = raising(NameTakenError("taken"))
    with TempScopes(hooked).open() as job, pytest.raises(NameTakenError, match="no free name for 'x'"):
        job.stage(tmp_path / "x")


def test_stage_of_what_is_not_there(scopes: TempScopes, tmp_path: Path) -> None:
    """Staging a missing source raises the error that is also a ``FileNotFoundError``."""
    with scopes.open() as job, pytest.raises(PathMissingError):
        job.stage(tmp_path / "missing")


def test_stage_remembers_only_sources_that_are_there(scopes: TempScopes, tmp_path: Path) -> None:
    """A source that goes away while it is staged is no error."""
    source = tmp_path / "input"
    source.write_bytes(b"x" * 10)
    with scopes.open() as job:
        staged = job.stage(source, progress=lambda done, total: source.unlink(missing_ok=True))
        assert staged.path.stat().st_size == 10


def test_hard_links_are_checked_when_the_scope_is_cleaned_up(base: Path, tmp_path: Path) -> None:
    """``cleanup_all`` checks staged inputs before they go, every one, and reports each change."""
    sources = [tmp_path / name for name in ("a", "b", "c")]
    for source in sources:
        source.write_bytes(b"old")
    with TempScopes(HardlinkStorage(base)).open() as job:
        for source in sources:
            assert job.stage(source).method == "hardlink"
        sources[0].write_bytes(b"newer")
        sources[2].write_bytes(b"newer")
        with pytest.raises(CleanupFailed) as caught:
            job.cleanup_all()
        assert [error.path.name for error in caught.value.exceptions] == ["c", "a"]  # type: ignore[attr-defined]


def test_astage_and_apublish(scopes: TempScopes, tmp_path: Path) -> None:
    """The async twins do the same in a worker thread."""
    source = tmp_path / "in"
    source.write_bytes(b"video")

    async def main() -> Path:
        async with scopes.open() as job:
            staged = await job.astage(source, name="mine", writable=True)
            return await job.apublish(
                staged.path, tmp_path / "out", overwrite=False, durable=False, mode=0o640
            )

    out = asyncio.run(main())
    assert out.read_bytes() == b"video"
    assert stat.S_IMODE(out.stat().st_mode) == 0o640


def test_publish_moves_a_file_out(
    scopes: TempScopes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A published file is at its destination, given relative or absolute, and outlives the scope."""
    monkeypatch.chdir(tmp_path)
    with scopes.open() as job:
        path = job.new_file()
        path.write_text("done")
        assert job.publish(str(path), "final.txt") == tmp_path / "final.txt"
        assert not path.exists()
    assert (tmp_path / "final.txt").read_text() == "done"


@pytest.mark.parametrize("kind", [str, Path])
def test_publish_to_a_path_that_is_not_settled(scopes: TempScopes, tmp_path: Path, kind: type) -> None:
    """Dots are cut from a destination, whether text or path, before anything is looked up; NUL is refused."""
    with scopes.open() as job:
        path = job.new_file()
        with pytest.raises(BaseDirectoryError, match="the destination"):
            job.publish(path, kind(f"{tmp_path}/a\0b"))
        assert job.publish(path, kind(f"{tmp_path}/gone/../done")) == tmp_path / "done"
    assert (tmp_path / "done").exists()


def test_publish_refuses_to_overwrite(scopes: TempScopes, tmp_path: Path) -> None:
    """With ``overwrite=False`` what is there stays, and the file is still in the scope."""
    (tmp_path / "final").write_text("theirs")
    with scopes.open() as job:
        path = job.new_file()
        with pytest.raises(NameTakenError):
            job.publish(path, tmp_path / "final", overwrite=False)
        assert path.exists()
    assert (tmp_path / "final").read_text() == "theirs"


def test_keep_gives_up_one_path(storage: LocalDiskStorage) -> None:
    """A kept path has a new place, which outlives the scope; the block it came from does not mind."""
    with TempScopes(storage).open() as job, job.create_temp_file() as path:
        path.write_text("precious")
        kept = job.keep(path)
        assert kept != path
    assert kept.read_text() == "precious"


def test_keep_of_a_registered_path_leaves_it_in_place(scopes: TempScopes, tmp_path: Path) -> None:
    """Keeping an outside path takes it back, whether or not the scope has files of its own."""
    outside = tmp_path / "outside"
    outside.touch()
    with scopes.open() as job:
        job.register_file(outside)
        assert job.keep(str(outside)) == outside
    assert outside.exists()


def test_keep_of_what_is_not_ours(scopes: TempScopes, tmp_path: Path) -> None:
    """A path of nobody's here cannot be kept."""
    (tmp_path / "registered").touch()
    with scopes.open() as job:
        job.register_file(tmp_path / "registered")
        with pytest.raises(ForeignPathError):
            job.keep(tmp_path / "other")


def test_keep_needs_a_storage_that_can(tmp_path: Path) -> None:
    """On a storage that cannot give up paths, keeping raises and names the way out."""
    with TempScopes(PlainStorage(tmp_path)).open() as job:
        path = job.new_file()
        with pytest.raises(UnsupportedError, match="publish them instead"):
            job.keep(path)
        assert path.exists()


# Outside paths


def test_registered_paths_go_with_the_scope(scopes: TempScopes, tmp_path: Path) -> None:
    """Files, directories and dangling links that were registered are deleted when the scope closes."""
    file, directory, link = tmp_path / "file", tmp_path / "dir", tmp_path / "link"
    file.touch()
    directory.mkdir()
    (directory / "inner").touch()
    link.symlink_to("nowhere")
    with scopes.open() as job:
        for path in (file, directory, link):
            job.register_file(path)
    assert job.report is not None
    assert job.report.complete
    assert [path for path in (file, directory, link) if os.path.lexists(path)] == []


@pytest.mark.parametrize("way", [str, Path, os.fsencode])
def test_paths_are_registered_in_any_form(
    scopes: TempScopes, tmp_path: Path, way: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path may be text, bytes or a Path; a relative one means what it means now."""
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    Path("mine").touch()
    with scopes.open() as job:
        job.register_file(way(Path("mine")))
        monkeypatch.chdir(tmp_path)
    assert not (tmp_path / "there" / "mine").exists()


def test_registered_paths_go_whatever_the_policy(storage: LocalDiskStorage, tmp_path: Path) -> None:
    """A policy that keeps the scope does not keep outside paths: its owner asked for their deletion."""
    outside = tmp_path / "outside"
    outside.touch()
    with TempScopes(storage, KeepAll()).open() as job:
        job.new_file(name="inside")
        job.register_file(outside)
    assert not outside.exists()
    assert job.report is not None
    assert job.report.directory is not None


def test_a_path_may_be_registered_before_it_is_there(scopes: TempScopes, tmp_path: Path) -> None:
    """Whatever is at such a path when the scope closes goes; nothing there is no error."""
    with scopes.open() as job:
        job.register_file(tmp_path / "later")
        job.register_file(tmp_path / "never")
        (tmp_path / "later").touch()
    assert not (tmp_path / "later").exists()


def test_a_path_that_is_something_else_by_now_stays(scopes: TempScopes, tmp_path: Path) -> None:
    """A new file under a registered name is not what was registered: it stays and is reported."""
    path = tmp_path / "mine"
    path.touch()
    with scopes.open() as job:
        job.register_file(path)
        (tmp_path / "theirs").write_text("theirs")
        (tmp_path / "theirs").replace(path)
    assert path.read_text() == "theirs"
    assert job.report is not None
    assert job.report.skipped == 1


def test_unregistering_takes_a_path_back(scopes: TempScopes, tmp_path: Path) -> None:
    """A path that was taken back stays; an unknown one, or one of the scope's own, is no error."""
    path = tmp_path / "moved"
    path.touch()
    with scopes.open() as job:
        job.unregister_file(tmp_path / "unknown")
        job.register_file(path)
        job.unregister_file(str(path))
        job.unregister_file(tmp_path / "unknown")
        own = job.new_file()
        job.unregister_file(own)
        assert own.exists()
    assert path.exists()
    assert not own.exists()


def unwritable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the journal take no line, and spoil none."""
    monkeypatch.setattr(Journal, "drop_outside", raising(OSError(errno.EIO, "no")))


def test_unregistering_is_written_down_or_an_error(
    scopes: TempScopes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: the journal cannot be written: the path stays registered, and unregistering can be repeated."""
    path = tmp_path / "moved"
    path.touch()
    with scopes.open() as job:
        job.register_file(path)
        with monkeypatch.context() as patch:
            unwritable(patch)
            for undo in (job.unregister_file, job.keep):
                with pytest.raises(StorageError, match="cannot be unregistered"):
                    undo(path)
        job.unregister_file(path)
    assert path.exists()


def test_a_path_that_stays_in_the_journal_is_told(
    scopes: TempScopes, storage: LocalDiskStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 16: a path that was settled, but is in the journal still, is a failure in the report."""
    path, source = tmp_path / "gone", tmp_path / "source"
    path.touch()
    source.touch()
    with scopes.open() as job:
        job.stage(source)
        job.register_file(source)
        job.register_file(path)
        unwritable(monkeypatch)
    assert job.report is not None
    assert (job.report.kept, job.report.failed) == (1, 2)
    assert {entry.reason.split(":")[0] for entry in job.report.leftovers} == {"it is still in the journal"}
    assert not path.exists()
    assert source.exists()


def test_a_path_of_the_scope_is_its_own_anyway(scopes: TempScopes) -> None:
    """Registering a path of the scope, in whatever form, changes nothing."""
    with scopes.open() as job:
        path = job.new_file()
        job.register_file(path)
        job.register_file(str(path))
        assert job._outside is None
        job.publish(path, path.parent.parent.parent.parent / "published")
    assert job.report is not None
    assert job.report.skipped == 0


def test_the_root_of_a_file_system_is_refused(scopes: TempScopes) -> None:
    """No scope deletes ``/``."""
    with scopes.open() as job, pytest.raises(ForeignPathError, match="root of a file system"):
        job.register_file("/")


def told_by_the_journal(job: TempFileManager) -> str:
    """Return what the journal of *job*'s process says now."""
    lines = (job.directory.parent / "journal").read_text().splitlines()
    told: dict[str, None] = {}
    for line in map(json.loads, lines):
        told.pop(line.get("gone", ""), None)
        if "path" in line:
            told[line["path"]] = None
    return " ".join(told)


def test_a_staged_source_is_never_deleted(scopes: TempScopes, tmp_path: Path) -> None:
    """A source that was registered too, by whatever name, stays, and the report says why."""
    source, other = tmp_path / "source", tmp_path / "other"
    source.write_text("precious")
    other.touch()
    (tmp_path / "inner").mkdir()
    with scopes.open() as job:
        job.stage(source)
        job.register_file(tmp_path / "inner" / ".." / "source")
        job.register_file(other)
    assert source.read_text() == "precious"
    assert not other.exists()
    assert job.report is not None
    assert [(entry.kind, entry.reason) for entry in job.report.entries] == [
        ("kept", "it is the source of a staged file")
    ]


@pytest.mark.parametrize("order", ["registered first", "staged first"])
def test_no_sweep_is_told_to_delete_a_staged_source(
    storage: LocalDiskStorage, tmp_path: Path, order: str
) -> None:
    """The journal, by which a sweep goes after a crash, does not tell of a path that was staged."""
    source = tmp_path / "source"
    source.touch()
    with TempScopes(storage).open() as job:
        steps = [lambda: job.register_file(source), lambda: job.stage(source)]
        for step in steps if order == "registered first" else reversed(steps):
            step()
        assert str(source) not in told_by_the_journal(job)
        assert source.exists()


def test_what_could_not_be_staged_stays_registered(storage: LocalDiskStorage, tmp_path: Path) -> None:
    """A path whose staging failed is in the journal again, and goes with the scope."""
    source = tmp_path / "source"
    source.touch()
    with TempScopes(storage).open() as job:
        job.register_file(source)
        job.new_file(name="taken")
        with pytest.raises(NameTakenError):
            job.stage(source, name="taken")
        assert str(source) in told_by_the_journal(job)
        with pytest.raises(PathMissingError):
            job.stage(tmp_path / "nothing")
    assert not source.exists()


def test_a_source_that_vanishes_at_once_is_staged_all_the_same(tmp_path: Path) -> None:
    """A source that cannot be looked at afterwards is not known as one, and nothing else fails by that."""

    class Vanishing(type(Path())):  # type: ignore[misc]
        def lstat(self) -> os.stat_result:
            raise FileNotFoundError(errno.ENOENT, "gone")

    source = tmp_path / "source"
    source.mkdir()
    with LocalDiskStorage(tmp_path / "base") as storage, TempScopes(storage).open() as job:
        staged = job.stage(Vanishing(source))
        assert staged.path.is_dir()
        assert not job._sources


def test_a_path_that_cannot_be_looked_at_is_no_source(
    storage: LocalDiskStorage, tmp_path: Path, mocker: MockerFixture
) -> None:
    """A registered path of which nobody can tell what it is goes along when the scope is handed over."""
    from tempscope import _outside_paths

    source = tmp_path / "source"
    source.touch()
    job = TempScopes(storage).open()
    job.register_file(tmp_path / "later")
    job.stage(source)
    unseen = mocker.patch.object(_outside_paths, "identify", side_effect=OSError(errno.EIO, "broken"))
    token = job.detach()
    mocker.stop(unseen)
    with TempScopes(storage).attach(token) as again:
        assert again._outside is not None
        assert list(again._outside.described()) == [str(tmp_path / "later")]


def test_a_registered_directory_with_a_root_in_it(scopes: TempScopes, tmp_path: Path) -> None:
    """A directory in which other scopes have their files goes but for these, which the report tells."""
    place = tmp_path / "place"
    (place / "deep").mkdir(parents=True)
    (place / "file").touch()
    with LocalDiskStorage(place / "deep") as storage, TempScopes(storage).open("another") as other:
        path = other.new_file()
        with scopes.open() as job:
            job.register_file(place)
        assert path.exists()
        assert not (place / "file").exists()
        assert job.report is not None
        assert [entry.kind for entry in job.report.entries] == ["skipped"]
        assert "scopes of others" in job.report.entries[0].reason


def test_a_path_that_failed_is_still_registered(
    scopes: TempScopes, tmp_path: Path, mocker: MockerFixture
) -> None:
    """What a clean-up could not delete can be taken back, or is deleted by the close."""
    from tempscope import _outside_paths

    back, later = tmp_path / "back", tmp_path / "later"
    for path in (back, later):
        path.touch()
    failing = Removal(failed=1, entries=(Entry("it", "failed", "not now"),))
    with scopes.open() as job:
        job.register_file(back)
        job.register_file(later)
        refusing = mocker.patch.object(_outside_paths, "remove_outside", return_value=failing)
        assert job.cleanup_all().failed == 2
        mocker.stop(refusing)
        job.unregister_file(back)
    assert job.report is not None and job.report.complete
    assert (back.exists(), later.exists()) == (True, False)


def test_an_outside_path_that_cannot_be_looked_at(
    scopes: TempScopes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One path that cannot be looked at is reported; the others go (a fake, since root sees all)."""
    from tempscope import _outside_paths

    source, blind, other = tmp_path / "source", tmp_path / "blind", tmp_path / "other"
    for path in (source, blind, other):
        path.touch()
    real = _outside_paths.identify

    with scopes.open() as job:
        job.stage(source)
        for path in (other, blind):
            job.register_file(path)

        def identify(path: str) -> object:
            if path == str(blind):
                raise PermissionError(13, "Permission denied", path)
            return real(path)

        monkeypatch.setattr(_outside_paths, "identify", identify)
    assert not other.exists()
    assert job.report is not None
    assert [(entry.kind, entry.errno) for entry in job.report.entries] == [("failed", 13)]


def test_an_interrupt_loses_no_outside_path(
    scopes: TempScopes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path whose removal is interrupted is removed when the work is done again."""
    from tempscope import _outside_paths

    paths = [tmp_path / name for name in "abc"]
    real, interrupts = _outside_paths.remove_outside, [KeyboardInterrupt()]

    def remove(path: str, registered: object) -> Removal:
        if path == str(paths[1]) and interrupts:
            raise interrupts.pop()
        return real(path, registered)  # type: ignore[arg-type]

    job = scopes.open()
    for path in paths:
        path.touch()
        job.register_file(path)
    monkeypatch.setattr(_outside_paths, "remove_outside", remove)
    with pytest.raises(KeyboardInterrupt):
        job.close()
    assert [path.exists() for path in paths] == [False, False, False]
    assert job.report is not None
    assert job.report.removed >= 3


# Looking and cleaning up


def test_usage_counts_the_scopes_own_files(scopes: TempScopes) -> None:
    """Usage is nothing before the first file, and then what is allocated."""
    with scopes.open() as job:
        assert job.usage() == Usage()
        job.new_file().write_bytes(b"x" * 10_000)
        usage = job.usage()
        assert usage.files == 1
        assert usage.bytes >= 10_000


def test_what_a_manager_tells(storage: LocalDiskStorage) -> None:
    """Name, storage, policy, outcome, report and directory are there to read."""
    policy = KeepOnFailure()
    job = TempScopes(storage, policy).open("render")
    assert (job.name, job.storage, job.policy) == ("render", storage, policy)
    assert job.outcome is None
    assert job.report is None
    assert job.directory.is_dir()
    assert repr(job) == f"<TempFileManager 'render' open on {storage!r}>"
    report = job.close()
    assert job.report is report
    assert report.outcome is job.outcome
    assert report.verdict is not None
    assert report.verdict.reason == "it ended well"
    assert "closed" in repr(job)


def test_cleanup_all_empties_an_open_scope(scopes: TempScopes, tmp_path: Path) -> None:
    """Everything owned goes, open files too; the scope stays open and usable."""
    outside = tmp_path / "outside"
    outside.touch()
    with scopes.open() as job:
        job.register_file(outside)
        job.new_dir(name="d")
        with job.create_temp_file(name="x") as path, path.open("wb"):
            report = job.cleanup_all()
            assert not path.exists()
            assert not outside.exists()
            assert report.removed >= 3
            assert report.outcome is None
            again = job.new_file(name="x")
        assert again.exists(), "the block's end must not delete a later file of its name"
        assert not job.closed


def test_cleanup_all_of_an_empty_scope(scopes: TempScopes) -> None:
    """Nothing to clean up is no error, and makes nothing."""
    with scopes.open() as job:
        assert job.cleanup_all().removed == 0
        assert job._area is None


def test_cleanup_all_takes_childrens_files_and_leaves_children_open(scopes: TempScopes) -> None:
    """The files and callbacks of open children and grandchildren go too; closed ones are passed over."""
    ended: list[str] = []
    with scopes.open() as job:
        child, closed = job.scope(), job.scope()
        grandchild = child.scope()
        paths = [each.new_file() for each in (job, child, grandchild)]
        grandchild.register_cleanup_callback(ended.append, "grandchild")
        child._push_exit(lambda exc: ended.append("object"))
        job.register_cleanup_callback(ended.append, "job")
        closed.register_cleanup_callback(job.cleanup_all)
        closed.close()
        assert [path.exists() for path in paths] == [False] * 3
        assert ended == ["grandchild", "job"]
        assert not child.closed
        assert not grandchild.closed
        assert child.new_file().exists()
    assert ended == ["grandchild", "job", "object"]


def test_cleanup_all_whatever_the_policy(storage: LocalDiskStorage) -> None:
    """A policy that keeps everything has no say in it."""
    with TempScopes(storage, KeepAll()).open() as job:
        path = job.new_file()
        job.cleanup_all()
        assert not path.exists()


def test_cleanup_all_runs_callbacks_once(scopes: TempScopes) -> None:
    """Callbacks run newest first, all of them, and not again when the scope closes."""
    ended: list[int] = []
    with scopes.open("job") as job:
        path = job.new_file()
        for number in (1, 2):
            job.register_cleanup_callback(ended.append, number)
        job.register_cleanup_callback(raising(ValueError("mine")))
        with pytest.raises(ValueError, match="mine"):
            job.cleanup_all()
        assert not path.exists()
    assert ended == [2, 1]


@pytest.mark.parametrize("run", [lambda job: job.cleanup_all(), lambda job: asyncio.run(job.acleanup_all())])
def test_cleanup_all_goes_on_after_an_interrupt(
    scopes: TempScopes, run: Callable[[TempFileManager], object]
) -> None:
    """An interrupt of a callback is raised when everything else is done."""
    with scopes.open("job") as job:
        path = job.new_file()
        job.register_cleanup_callback(raising(ValueError("older")))
        job.register_cleanup_callback(raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt) as caught:
            run(job)
        assert caught.value.__notes__ == ["tempscope: cleaning up scope 'job' also raised ValueError: older"]
        assert not path.exists()


def test_cleanup_all_reports_what_stays(hooked: HookedStorage, caplog: pytest.LogCaptureFixture) -> None:
    """What could not be removed is in the report and a warning; an error does not stop the rest."""
    hooked.hooks.before["delete"] = leaving_behind()
    with TempScopes(hooked).open("job") as job:
        job.new_file()
        assert job.cleanup_all().failed == 1
        assert [record.message for record in caplog.records] == ["a clean-up left something behind"]
        hooked.hooks.before["delete"] = raising(OSError("broken"))
        with pytest.raises(OSError, match="broken"):
            job.cleanup_all()


def test_cleanup_all_beside_a_close(hooked: HookedStorage) -> None:
    """A clean-up that meets a closing scope is no error; one that finds the area gone otherwise is."""
    with TempScopes(hooked).open() as job:
        child = job.scope()
        child.new_file()
        gate = hooked.hooks.before["remove"] = Gate()
        closing = threading.Thread(target=child.close)
        closing.start()
        assert gate.arrived.wait(PATIENCE)
        hooked.hooks.before["delete"] = raising(ScopeClosedError("the area is gone"))
        assert not job.cleanup_all().failed
        child._closed = False  # as seen the moment before it was sealed
        assert not job.cleanup_all().failed
        child._closed = True
        gate.open()
        closing.join(PATIENCE)
        job.new_file()
        with pytest.raises(ScopeClosedError, match="gone"):
            job.cleanup_all()


def test_acleanup_all_runs_callbacks_on_the_loop(hooked: HookedStorage) -> None:
    """Callbacks run where the loop runs; files are removed in another thread."""
    threads: list[int] = []
    note = lambda *_: threads.append(threading.get_ident())  # noqa: E731
    hooked.hooks.before["delete"] = note

    async def main() -> None:
        async with TempScopes(hooked).open() as job:
            job.new_file()
            job.register_cleanup_callback(note)
            report = await job.acleanup_all()
            assert report.removed == 1

    asyncio.run(main())
    assert threads[0] == threading.get_ident()
    assert threads[1] != threading.get_ident()


# Policies that cannot decide, storages that cannot keep


def test_a_policy_that_fails_keeps_the_scope(storage: LocalDiskStorage) -> None:
    """What cannot be decided is kept, and the policy's error comes out."""

    class Broken(Keeping):
        def at_close(self, record: object) -> object:  # type: ignore[override]
            raise ZeroDivisionError

    job = TempScopes(storage, Broken()).open()
    job.new_file(name="x")
    with pytest.raises(ZeroDivisionError):
        job.close()
    assert job.report is not None
    assert job.report.directory is not None
    assert (job.report.directory / "x").exists()
    assert job.report.verdict is not None
    assert job.report.verdict.reason == "the policy failed: ZeroDivisionError"


def test_a_policy_that_gives_no_verdict_failed(storage: LocalDiskStorage) -> None:
    """A policy that forgot to return something counts as one that failed."""

    class Forgetful(Keeping):
        def at_close(self, record: object) -> object:  # type: ignore[override]
            return None

    job = TempScopes(storage, Forgetful()).open()
    job.new_file()
    with pytest.raises(TypeError, match="no verdict"):
        job.close()
    assert job.report is not None
    assert job.report.directory is not None


def test_a_policy_is_asked_beforehand_about_a_scope_that_nobody_closes(hooked: HookedStorage) -> None:
    """The area's record says what shall become of it if its process dies."""
    job = TempScopes(hooked, KeepOnFailure(), label="kind").open("job")
    job.new_file()
    record = hooked.hooks.opened[0]
    assert record.never_closed.keep
    assert (record.name, record.label, record.application) == ("job", "kind", hooked.application)
    job.close()
    plain = TempScopes(hooked).open()
    plain.new_file()
    assert not hooked.hooks.opened[1].never_closed.keep
    plain.close()


def test_a_policy_sees_the_record_of_a_closing_scope(storage: LocalDiskStorage) -> None:
    """``at_close`` gets the record with its closing time and outcome."""
    policy = Keeping()
    job = TempScopes(storage, policy).open("job")
    job.new_file()
    with pytest.raises(ZeroDivisionError), job:
        1 / 0  # noqa: B018
    beforehand, record = policy.asked
    assert beforehand.outcome is not None
    assert beforehand.outcome.kind == "never_closed"
    assert record.outcome is job.outcome
    assert record.closed is not None
    assert record.closed.seconds_since(record.opened) >= 0
    assert beforehand.token == record.token


def test_a_scope_that_cannot_be_kept_is_reported(hooked: HookedStorage) -> None:
    """When keeping fails nothing is deleted in its place; the report says what is the matter."""
    hooked.hooks.before["retain"] = raising(OSError("no room"))
    job = TempScopes(hooked, KeepAll()).open()
    path = job.new_file()
    report = job.close()
    assert path.exists()
    assert report.failed == 1
    assert report.entries[0].reason == "it could not be kept safely: OSError: no room"


def test_a_storage_that_raises_while_it_removes(hooked: HookedStorage, tmp_path: Path) -> None:
    """An error of the storage comes out; the steps before it were done, and the scope is closed."""
    outside = tmp_path / "outside"
    outside.touch()
    hooked.hooks.before["remove"] = raising(OSError("broken"))
    job = TempScopes(hooked).open()
    job.new_file()
    job.register_file(outside)
    with pytest.raises(OSError, match="broken"):
        job.close()
    assert job.closed
    assert not outside.exists()


# A manager alone


def test_a_manager_alone_uses_the_disk(tmp_path: Path) -> None:
    """Without a storage, files stand under ``<base_dir>/tempscope-<uid>/``."""
    with TempFileManager("x_", tmp_path, name="alone") as job:
        path = job.new_file()
        assert path.is_relative_to(tmp_path)
        assert path.name.startswith("x_")
        assert job.name == "alone"
    assert not path.exists()


def test_a_manager_alone_takes_storage_and_policy(storage: LocalDiskStorage) -> None:
    """A storage and a policy of one's own serve it too."""
    job = TempFileManager(storage=storage, policy=KeepAll())
    assert (job.storage, job.policy) == (storage, KeepAll())
    job.new_file()
    assert job.close().directory is not None


def test_children_inherit_the_prefix(storage: LocalDiskStorage) -> None:
    """Unique names of a child begin as its parent's do."""
    with TempFileManager("mine_", storage=storage) as job, job.scope() as child:
        assert child.new_file().name.startswith("mine_")


def test_a_child_that_came_too_late_is_no_leak(scopes: TempScopes, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the parent closes while a child is opened, the child is gone without a warning."""
    job = scopes.open()
    push = job._push

    def closing_first(exit_: object) -> int:
        job.close()
        return push(exit_)  # type: ignore[arg-type]

    monkeypatch.setattr(job, "_push", closing_first)
    with pytest.raises(ScopeClosedError):
        job.scope()
    assert scopes.active() == []
