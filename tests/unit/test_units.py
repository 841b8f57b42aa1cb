"""Durations and sizes: what is accepted, what is refused, and how they are shown."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tempscope.errors import ConfigurationError
from tempscope.units import (
    MAX_BYTES,
    MAX_SECONDS,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("24h", 86_400),
        ("90s", 90),
        ("1h30m", 5_400),
        ("7d", 604_800),
        ("500ms", 0.5),
        ("2w", 1_209_600),
        (" 7d 12h ", 648_000),
        ("1.5 h", 5_400),
        ("1m500ms", 60.5),
        ("0.1s", 0.1),
        ("1w1d1h1m1s1ms", 694_861.001),
        (timedelta(hours=2, milliseconds=1), 7_200.001),
        (f"{MAX_SECONDS}s", MAX_SECONDS),
    ],
)
def test_a_duration_is_a_timedelta_or_numbers_with_units(text: str | timedelta, seconds: float) -> None:
    """A duration is a timedelta, or text of numbers with units, the largest first."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "-", "h", "soon", "1H", "1M", "1y", "1 hour", "30m1h", "1d2d", "1h30", "1,5h", ".5s", "5.s",
     "1e3s", "٣s", "1h\x00", "nan", "inf", "infs", "--1s", "1h-1m", "9" * 400 + "s", b"1h", [1], None, True],
)  # fmt: skip
def test_what_is_no_duration_is_refused(text: object) -> None:
    """What is not so written raises an error that names the setting and shows what would be right."""
    with pytest.raises(ConfigurationError, match=r"^interval cannot be .*'24h'") as caught:
        parse_duration(text, what="interval")  # type: ignore[arg-type]
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("number", [0, 1, 90, 1.5, float("nan"), "90", " 1.5 ", "-1"])
def test_a_bare_number_has_no_duration(number: float | str) -> None:
    """A bare number is refused where the name implies no unit, and the message shows how to write it."""
    with pytest.raises(ConfigurationError, match=r"interval cannot be .*no unit; write '90s', '24h'"):
        parse_duration(number, what="interval")


@pytest.mark.parametrize(
    ("number", "bare", "seconds"),
    [(24, "h", 86_400), ("30", "m", 1_800), (0.5, "s", 0.5), ("1h", "m", 3_600)],
)
def test_a_bare_number_counts_the_unit_that_the_name_implies(
    number: object, bare: str, seconds: float
) -> None:
    """Where the name implies a unit a bare number counts that unit, and a written unit still wins."""
    assert parse_duration(number, bare=bare) == seconds  # type: ignore[arg-type]


def test_true_is_no_number() -> None:
    """A boolean is no number, also where bare numbers are accepted."""
    with pytest.raises(ConfigurationError, match="ttl cannot be True: it must be text with a unit"):
        parse_duration(True, what="ttl", bare="h")
    with pytest.raises(ConfigurationError, match="size cannot be False: it must be text with a unit"):
        parse_size(False, bare=True, minimum=0)


@pytest.mark.parametrize(
    "number", [float("nan"), float("inf"), float("-inf"), 10**400, pytest.param(10**5000, id="long")]
)
def test_a_duration_is_finite(number: float) -> None:
    """NaN, infinity and what no float can hold are refused, also where bare numbers are accepted."""
    with pytest.raises(ConfigurationError, match=r"ttl cannot be .*finite"):
        parse_duration(number, what="ttl", bare="s")


@pytest.mark.parametrize("value", ["0s", "-5s", "-1h30m", "0.0000001s", timedelta(0), timedelta(seconds=-1)])
def test_a_duration_is_more_than_zero(value: str | timedelta) -> None:
    """Zero, less, and what is zero to the microsecond, are refused unless a minimum says otherwise."""
    with pytest.raises(ConfigurationError, match=r"ttl cannot be .*more than zero"):
        parse_duration(value, what="ttl")


def test_the_caller_may_set_another_minimum_duration() -> None:
    """With a minimum, the minimum itself is accepted and less is refused by naming it."""
    assert parse_duration("0s", minimum=0) == 0
    assert parse_duration("90s", minimum=90) == 90
    with pytest.raises(ConfigurationError, match="at least 1m30s"):
        parse_duration("89s", minimum=90)
    with pytest.raises(ConfigurationError, match="at least 0s"):
        parse_duration("-1s", minimum=0)


