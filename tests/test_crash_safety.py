"""
``docs/explanation/crash-safety.md`` and the tests stay in step.

Each line of its tables names tests that exist, and whose docstrings carry the line's mark; each mark in
a test's docstring stands in a table.
A mark is ``P1``, ``L4``, ``Row 44``, ``Security rule 7`` or ``Trap 12``; ``Rows 48, 49`` are two.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest


TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "explanation" / "crash-safety.md"
# Faults of staging, publishing, policies and memory, as the page says: they are explained elsewhere.
ELSEWHERE = frozenset(
    f"Row {number}"
    for number in [*range(9, 12), *range(27, 35), 59, *range(82, 89), *range(98, 101), *range(105, 110)]
)
_LINE = re.compile(r"^\| (P\d|L\d+|(?:Row|Security rule|Trap) \d+) \|.*\|(?P<tests>[^|]*)\|$")
_SHORT = re.compile(r"\b(?:P[1-8]|L1?\d)\b")
_LONG = re.compile(r"\b([Rr]ow|[Ss]ecurity rule|[Tt]rap)s? (\d+(?:(?:,| and) \d+)*)")


def lines() -> dict[str, list[str]]:
    """Return the marks in the page's tables, each with the tests that are named there."""
    found = {}
    for text in PAGE.read_text(encoding="utf-8").splitlines():
        line = _LINE.match(text)
        if line is not None:
            assert line[1] not in found, f"{line[1]} stands there twice"
            found[line[1]] = re.findall(r"`([^`]+)`", line["tests"])
    return found


def marks_in(docstring: str) -> Iterator[str]:
    """Return the marks that a docstring carries."""
    yield from _SHORT.findall(docstring)
    for word, numbers in _LONG.findall(docstring):
        yield from (f"{word.capitalize()} {number}" for number in re.findall(r"\d+", numbers))


@cache
def marks() -> dict[str, frozenset[str]]:
    """Return all tests, as the page names them, each with its marks."""
    found = {}
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                docstring = " ".join((ast.get_docstring(node) or "").split())
                found[f"{path.relative_to(TESTS).as_posix()}::{node.name}"] = frozenset(marks_in(docstring))
    return found


def test_the_page_has_all_that_it_promises() -> None:
    """All eight promises, and every rule, trap and fault that is ownership's, have a line."""
    numbers = {
        word: {int(mark.split()[1]) for mark in lines() if mark.startswith(word)}
        for word in ("Row", "Security", "Trap")
        if word != "Security"
    }
    rules = {int(mark.split()[2]) for mark in lines() if mark.startswith("Security")}
    elsewhere = {int(mark.split()[1]) for mark in ELSEWHERE}
    unused = {6, 21, 37, 47, 50, 55, 58, 69, 83, 101, 104}
    assert {mark for mark in lines() if mark[0] == "P"} == {f"P{number}" for number in range(1, 9)}
    assert numbers["Row"] == set(range(1, 112)) - elsewhere - unused
    assert rules == set(range(1, 21)) - {17, 18}
    assert numbers["Trap"] == set(range(1, 44))


@pytest.mark.parametrize("mark", lines())
def test_each_line_names_tests_that_carry_its_mark(mark: str) -> None:
    """A line names at least one test; each exists, and its docstring says which line it is about."""
    named = lines()[mark]
    assert named
    for test in named:
        assert test in marks(), f"{mark} names {test}, which does not exist"
        assert mark in marks()[test], f"the docstring of {test} does not say {mark}"


def test_each_mark_stands_in_a_table() -> None:
    """What a docstring says it is about is a line of the page, or explained elsewhere."""
    known = ELSEWHERE.union(lines())
    unknown = {test: sorted(found - known) for test, found in marks().items() if found - known}
    assert unknown == {}
