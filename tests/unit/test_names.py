"""Which names may become files: decided by text alone, before any system call."""

from __future__ import annotations

import sys

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tempscope import _names
from tempscope._names import (
    MAX_NAME_BYTES,
    RESERVED_PREFIX,
    check_affixes,
    check_label,
    check_name,
    escape,
    unique_name,
)
from tempscope.errors import InvalidNameError


ANY = st.text(alphabet=st.characters(exclude_categories=()))


def allowed(text: str) -> bool:
    """Say by another way what row 89 allows as a name."""
    if not text.strip(" ") or text in (".", "..") or text.startswith(RESERVED_PREFIX):
        return False
    if any(0xD800 <= ord(c) <= 0xDFFF or ord(c) < 32 or 127 <= ord(c) < 160 or c == "/" for c in text):
        return False
    return len(text.encode()) <= 255


@given(ANY)
@example("a" * 255)
@example("a" * 256)
@example("é" * 128)
@example(" ")
@example(".hidden")
@example("-rf")
@example("\udcff")
@example("a\x85")
def test_a_name_is_one_component_or_an_error(text):
    """
    Row 89: '/', NUL, control characters, lone surrogates, too many bytes.

    Nothing and dots are refused; the rest is not.
    """
    if allowed(text):
        assert check_name(text) == text
        return
    with pytest.raises(InvalidNameError) as caught:
        check_name(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty or only spaces"),
        ("  ", "empty or only spaces"),
        (".", "means a directory"),
        ("..", "means a directory"),
        ("a/b", "path separator"),
        ("/etc/passwd", "path separator"),
        ("a\0", "control characters"),
        ("a\n", "control characters"),
        ("\x7f", "control characters"),
        ("\ud800", "lone surrogate"),
        ("x" * 256, "256 bytes long; at most 255"),
        (".tempscope-record", "reserved"),
        (b"bytes", "must be text, not bytes"),
        (None, "must be text, not NoneType"),
    ],
)
def test_the_error_says_what_is_wrong(name, reason):
    """The message says which name and what would be right, in one printable line."""
    with pytest.raises(InvalidNameError, match=reason) as caught:
        check_name(name)
    assert str(caught.value).isprintable()
    assert isinstance(caught.value, ValueError)


@given(ANY, ANY)
def test_affixes_that_pass_make_names_that_pass(prefix, suffix):
    """Whatever prefix and suffix are accepted, every unique name made of them is a name."""
    try:
        check_affixes(prefix, suffix)
    except InvalidNameError:
        assume(False)
    for number in (0, 1, 10**10 - 1):
        assert check_name(unique_name(prefix, suffix, number))


@pytest.mark.parametrize(
    ("prefix", "suffix", "reason"),
    [
        ("../", "", "must not contain '..'"),
        ("a..b", "", "must not contain '..'"),
        ("", "/../x", "must not contain '..'"),
        ("a/", "", "path separator"),
        ("", "/x", "path separator"),
        ("\0", "", "control characters"),
        ("x" * 200, "y" * 200, "400 bytes long together"),
        ("x" * 300, "", "300 bytes long; at most 255"),
        (RESERVED_PREFIX, "", "reserved"),
        (5, "", "a prefix must be text, not int"),
        ("", [], "a suffix must be text, not list"),
    ],
)
def test_affixes_that_lead_elsewhere(prefix, suffix, reason):
    """
    Trap 28: template or prefix with '..', '/', absolute or NUL (node-tmp CVE-2025-54798) is refused.

    Each time anew.
    """
    for _ in range(2):
        with pytest.raises(InvalidNameError, match=reason):
            check_affixes(prefix, suffix)


def test_checked_affixes_are_remembered_and_only_so_many(monkeypatch):
    """What was checked once is not checked again; the memory is bounded."""
    monkeypatch.setattr(_names, "_checked", set())
    monkeypatch.setattr(_names, "_MAX_CHECKED", 2)
    for number in range(5):
        check_affixes(f"p{number}", ".txt")
        check_affixes("p0", ".txt")
    assert len(_names._checked) == 2


def test_no_system_call_is_made():
    """Row 89: a name is judged before anything is touched: no event of the system."""
    events: list[str] = []
    watching = True

    def hook(event: str, arguments: object) -> None:
        if watching:
            events.append(event)

    sys.addaudithook(hook)
    for name in ("ok", "../../etc", "a\0b"):
        for check in (check_name, lambda text: check_affixes(text, "")):
            try:
                check(name)
            except InvalidNameError:
                pass
    watching = False
    assert [event for event in events if event.startswith(("os.", "open", "shutil", "tempfile"))] == []


@given(ANY)
@example("\ud800")
@example(b"\xff\xc3".decode("utf-8", "surrogateescape"))
def test_any_text_can_be_shown(text):
    """Row 110: whatever the text, it is shown in one printable line of bounded length."""
    shown = escape(text, 50)
    assert shown.isprintable()
    assert len(shown) <= 50
    if text.isprintable() and len(text) <= 50:
        assert shown == text


def test_bytes_that_are_no_text_are_shown_as_bytes():
    """A name that is no UTF-8 is shown with its bytes escaped."""
    assert escape("a\udcff\n\ud800") == "a\\xff\\n\\ud800"
    assert escape("x" * 300) == "x" * 199 + "…"


def test_a_label_is_any_text_but_not_endless():
    """
    Row 90: a job's name may be a path or anything else: it is only a label.

    It is text of at most 1,000 characters.
    """
    assert check_label(None, "the name") is None
    assert check_label("../../etc\0", "the name") == "../../etc\0"
    with pytest.raises(InvalidNameError, match="the name 'xxx.*has 1001 characters"):
        check_label("x" * 1_001, "the name")
    with pytest.raises(InvalidNameError, match="the name must be text, not int"):
        check_label(5, "the name")


@pytest.fixture
def _windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules of Windows."""
    monkeypatch.setattr(_names, "_ON_WINDOWS", True)
    monkeypatch.setattr(_names, "_SEPARATORS", frozenset("/\\:"))
    monkeypatch.setattr(_names, "_WINDOWS_FORBIDDEN", frozenset('<>"|?*'))


@pytest.mark.usefixtures("_windows")
@pytest.mark.parametrize("name", ["a\\b", "C:x", "a?", "con", "NUL.txt", "com1 .x", "dot.", "space "])
def test_what_windows_forbids(name):
    """On Windows its own separators, characters and device names are refused too. Tested by a fake."""
    with pytest.raises(InvalidNameError):
        check_name(name)
    assert check_name("console.txt") == "console.txt"


def test_the_limit_is_the_systems():
    """Row 89: the longest name is what Linux takes, in bytes."""
    assert MAX_NAME_BYTES == 255
