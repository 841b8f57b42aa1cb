"""A storage of somebody else's, with exactly the protocol's methods, through the manager."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import pytest

from tempscope.container import PerScope
from tempscope.errors import (
    ConfigurationError,
    ForeignPathError,
    NameTakenError,
    PathMissingError,
    UnsupportedError,
)
from tempscope.manager import TempFileManager
from tempscope.policies import KeepAll
from tempscope.protocols import TempArea, TempStorage
from tempscope.scopes import TempScopes

from .faults import PlainArea, PlainStorage, plain


@pytest.fixture
def scopes(tmp_path: Path) -> TempScopes:
    """Scopes on a storage that is not ours."""
    (tmp_path / "plain").mkdir()
    return TempScopes(plain(tmp_path / "plain"))


def members(kind: type) -> set[str]:
    """Return the public methods and properties of *kind*."""
    return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


def test_it_has_what_is_required_and_nothing_else() -> None:
    """The fake is minimal: if a method is ever required that it lacks, these tests say so."""
    assert members(PlainStorage) == members(TempStorage)
    assert members(PlainArea) == members(TempArea)


def test_a_whole_job(scopes: TempScopes, tmp_path: Path) -> None:
    """Files, blocks, children, staging, publishing, registering, usage: all of it works."""
    source, outside = tmp_path / "source", tmp_path / "outside"
    source.write_text("video")
    outside.touch()
    with scopes.open("../job") as job:
        with job.create_temp_file(".mkv") as block, job.create_temp_dir() as directory:
            assert block.exists()
            assert directory.is_dir()
        assert not block.exists()
        assert not directory.exists()
        staged = job.stage(source)
        assert staged.path.read_text() == "video"
        assert job.stage(source).path != staged.path
        job.register_file(outside)
        with job.scope() as child:
            path = child.new_file(name="same")
            assert path != job.new_file(name="same")
        assert not path.exists()
        assert job.usage().files == 3
        assert job.publish(staged.path, tmp_path / "out").read_text() == "video"
        assert scopes.active()[0].application == ""
        reserved = job.new_file(name="reserved", create=False)
        reserved.touch()
    assert list((tmp_path / "plain").iterdir()) == []
    assert source.exists()
    assert not outside.exists()
    assert job.report is not None
    assert job.report.complete


def test_its_errors_come_out(scopes: TempScopes, tmp_path: Path) -> None:
    """What the storage raises reaches the caller."""
    with scopes.open() as job:
        job.new_file(name="x")
        with pytest.raises(NameTakenError):
            job.new_dir(name="x")
        with pytest.raises(PathMissingError):
            job.stage(tmp_path / "missing")
        with pytest.raises(ForeignPathError):
            job.publish(tmp_path / "plain", tmp_path / "out")


def test_what_it_cannot_do_is_refused(scopes: TempScopes) -> None:
    """Optional abilities that it lacks raise ``UnsupportedError``: at once, or where they are used."""
    with pytest.raises(UnsupportedError):
        scopes.open(policy=KeepAll())
    with scopes.open() as job, pytest.raises(UnsupportedError):
        job.keep(job.new_file())


def test_cleaning_up(scopes: TempScopes) -> None:
    """``cleanup_all`` empties its area, which stays usable."""
    with scopes.open() as job:
        path = job.new_file()
        assert job.cleanup_all().removed == 1
        assert not path.exists()
        assert job.new_file().exists()


def test_async(scopes: TempScopes) -> None:
    """It serves async scopes as it is."""

    async def main() -> Path:
        async with scopes.open() as job, job.create_temp_file() as path:
            assert path.exists()
        return path

    assert not asyncio.run(main()).exists()


def test_alone_and_injected(tmp_path: Path) -> None:
    """It serves a manager alone, and objects of the scope."""
    with TempFileManager(storage=PlainStorage(tmp_path)) as job:
        assert PerScope(list)() == []
        assert job.new_file().is_relative_to(tmp_path)


def test_a_closed_storage(tmp_path: Path) -> None:
    """A storage that was closed opens no area, and says so at the first file."""
    storage = PlainStorage(tmp_path)
    with TempScopes(storage).open() as job:
        storage.close()
        with pytest.raises(RuntimeError, match="closed"):
            job.new_file()


def test_half_a_storage() -> None:
    """What has no ``open_area`` is no storage."""
    with pytest.raises(ConfigurationError):
        TempScopes(object())  # type: ignore[arg-type]


def test_what_it_cannot_share_is_refused(scopes: TempScopes) -> None:
    """Hand-over, leases and unnamed files are optional: without them an error says what would be right."""
    with scopes.open() as job:
        path = job.new_file()
        for call, words in (
            (job.detach, "hand scopes over"),
            (job.popen_kwargs, "without popen_kwargs"),
            (job.unnamed_file, "new_file"),
            (lambda: scopes.attach("a" * 26), "takes no scopes over"),
        ):
            with pytest.raises(UnsupportedError, match=words):
                call()
        assert path.exists()
