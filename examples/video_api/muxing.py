"""
Putting a video and its subtitles into one Matroska file, without encoding anything anew.

Through file objects only, so that it works on any storage.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import av
from av.error import FFmpegError

from tempscope import TempFileManager


if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer


__all__ = ["MuxError", "Muxer", "Stopped", "make_subtitles", "make_video"]

_BUFFER = 256 * 1024
_RATE = 192_000


class MuxError(Exception):
    """Files that this service cannot work on; the message says why."""


class Stopped(Exception):
    """The work was stopped before it was done."""


class Muxer:
    """
    Works within a job.

    Args:
        manager: The job's; what is made belongs to it.
    """

    def __init__(self, manager: TempFileManager) -> None:
        self._manager = manager

    def mux(self, video: Path, subtitles: Path, stop: Event) -> Path:
        """
        Return a Matroska file with the tracks of *video*, and *subtitles*, which are SubRip.

        Raises:
            MuxError: If one of them cannot be read.

            OSError: If there is no room.

            Stopped: If *stop* was set meanwhile.
        """
        result = self._manager.new_file(name="result.mkv")
        try:
            with ExitStack() as stack:
                inputs = [
                    _opened(stack, video.open("rb"), None),
                    _opened(stack, subtitles.open("rb"), "srt"),
                ]
                target = stack.enter_context(result.open("wb"))
                output: OutputContainer = stack.enter_context(
                    av.open(_Named(target), "w", format="matroska", options={"fflags": "+bitexact"})
                )
                for packet in heapq.merge(*_tracks(inputs, output), key=_time):
                    if stop.is_set():
                        raise Stopped
                    output.mux(packet)
        except FFmpegError as error:
            raise MuxError(f"FFmpeg cannot work on it: {error.strerror}") from error
        return result


class _Named:
    """A file without its name, which PyAV would ask for its text."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "name":
            raise AttributeError(attribute)
        return getattr(self._file, attribute)


def _opened(stack: ExitStack, file: IO[bytes], form: str | None) -> InputContainer:
    stack.enter_context(file)
    container: InputContainer = av.open(_Named(file), "r", format=form, buffer_size=_BUFFER)
    return stack.enter_context(container)


def _tracks(inputs: list[InputContainer], output: OutputContainer) -> list[Iterator[av.Packet[Any]]]:
    video, subtitles = inputs
    if not video.streams.video:
        raise MuxError("it has no moving pictures")
    streams = {
        stream: output.add_stream_from_template(stream)
        for container, kinds in ((video, ("video", "audio")), (subtitles, ("subtitle",)))
        for stream in container.streams
        if stream.type in kinds
    }

    def packets(container: InputContainer) -> Iterator[av.Packet[Any]]:
        for packet in container.demux([stream for stream in container.streams if stream in streams]):
            if packet.dts is not None:
                packet.stream = streams[packet.stream]
                yield packet

    return [packets(video), packets(subtitles)]


def _time(packet: av.Packet[Any]) -> Fraction:
    return (packet.dts or 0) * packet.time_base


def make_video(file: BinaryIO, seconds: int = 1) -> None:
    """Write a video to *file*: one picture and 750 KiB of uncompressed sound for each second."""
    with av.open(file, "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        pictures = container.add_stream("ffv1", rate=1)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=_RATE)
        sound.layout = "stereo"
        for second in range(seconds):
            picture = av.VideoFrame(64, 48, "yuv420p")
            for plane in picture.planes:
                plane.update(bytes([second % 256]) * plane.buffer_size)
            picture.pts, picture.time_base = second, Fraction(1)
            container.mux(pictures.encode(picture))
            samples = av.AudioFrame(format="s16", layout="stereo", samples=_RATE)
            samples.planes[0].update(bytes([second % 256]) * samples.planes[0].buffer_size)
            samples.sample_rate, samples.pts, samples.time_base = _RATE, second * _RATE, Fraction(1, _RATE)
            container.mux(sound.encode(samples))


def make_subtitles(lines: int = 3) -> bytes:
    """Return subtitles as SubRip, a line every second."""
    return "\n".join(
        f"{n + 1}\n00:00:{n:02},000 --> 00:00:{n:02},500\nline {n + 1}\n" for n in range(lines)
    ).encode()
