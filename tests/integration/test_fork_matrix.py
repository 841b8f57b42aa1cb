"""
Forks of every kind: what is the parent's stays the parent's, whatever the child does and however it ends.

Rows 60 to 64, 68 of the fault catalogue; every Python at hand takes part.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import attr
import attrs
import pytest

import tempscope
from tempscope import sweep


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no os.fork")

PACKAGE = Path(tempscope.__path__[0])
PROGRAM = Path(__file__).resolve().parent / "programs" / "forking.py"
SECONDS = 60

INHERITING = ("fork", "pty.fork", "forkpty", "no_hooks", "mp_fork", "pool")
STYLES = (*INHERITING, "mp_spawn", "mp_forkserver")
ENDINGS = ("normally", "exception", "sys_exit", "os_exit")


# -- the Pythons at hand


def pythons() -> list[str]:
    """Return this Python, and others of the same kind on the path or installed beside it."""
    found = {sys.version_info[:2]: sys.executable}
    for minor in range(11, 20):
        name = f"python3.{minor}"
        beside = sorted(Path(sys.base_prefix).parent.glob(f"*/bin/{name}"), reverse=True)
        other = str(beside[0]) if beside else shutil.which(name)
        if other:
            found.setdefault((3, minor), other)
    return list(found.values())


@pytest.fixture(scope="session")
def pure_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what the library imports, all pure Python, for interpreters that lack it."""
    directory = tmp_path_factory.mktemp("packages")
    for module in (tempscope, attr, attrs):
        source = Path(module.__path__[0])
        (directory / source.name).symlink_to(source)
    return directory


@pytest.fixture(scope="session", params=pythons(), ids=lambda path: Path(path).resolve().name)
def python(request: pytest.FixtureRequest, pure_packages: Path) -> tuple[str, dict[str, str]]:
    """One interpreter, and the environment in which it finds the package under test."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEMPSCOPE_")}
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, (str(pure_packages), environment.get("PYTHONPATH")))
    )
    if request.param != sys.executable:
        environment = {name: value for name, value in environment.items() if not name.startswith("COVERAGE")}
        environment["PYTHONPATH"] = str(pure_packages)
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
    probe = [request.param, "-c", "import attrs, tempscope; tempscope.TempFileManager"]
    answer = subprocess.run(probe, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode:
        last = (answer.stderr.strip().splitlines() or ["it said nothing"])[-1]
        pytest.skip(f"{' '.join(probe)} failed: {last}")
    return request.param, environment


# -- the matrix


@attrs.frozen
class Facts:
    """What parent and child of one run wrote down."""

    style: str
    notes: dict[str, dict[str, Any]]
    callbacks: list[int]
    base: Path

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self.notes[name]


@pytest.fixture(scope="session")
def runs() -> dict[tuple[str, ...], Facts]:
    """The runs so far: several tests judge each."""
    return {}


@pytest.fixture
def facts(
    request: pytest.FixtureRequest,
    runs: dict[tuple[str, ...], Facts],
    python: tuple[str, dict[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Facts:
    """The facts of one fork: the parameter says in which style and with which ending."""
    executable, environment = python
    key = (executable, *request.param)
    if key not in runs:
        base, notes = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("notes")
        runs[key] = fork_once(executable, environment, *request.param, base, notes)
    return runs[key]


def fork_once(
    python: str, environment: dict[str, str], style: str, ending: str, base: Path, notes: Path
) -> Facts:
    """Run the program once, and collect what was written down."""
    command = [python, str(PROGRAM), style, ending, str(base), str(notes)]
    pipes: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
    }
    with subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes) as process:
        try:
            said, _ = process.communicate(timeout=SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, said
    calls = notes / "callbacks"
    return Facts(
        style,
        {path.stem: json.loads(path.read_text()) for path in notes.glob("*.json")},
        [int(line) for line in calls.read_text().split()] if calls.exists() else [],
        base,
    )


def matrix(styles: tuple[str, ...], endings: tuple[str, ...] = ENDINGS) -> pytest.MarkDecorator:
    """Parametrise over forks."""
    cases = [(style, ending) for style in styles for ending in endings]
    return pytest.mark.parametrize("facts", cases, indirect=True, ids=["-".join(case) for case in cases])


@matrix(STYLES)
def test_the_parent_keeps_all_that_is_its_own(facts: Facts) -> None:
    """
    While the child lives and after it ended, the parent's files are whole and its lease is held.

    Rows 60, 61, 62.
    Trap 1: a forked child's exit deletes the parent's directory.
    Trap 3: a child unlocks the parent's lock.
    P5.
    """
    for moment in ("parent-beside", "parent-after"):
        assert facts[moment]["intact"]
        assert facts[moment]["held"]
    assert facts["parent-after"]["open"] == facts["parent-beside"]["open"]
    assert facts["closed"]["outside_is_gone"]
    assert facts["closed"]["scope_is_gone"]


@matrix(STYLES)
def test_callbacks_run_in_the_parent_alone(facts: Facts) -> None:
    """The parent's clean-up callback runs once, in the parent, when the parent closes its scope."""
    assert facts.callbacks == [facts["parent-after"]["pid"]]
    assert facts["child"]["pid"] not in facts.callbacks


