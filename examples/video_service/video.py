"""
Reading video with PyAV, through file objects only.

``av.open(path)`` asks the path for its text, and ``av.open(file)`` the file's name for its; a file
in memory moves to disk when it is asked for that.  :class:`Unnamed` leaves nothing to ask for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import attrs
import av
from av.error import FFmpegError
from av.filter import Graph
from av.stream import Disposition


if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream


__all__ = ["BUFFER", "Unnamed", "Video", "VideoError", "jpeg", "open_video", "time_base_of", "time_of"]

BUFFER = 256 * 1024
_MICROSECONDS = 1_000_000
_MISSING_SECONDS = 1.0
# What a file says of itself may be in any coding; PyAV 19 takes that as it comes.
_LENIENT: dict[str, Any] = {"metadata_errors": "replace"} if av.__version__ < "19" else {}


class VideoError(Exception):
    """A file that this application cannot work on; the message says why."""


class Unnamed:
    """
    A file as PyAV needs it: all that it is but its name.

    Lives as long as *file*, which it does not close; for one thread.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "name":
            raise AttributeError(attribute)
        return getattr(self._file, attribute)


@attrs.frozen
class Video:
    """
    A video that is open for reading; lives inside :func:`open_video`, for one thread.

    Attributes:
        container: PyAV's view of it.

        pictures: Its first track of moving pictures.

        file: What it is read from.

        size: Its size in bytes.
    """

    container: InputContainer
    pictures: VideoStream
    file: IO[bytes]
    size: int

    @property
    def sound(self) -> list[AudioStream]:
        """The tracks of sound that this FFmpeg knows."""
        return [track for track in self.container.streams.audio if track.codec_context is not None]

    def fraction(self, packet: av.Packet[Any]) -> float:
        """Return how far into the video *packet* is, 0.0 to 1.0: by its time, else by what was read."""
        if self.end > self.start:
            part = (float(time_of(packet)) - self.start) / (self.end - self.start)
        else:
            part = self.file.tell() / self.size
        return min(1.0, max(0.0, part))

    @property
    def start(self) -> float:
        """The time of the first packet, in seconds."""
        return (self.container.start_time or 0) / _MICROSECONDS

    @property
    def end(self) -> float:
        """The time at which it says it ends, in seconds; 0.0 where it does not say."""
        duration = (self.container.duration or 0) / _MICROSECONDS
        return duration if self._counts_from_zero or not duration else self.start + duration

    def packets(self) -> Iterator[av.Packet[Any]]:
        """
        Yield every packet of every track, in the order of the file.

        Raises:
            VideoError: If packets carry no times; at the end, if the file is shorter than it says.
        """
        end, corrupt = self.start, False
        for packet in self.container.demux():
            if packet.dts is None and packet.pts is None:
                if packet.size:
                    raise VideoError("its packets carry no times: put it into a container first")
                continue  # the end of one track
            # Before it is handed out: who writes the packet elsewhere changes it.
            end = max(end, float(time_of(packet) + (packet.duration or 0) * time_base_of(packet)))
            corrupt = packet.is_corrupt
            yield packet
        self._check_whole(end, corrupt)

    def frame_at(self, seconds: float) -> av.VideoFrame:
        """
        Return the picture that is shown at *seconds*, or the last one before.

        Raises:
            VideoError: If there is no picture at all.
        """
        if seconds > self.start:
            self.container.seek(int(seconds * _MICROSECONDS))
        frame: av.VideoFrame | None = None
        for frame in self.container.decode(self.pictures):
            if frame.time is None or frame.time >= seconds:
                break
        if frame is None:
            raise VideoError(f"it has no picture at {seconds:.1f} seconds")
        return frame

    def _check_whole(self, end: float, corrupt: bool) -> None:
        declares = self._counts_from_zero or "mov" in self._formats
        if corrupt or (declares and end < self.end - _MISSING_SECONDS):
            raise VideoError(f"it is truncated: it ends after {end:.1f} of {self.end:.1f} seconds")

    @property
    def _formats(self) -> list[str]:
        return self.container.format.name.split(",")

    @property
    def _counts_from_zero(self) -> bool:
        """Whether its length is what it says of its last moment, and not of all its moments together."""
        return "matroska" in self._formats or "flv" in self._formats


@contextmanager
def open_video(path: Path) -> Iterator[Video]:
    """
    Open *path* for reading; what FFmpeg says against it in the block becomes a :class:`VideoError`.
    """
    size = path.stat().st_size
    if not size:
        raise VideoError("it is empty")
    try:
        with path.open("rb") as file, _open_input(file) as container:
            yield Video(container, _moving_pictures(container), file, size)
    except FFmpegError as error:
        raise VideoError(f"FFmpeg cannot work on it: {error.strerror}") from error


def _open_input(file: IO[bytes]) -> InputContainer:
    # genpts: old AVI files store only when a picture is decoded, and no clip can be made of that.
    options = {"fflags": "+genpts"}
    container: InputContainer = av.open(Unnamed(file), "r", options=options, buffer_size=BUFFER, **_LENIENT)
    return container


def _moving_pictures(container: InputContainer) -> VideoStream:
    for stream in container.streams.video:
        is_cover = stream.disposition & Disposition.attached_pic
        if not is_cover and stream.codec_context is not None:
            return stream
    raise VideoError("it has no moving pictures that FFmpeg knows")


def time_base_of(packet: av.Packet[Any]) -> Fraction:
    """Return how long one tick of *packet*'s times is, in seconds."""
    return packet.time_base or Fraction(1, _MICROSECONDS)


def time_of(packet: av.Packet[Any]) -> Fraction:
    """Return when *packet* is shown, in seconds."""
    ticks = packet.pts if packet.pts is not None else packet.dts
    return (ticks or 0) * time_base_of(packet)


def jpeg(frame: av.VideoFrame, width: int, aspect: Fraction | None = None) -> bytes:
    """
    Return *frame* as a JPEG picture, upright however the camera was held.

    Args:
        frame: As decoded.

        width: Of the picture, in pixels.

        aspect: Width to height of one pixel of *frame*; None is square.
    """
    shown = _turned(frame.reformat(width=max(2, round(frame.width * float(aspect or 1)))), frame.rotation)
    height = max(2, round(width * shown.height / shown.width / 2) * 2)
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    picture = shown.reformat(width=width, height=height, format="yuvj420p")
    picture.pts = None
    return b"".join(bytes(packet) for part in (picture, None) for packet in encoder.encode(part))


def _turned(frame: av.VideoFrame, degrees: int) -> av.VideoFrame:
    """Return *frame* turned by *degrees*, counted against the clock, a multiple of 90."""
    quarters = round(degrees / 90) % 4
    if not quarters:
        return frame
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)
    )
    turns = [graph.add("transpose", "cclock") for _ in range(quarters)]
    graph.link_nodes(source, *turns, graph.add("buffersink")).configure()
    graph.push(frame)
    turned = graph.pull()
    assert isinstance(turned, av.VideoFrame)
    return turned
