"""
Recordings: making one, taking the sound out of one, and finding where there is sound in it.

All of it blocks, so it runs in threads; each long call asks between two frames whether to stop.
"""

from __future__ import annotations

import math
import wave
from array import array
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import BinaryIO

import av
from av.error import FFmpegError


__all__ = ["RecordingError", "Stopped", "extract_sound", "make_recording", "split", "words_in"]

RATE = 16_000
_FRAME = 1024
_LOUD = 1_000
_BUFFER = 256 * 1024


class RecordingError(Exception):
    """A recording that this application cannot work on; the message says why."""


class Stopped(Exception):
    """The work was stopped before it was done."""


def make_recording(file: BinaryIO, seconds: int = 8) -> None:
    """Write a recording to *file*: a tone in every other second, silence between."""
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("aac", rate=RATE)
        stream.layout = "mono"
        for number in range(seconds * RATE // _FRAME):
            start = number * _FRAME
            loud = 8_000 if start // RATE % 2 == 0 else 0
            samples = array("h", (int(loud * math.sin(0.17 * (start + i))) for i in range(_FRAME)))
            frame = av.AudioFrame(format="s16", layout="mono", samples=_FRAME)
            frame.planes[0].update(samples.tobytes())
            frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def extract_sound(recording: Path, target: Path, stop: Event) -> float:
    """
    Write the sound of *recording* to *target* as a 16 kHz mono wave file; return its length in seconds.

    Raises:
        RecordingError: If it is no recording, or has no sound.

        Stopped: If *stop* was set.
    """
    samples = 0
    try:
        with (
            recording.open("rb") as file,
            av.open(file, "r", buffer_size=_BUFFER) as container,
            target.open("wb") as output,
            wave.open(output, "wb") as sound,
        ):
            if not container.streams.audio:
                raise RecordingError("it has no sound")
            sound.setparams((1, 2, RATE, 0, "NONE", ""))
            resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
            for decoded in container.decode(audio=0):
                if stop.is_set():
                    raise Stopped
                for frame in resampler.resample(decoded):
                    sound.writeframes(bytes(frame.planes[0])[: frame.samples * 2])
                    samples += frame.samples
    except FFmpegError as error:
        raise RecordingError(f"FFmpeg cannot work on it: {error.strerror}") from error
    return samples / RATE


def split(sound: Path, seconds: int) -> Iterator[tuple[int, bytes]]:
    """Yield the samples of *sound* in parts of so many seconds, each with the second it begins at."""
    with sound.open("rb") as file, wave.open(file, "rb") as reader:
        start = 0
        while part := reader.readframes(RATE * seconds):
            yield start, part
            start += seconds


def words_in(part: Path, stop: Event) -> str:
    """Stand in for a speech model: say whether there is sound in *part*, a file of samples."""
    if stop.is_set():
        raise Stopped
    samples = array("h", part.read_bytes())
    return "a tone" if samples and sum(map(abs, samples)) / len(samples) > _LOUD else ""