@matrix(STYLES)
def test_the_child_has_an_instance_of_its_own(facts: Facts) -> None:
    """A standalone manager starts anew in the child, and scopes opened there are the child's."""
    own, mine, instance = facts["child"]["made"]
    assert Path(own).parent.parent == Path(mine).parent.parent == Path(instance)
    assert facts["child"]["own_is_there"]
    assert facts["child"]["mine_is_gone"]


@matrix(STYLES)
def test_one_sweep_leaves_nothing(facts: Facts) -> None:
    """
    Whatever way the child ended, one sweep after both are gone removes the rest.

    Rows 62, 68.
    Trap 2: a child of multiprocessing never runs atexit.
    """
    report = sweep(facts.base)

    assert report.failed == report.skipped == report.live == 0, report.entries
    assert [path.name for path in facts.base.glob("tempscope-*/*") if not path.name.startswith(".")] == []


@matrix(INHERITING, ("normally",))
def test_creating_in_an_inherited_scope_is_refused(facts: Facts) -> None:
    """Whatever would make, register or delete something in an inherited scope raises ForkedScopeError."""
    assert set(facts["child"]["refusals"].values()) == {"ForkedScopeError"}, facts["child"]["refusals"]


@matrix(INHERITING, ("normally",))
def test_closing_an_inherited_scope_does_nothing(facts: Facts) -> None:
    """
    ``close`` in the child does nothing, and says so in one debug message.

    Row 63.
    """
    assert facts["child"]["messages_of_close"] == 1
    assert facts["parent-beside"]["intact"]


@matrix(("fork", "pty.fork", "forkpty", "no_hooks"), ("normally",))
def test_leaving_an_inherited_block_does_nothing(facts: Facts) -> None:
    """
    The child that leaves the ``with`` it was forked in closes nothing, and says so in one debug message.

    Rows 60, 63.
    """
    assert facts["child-left"]["messages"] == ["an inherited scope is left to the parent process"]
    assert facts["parent-after"]["intact"]


@matrix(STYLES, ("normally",))
def test_the_child_closes_its_copy_of_the_lease(facts: Facts) -> None:
    """
    Nothing of the parent's lease is open in the child: at once, or without hooks after its first call.

    Failure mode L1: an inherited copy would hold the lease when the parent is gone.
    """
    for moment in (
        ("inherited_after_use",)
        if facts.style == "no_hooks"
        else ("inherited_at_once", "inherited_after_use")
    ):
        lease = [name for name in facts["child"][moment] if re.search(r"/i-[a-z2-7]{26}(/journal)?$", name)]
        assert lease == [], moment


# -- the source


def test_nothing_unlocks() -> None:
    """
    No file of the library names ``LOCK_UN``.

    Row 64, failure mode L2: an unlock in a child takes the parent's lock with it.
    """
    named = {
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr == "LOCK_UN")
        or (isinstance(node, ast.Name) and node.id == "LOCK_UN")
    }
    assert not named
