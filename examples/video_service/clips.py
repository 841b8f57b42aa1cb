"""
Cutting packets into clips: written as they are, through file objects only.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import av

from video import BUFFER, Unnamed, Video, VideoError, time_base_of, time_of


if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.stream import Stream


__all__ = ["ClipRow", "clip_format"]


def clip_format(video: Video, tracks: Sequence[Stream]) -> tuple[str, str]:
    """
    Return the format for clips of *tracks*, and its suffix: MP4 where it was and can be, else Matroska.

    Raises:
        VideoError: If neither can hold them.
    """
    codecs = {track.codec_context.codec.canonical_name for track in tracks}
    if "mp4" in video.container.format.name.split(",") and codecs <= _codecs_of("mp4"):
        return "mp4", ".mp4"
    if impossible := codecs - _codecs_of("matroska"):
        raise VideoError(f"no clip can hold its {' and '.join(sorted(impossible))} as it is")
    return "matroska", ".mkv"


def _codecs_of(container_format: str) -> set[str]:
    with av.open(BytesIO(), "w", format=container_format) as container:
        return container.supported_codecs


class ClipRow:
    """
    The clips of one video, written one after the other; at most two are open at a time.

    Lives from the first clip's beginning to the last one's end, used by ``with``; for one thread.

    Args:
        container_format: FFmpeg's name of the clips' format.

        tracks: Which tracks of the source go into each clip.
    """

    def __init__(self, container_format: str, tracks: Sequence[Stream]) -> None:
        self._format = container_format
        self._tracks = tracks
        self._before: _ClipWriter | None = None
        self._current: _ClipWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            for writer in (self._current, self._before):
                if writer is not None:
                    stack.callback(writer.close)

    def is_due(self, packet: av.Packet[Any], seconds: float) -> bool:
        """Whether a new clip begins with *packet*, if clips are to be at least *seconds* long."""
        if self._current is None:
            return True
        stands_alone = packet.stream is self._tracks[0] and packet.is_keyframe
        return stands_alone and time_of(packet) >= self._current.start + Fraction(seconds)

    def begin(self, path: Path, start: Fraction) -> None:
        """Begin the next clip: in *path*, an existing file; from *start*, in seconds of the source."""
        if self._before is not None:
            self._before.close()
        self._before, self._current = self._current, None
        self._current = _ClipWriter(path, self._format, self._tracks, start)

    def write(self, packet: av.Packet[Any]) -> None:
        """Write *packet* to the clip it belongs to; it is changed by that."""
        assert self._current is not None, "begin() comes first"
        # Sound lies a little behind the pictures in a file, so the clip before is still open.
        late = packet.stream is not self._tracks[0] and time_of(packet) < self._current.start
        (self._before if self._before is not None and late else self._current).write(packet)


class _ClipWriter:
    """
    Writes one clip: packets as they are, with times that count from the clip's start.

    Lives from the clip's first packet to :meth:`close`; for one thread.

    Args:
        path: An existing file to write to.

        container_format: FFmpeg's name of the format.

        tracks: Which tracks of the source it takes.

        start: When in the source it starts, in seconds.
    """

    def __init__(self, path: Path, container_format: str, tracks: Sequence[Stream], start: Fraction) -> None:
        self.start = start
        with ExitStack() as stack:
            file = stack.enter_context(path.open("wb"))
            container: OutputContainer = stack.enter_context(
                av.open(Unnamed(file), "w", format=container_format, buffer_size=BUFFER)
            )
            self._container = container
            # opaque: as it is, also where this FFmpeg has no encoder for it.
            self._outputs = {t.index: container.add_stream_from_template(t, opaque=True) for t in tracks}
            self._open = stack.pop_all()

    def write(self, packet: av.Packet[Any]) -> None:
        """Write *packet*, which is changed and not to be used again."""
        shift = round(self.start / time_base_of(packet))
        if packet.pts is not None:
            packet.pts -= shift
        if packet.dts is not None:
            packet.dts -= shift
        packet.stream = self._outputs[packet.stream.index]
        self._container.mux_one(packet)

    def close(self) -> None:
        """Finish the clip; closing twice is fine."""
        self._open.close()
