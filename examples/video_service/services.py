"""
The services: each is handed the temporary-file manager of the job it works for.

None of them opens or closes a scope, cleans up, or knows where temporary files live; only
:class:`VideoService`, which owns the jobs, opens a scope for each.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from clips import ClipRow, clip_format
from progress import Progress, silent
from subtitles import SubtitleFiles, is_text
from tempscope import CleanupReport, TempFileManager, TempscopeError, TempScopes, Usage
from video import VideoError, jpeg, open_video, time_of


if TYPE_CHECKING:
    from av.subtitles.stream import SubtitleStream


__all__ = ["ClipCutter", "JobFailed", "JobResult", "SubtitleExtractor", "ThumbnailMaker", "VideoService"]


class ClipCutter:
    """
    Cuts a video into clips, without encoding anything anew.

    Lives as long as the job whose *manager* it has.

    Args:
        manager: Owns the clips until they are published.

        seconds: The shortest clip; each ends at the next picture that stands for itself.
    """

    def __init__(self, manager: TempFileManager, seconds: float) -> None:
        self._manager = manager
        self._seconds = seconds

    def cut(self, source: Path, progress: Progress = silent) -> list[Path]:
        """
        Return the clips of *source*, in order: pictures and sound, each playable by itself.

        Raises:
            VideoError: If *source* is no video, or is truncated.
        """
        clips: list[Path] = []
        progress("clips", 0.0)
        with open_video(source) as video:
            tracks = [video.pictures, *video.sound]
            container_format, suffix = clip_format(video, tracks)
            with ClipRow(container_format, tracks) as row:
                for packet in video.packets():
                    if packet.stream not in tracks:
                        continue
                    if row.is_due(packet, self._seconds):
                        clips.append(self._manager.new_file(name=f"clip-{len(clips) + 1:03}{suffix}"))
                        row.begin(clips[-1], time_of(packet))
                    progress("clips", video.fraction(packet))
                    row.write(packet)
        progress("clips", 1.0)
        return clips


class SubtitleExtractor:
    """
    Writes the text subtitles of a video down as SubRip files.

    Lives as long as the job whose *manager* it has.

    Args:
        manager: Owns the files until they are published.
    """

    def __init__(self, manager: TempFileManager) -> None:
        self._manager = manager

    def extract(self, source: Path, progress: Progress = silent) -> list[Path]:
        """
        Return one file for each track of text; none where there is none.

        Not promised: subtitles that are pictures, as on DVDs, are left out.

        Raises:
            VideoError: If *source* is no video.
        """
        progress("subtitles", 0.0)
        with open_video(source) as video:
            tracks = [track for track in video.container.streams.subtitles if is_text(track)]
            paths = [self._manager.new_file(name=_subtitle_name(n, t)) for n, t in enumerate(tracks, 1)]
            with SubtitleFiles(dict(zip(tracks, paths, strict=True))) as files:
                for packet in video.container.demux(tracks) if tracks else ():
                    files.write(packet)
                    progress("subtitles", video.fraction(packet))
        progress("subtitles", 1.0)
        return paths


def _subtitle_name(number: int, track: SubtitleStream) -> str:
    # The language comes from the file, that is from anybody: letters are taken, nothing else.
    language = track.language or ""
    return f"subtitles-{number}{f'.{language}' if re.fullmatch('[a-z]{2,3}', language) else ''}.srt"


class ThumbnailMaker:
    """
    Takes pictures from a video, evenly spread over its length.

    Lives as long as the job whose *manager* it has.

    Args:
        manager: Owns the pictures until they are published.

        count: How many.

        width: Of each, in pixels.
    """

    def __init__(self, manager: TempFileManager, count: int, width: int) -> None:
        self._manager = manager
        self._count = count
        self._width = width

    def make(self, source: Path, progress: Progress = silent) -> list[Path]:
        """
        Return the pictures as JPEG files; one, where the video does not say how long it is.

        Raises:
            VideoError: If *source* is no video.
        """
        thumbnails: list[Path] = []
        progress("thumbnails", 0.0)
        with open_video(source) as video:
            length = max(0.0, video.end - video.start)
            count = self._count if length else 1
            for number in range(1, count + 1):
                frame = video.frame_at(video.start + length * (number - 0.5) / count)
                path = self._manager.new_file(name=f"thumbnail-{number}.jpg")
                path.write_bytes(jpeg(frame, self._width, video.pictures.sample_aspect_ratio))
                thumbnails.append(path)
                progress("thumbnails", number / count)
        return thumbnails


@attrs.frozen(kw_only=True)
class JobResult:
    """
    What a job made, and what it cost.

    Attributes:
        directory: Where the products are.

        products: Their names: clips, subtitles and thumbnails, in this order.

        staged: How the video came into the scope: ``"hardlink"``, ``"reflink"`` or ``"copy"``.

        usage: What the job's scope occupied at the end of the work.

        report: What closing the scope did.
    """

    directory: Path
    products: tuple[str, ...]
    staged: str
    usage: Usage
    report: CleanupReport


class JobFailed(Exception):
    """
    A job failed; the message says why.

    Attributes:
        usage: What its scope occupied then.

        report: What closing the scope did, and where it was kept.
    """

    def __init__(self, message: str, usage: Usage, report: CleanupReport) -> None:
        super().__init__(message)
        self.usage = usage
        self.report = report


class VideoService:
    """
    Runs jobs: opens a scope for each, and publishes what the other services made in it.

    Lives as long as the application; all its threads may use it at once.

    Args:
        scopes: Opens the jobs' scopes.

        clip_cutter: Makes the job's :class:`ClipCutter`, inside its scope; the others likewise.
    """

    def __init__(
        self,
        scopes: TempScopes,
        clip_cutter: Callable[[], ClipCutter],
        subtitle_extractor: Callable[[], SubtitleExtractor],
        thumbnail_maker: Callable[[], ThumbnailMaker],
    ) -> None:
        self._scopes = scopes
        self._clip_cutter = clip_cutter
        self._subtitle_extractor = subtitle_extractor
        self._thumbnail_maker = thumbnail_maker

    def process(self, video: Path, output: Path, progress: Progress = silent) -> JobResult:
        """
        Make clips, subtitles and thumbnails of *video*, in a new directory below *output*.

        Nothing is published unless all of it was made.

        Raises:
            JobFailed: If it cannot be done; the scope's policy decided what became of the evidence.
        """
        usage = Usage()
        manager = self._scopes.open(video.name)
        try:
            with manager:
                try:
                    staged = manager.stage(video, name=_staged_name(video))
                    products = self._make(staged.path, progress)
                finally:
                    usage = manager.usage()
                directory = new_directory(output, video.stem)
                for path in products:
                    manager.publish(path, directory / path.name, overwrite=False)
        except (VideoError, TempscopeError, OSError) as error:
            raise JobFailed(str(error), usage, _report_of(manager)) from error
        return JobResult(
            directory=directory,
            products=tuple(path.name for path in products),
            staged=staged.method,
            usage=usage,
            report=_report_of(manager),
        )

    def _make(self, source: Path, progress: Progress) -> list[Path]:
        return [
            *self._clip_cutter().cut(source, progress),
            *self._subtitle_extractor().extract(source, progress),
            *self._thumbnail_maker().make(source, progress),
        ]


def _report_of(manager: TempFileManager) -> CleanupReport:
    assert manager.report is not None, "it is there once the scope is closed"
    return manager.report


def _staged_name(video: Path) -> str:
    """Return a name that is fit for any file system, whatever the user's file is called."""
    return f"source{video.suffix if re.fullmatch('[.][A-Za-z0-9]{1,8}', video.suffix) else ''}"


def new_directory(parent: Path, name: str) -> Path:
    """Make a directory called *name* in *parent*, numbered if the name is taken."""
    parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        directory = parent / (name if number == 1 else f"{name}-{number}")
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        return directory
    raise AssertionError("there is always another number")
