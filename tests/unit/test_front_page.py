"""
The front page: what ``tempscope`` offers by name, and whether each name is described.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pickle
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import tempscope
from tempscope import errors


SOURCE = Path(__file__).resolve().parents[2] / "src" / "tempscope"
INSTALLED = Path(tempscope.__path__[0])

# The names that the design fixes, in its order.
SCOPES = ["TempFileManager", "TempScopes", "current_scope", "in_scope"]
INJECTION = ["TempContainer", "PerScope", "check_container", "use_storage"]
PROTOCOLS = ["TempStorage", "TempArea", "CleanupPolicy", "StagedFile", "Capability"]
STORAGES = ["LocalDiskStorage", "RamDiskStorage", "HardlinkStorage", "MemoryStorage"]
POLICIES = ["DeleteOnClose", "KeepAll", "KeepOnFailure", "keep_if_any", "keep_if_all"]
LATER_POLICIES = ["KeepLast", "ExpireAfter", "SizeBudget", "in_order"]
RECORDS = [
    "CleanupReport",
    "Instant",
    "Outcome",
    "Removal",
    "ScopeRecord",
    "Stats",
    "SweepReport",
    "Usage",
    "Verdict",
]
PROCESS = ["Settings"]
LATER_PROCESS = [
    "Janitor",
    "install_signal_handlers",
    "is_disk_pressure",
    "is_memory_pressure",
    "stats",
    "sweep",
    "uninstall_signal_handlers",
]
REQUIRED = {*SCOPES, *INJECTION, *PROTOCOLS, *STORAGES, *POLICIES, *RECORDS, *PROCESS, *errors.__all__}
ALLOWED = {*REQUIRED, *LATER_POLICIES, *LATER_PROCESS, "Clock", "Entry", "Owner", "Progress"}


def modules() -> Iterator[ModuleType]:
    """Yield every public module of the package, itself first."""
    yield tempscope
    for found in pkgutil.walk_packages(tempscope.__path__, "tempscope."):
        if not any(part.startswith("_") for part in found.name.split(".")):
            yield importlib.import_module(found.name)


def test_all_is_what_the_design_names() -> None:
    """The front page has every name that the design fixes, and none that it does not know."""
    offered = set(tempscope.__all__)
    assert offered >= REQUIRED, f"missing: {sorted(REQUIRED - offered)}"
    assert offered <= ALLOWED, f"unknown to the design: {sorted(offered - ALLOWED)}"


def test_all_says_nothing_twice() -> None:
    """A name stands once in ``__all__``."""
    assert len(set(tempscope.__all__)) == len(tempscope.__all__)


@pytest.mark.parametrize("name", sorted(tempscope.__all__))
def test_every_name_is_there(name: str) -> None:
    """Each name of the front page can be imported from it, the heavy ones on first use."""
    assert getattr(tempscope, name) is not None
    assert name in dir(tempscope)


def test_star_import_gives_all_names() -> None:
    """``from tempscope import *`` gives the names of ``__all__``, heavy ones included."""
    namespace: dict[str, object] = {}
    exec("from tempscope import *", namespace)
    assert namespace.keys() >= set(tempscope.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that is not there fails as with any module, naming module and name."""
    with pytest.raises(AttributeError, match=r"'tempscope'.*'no_such_name'"):
        _ = tempscope.no_such_name  # type: ignore[attr-defined]


def test_every_public_module_says_what_it_offers() -> None:
    """A public module has a docstring, and an ``__all__`` whose names are there."""
    for module in modules():
        assert module.__doc__, module.__name__
        for name in module.__all__:
            assert hasattr(module, name), f"{module.__name__}.{name}"


def documented() -> Iterator[tuple[str, object]]:
    """Yield every public callable by its name: functions, classes, and the public members of classes."""
    for module in modules():
        for name in module.__all__:
            thing = getattr(module, name)
            if callable(thing) and getattr(thing, "__module__", "").startswith("tempscope"):
                yield f"{module.__name__}.{name}", thing
            if inspect.isclass(thing) and thing.__module__.startswith("tempscope"):
                yield from members(thing, f"{module.__name__}.{name}")


def members(cls: type, where: str) -> Iterator[tuple[str, object]]:
    """Yield the public methods and properties that *cls* itself or a base of ours defines."""
    for base in cls.__mro__:
        if base.__module__.startswith("tempscope"):
            for name, member in vars(base).items():
                plain = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
                if not name.startswith("_") and isinstance(plain, (FunctionType, property)):
                    yield f"{where}.{name}", getattr(cls, name)


def test_every_public_callable_is_described() -> None:
    """Whatever can be called from outside says in a docstring what it does; a method may inherit it."""
    silent = sorted({where for where, thing in documented() if not inspect.getdoc(thing)})
    assert silent == []


def drawn_tree() -> dict[str, tuple[str, set[str]]]:
    """Return the tree at the top of ``errors.py``: each class with its parent and the built-ins beside it."""
    tree: dict[str, tuple[str, set[str]]] = {}
    above: list[str] = []
    assert errors.__doc__
    for line in errors.__doc__.splitlines():
        drawn = re.match(r"    ([│├└─ ]*)(\w+)(?: \(([\w, ]+)\))?(?:  |$)", line)
        if drawn:
            depth = len(drawn[1]) // 4
            above[depth:] = [drawn[2]]
            tree[drawn[2]] = (above[depth - 1] if depth else "", set((drawn[3] or "").split(", ")) - {""})
    return tree


def test_the_drawn_errors_are_the_real_ones() -> None:
    """The tree in the docstring of ``errors.py`` has every error, under its parent, beside its built-in."""
    tree = drawn_tree()
    assert set(tree) == set(errors.__all__)
    for name, (parent, builtins) in tree.items():
        bases = getattr(errors, name).__bases__
        assert bases[0].__name__ == (parent or "Exception")
        assert {base.__name__ for base in bases[1:]} == builtins


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_survives_pickling(name: str) -> None:
    """An error that crosses a process keeps its text, path, scope and cause."""
    arguments = ([ValueError("one")],) if name == "CleanupFailed" else ()
    error = getattr(errors, name)("what was wrong", *arguments, path="/p", scope="s", cause=OSError(5, "why"))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error) == "what was wrong"
    assert (again.path, again.scope) == ("/p", "s")
    assert isinstance(again.__cause__, OSError)


def test_types_are_visible_to_checkers() -> None:
    """The front page imports its heavy names for type checkers, so that laziness costs no type."""
    tree = ast.parse((INSTALLED / "__init__.py").read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported >= set(tempscope.__all__)


def test_the_installed_package_is_tested() -> None:
    """What the tests import is what is installed, and it is this tree's, file for file."""
    assert version("tempscope") == tempscope.__version__
    tree = {
        path.relative_to(SOURCE): path.read_bytes()
        for path in SOURCE.rglob("*")
        if path.suffix in (".py", ".typed")
    }
    installed = {
        path.relative_to(INSTALLED): path.read_bytes()
        for path in INSTALLED.rglob("*")
        if path.suffix in (".py", ".typed")
    }
    assert installed == tree, "the installed tempscope is not this tree's: pip install it again"


def test_importing_does_not_depend_on_the_tree() -> None:
    """A Python started elsewhere, without the tree on its path, imports the same package, types included."""
    program = "import tempscope; print(tempscope.__path__[0])"
    said = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd="/", capture_output=True, text=True, check=True
    ).stdout
    assert Path(said.strip()) == INSTALLED
    assert (INSTALLED / "py.typed").is_file()
