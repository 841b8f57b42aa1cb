"""
What the arguments of ``open`` mean, and what it returns over a raw stream.

The wrappers are the standard library's own, so that buffering, text and line endings are exactly
those of a file on disk.
"""

from __future__ import annotations

import functools
import io
import warnings
from typing import IO, Any

import attrs

from tempscope.storages.memory._node import BLOCK


__all__ = ["Mode", "check_arguments", "parse_mode", "wrap"]

# Until Python 3.13 a file's own block size, later at least 128 KiB: as open() does it on disk.
BUFFER = BLOCK if io.DEFAULT_BUFFER_SIZE <= 8192 else io.DEFAULT_BUFFER_SIZE


@attrs.frozen
class Mode:
    """What the *mode* of ``open`` means."""

    raw: str
    kind: str
    reading: bool
    writing: bool
    text: bool


@functools.lru_cache
def parse_mode(mode: str) -> Mode:
    """Return what *mode* means; raise ``ValueError`` as ``open`` does."""
    given = set(mode)
    if given - set("axrwb+t") or len(mode) > len(given):
        raise ValueError(f"invalid mode: {mode!r}")
    kinds = given & set("xrwa")
    if given >= {"t", "b"}:
        raise ValueError("can't have text and binary mode at once")
    if len(kinds) != 1:
        raise ValueError(
            "must have exactly one of create/read/write/append mode"
            if kinds
            else "Must have exactly one of create/read/write/append mode and at most one plus"
        )
    kind = kinds.pop()
    update = "+" in given
    raw = f"{kind}b{'+' if update else ''}" if kind != "r" or not update else "rb+"
    return Mode(raw, kind, kind == "r" or update, kind != "r" or update, "b" not in given)


def wrap(
    raw: io.RawIOBase,
    mode: str,
    meaning: Mode,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> IO[Any]:
    """Return what ``open`` returns for these arguments, over *raw*; closes *raw* if it cannot."""
    try:
        return _wrap(raw, mode, meaning, buffering, encoding, errors, newline)
    except BaseException:
        raw.close()
        raise


def _wrap(
    raw: io.RawIOBase,
    mode: str,
    meaning: Mode,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> IO[Any]:
    if buffering == 0 and not meaning.text:
        return raw  # type: ignore[return-value]
    if buffering == 0:
        raise ValueError("can't have unbuffered text I/O")
    size = buffering if buffering > 1 else BUFFER
    buffer: Any
    if meaning.reading and meaning.writing:
        buffer = io.BufferedRandom(raw, size)
    elif meaning.writing:
        buffer = io.BufferedWriter(raw, size)
    else:
        buffer = io.BufferedReader(raw, size)
    if not meaning.text:
        return buffer  # type: ignore[no-any-return]
    text = io.TextIOWrapper(buffer, encoding, errors, newline, buffering == 1)
    text.mode = mode  # type: ignore[misc]
    return text


def check_arguments(
    meaning: Mode, buffering: int, encoding: str | None, errors: str | None, newline: str | None
) -> None:
    """Raise as ``open`` does for arguments that do not fit together, before anything is touched."""
    if meaning.text:
        return
    for what, value in (("an encoding", encoding), ("an errors", errors), ("a newline", newline)):
        if value is not None:
            raise ValueError(f"binary mode doesn't take {what} argument")
    if buffering == 1:
        warnings.warn(
            "line buffering (buffering=1) isn't supported in binary mode, "
            "the default buffer size will be used",
            RuntimeWarning,
            stacklevel=3,
        )
