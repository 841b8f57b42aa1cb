"""The pipeline, whole and stopped in the middle, on disk and in memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import Application, Downloader, Transcriber, stoppable
from recording import RecordingError
from server import Recordings, serving
from tempscope import (
    DeleteOnClose,
    KeepOnFailure,
    LocalDiskStorage,
    MemoryStorage,
    TempScopes,
    current_scope,
    use_storage,
)


STEPS = ["downloading", "extracting", "recognising", "publishing"]


@pytest.fixture(scope="module")
def server() -> Iterator[Recordings]:
    """Serve recordings."""
    with serving() as server:
        yield server


@pytest.fixture
def storage(tmp_path: Path) -> LocalDiskStorage:
    """Return a storage on disk."""
    return LocalDiskStorage(tmp_path / "disk")


@pytest.fixture
def transcriber(storage: LocalDiskStorage) -> Transcriber:
    """Return what is tested, without a container; it keeps nothing."""
    return Transcriber(TempScopes(storage, DeleteOnClose()), lambda: Downloader(current_scope()))


def test_on_disk_and_in_memory(server: Recordings, storage: LocalDiskStorage, tmp_path: Path) -> None:
    """The transcript is the same wherever temporary files live; of those nothing is left."""
    application, texts = Application(), []
    for place in (storage, MemoryStorage()):
        with use_storage(place):
            output = tmp_path / f"{len(texts)}.srt"
            transcript = asyncio.run(application.transcriber().transcribe(f"{server.url}/talk", output))
        assert transcript.parts == 4
        texts.append(output.read_text())
        assert list(place.areas()) == []
    assert texts[0] == texts[1]
    assert texts[0].startswith("1\n00:00:00,000 --> 00:00:01,000\na tone\n\n2\n00:00:02,000 --> ")


@pytest.mark.parametrize("step", STEPS)
def test_cancelled_at_each_step(
    server: Recordings, transcriber: Transcriber, storage: LocalDiskStorage, tmp_path: Path, step: str
) -> None:
    """Cancelled anywhere, a job leaves nothing; what it was just publishing is there whole, or not at all."""
    output = tmp_path / "talk.srt"

    async def run() -> None:
        def progress(at: str) -> None:
            task = asyncio.current_task()
            if at == step and task is not None:
                task.cancel()

        await transcriber.transcribe(f"{server.url}/talk", output, progress=progress)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
    assert list(storage.areas()) == []
    assert step == "publishing" or not output.exists()
    assert not output.exists() or output.read_text().count("a tone") == 4


def test_timed_out_in_the_middle(
    server: Recordings, transcriber: Transcriber, storage: LocalDiskStorage, tmp_path: Path
) -> None:
    """A download that never ends is given up when its time is over, and nothing is left."""
    with pytest.raises(TimeoutError):
        asyncio.run(transcriber.transcribe(f"{server.url}/stalling", tmp_path / "out", seconds=0.3))
    assert list(storage.areas()) == []


def test_many_at_once(server: Recordings, storage: LocalDiskStorage, tmp_path: Path) -> None:
    """Twelve jobs at once, every third of which fails: the others are whole, the evidence is bounded."""
    policy = KeepOnFailure(at_most=2)
    transcriber = Transcriber(TempScopes(storage, policy), lambda: Downloader(current_scope()))

    async def run() -> list[object]:
        jobs = [
            transcriber.transcribe(
                f"{server.url}/{'cut-off' if number % 3 == 0 else 'talk'}", tmp_path / f"{number}.srt"
            )
            for number in range(12)
        ]
        return list(await asyncio.gather(*jobs, return_exceptions=True))

    failed = [isinstance(answer, RecordingError) for answer in asyncio.run(run())]
    assert failed == [number % 3 == 0 for number in range(12)]
    assert {(tmp_path / f"{number}.srt").exists() for number in range(12) if number % 3} == {True}
    assert {record.state for record in storage.areas()} == {"retained"}


def test_the_thread_ends_before_the_scope(storage: LocalDiskStorage) -> None:
    """A cancelled step waits for its thread, which could otherwise write into a scope that is removed."""
    begun, events = threading.Event(), []

    def work(path: Path, stop: threading.Event) -> None:
        begun.set()
        stop.wait()
        events.append(("the thread ends", path.exists()))

    async def job() -> None:
        async with TempScopes(storage).open() as scope:
            path = scope.new_file()
            try:
                await stoppable(work, path)
            finally:
                events.append(("the step ends", path.exists()))

    async def run() -> None:
        task = asyncio.create_task(job())
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert events == [("the thread ends", True), ("the step ends", True)]
    assert list(storage.areas()) == []


def test_what_is_not_there(server: Recordings, transcriber: Transcriber, tmp_path: Path) -> None:
    """An address without a recording is an error of the job's."""
    with pytest.raises(RecordingError, match="404"):
        asyncio.run(transcriber.transcribe(f"{server.url}/missing", tmp_path / "out"))
