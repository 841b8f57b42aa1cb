"""
The pipeline: download, take the sound out, recognise part by part, publish; all in the job's scope.

Cancelled or timed out anywhere in the middle, it stops its thread first, and then nothing is left.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import attrs
import httpx
from dependency_injector import containers, providers

from recording import RecordingError, extract_sound, split, words_in
from tempscope import TempContainer, TempFileManager, TempScopes


__all__ = ["Application", "Downloader", "Transcriber", "Transcript"]

_T = TypeVar("_T")
_P = ParamSpec("_P")
_PART_SECONDS = 1


async def stoppable(function: Callable[..., _T], *args: object) -> _T:
    """
    Run ``function(*args, stop)`` in a thread; if this is cancelled, set *stop* and wait for its end.

    A thread cannot be cancelled.  One that was left running would go on writing into a scope that is
    being removed.
    """
    stop = threading.Event()
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, stop))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # that it was stopped is no news, and asyncio is not to tell it later
        raise


@attrs.frozen
class Transcript:
    """What a job published: where, and how many parts had words."""

    path: Path
    parts: int


class Downloader:
    """Fetches a recording into the job that it works for."""

    def __init__(self, manager: TempFileManager) -> None:
        self._manager = manager

    async def fetch(self, url: str) -> Path:
        """
        Return the file that *url* was downloaded to.

        Raises:
            RecordingError: If the server does not give it, or not all of it.
        """
        path = self._manager.new_file(".media")
        try:
            async with httpx.AsyncClient() as client, client.stream("GET", url) as response:
                response.raise_for_status()
                with path.open("wb") as file:
                    async for block in response.aiter_bytes():
                        await asyncio.to_thread(file.write, block)
        except httpx.HTTPError as error:
            raise RecordingError(f"it cannot be downloaded: {error}") from error
        return path


class Transcriber:
    """
    Owns the jobs: one for each recording.

    Lives as long as the application; any number of its jobs may run at once.
    """

    def __init__(self, scopes: TempScopes, downloader: Callable[[], Downloader]) -> None:
        self._scopes = scopes
        self._downloader = downloader

    async def transcribe(
        self,
        url: str,
        destination: Path,
        *,
        seconds: float | None = None,
        progress: Callable[[str], None] = lambda step: None,
    ) -> Transcript:
        """
        Publish what is said in the recording at *url* to *destination*, as SubRip.

        Args:
            url: Where it is.

            destination: A new file.

            seconds: How long the job may take.

            progress: Told each step before it begins, on the event loop.

        Raises:
            RecordingError: If it cannot be transcribed; the policy decided what became of the evidence.

            TimeoutError: If it took too long.
        """
        async with self._scopes.open(url) as job, asyncio.timeout(seconds):
            progress("downloading")
            recording = await self._downloader().fetch(url)
            progress("extracting")
            sound = job.new_file(".wav")
            await stoppable(extract_sound, recording, sound)
            progress("recognising")
            texts = await self._recognise(job, sound)
            if not any(texts):
                raise RecordingError("nobody says anything in it")
            progress("publishing")
            subtitles = job.new_file(".srt")
            subtitles.write_text(_subrip(texts), encoding="utf-8")
            await job.apublish(subtitles, destination)
        return Transcript(destination, sum(map(bool, texts)))

    async def _recognise(self, job: TempFileManager, sound: Path) -> list[str]:
        texts = []
        for _, samples in split(sound, _PART_SECONDS):
            # A part is needed for its own step only: its scope ends before the job's.
            async with job.create_temp_file(suffix=".part") as part:
                await asyncio.to_thread(part.write_bytes, samples)
                texts.append(await stoppable(words_in, part))
        return texts


def _subrip(texts: list[str]) -> str:
    entries = [
        f"{number}\n{_time(start)} --> {_time(start + _PART_SECONDS)}\n{text}\n"
        for number, (start, text) in enumerate(
            ((index * _PART_SECONDS, text) for index, text in enumerate(texts) if text), 1
        )
    ]
    return "\n".join(entries)


def _time(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02},000"


class Application(containers.DeclarativeContainer):
    """The services, and where their temporary files live."""

    config = providers.Configuration(
        default={"temp": {"label": "transcription", "policy": {"kind": "keep_on_failure", "for": "1d"}}}
    )
    temp = providers.Container(TempContainer, config=config.temp)
    downloader = providers.Factory(Downloader, temp.manager)
    transcriber = providers.Factory(Transcriber, temp.scopes, downloader.provider)
