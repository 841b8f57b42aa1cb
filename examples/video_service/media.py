"""
Make a real video to work on: H.264 pictures, AAC sound and two tracks of subtitles, in Matroska.

The same recipe gives the same bytes on the same build of FFmpeg.
Everything goes to a file object, so the video can be made in memory as well as on disk.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

import attrs
import av
from av.subtitles.subtitle import SubtitleSet


if TYPE_CHECKING:
    from av.container import OutputContainer


__all__ = ["Recipe", "make_video"]

MILLISECOND = Fraction(1, 1000)
_SAMPLES_A_FRAME = 1024
_ASS_HEADER = b"[Script Info]\r\nScriptType: v4.00+\r\n\r\n[Events]\r\n"


@attrs.frozen(kw_only=True)
class Recipe:
    """
    What the made video is like.

    Attributes:
        seconds: How long it is.

        width: In pixels, even.

        height: In pixels, even.

        rate: Pictures a second.

        sample_rate: Samples of sound a second; 0 leaves the sound out.

        languages: One track of subtitles each; none leaves them out.
    """

    seconds: int = 12
    width: int = 320
    height: int = 180
    rate: int = 24
    sample_rate: int = 44_100
    languages: tuple[str, ...] = ("eng", "deu")


def make_video(file: BinaryIO, recipe: Recipe | None = None) -> None:
    """
    Write the video that *recipe* describes to *file*: a picture to cut at every second.

    Args:
        file: Open for writing in binary, seekable; it stays open.

        recipe: What to make; the default one takes about a second.
    """
    recipe = recipe or Recipe()
    with av.open(file, "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        tracks = [_picture_track(container, recipe)]
        if recipe.sample_rate:
            tracks.append(_sound_track(container, recipe))
        tracks += [_subtitle_track(container, recipe, language) for language in recipe.languages]
        container.start_encoding()
        for packet in heapq.merge(*tracks, key=_time):
            container.mux(packet)


def _time(packet: av.Packet[Any]) -> Fraction:
    return (packet.dts or 0) * packet.time_base


def _picture_track(container: OutputContainer, recipe: Recipe) -> Iterator[av.Packet[Any]]:
    # The preset because the slower ones look ahead (mbtree), and then the bytes differ from run to run.
    options = {"preset": "ultrafast", "bf": "2", "threads": "1", "flags": "+bitexact"}
    stream = container.add_stream("libx264", rate=recipe.rate, options=options)
    stream.width, stream.height, stream.pix_fmt = recipe.width, recipe.height, "yuv420p"
    stream.codec_context.gop_size = recipe.rate
    stream.codec_context.thread_count = 1

    def packets() -> Iterator[av.Packet[Any]]:
        for number in range(recipe.seconds * recipe.rate):
            yield from stream.encode(_picture(number, recipe))
        yield from stream.encode(None)

    return packets()


def _picture(number: int, recipe: Recipe) -> av.VideoFrame:
    """Return stripes that wander, in a colour that changes every second."""
    frame = av.VideoFrame(recipe.width, recipe.height, "yuv420p")
    frame.pts, frame.time_base = number, Fraction(1, recipe.rate)
    luma, blue, red = frame.planes
    ramp = bytes(range(16, 236)) * (luma.line_size // 220 + 2)
    starts = ((2 * number + row) % 220 for row in range(luma.height))
    luma.update(b"".join(ramp[start : start + luma.line_size] for start in starts))
    second = number // recipe.rate
    blue.update(bytes([64 + 40 * second % 128]) * blue.buffer_size)
    red.update(bytes([192 - 24 * second % 128]) * red.buffer_size)
    return frame


def _sound_track(container: OutputContainer, recipe: Recipe) -> Iterator[av.Packet[Any]]:
    stream = container.add_stream("aac", rate=recipe.sample_rate, options={"flags": "+bitexact"})
    stream.layout = "mono"

    def packets() -> Iterator[av.Packet[Any]]:
        for frame in _tone(recipe):
            yield from stream.encode(frame)
        yield from stream.encode(None)

    return packets()


def _tone(recipe: Recipe) -> Iterator[av.AudioFrame]:
    """Yield a tone of 440 Hz; a whole number of waves a second makes one second repeat."""
    rate = recipe.sample_rate
    second = array("h", (int(12_000 * math.sin(math.tau * 440 * n / rate)) for n in range(rate)))
    samples = second * recipe.seconds
    for start in range(0, len(samples), _SAMPLES_A_FRAME):
        part = samples[start : start + _SAMPLES_A_FRAME]
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(part), align=1)
        frame.planes[0].update(part.tobytes())
        frame.rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        yield frame


def _subtitle_track(container: OutputContainer, recipe: Recipe, language: str) -> Iterator[av.Packet[Any]]:
    stream = container.add_stream("subrip")
    stream.time_base = MILLISECOND
    stream.metadata["language"] = language
    stream.codec_context.subtitle_header = _ASS_HEADER

    def packets() -> Iterator[av.Packet[Any]]:
        for second in range(0, recipe.seconds, 2):
            text = f"0,0,Default,,0,0,0,,{language}: second {second}" r"\N{\i1}größer als null{\i0}"
            line = SubtitleSet.create(text.encode(), 0, 1500, pts=1000 * second)
            packet = stream.codec_context.encode_subtitle(line)
            packet.stream, packet.time_base = stream, MILLISECOND
            yield packet

    return packets()
