"""
What ``import tempscope`` pulls in: nothing that a program without asyncio and container pays for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

import tempscope


USUAL = "from tempscope import TempFileManager, TempScopes, LocalDiskStorage, DeleteOnClose"
HEAVY = {
    "anyio",
    "asyncio",
    "concurrent",
    "ctypes",
    "dependency_injector",
    "multiprocessing",
    "pytest",
    "socket",
    "ssl",
    "subprocess",
    "tomllib",
    "trio",
}
OURS = {
    "_clock",
    "_closing",
    "_current",
    "_exits",
    "_late",
    "_log",
    "_markers",
    "_names",
    "_open_scopes",
    "_outcomes",
    "_scope",
    "_shield",
    "_temp_paths",
    "errors",
    "listeners",
    "manager",
    "model",
    "policies",
    "policies._ask",
    "policies._kept",
    "policies.on_close",
    "protocols",
    "scopes",
    "storages",
    "storages._at_exit",
    "storages._base",
    "storages._token",
    "storages.local",
    "units",
}
# Without `site` nothing but what the statement itself asks for is imported, not even by a .pth file.
PROGRAM = """
import json, sys
sys.path[:0] = {path!r}
before = set(sys.modules)
{statement}
print(json.dumps([sorted(before), sorted(sys.modules)]))
"""


def run(env: dict[str, str], *arguments: str) -> str:
    """Run a fresh Python in *env*, see that it succeeds, and return what it said."""
    done = subprocess.run(
        [sys.executable, "-I", *arguments], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def imported_by(statement: str, env: dict[str, str]) -> set[str]:
    """Return the modules that *statement* imports in a fresh Python."""
    path = [str(Path(module.__path__[0]).parent) for module in (tempscope, attrs)]
    before, after = json.loads(run(env, "-S", "-c", PROGRAM.format(path=path, statement=statement)))
    assert not {name.partition(".")[0] for name in before} & HEAVY
    return set(after) - set(before)


@pytest.mark.parametrize("statement", ["import tempscope", USUAL])
def test_nothing_heavy_is_imported(statement: str, unmeasured: dict[str, str]) -> None:
    """Importing the package, and the names that everybody needs, imports no heavy part of Python."""
    assert not {name.partition(".")[0] for name in imported_by(statement, unmeasured)} & HEAVY


@pytest.mark.parametrize("statement", ["import tempscope", USUAL])
def test_no_library_but_attrs_is_imported(statement: str, unmeasured: dict[str, str]) -> None:
    """Of other people's libraries only attrs is imported: no framework, however many are installed."""
    imported = {name.partition(".")[0] for name in imported_by(statement, unmeasured)}
    assert imported - sys.stdlib_module_names <= {"attr", "attrs", "tempscope"}


def test_the_front_page_imports_nothing_of_ours_that_is_heavy(unmeasured: dict[str, str]) -> None:
    """The container, the janitor, the settings and all that is outermost wait until they are asked for."""
    late = {"container", "janitor", "settings", "testing", "integrations", "compat", "pytest_plugin"}
    imported = {
        name.split(".")[1] for name in imported_by(USUAL, unmeasured) if name.startswith("tempscope.")
    }
    assert not imported & late


def test_what_the_usual_names_import_of_ours(unmeasured: dict[str, str]) -> None:
    """The names that everybody needs import what an empty scope needs, and nothing that handles files."""
    imported = {name for name in imported_by(USUAL, unmeasured) if name.partition(".")[0] == "tempscope"}
    assert imported == {"tempscope", *(f"tempscope.{name}" for name in OURS)}


def test_the_first_area_imports_what_closing_needs(unmeasured: dict[str, str], tmp_path: Path) -> None:
    """What works on files is imported with the first area; using and closing it imports nothing more."""
    program = f"""
import sys
sys.path.insert(0, {str(Path(tempscope.__path__[0]).parent)!r})
{USUAL}
ours = lambda: {{name for name in sys.modules if name.startswith("tempscope.storages.")}}
before = ours()
for background in (False, True):
    storage = LocalDiskStorage({str(tmp_path)!r}, background_removal=background)
    scope = TempScopes(storage).open()
    scope.new_file()
    opened = ours()
    assert opened > before
    scope.new_dir()
    scope.close()
    storage.close()
    assert ours() == opened
"""
    run(unmeasured, "-c", program)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_no_fork_in_the_middle_of_importing(unmeasured: dict[str, str], tmp_path: Path) -> None:
    """A child that is forked while another thread opens the process's first area can open its own."""
    program = f"""
import os, signal, sys, threading
sys.path.insert(0, {str(Path(tempscope.__path__[0]).parent)!r})
{USUAL}
reached, go = threading.Event(), threading.Event()

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "tempscope.storages._walk":
            reached.set()
            go.wait()

def first_file():
    with TempScopes(LocalDiskStorage({str(tmp_path)!r})).open() as scope:
        scope.new_file()

sys.meta_path.insert(0, Slow())
os.register_at_fork(before=go.set)
thread = threading.Thread(target=first_file)
thread.start()
reached.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    first_file()
    os._exit(0)
thread.join()
assert os.waitpid(child, 0)[1] == 0
"""
    run(unmeasured, "-c", program)


def test_a_heavy_name_is_imported_when_it_is_asked_for(unmeasured: dict[str, str]) -> None:
    """Asking the front page for the container imports it then, and dependency_injector with it."""
    program = (
        "import sys; import tempscope; assert 'dependency_injector' not in sys.modules; "
        "tempscope.TempContainer; assert 'dependency_injector' in sys.modules"
    )
    run(unmeasured, "-c", program)


def test_importing_changes_nothing_of_the_process(unmeasured: dict[str, str]) -> None:
    """Importing installs no signal handler, starts no thread, makes no file, and changes no environment."""
    program = f"""
import os, signal, sys
def state():
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    files = os.listdir("."), os.listdir(os.environ["TEMPSCOPE_BASE_DIR"])
    return handlers, files, os.getcwd(), dict(os.environ), len(sys._current_frames())
before = state()
{USUAL}
assert state() == before
"""
    run(unmeasured, "-c", program)
