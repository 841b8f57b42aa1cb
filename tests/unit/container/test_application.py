"""An application whose services say what they need in their constructors, and never where it is from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import attrs
import pytest
from dependency_injector import containers, providers

from tempscope.container import PerScope, TempContainer, check_container, use_storage
from tempscope.manager import TempFileManager
from tempscope.scopes import TempScopes
from tempscope.storages import MemoryStorage


@attrs.frozen
class ClipCutter:
    """Works within a job: needs the job's manager."""

    manager: TempFileManager

    def cut(self, source: Path) -> Path:
        """Return the first bytes of *source*, as a file of the job's."""
        clip = self.manager.new_file(".clip")
        clip.write_bytes(source.read_bytes()[:4])
        return clip


class WorkLog:
    """One per job, told how the job went."""

    written: list[str]

    def __init__(self, manager: TempFileManager, written: list[str]) -> None:
        self.written = written
        self.file = manager.new_file(".log")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        assert self.file.exists()
        self.written.append("ok" if kind is None else kind.__name__)


@attrs.frozen
class VideoService:
    """Owns jobs: needs the scopes, and factories for what works within a job."""

    scopes: TempScopes
    cutter_factory: Callable[[], ClipCutter]
    log_factory: Callable[[], WorkLog]

    def cut(self, video: Path, destination: Path) -> Path:
        """Cut *video* in a scope of its own, and publish the clip."""
        with self.scopes.open(video.name) as job:
            self.log_factory()
            assert self.cutter_factory().manager is job
            return job.publish(self.cutter_factory().cut(video), destination)


class Application(containers.DeclarativeContainer):
    config = providers.Configuration()
    written = providers.ThreadSafeSingleton(list)
    temp = providers.Container(TempContainer, config=config.temp)
    cutter = providers.Factory(ClipCutter, manager=temp.manager)
    log = PerScope(WorkLog, manager=temp.manager, written=written)
    service = providers.Factory(
        VideoService, scopes=temp.scopes, cutter_factory=cutter.provider, log_factory=log.provider
    )


@pytest.fixture
def application(tmp_path: Path) -> Any:
    """The application on a disk of its own, checked as at its start-up."""
    application: Any = Application()
    application.config.from_dict({"temp": {"base_dir": str(tmp_path / "temp")}})
    check_container(application)
    return application


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Something to cut."""
    video = tmp_path / "holiday.mkv"
    video.write_bytes(b"clip and the rest")
    return video


def left_in(directory: Path) -> list[Path]:
    """Return the files below *directory*, the storage's own bookkeeping aside."""
    return [*directory.rglob("*.clip"), *directory.rglob("*.log")]


def test_a_job_runs_and_leaves_nothing(application: Any, video: Path, tmp_path: Path) -> None:
    """Services receive the job's manager, the product is published, and the rest goes with the scope."""
    product = application.service().cut(video, tmp_path / "product.clip")
    assert product.read_bytes() == b"clip"
    assert application.written() == ["ok"]
    assert left_in(tmp_path / "temp") == []


def test_objects_of_the_scope_learn_how_the_job_went(application: Any, video: Path, tmp_path: Path) -> None:
    """A job that fails tells its per-scope objects, and leaves nothing either."""
    with pytest.raises(OSError, match="missing"):
        application.service().cut(tmp_path / "missing.mkv", tmp_path / "product.clip")
    assert application.written() == ["FileNotFoundError"]
    assert left_in(tmp_path / "temp") == []


def test_one_override_moves_the_whole_application(application: Any, video: Path, tmp_path: Path) -> None:
    """One override of the storage, and every service runs in memory: nothing touches our disk."""
    with application.temp.storage.override(MemoryStorage()):
        product = application.service().cut(video, tmp_path / "product.clip")
    assert product.read_bytes() == b"clip"
    assert not (tmp_path / "temp").exists()


def test_so_does_one_with_statement(application: Any, video: Path, tmp_path: Path) -> None:
    """``use_storage`` does the same for this test alone."""
    with use_storage(MemoryStorage()):
        application.service().cut(video, tmp_path / "product.clip")
    assert not (tmp_path / "temp").exists()


def test_and_so_does_one_line_of_configuration(video: Path, tmp_path: Path) -> None:
    """The same application on a RAM disk or in memory is one word in its configuration."""
    application: Any = Application()
    application.config.from_dict({"temp": {"backend": "memory", "base_dir": str(tmp_path / "temp")}})
    assert isinstance(application.temp.storage(), MemoryStorage)
    assert application.service().cut(video, tmp_path / "product.clip").read_bytes() == b"clip"
