"""
What the arguments of ``open`` mean, and what it returns over a raw stream.

The wrappers are the standard library's own, so that buffering, text and line endings are exactly
those of a file on disk.
"""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable
from typing import IO, Any

import attrs

from tempscope.storages.memory._node import BLOCK


__all__ = ["Mode", "check_binary", "parse_mode", "wrap"]

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
    wrapper: Callable[[Any, int], Any]


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
    wrapper = io.BufferedRandom if update else io.BufferedReader if kind == "r" else io.BufferedWriter
    return Mode(raw, kind, kind == "r" or update, kind != "r" or update, "b" not in given, wrapper)


def wrap(
    raw: Any,
    mode: str,
    meaning: Mode,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> IO[Any]:
    """Return what ``open`` returns for these arguments, over *raw*; closes *raw* if it cannot."""
    try:
        if buffering == 0:
            raise ValueError("can't have unbuffered text I/O")
        size = buffering if buffering > 1 else BUFFER
        buffer: Any = meaning.wrapper(raw, size)
        if not meaning.text:
            return buffer  # type: ignore[no-any-return]
        text = io.TextIOWrapper(buffer, encoding, errors, newline, buffering == 1)
        text.mode = mode  # type: ignore[misc]
        return text
    except BaseException:
        raw.close()
        raise


def check_binary(buffering: int, encoding: str | None, errors: str | None, newline: str | None) -> None:
    """Raise as ``open`` does for arguments that binary mode does not take, before anything is touched."""
    if encoding is errors is newline is None and buffering != 1:
        return
    for what, value in (("an encoding", encoding), ("an errors", errors), ("a newline", newline)):
        if value is not None:
            raise ValueError(f"binary mode doesn't take {what} argument")
    warnings.warn(
        "line buffering (buffering=1) isn't supported in binary mode, the default buffer size will be used",
        RuntimeWarning,
        stacklevel=3,
    )
