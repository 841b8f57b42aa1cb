"""
Which names may become files, decided before anything is touched.

A name here is one path component of the running platform.
The names that we make up ourselves are lower-case ASCII letters and digits, which every platform
and every case-folding or normalising file system takes.
"""

from __future__ import annotations

import os
import re

from tempscope.errors import InvalidNameError


__all__ = ["MAX_NAME_BYTES", "check_affixes", "check_label", "check_name", "escape", "unique_name"]

MAX_NAME_BYTES = 255
"""The longest component that Linux file systems take (``NAME_MAX``), in bytes."""

RESERVED_PREFIX = ".tempscope-"
"""Names that begin so are ours: the record of a kept scope lies among its files."""

_COUNTER_BYTES = 10
_ON_WINDOWS = os.name == "nt"
_SEPARATORS = frozenset("/\\:" if _ON_WINDOWS else "/")
_WINDOWS_FORBIDDEN = frozenset('<>"|?*') if _ON_WINDOWS else frozenset[str]()
_WINDOWS_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))]
)
# What most names look like, told at once; whatever does not match is looked at closely.
_ORDINARY = re.compile("[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}").fullmatch
_MAX_CHECKED = 1024
_MAX_LABEL = 1_000
_checked: set[tuple[str, str]] = set()


def escape(text: str, limit: int = 200) -> str:
    """Return *text* fit for a message or a log line: printable, one line, at most *limit* characters."""
    shown = text if text.isprintable() else "".join(map(_escaped, text))
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    if 0xDC80 <= ord(char) <= 0xDCFF:  # a byte of a name that is no UTF-8, as Python keeps it
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def check_name(name: str) -> str:
    """
    Return *name* if it can be the name of a file in a scope.

    Raises:
        InvalidNameError: If it is not text, is empty, only spaces, ``.`` or ``..``, holds a
            path separator, a control character or a lone surrogate (on Windows also what Windows
            forbids), is longer than 255 bytes, or is reserved; the message says which.
    """
    if not isinstance(name, str):
        raise InvalidNameError(f"a name must be text, not {type(name).__name__}")
    if _ORDINARY(name) and not _ON_WINDOWS:
        return name
    if not name.strip(" "):
        raise InvalidNameError(f"{name!r} cannot be a name: it is empty or only spaces")
    if name in (".", ".."):
        raise InvalidNameError(f"{name!r} cannot be a name: it means a directory")
    _check_characters("name", name)
    if name.startswith(RESERVED_PREFIX):
        raise InvalidNameError(
            f"the name {escape(name)!r} is reserved: names beginning {RESERVED_PREFIX!r} are"
        )
    if _ON_WINDOWS and (name[-1] in ". " or name.split(".", 1)[0].rstrip(" ").lower() in _WINDOWS_DEVICES):
        raise InvalidNameError(f"{escape(name)!r} cannot be a name on Windows")
    return name


def check_affixes(prefix: str, suffix: str) -> None:
    """
    Check the ends of a unique name; either may be empty.

    Raises:
        InvalidNameError: As :func:`check_name`; ``..`` is refused anywhere in them.
    """
    try:
        if (prefix, suffix) in _checked:
            return
    except TypeError:
        # Unhashable, so no text: said below.
        pass
    for what, text in (("prefix", prefix), ("suffix", suffix)):
        if not isinstance(text, str):
            raise InvalidNameError(f"a {what} must be text, not {type(text).__name__}")
        if ".." in text:
            raise InvalidNameError(f"the {what} {escape(text)!r} must not contain '..'")
        _check_characters(what, text)
    if len((prefix + suffix).encode()) > MAX_NAME_BYTES - _COUNTER_BYTES:
        raise InvalidNameError(
            f"prefix and suffix are {len((prefix + suffix).encode())} bytes long together; "
            f"at most {MAX_NAME_BYTES - _COUNTER_BYTES} leave room for what makes the name unique"
        )
    check_name(f"{prefix}0{suffix}")
    if len(_checked) < _MAX_CHECKED:
        _checked.add((prefix, suffix))


def unique_name(prefix: str, suffix: str, number: int) -> str:
    """Return the *number*-th name between *prefix* and *suffix*, which were checked."""
    return f"{prefix}{number}{suffix}"


def _check_characters(what: str, text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidNameError(
            f"the {what} {escape(text)!r} holds a lone surrogate, which is no character"
        ) from None
    for char in text:
        if char in _SEPARATORS:
            raise InvalidNameError(
                f"the {what} {escape(text)!r} must not contain a path separator ({char!r})"
            )
        if ord(char) < 32 or 127 <= ord(char) < 160:
            raise InvalidNameError(f"the {what} {escape(text)!r} must not contain control characters")
        if char in _WINDOWS_FORBIDDEN:
            raise InvalidNameError(
                f"the {what} {escape(text)!r} must not contain {char!r}, which Windows forbids"
            )
    if size > MAX_NAME_BYTES:
        raise InvalidNameError(
            f"the {what} {escape(text, 40)!r} is {size} bytes long; at most {MAX_NAME_BYTES} fit"
        )


def check_label(text: str | None, what: str) -> str | None:
    """
    Return a job's name, or a label: any text of at most 1,000 characters; it never becomes a path.

    Raises:
        InvalidNameError: If it is not text, or longer.
    """
    if text is None:
        return None
    if not isinstance(text, str):
        raise InvalidNameError(f"{what} must be text, not {type(text).__name__}")
    if len(text) > _MAX_LABEL:
        raise InvalidNameError(
            f"{what} {escape(text, 40)!r} has {len(text)} characters; at most {_MAX_LABEL} fit"
        )
    return text
