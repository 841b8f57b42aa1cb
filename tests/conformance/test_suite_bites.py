"""
The suite notices what it is for: each clause has a broken storage, and catches it.

Every clause has one number in three places, which are compared here: a sentence in
``docs/reference/contract.md``, a test with that sentence as its docstring, and a broken storage.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tempscope import protocols
from tempscope.testing import PolicyContract, StorageContract

from . import broken_1_to_4, broken_5_to_7, broken_8_to_10, broken_policies
from .breaking import MUTANTS, Mutant, Storage, sound


pytest_plugins = ["pytester"]

CONTRACT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "contract.md"
ADOPTION = """
import pytest
from tempscope.testing import StorageContract


class TestBroken(StorageContract):
    @pytest.fixture
    def storage(self, mutant, tmp_path):
        with mutant.storage(tmp_path / "base") as storage:
            yield storage
"""
POLICY_ADOPTION = """
import pytest
from tempscope.testing import PolicyContract


class TestBroken(PolicyContract):
    @pytest.fixture
    def policy(self, mutant):
        return mutant()
"""
QUIET = ("-p", "no:cacheprovider", "--tb=short")
BROKEN_POLICIES = broken_policies.MUTANTS
assert len(MUTANTS) > len({broken_1_to_4, broken_5_to_7, broken_8_to_10})


class Given:
    """A plugin of the inner run: it gives the mutant."""

    def __init__(self, mutant: Any) -> None:
        self._mutant = mutant

    @pytest.fixture
    def mutant(self) -> Any:
        return self._mutant


def sentences() -> dict[str, str]:
    """Return the clauses of the documentation by their numbers."""
    lines = CONTRACT.read_text(encoding="utf-8").splitlines()
    found = [match.groups() for line in lines if (match := re.fullmatch(r"- \*\*(P?[\d.]+)\*\* (.+)", line))]
    assert len(dict(found)) == len(found), "a number stands there twice"
    return dict(found)


def docstrings() -> dict[str, str]:
    """Return the docstrings of the suites' tests by the numbers in their names."""
    found: dict[str, str] = {}
    for suite in (StorageContract, PolicyContract):
        for name in dir(suite):
            match = re.match(r"test_(\d+_\d+|p\d+)_", name)
            if match:
                number = match[1].replace("_", ".").upper()
                assert number not in found, f"{number} has two tests"
                found[number] = " ".join((inspect.getdoc(getattr(suite, name)) or "").split())
            else:
                assert not name.startswith("test"), f"{name} has no number"
    return found


def by_number(number: str) -> list[int]:
    """Order numbers as people do."""
    return [int(part) for part in number.strip("P").split(".")]


def run_one(pytester: pytest.Pytester, adoption: str, number: str, mutant: Any) -> tuple[int, str]:
    """Run the test of *number* on *mutant*; return how often it failed, and what pytest said."""
    pytester.makepyfile(adoption)
    name = f"test_{number.lower().replace('.', '_')}_"
    result = pytester.runpytest_inprocess("-k", name, *QUIET, plugins=[Given(mutant)])
    return result.parseoutcomes().get("failed", 0), str(result.stdout)


def test_three_lists_agree() -> None:
    """Clauses, tests and broken storages have the same numbers, and each test says its clause."""
    assert docstrings() == sentences()
    assert sorted({*MUTANTS, *BROKEN_POLICIES}) == sorted(sentences())


def test_clauses_are_numbered_in_order() -> None:
    """The clauses of a chapter are numbered from 1 without a gap, in the order of the page."""
    storages = [by_number(number) for number in sentences() if "." in number]
    assert storages == sorted(storages)
    for chapter in {chapter for chapter, _ in storages}:
        clauses = [clause for each, clause in storages if each == chapter]
        assert clauses == list(range(1, len(clauses) + 1))


def test_protocols_refer_to_clauses() -> None:
    """Every number in brackets in the protocols is a clause."""
    numbers = re.findall(
        r"\((?:contract )?(\d+\.\d+)\)", Path(protocols.__file__).read_text(encoding="utf-8")
    )
    assert numbers
    assert set(numbers) <= set(sentences())


@pytest.mark.parametrize("number", sorted(MUTANTS, key=by_number))
def test_clause_bites(number: str, pytester: pytest.Pytester) -> None:
    """The test of a clause fails on the storage that breaks it."""
    failed, said = run_one(pytester, ADOPTION, number, MUTANTS[number])
    assert failed, said


@pytest.mark.parametrize("number", sorted(BROKEN_POLICIES, key=by_number))
def test_policy_clause_bites(number: str, pytester: pytest.Pytester) -> None:
    """The test of a policies' clause fails on the policy that breaks it."""
    failed, said = run_one(pytester, POLICY_ADOPTION, number, BROKEN_POLICIES[number])
    assert failed, said


class TestUnbroken(StorageContract):
    """What the broken storages are made of breaks nothing, so what they break is their own."""

    @pytest.fixture(params=["memory", "disk", "links", "able"])
    def storage(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
        with sound(request.param, tmp_path / "base") as inner:
            yield Storage(inner)


def test_a_failing_clause_shows_values(pytester: pytest.Pytester) -> None:
    """An adopter sees the values in the assertion that failed, not a bare AssertionError."""
    failed, said = run_one(pytester, ADOPTION, "2.1", MUTANTS["2.1"])
    assert failed == 1
    assert "assert b'hello' == b''" in said


def test_the_suite_is_not_collected_by_itself(pytester: pytest.Pytester) -> None:
    """Importing the suites into a test file collects nothing."""
    pytester.makepyfile("from tempscope.testing import PolicyContract, StorageContract")
    pytester.runpytest_inprocess(*QUIET).assert_outcomes()


def test_a_clause_cannot_be_hidden() -> None:
    """A subclass that hides a test or a fixture of the suite is refused; storage and peek are its to give."""
    with pytest.raises(TypeError, match=r"test_4_2_delete_twice hides Deletion\.test_4_2_delete_twice"):
        type("TestMine", (StorageContract,), {"test_4_2_delete_twice": lambda self: None})
    with pytest.raises(TypeError, match="TestMine.area hides Chapter.area"):
        type("TestMine", (StorageContract,), {"area": None})
    with pytest.raises(TypeError, match="test_p1_total hides"):
        type("TestMine", (PolicyContract,), {"test_p1_total": None})
    own = {"storage": None, "peek": None, "test_mine": None, "__doc__": "Mine."}
    base = type("TestMine", (StorageContract,), own)
    type("TestMineToo", (base,), {"test_mine": None})


def test_a_missing_fixture_says_so(pytester: pytest.Pytester) -> None:
    """Adopting without the fixture fails with a message that names it."""
    pytester.makepyfile(
        "from tempscope.testing import PolicyContract, StorageContract\n"
        "class TestStorage(StorageContract): pass\n"
        "class TestPolicy(PolicyContract): pass\n"
    )
    result = pytester.runpytest_inprocess("-k", "test_1_2_ or test_p1_", *QUIET)
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        ["*TestStorage needs a fixture storage*", "*TestPolicy needs a fixture policy*"]
    )


def test_without_a_back_door_it_says_so(pytester: pytest.Pytester) -> None:
    """A clause that needs a witness is skipped with a reason that tells how to give one."""
    pytester.makepyfile(ADOPTION)
    given = Given(Mutant("", "memory", Storage))
    result = pytester.runpytest_inprocess("-k", "witness", "-rs", *QUIET, plugins=[given])
    assert result.parseoutcomes().get("skipped", 0) == 4
    result.stdout.fnmatch_lines(["*no back door: give the fixture peek*"])