@pytest.mark.parametrize("value", [f"{MAX_SECONDS + 1}s", "9999999w", timedelta.max])
def test_a_duration_is_at_most_a_thousand_years(value: str | timedelta) -> None:
    """A duration that would leave the calendar when added to the present is refused."""
    with pytest.raises(ConfigurationError, match="thousand years"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512B", 512),
        ("10GiB", 10 * 1024**3),
        ("10GB", 10 * 1000**3),
        ("10gib", 10 * 1024**3),
        ("1KIB", 1024),
        ("1kB", 1000),
        ("1KB", 1000),
        ("1.5 GiB", 3 * 1024**3 // 2),
        (" 0.1KiB ", 102),
        ("2 TiB", 2 * 1024**4),
        ("3PB", 3 * 1000**5),
        (f"{MAX_BYTES}B", MAX_BYTES),
    ],
)
def test_a_size_is_a_number_with_a_unit(text: str, size: int) -> None:
    """GiB counts powers of 1024 and GB powers of 1000; case does not matter; part of a byte is dropped."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "GiB", "big", "10G", "10Gi", "10K", "10 bytes", "10Gbit", "1e9B", "1_000B", "1,5GB", "٣B", ".5GB",
     "nan", "1GiB 1MiB", "--1B", "9" * 400 + "B", b"1B", 1.5, 1e9, None, True, [1]],
)  # fmt: skip
def test_what_is_no_size_is_refused(text: object) -> None:
    """What is not so written raises an error that names the setting and shows what would be right."""
    with pytest.raises(ConfigurationError, match=r"^up_to cannot be .*'10GiB'") as caught:
        parse_size(text, what="up_to")  # type: ignore[arg-type]
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("number", [0, 1024, "1024", " 7 "])
def test_a_bare_number_is_a_size_only_where_the_name_says_bytes(number: int | str) -> None:
    """A bare number is refused, unless the name implies bytes."""
    with pytest.raises(ConfigurationError, match=r"quota cannot be .*no unit; write '512B', '10GiB'"):
        parse_size(number, what="quota")
    assert parse_size(number, bare=True, minimum=0) == int(number)


@pytest.mark.parametrize("value", [0, -1, "0B", "-1GiB", "0.9B", "-7"])
def test_a_size_is_at_least_one_byte(value: int | str) -> None:
    """Zero and less are refused unless a minimum says otherwise."""
    with pytest.raises(ConfigurationError, match=r"max_bytes cannot be .*at least 1B"):
        parse_size(value, what="max_bytes", bare=True)


def test_the_caller_may_set_another_minimum_size() -> None:
    """With a minimum, the minimum itself is accepted and less is refused by naming it."""
    assert parse_size("0B", minimum=0) == 0
    with pytest.raises(ConfigurationError, match="at least 4KiB"):
        parse_size("4095B", minimum=4096)


@pytest.mark.parametrize("value", [MAX_BYTES + 1, "8192PiB", pytest.param(10**5000, id="long")])
def test_a_size_is_one_that_file_systems_can_count(value: int | str) -> None:
    """A size above what a file offset can hold is refused, however long the number."""
    with pytest.raises(ConfigurationError, match="8192 PiB"):
        parse_size(value, bare=True)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.5, "500ms"), (0.0015, "1.5ms"), (1.5, "1.5s"), (90, "1m30s"), (5_400, "1h30m"),
     (86_400, "1d"), (1_209_600, "14d"), (600, "10m"), (100, "1m40s"), (3_600.25, "1h0.25s"), (1e-9, "0s")],
)  # fmt: skip
def test_durations_are_shown_with_units(seconds: float, text: str) -> None:
    """A duration is shown by its parts, the largest unit first, without parts that are zero."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "short", "exact"),
    [
        (0, "0B", "0B"),
        (1023, "1023B", "1023B"),
        (1024, "1KiB", "1KiB"),
        (1536, "1.5KiB", "1536B"),
        (10 * 1024**3, "10GiB", "10GiB"),
        (10**10, "9.3GiB", "10GB"),
        (3 * 1024**5, "3PiB", "3PiB"),
    ],
)
def test_sizes_are_shown_short_or_exact(size: int, short: str, exact: str) -> None:
    """A size is shown with at most one decimal for people, or exactly in as few characters as can be."""
    assert format_size(size) == short
    assert format_size(size, exact=True) == exact


@given(st.integers(0, MAX_SECONDS * 1_000_000))
def test_a_shown_duration_is_read_back(microseconds: int) -> None:
    """What format_duration shows, parse_duration takes back, to the microsecond."""
    seconds = microseconds / 1_000_000
    assert parse_duration(format_duration(seconds), minimum=0) == pytest.approx(seconds, abs=2e-6, rel=1e-12)


@given(st.integers(0, MAX_BYTES))
def test_an_exactly_shown_size_is_read_back(size: int) -> None:
    """What format_size shows exactly, parse_size takes back."""
    assert parse_size(format_size(size, exact=True), minimum=0) == size


@given(st.integers(0, 9_999), st.integers(0, 999), st.sampled_from(["KiB", "MB", "GiB", "TB"]))
def test_fractions_are_exact(whole: int, thousandths: int, unit: str) -> None:
    """A fraction of a unit is computed exactly and rounded down to bytes, at any size."""
    expected = int(Fraction(whole * 1000 + thousandths, 1000) * parse_size(f"1{unit}"))
    assert parse_size(f"{whole}.{thousandths:03}{unit}", minimum=0) == expected


@given(st.one_of(st.text(), st.from_regex(r"\A-?[0-9.]{0,30} ?[a-zA-Z]{0,3}\Z")))
def test_any_text_is_parsed_or_refused_clearly(text: str) -> None:
    """Whatever the text, the answer is a value in range or our error, never another."""
    for parse, largest in ((parse_duration, MAX_SECONDS), (parse_size, MAX_BYTES)):
        with suppress(ConfigurationError):
            assert 0 < parse(text) <= largest


WITHOUT_FRONT_PAGE = """
import importlib.util, sys, types
package = types.ModuleType("tempscope")
package.__path__ = importlib.util.find_spec("tempscope").submodule_search_locations
sys.modules["tempscope"] = package
"""


def test_importing_units_is_cheap(unmeasured: dict[str, str]) -> None:
    """Importing the module pulls in nothing of the package but the errors, and no datetime."""
    code = WITHOUT_FRONT_PAGE + "import tempscope.units; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=unmeasured
    )
    loaded = set(done.stdout.split())
    assert {name for name in loaded if name.startswith("tempscope")} == {
        "tempscope",
        "tempscope.errors",
        "tempscope.units",
    }
    assert "datetime" not in loaded
