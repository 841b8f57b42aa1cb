"""
Writing subtitles of any text format as SubRip, through file objects only.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import av
from av.error import InvalidDataError
from av.subtitles.subtitle import AssSubtitle, Subtitle

from video import BUFFER, Unnamed


if TYPE_CHECKING:
    from av.subtitles.stream import SubtitleStream


__all__ = ["SubtitleFiles", "is_text"]

_MILLISECOND = Fraction(1, 1000)


def is_text(track: SubtitleStream) -> bool:
    """Whether the subtitles of *track* are text, and this FFmpeg can read it."""
    return track.codec_context is not None and track.codec_context.codec.text_sub


class SubtitleFiles:
    """
    SubRip files, one for each track of a video.

    Lives while the packets are read, used by ``with``; for one thread.

    Args:
        paths: An existing file for each track.
    """

    def __init__(self, paths: Mapping[SubtitleStream, Path]) -> None:
        with ExitStack() as stack:
            self._writers = {track.index: _Writer(track, path, stack) for track, path in paths.items()}
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def write(self, packet: av.Packet[Any]) -> None:
        """Write the text of *packet*, if it has any, to its track's file."""
        if packet.size:
            self._writers[packet.stream.index].write(packet)


class _Writer:
    def __init__(self, track: SubtitleStream, path: Path, stack: ExitStack) -> None:
        file = stack.enter_context(path.open("wb"))
        container = stack.enter_context(av.open(Unnamed(file), "w", format="srt", buffer_size=BUFFER))
        self._track = track
        self._container = container
        self._output = container.add_stream("subrip")
        # A decoder knows the styles that its lines refer to once it is open; the encoder needs them.
        track.codec_context.open(strict=False)
        self._output.codec_context.subtitle_header = track.codec_context.subtitle_header

    def write(self, packet: av.Packet[Any]) -> None:
        try:
            lines = self._track.decode2(packet)
        except InvalidDataError:
            return  # one line in no known coding is no reason to lose the others
        if lines is None or not any(_text(line) for line in lines):
            return  # MP4 fills the time between two lines with empty ones
        written = self._output.codec_context.encode_subtitle(lines)
        written.stream, written.time_base = self._output, packet.time_base
        written.pts = written.dts = packet.pts
        written.duration = packet.duration or round(lines.end_display_time * _MILLISECOND / packet.time_base)
        self._container.mux_one(written)


def _text(line: Subtitle) -> bytes:
    """Return what stands in the last field of *line*'s nine, where the text is."""
    return line.ass.split(b",", 8)[-1].strip() if isinstance(line, AssSubtitle) else b""
