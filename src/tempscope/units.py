"""
How durations and sizes are written, and how they are shown.

A duration is a :class:`~datetime.timedelta` or text: numbers with units, the largest unit first and
each at most once: ``"24h"``, ``"1h30m"``, ``"7d 12h"``, ``"0.5s"``.
The units are ``ms``, ``s``, ``m`` (minutes), ``h``, ``d`` and ``w``, in lower case only, because
``M`` means months elsewhere.

A size is text with one unit: ``B``; ``KiB``, ``MiB``, ``GiB``, ``TiB``, ``PiB`` in powers of 1024;
``kB``, ``MB``, ``GB``, ``TB``, ``PB`` in powers of 1000.
Case does not matter, nor a space before the unit; bits are never meant.
``"10G"`` is refused, since some programs read 1000 there and others 1024.

A bare number is accepted only where the name of the setting implies the unit, as in ``max_bytes``
or ``max_age_hours``: ``bare`` says so.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Literal, TypeAlias

from tempscope.errors import ConfigurationError


if TYPE_CHECKING:
    from datetime import timedelta


__all__ = [
    "MAX_BYTES",
    "MAX_SECONDS",
    "DurationUnit",
    "check_count",
    "check_fraction",
    "format_duration",
    "format_size",
    "parse_duration",
    "parse_size",
]

DurationUnit: TypeAlias = Literal["ms", "s", "m", "h", "d", "w"]

MAX_SECONDS = 365_250 * 86_400
"""The longest duration, in seconds: a thousand years, so that what is added to the present stays a date."""

MAX_BYTES = 2**63 - 1
"""The largest size, in bytes: what file systems can count."""

_SECONDS: dict[str, float] = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1, "ms": 0.001}
_BYTES: dict[str, int] = {
    "B": 1,
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGTP", 1)},
    **{f"{letter}B": 1000**power for power, letter in enumerate("kMGTP", 1)},
}
_FACTORS = {unit.lower(): factor for unit, factor in _BYTES.items()}

# Plain strings: ``re`` compiles and caches them at first use, so that importing stays cheap.
_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"
_UNSIGNED = r"[0-9]+(?:\.[0-9]+)?"
_DURATION = r"(?P<sign>-?)" + "".join(rf"(?:(?P<{unit}>{_UNSIGNED}) *{unit} *)?" for unit in _SECONDS)
_SIZE = r"(?P<sign>-?)(?P<whole>[0-9]+)(?:\.(?P<part>[0-9]+))? *(?P<unit>[A-Za-z]+)"
_MAX_TEXT = 100


def parse_duration(
    value: timedelta | str | float,
    *,
    what: str = "duration",
    bare: DurationUnit | None = None,
    minimum: float | None = None,
) -> float:
    """
    Return *value* in seconds, to the microsecond.

    Args:
        value: A timedelta or text such as ``"24h"``; a bare number, or one as text, only with
            *bare*.

        what: The name of the argument or setting, for the message.

        bare: The unit of a bare number, where the name of the setting implies one.

        minimum: The smallest value allowed, in seconds; None means "more than zero".

    Raises:
        ConfigurationError: If *value* is no duration, is not finite, too small, or longer than a
            thousand years; the message names *what*, the value and what would be right.
    """
    seconds = _seconds(value, what, bare)
    if not math.isfinite(seconds):
        raise ConfigurationError(f"{what} cannot be {_show(value)}: it must be finite")
    seconds = round(seconds, 6)
    if minimum is None and seconds <= 0:
        raise ConfigurationError(f"{what} cannot be {_show(value)}: it must be more than zero")
    if minimum is not None and seconds < minimum:
        raise ConfigurationError(
            f"{what} cannot be {_show(value)}: it must be at least {format_duration(minimum)}"
        )
    if seconds > MAX_SECONDS:
        raise ConfigurationError(f"{what} cannot be {_show(value)}: it must be at most a thousand years")
    return seconds


def parse_size(
    value: int | str, *, what: str = "size", bare: bool = False, minimum: int | None = None
) -> int:
    """
    Return *value* in bytes; a fraction of a byte is dropped.

    Args:
        value: Text such as ``"10GiB"``; a bare whole number, or one as text, only with *bare*.

        what: The name of the argument or setting, for the message.

        bare: Whether a bare number is accepted, as bytes, because the name of the setting ends in
            ``_bytes``.

        minimum: The smallest value allowed, in bytes; None means "at least one".

    Raises:
        ConfigurationError: If *value* is no size, too small, or larger than a file system can
            count; the message names *what*, the value and what would be right.
    """
    size = _bytes(value, what, bare)
    least = 1 if minimum is None else minimum
    if size < least:
        raise ConfigurationError(f"{what} cannot be {_show(value)}: it must be at least {format_size(least)}")
    if size > MAX_BYTES:
        raise ConfigurationError(f"{what} cannot be {_show(value)}: it must be less than 8192 PiB")
    return size


def check_count(value: object, *, what: str) -> int:
    """
    Return *value* if it is a whole number of at least one.

    Raises:
        ConfigurationError: If it is not; the message names *what*.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{what} cannot be {_show(value)}: it must be a whole number, at least 1")
    return value


def check_fraction(value: object, *, what: str) -> float:
    """
    Return *value* if it is a number from 0 to 1.

    Raises:
        ConfigurationError: If it is not; the message names *what*.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= 1.0:
        raise ConfigurationError(f"{what} cannot be {_show(value)}: it must be a number from 0 to 1")
    return float(value)


def format_duration(seconds: float) -> str:
    """
    Return *seconds*, which is not negative, as text that :func:`parse_duration` takes back.

    Exact to the microsecond: round first what is only for people.
    """
    rest = round(seconds * 1_000_000)
    if 0 < rest < 1_000_000:
        return f"{_decimal(rest / 1000, 3)}ms"
    text = ""
    for unit in ("d", "h", "m"):
        count, rest = divmod(rest, int(_SECONDS[unit]) * 1_000_000)
        text += f"{count}{unit}" if count else ""
    return text + f"{_decimal(rest / 1_000_000, 6)}s" if rest or not text else text


def format_size(size: int, *, exact: bool = False) -> str:
    """
    Return *size*, in bytes and not negative, as text with a unit.

    Args:
        size: In bytes.

        exact: Give the shortest text that means just that size (``"1536KiB"``), for
            :func:`parse_size` to take back; otherwise at most one decimal (``"1.5MiB"``), for
            people.
    """
    if exact:
        return min((f"{size // n}{unit}" for unit, n in _BYTES.items() if size % n == 0), key=len)
    for unit in ("PiB", "TiB", "GiB", "MiB", "KiB"):
        if size >= _BYTES[unit]:
            return f"{_decimal(size / _BYTES[unit], 1)}{unit}"
    return f"{size}B"


def _seconds(value: object, what: str, bare: DurationUnit | None) -> float:
    if isinstance(value, str):
        return _seconds_from_text(value, what, bare)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _float(value) * _bare_unit(value, what, bare)
    from datetime import timedelta  # importing tempscope does not pay for it

    if isinstance(value, timedelta):
        return value.total_seconds()
    raise ConfigurationError(
        f"{what} cannot be {_show(value)}: it must be text with a unit, such as '24h', or a timedelta"
    )


def _seconds_from_text(value: str, what: str, bare: DurationUnit | None) -> float:
    text = value.strip()
    if len(text) <= _MAX_TEXT:
        if re.fullmatch(_NUMBER, text):
            return float(text) * _bare_unit(value, what, bare)
        found = re.fullmatch(_DURATION, text)
        if found and text.strip("-"):
            seconds = sum(float(found[unit] or 0) * factor for unit, factor in _SECONDS.items())
            return -seconds if found["sign"] else seconds
    raise ConfigurationError(
        f"{what} cannot be {_show(value)}: a duration is written '90s', '24h' or '1h30m'; the units are "
        "w, d, h, m, s and ms in lower case, the largest first and each at most once"
    )


def _bare_unit(value: object, what: str, bare: DurationUnit | None) -> float:
    if bare is None:
        raise ConfigurationError(
            f"{what} cannot be {_show(value)}: a bare number has no unit; write '90s', '24h' or the like"
        )
    return _SECONDS[bare]


def _bytes(value: object, what: str, bare: bool) -> int:
    if isinstance(value, str):
        return _bytes_from_text(value, what, bare)
    if isinstance(value, int) and not isinstance(value, bool):
        return _bare_bytes(value, value, what, bare)
    raise ConfigurationError(f"{what} cannot be {_show(value)}: it must be text with a unit, such as '10GiB'")


def _bytes_from_text(value: str, what: str, bare: bool) -> int:
    text = value.strip()
    if len(text) <= _MAX_TEXT:
        if re.fullmatch(r"-?[0-9]+", text):
            return _bare_bytes(int(text), value, what, bare)
        found = re.fullmatch(_SIZE, text)
        if found and (factor := _FACTORS.get(found["unit"].lower())):
            part = found["part"] or "0"
            scale: int = 10 ** len(part)
            size = int(found["whole"]) * factor + int(part) * factor // scale
            return -size if found["sign"] else size
    raise ConfigurationError(
        f"{what} cannot be {_show(value)}: a size is written '512B', '10GiB' (powers of 1024) or '10GB' "
        "(powers of 1000); the units are B, KiB, MiB, GiB, TiB, PiB, kB, MB, GB, TB and PB"
    )


def _bare_bytes(size: int, value: object, what: str, bare: bool) -> int:
    if not bare:
        raise ConfigurationError(
            f"{what} cannot be {_show(value)}: a bare number has no unit; write '512B', '10GiB' or the like"
        )
    return size


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _decimal(value: float, places: int) -> str:
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _show(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an int too long to print
        return f"that {type(value).__name__}"
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
