"""
The pytest plugin: what a test session of somebody else's sees of it.

Each test here runs a session of its own, with a test module written for it.
"""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from tempscope import _open_scopes, container  # noqa: F401 -- not anew in each session
from tempscope._pytest import files, leaks, overrides, watch  # noqa: F401 -- likewise
from tempscope.errors import StorageError
from tempscope.manager import TempFileManager
from tempscope.scopes import TempScopes
from tempscope.storages import LocalDiskStorage, MemoryStorage
from tempscope.storages.memory._area import MemoryArea


pytest_plugins = ["pytester"]

HEAD = """
import os, pathlib, tempfile, pytest
from tempfile import mkdtemp
import tempscope
from tempscope import TempFileManager, TempScopes, current_scope
"""


class Sessions:
    """Runs sessions of pytest, each with one test module, and tells what happened."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.base = pytester.path / "base temp"

    def run(self, source: str, *options: str, ini: str = "", here: bool = True) -> pytest.RunResult:
        """Run a session; with *here* in this process."""
        self.pytester.makeini(f"[pytest]\nfilterwarnings = error\n{ini}")
        self.pytester.makepyfile(test_it=HEAD + source)
        run = self.pytester.runpytest_inprocess if here else self.pytester.runpytest_subprocess
        return run("-p", "no:cacheprovider", f"--basetemp={self.base}", *options)

    def left(self) -> list[str]:
        """Tell what is left of the fixtures' files."""
        return [path.name for path in self.base.glob("tempscope-*") if not path.is_symlink()]


@pytest.fixture
def sessions(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, own_base_dir: Path, tmp_path: Path
) -> Iterator[Sessions]:
    """Sessions whose raw temporary files go to a directory of this test; scopes they leave are closed."""
    raw = tmp_path / "raw"
    raw.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(raw))
    monkeypatch.setenv("TMPDIR", str(raw))
    # A session of ours is not part of one that runs in a worker.
    # And its report is as short as on a terminal.
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS", "CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)
    before = _open_scopes.open_managers()
    yield Sessions(pytester)
    for manager in reversed(_open_scopes.open_managers()):
        if manager not in before:
            manager.__exit__(None, None, None)


def kept_paths(result: pytest.RunResult) -> list[Path]:
    """Return the directories that a session says it kept."""
    return [
        Path(found) for found in re.findall(r"^kept, scope '.*': (.*)$", result.stdout.str(), re.MULTILINE)
    ]


# -- what it costs


def test_nothing_else_is_imported(unmeasured: dict[str, str]) -> None:
    """Beyond what ``import tempscope`` imports, the plugin imports only itself."""
    program = """
import sys, json, pytest, tempscope
before = set(sys.modules)
import tempscope.pytest_plugin
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    said = subprocess.run([sys.executable, "-c", program], env=unmeasured, capture_output=True, check=True)
    assert json.loads(said.stdout) == ["tempscope.pytest_plugin"]


def test_a_session_that_does_not_use_it_pays_nothing(sessions: Sessions) -> None:
    """In a session with the plugin installed and unused, nothing of what it does is imported."""
    result = sessions.run(
        """
import sys
def test_it(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("tempscope")
    assert not pytestconfig.pluginmanager.has_plugin("tempscope-leaks")
    assert not [name for name in sys.modules if name.startswith("tempscope._pytest")]
    assert "dependency_injector" not in sys.modules
""",
        here=False,
    )
    result.assert_outcomes(passed=1)


def test_fixtures_and_options_are_described(sessions: Sessions) -> None:
    """``--fixtures``, ``--markers`` and ``--help`` tell of everything the plugin has."""
    result = sessions.run("", "--fixtures")
    for name in ("temp_storage", "temp_scopes", "temp_manager", "memory_manager", "temp_container"):
        result.stdout.re_match_lines([rf"{name} -- .*pytest_plugin.py.*", " +Give .*"], consecutive=True)
    sessions.run("", "--markers").stdout.fnmatch_lines("@pytest.mark.allow_temp_leaks(reason):*")
    text = sessions.run("", "--help").stdout.str()
    for name in ("leaks", "leaks_ignore", "retention_policy", "retention_count", "retention_size"):
        assert f"tempscope_{name} (" in text


# -- fixtures


def test_the_manager_is_the_tests_scope(sessions: Sessions) -> None:
    """``temp_manager`` is current during the test, on pytest's base directory, and named for the test."""
    result = sessions.run("""
def test_it(temp_manager, temp_storage, tmp_path):
    assert current_scope() is temp_manager and temp_manager.name == "test_it"
    path = temp_manager.new_file(".txt")
    path.write_text("x")
    assert tmp_path.parent in path.parents and temp_manager.storage is temp_storage
""")
    result.assert_outcomes(passed=1)


def test_nothing_is_left_of_a_test_that_passed(sessions: Sessions) -> None:
    """After a test that passed all files of all fixtures are gone, those of its failed jobs too."""
    result = sessions.run("""
def test_it(temp_manager, memory_manager, temp_scopes, temp_container):
    temp_manager.new_file()
    os.fspath(memory_manager.new_file())
    for scopes in (temp_scopes, temp_container.scopes()):
        with pytest.raises(ZeroDivisionError), scopes.open() as job:
            job.new_file()
            1 / 0
        assert job.report.directory.exists()
""")
    result.assert_outcomes(passed=1)
    assert sessions.left() == []


def test_the_memory_manager_touches_no_disk(sessions: Sessions) -> None:
    """What ``memory_manager`` makes is in memory, until a real path is asked for."""
    result = sessions.run("""
def test_it(memory_manager, temp_storage):
    path = memory_manager.new_file()
    path.write_text("text")
    assert current_scope() is memory_manager
    assert not list(temp_storage.areas())
    with open(path) as file:
        assert file.read() == "text"
    assert list(temp_storage.areas())
""")
    result.assert_outcomes(passed=1)


def test_the_container_alone(sessions: Sessions) -> None:
    """Without an application ``temp_container`` is a fresh container on the test's storage."""
    result = sessions.run("""
seen = []
@pytest.mark.parametrize("number", [1, 2])
def test_it(number, temp_container, temp_storage):
    assert temp_container.storage() is temp_storage
    temp_container.storage.override(tempscope.MemoryStorage())
    assert temp_container.storage() is not temp_storage
    with temp_container.scopes().open() as job:
        assert temp_container.manager() is job
    assert temp_container not in seen
    seen.append(temp_container)
""")
    result.assert_outcomes(passed=2)


APPLICATION = """
from dependency_injector import containers, providers

class Application(containers.DeclarativeContainer):
    config = providers.Configuration()
    temp = providers.Container(tempscope.TempContainer, config=config.temp)
    greeting = providers.Object("hello")

class Other(containers.DeclarativeContainer):
    greeting = providers.Object("from another container")

application = Application()
application.config.from_dict({"temp": {"label": "of the application"}})
application.greeting.override("hello again")

@pytest.fixture
def temp_application():
    return application
"""


def test_an_applications_overrides_are_undone(sessions: Sessions) -> None:
    """Overrides and configuration of the application's container are after a test what they were before."""
    result = sessions.run(
        APPLICATION
        + """
def test_overriding(temp_container, temp_storage):
    assert temp_container is application
    assert application.temp.storage() is temp_storage
    assert application.greeting() == "hello again"
    application.greeting.override("one")
    application.greeting.override("two")
    application.config.from_dict({"temp": {"label": "of the test"}})
    application.override(Other())
    assert application.greeting() == "from another container"
    application.temp.storage.override(tempscope.MemoryStorage())
    assert application.temp.scopes().label == "of the test"

def test_afterwards(temp_storage):
    assert application.greeting() == "hello again"
    assert application.overridden == ()
    assert type(application.temp.storage()) is tempscope.LocalDiskStorage
    assert application.temp.storage() is not temp_storage
    assert application.temp.scopes().label == "of the application"
    assert application.temp.policy() == tempscope.DeleteOnClose()
"""
    )
    result.assert_outcomes(passed=2)


def test_overrides_of_a_test_that_failed_are_undone(sessions: Sessions) -> None:
    """A test that fails leaves the application's container as it was too."""
    result = sessions.run(
        APPLICATION
        + """
def test_failing(temp_container):
    application.greeting.override("one")
    assert False

def test_afterwards():
    assert application.greeting() == "hello again"
"""
    )
    result.assert_outcomes(passed=1, failed=1)


# -- what failed tests leave


def test_the_scope_of_a_failed_test_stays(sessions: Sessions) -> None:
    """The manager closes with the test's own error; its files stay, and the report says where."""
    result = sessions.run("""
def tell(manager):
    print("outcome", manager.outcome.kind, manager.outcome.exception)

def test_it(temp_manager):
    temp_manager.register_cleanup_callback(tell, temp_manager)
    temp_manager.new_file(name="evidence.txt").write_text("what happened")
    raise ValueError("because")
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["outcome failed because", "*Temporary files, at teardown*", "kept, scope *"])
    [kept] = kept_paths(result)
    assert (kept / "evidence.txt").read_text() == "what happened"
    assert sessions.base in kept.parents


def test_the_memory_of_a_failed_test_is_written_down(sessions: Sessions) -> None:
    """What a failed test had in memory is on the disk afterwards, whole, wherever it was."""
    result = sessions.run("""
def test_it(memory_manager):
    directory = memory_manager.new_dir(name="below")
    (directory / "deep.txt").write_text("deep")
    spilled = memory_manager.new_file(name="spilled.txt")
    spilled.write_text("on disk")
    os.fspath(spilled)
    assert False
""")
    [kept] = kept_paths(result)
    assert {str(path.relative_to(kept)): path.read_text() for path in kept.rglob("*.txt")} == {
        "below/deep.txt": "deep",
        "spilled.txt": "on disk",
    }


def test_the_first_error_counts(sessions: Sessions) -> None:
    """When a teardown fails after the test did, scopes still open end with the test's own error."""
    result = sessions.run("""
@pytest.fixture
def broken_at_end():
    yield
    raise ValueError("later")

def test_it(broken_at_end, temp_scopes):
    global job
    job = temp_scopes.open()
    raise ValueError("first")

def test_afterwards():
    assert str(job.outcome.exception) == "first"
""")
    result.assert_outcomes(failed=1, errors=1, passed=1)


def test_scopes_that_a_failed_test_opened(sessions: Sessions) -> None:
    """Of a failed test's scopes stay: those that the failure left, and those still open; not the others."""
    result = sessions.run("""
def test_it(temp_scopes, memory_manager):
    with temp_scopes.open("fine") as job:
        job.new_file()
    global forgotten, other
    forgotten = temp_scopes.open("open")
    forgotten.new_file()
    other = TempFileManager()
    other.new_file()
    with temp_scopes.open("failing") as job:
        job.new_file()
        assert False

def test_afterwards():
    assert forgotten.closed and not other.closed
""")
    result.assert_outcomes(failed=1, passed=1)
    text = result.stdout.str()
    assert {*re.findall("^kept, scope '(.*)'", text, re.MULTILINE)} == {"failing", "open"}
    assert all(path.exists() for path in kept_paths(result))


@pytest.mark.parametrize(
    "source",
    [
        "def test_it(temp_manager, broken): pass",
        "def test_it(broken_at_end, temp_manager): temp_manager.new_file()",
        "@pytest.mark.skip\ndef test_it(temp_manager): pass",
        "@pytest.mark.xfail(strict=True)\ndef test_it(temp_manager): temp_manager.new_file()",
        "@pytest.mark.xfail\ndef test_it(temp_manager): temp_manager.new_file(); assert False",
        "def test_it(temp_manager): temp_manager.new_file(); pytest.skip()",
        "def test_it(temp_manager): assert False",
    ],
)
def test_nothing_stays_where_there_is_nothing_to_look_at(source: str, sessions: Sessions) -> None:
    """Without files, and of a test that did not fail in its call or setup, nothing stays or is told."""
    fixtures = """
@pytest.fixture
def broken():
    raise ValueError

@pytest.fixture
def broken_at_end():
    yield
    raise ValueError

"""
    result = sessions.run(fixtures + source)
    assert result.ret in (0, 1)
    result.stdout.no_fnmatch_line("*Temporary files*")
    assert sessions.left() == []


def test_a_failed_setup_keeps_the_scope(sessions: Sessions) -> None:
    """When another fixture fails, the files that were made for it stay."""
    result = sessions.run("""
@pytest.fixture
def broken(temp_manager):
    print("noise")
    temp_manager.new_file()
    raise ValueError

def test_it(broken):
    pass

def test_without_files():
    pass
""")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines("*Temporary files of test_it.py::test_it*")
    assert [path.exists() for path in kept_paths(result)] == [True]


FAILING = """
@pytest.mark.parametrize("number", range(3))
def test_it(number, temp_manager):
    temp_manager.new_file().write_bytes(bytes(10_000))
    assert number < 0
"""


@pytest.mark.parametrize(
    ("ini", "why"),
    [
        (
            "tempscope_retention_count = 2",
            "as many tests' as tempscope_retention_count allows were kept before",
        ),
        ("tempscope_retention_size = 30KiB", "they have *KiB, and tempscope_retention_size leaves *KiB"),
    ],
)
def test_what_stays_is_bounded(ini: str, why: str, sessions: Sessions) -> None:
    """Only the first failed tests keep their scopes, up to a count and a size; the others say why not."""
    result = sessions.run(FAILING, ini=ini)
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(f"not kept: {why}")
    assert [path.exists() for path in kept_paths(result)] == [True, True]
    assert len(sessions.left()) == 2


@pytest.mark.parametrize("name", ["tempscope_retention_policy", "tmp_path_retention_policy"])
def test_retention_none(name: str, sessions: Sessions) -> None:
    """With ``none`` nothing stays; nor does it if pytest's own setting wants that, and ours says nothing."""
    result = sessions.run(FAILING, ini=f"{name} = none")
    result.assert_outcomes(failed=3)
    assert sessions.left() == kept_paths(result) == []


def test_retention_goes_before_pytests_own(sessions: Sessions) -> None:
    """What our setting says counts more than what pytest's own says of ``tmp_path``."""
    ini = "tmp_path_retention_policy = none\ntempscope_retention_policy = failed"
    result = sessions.run(FAILING, ini=ini)
    assert [path.exists() for path in kept_paths(result)] == [True, True, True]


def test_retention_all(sessions: Sessions) -> None:
    """With ``all`` the scopes of tests that passed stay too."""
    result = sessions.run(
        """
def test_it(temp_manager):
    temp_manager.new_file()
""",
        "-rP",
        ini="tempscope_retention_policy = all",
    )
    result.assert_outcomes(passed=1)
    assert [path.exists() for path in kept_paths(result)] == [True]


@pytest.mark.parametrize(
    ("ini", "message"),
    [
        ("tempscope_leaks = loud", "tempscope_leaks is 'loud': allowed are off, warn, fail"),
        (
            "tempscope_retention_policy = some",
            "tempscope_retention_policy is 'some': allowed are failed, all, none",
        ),
        ("tempscope_retention_count = -1", "tempscope_retention_count is '-1': give a number of tests"),
        ("tempscope_retention_size = much", "tempscope_retention_size *'much'*"),
    ],
)
def test_wrong_settings_are_refused(ini: str, message: str, sessions: Sessions) -> None:
    """A setting that cannot be is refused when the session starts, with what would be right."""
    result = sessions.run("def test_it(): pass", ini=ini)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(f"ERROR: {message}")


def test_files_that_cannot_be_kept_stop_nothing(sessions: Sessions) -> None:
    """When keeping fails the report says so, and the session goes on."""
    result = sessions.run("""
def test_failing(temp_manager):
    temp_manager.new_file()
    (pathlib.Path(temp_manager.storage.base_dir) / "memory").write_text("in the way")
    raise ValueError

def test_memory(memory_manager, temp_storage):
    memory_manager.new_file()
    (pathlib.Path(temp_storage.base_dir) / "memory").write_text("in the way")
    raise ValueError

def test_afterwards(temp_manager):
    pass
""")
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines("they could not be settled, and are left in *: *Error: *")
    assert len(kept_paths(result)) == 1


# -- leaks

LEAKS = {
    "mkstemp": ("os.close(tempfile.mkstemp()[0])", "a temporary file or directory: {raw}/tmp*"),
    "mkdtemp": ("mkdtemp(prefix='mine')", "a temporary file or directory: {raw}/mine*"),
    "bytes": ("mkdtemp(prefix=b'mine')", "a temporary file or directory: {raw}/mine*"),
    "named": (
        "tempfile.NamedTemporaryFile(delete=False).close()",
        "a temporary file or directory: {raw}/tmp*",
    ),
    "open scope": ("held.append(TempScopes(disk).open('job'))", "scope 'job' is open"),
    "open scope with files": (
        "held.append(TempScopes(disk).open('job')); held[-1].new_file()",
        "scope 'job' is open, its files in {base}/*",
    ),
    "in memory": (
        "held.append(TempScopes(tempscope.MemoryStorage()).open('job')); held[-1].new_file()",
        "scope 'job' is open, its files in *",
    ),
    "on no directory": (
        (
            "held.append(TempScopes(tempscope.LocalDiskStorage(__file__)).open('job'));"
            " pytest.raises(tempscope.BaseDirectoryError, held[-1].new_file)"
        ),
        "scope 'job' is open",
    ),
    "entered": ("held.append(TempFileManager(name='job')); held[-1].__enter__()", "scope 'job' is open"),
    "standalone with files": (
        "TempFileManager(name='job').new_file()",
        "scope 'job' is open, its files in *",
    ),
    "kept scope": (
        "m = TempScopes(disk, tempscope.KeepAll()).open('job'); m.new_file(); m.close()",
        "scope 'job' was kept: {base}/*",
    ),
    "kept path": (
        "m = TempScopes(disk).open('job'); m.keep(m.new_file(name='mine.txt')); m.close()",
        "a path was kept for good: {base}/*/mine.txt",
    ),
}
LEAVING = """
held = []
disk = tempscope.LocalDiskStorage()

def helper():
    LEAK

def test_it():
    helper()

def test_innocent():
    pass
"""


@pytest.mark.parametrize("kind", LEAKS)
def test_each_kind_of_leak_is_told(kind: str, sessions: Sessions, own_base_dir: Path) -> None:
    """A scope or file that a test left fails its teardown, with what it is and where it was made."""
    code, words = LEAKS[kind]
    result = sessions.run(LEAVING.replace("LEAK", code), ini="tempscope_leaks = fail")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_it*",
            "test_it.py::test_it left temporary files or scopes:",
            "- " + words.format(raw=tempfile.tempdir, base=own_base_dir),
            f"    made at test_it.py:* in helper: {code.replace('[', '[[]')}",
            "    made at test_it.py:* in test_it: helper()",
        ]
    )


def test_telling_makes_nothing(tmp_path: Path) -> None:
    """A scope that made no file is told of without its directory, which asking for would make."""
    with LocalDiskStorage(tmp_path / "base") as storage, TempScopes(storage).open("job") as job:
        assert job._usable_area().usage().files == 0
        assert watch._open_scope(weakref.ref(job)) == ("scope 'job' is open", None)
        assert list(tmp_path.glob("base/*/i-*")) == []


def test_a_storage_that_cannot_tell(mocker: MockerFixture) -> None:
    """A scope is told of all the same where nobody can tell its files; nothing is raised."""
    with TempScopes(MemoryStorage()).open("job") as job:
        job.new_file()
        mocker.patch.object(MemoryArea, "usage", side_effect=StorageError("no", errno=errno.EIO))
        assert watch._open_scope(weakref.ref(job)) == ("scope 'job' is open", None)


FINE = {
    "removed": "os.rmdir(mkdtemp())",
    "its own with": "with tempfile.TemporaryDirectory(): pass",
    "unnamed": "with tempfile.TemporaryFile(): pass",
    "below pytest's": "mkdtemp(dir=tmp_path)",
    "closed scope": "with TempScopes(disk).open() as m: m.new_file()",
    "standalone without files": "held.append(TempFileManager())",
    "kept in memory": (
        "m = TempScopes(tempscope.MemoryStorage(), tempscope.KeepAll()).open(); m.new_file(); m.close()"
    ),
    "kept below pytest's": (
        "m = TempFileManager(base_dir=tmp_path, policy=tempscope.KeepAll()); m.new_file(); m.close()"
    ),
    "kept outside path": (
        "p = pathlib.Path(tempfile.tempdir, 'outside'); p.touch();"
        " m = TempScopes(disk).open(); m.register_file(p); m.keep(p); m.close()"
    ),
    "ignored by name": "mkdtemp(prefix='fine-')",
    "ignored by path": "mkdtemp(suffix='.cache')",
    "of multiprocessing": "import multiprocessing.util; multiprocessing.util.get_temp_dir()",
    "fixtures": "memory_manager.new_file(); temp_manager.new_file(); temp_container.scopes().open().close()",
}


@pytest.mark.parametrize("kind", FINE)
def test_what_is_no_leak(kind: str, sessions: Sessions) -> None:
    """Nothing is told of what is gone, in memory, ignored, or below pytest's own base directory."""
    ini = "tempscope_leaks_ignore =\n  fine-*\n  */*.cache\n  pymp-*" if "ignored" in kind else ""
    result = sessions.run(
        f"""
held = []
disk = tempscope.LocalDiskStorage()

def test_it(tmp_path, temp_manager, memory_manager, temp_container):
    {FINE[kind]}
""",
        "--tempscope-leaks=fail",
        ini=ini,
    )
    result.assert_outcomes(passed=1)


def test_a_leak_of_a_thread(sessions: Sessions) -> None:
    """What a thread makes is the running test's; told are the three innermost places at most."""
    result = sessions.run(
        """
import threading

def one(): mkdtemp()
def two(): one()
def three(): two()
def four(): three()

@pytest.mark.parametrize("target", [two, four])
def test_it(target):
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
""",
        "--tempscope-leaks=fail",
    )
    result.assert_outcomes(passed=2, errors=2)
    places = re.findall(r"    made at test_it.py:\d+ in (\w+): ", result.stdout.str())
    assert places == ["one", "two", "one", "two", "three"]


def test_a_name_that_another_had_is_not_this_tests(sessions: Sessions) -> None:
    """A name that was taken when tempfile tried it belongs to whoever took it before."""
    result = sessions.run(
        """
def test_it(monkeypatch):
    names = iter(["taken", "free"])
    monkeypatch.setattr(tempfile, "_get_candidate_names", lambda: names)
    pathlib.Path(tempfile.tempdir, "tmptaken").touch()
    fd, path = tempfile.mkstemp()
    os.close(fd)
    os.unlink(path)
    assert path.endswith("tmpfree")
""",
        "--tempscope-leaks=fail",
    )
    result.assert_outcomes(passed=1)


LEAKY = """
def test_it():
    mkdtemp()
"""


def test_the_detector_is_off(sessions: Sessions) -> None:
    """Unless somebody turns it on, nothing is told."""
    sessions.run(LEAKY).assert_outcomes(passed=1)


def test_the_command_line_decides(sessions: Sessions) -> None:
    """``--tempscope-leaks`` counts more than the configuration file."""
    sessions.run(LEAKY, "--tempscope-leaks=off", ini="tempscope_leaks = fail").assert_outcomes(passed=1)


def test_a_warning(sessions: Sessions) -> None:
    """With ``warn`` the test passes, and a warning of our own class says what is left."""
    result = sessions.run(
        LEAKY, "--tempscope-leaks=warn", "-W", "default::tempscope.pytest_plugin.TempLeakWarning"
    )
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*TempLeakWarning: test_it.py::test_it left*", "*made at test_it.py:*"])


def test_a_warning_that_is_an_error(sessions: Sessions) -> None:
    """Where warnings are errors the leak fails the test's teardown."""
    result = sessions.run(LEAKY, "--tempscope-leaks=warn")
    result.assert_outcomes(passed=1, errors=1)


def test_the_marker_allows(sessions: Sessions) -> None:
    """A test with the marker may leave what it likes, also where markers are strict."""
    source = '@pytest.mark.allow_temp_leaks("a crash is simulated")' + LEAKY
    result = sessions.run(source, "--tempscope-leaks=fail", "--strict-markers")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("source", "outcomes"),
    [
        ("def test_it():\n    mkdtemp()\n    assert False", {"failed": 1}),
        ("def test_it(broken):\n    mkdtemp()", {"passed": 1, "errors": 1}),
    ],
)
def test_a_test_that_was_cut_short_is_not_blamed_twice(
    source: str, outcomes: dict[str, int], sessions: Sessions
) -> None:
    """What a failed test, or teardown, left stands in its report; it is no error of its own."""
    fixture = """
@pytest.fixture
def broken():
    yield
    raise ValueError

"""
    result = sessions.run(fixture + source, "--tempscope-leaks=fail")
    result.assert_outcomes(**outcomes)
    result.stdout.fnmatch_lines(
        ["*Captured temporary files teardown*", "test_it.py::test_it left*", "*made at test_it.py:*"]
    )


def test_a_fixture_that_outlives_the_test(sessions: Sessions) -> None:
    """What a module's fixture made is no leak while the fixture lives, and none of the first test's."""
    result = sessions.run(
        """
@pytest.fixture(scope="module", params=[1, 2])
def shared():
    with tempfile.TemporaryDirectory() as directory, TempFileManager() as manager:
        manager.new_file()
        yield directory

@pytest.fixture
def own():
    with tempfile.TemporaryDirectory() as directory:
        yield directory

def test_one(shared, own):
    assert os.path.isdir(shared)

def test_two(shared, own):
    assert os.path.isdir(shared)
""",
        "--tempscope-leaks=fail",
    )
    result.assert_outcomes(passed=4)


def test_a_leak_of_a_fixture_that_outlives_the_test(sessions: Sessions) -> None:
    """What such a fixture left is told once it is over, as its own."""
    result = sessions.run(
        """
@pytest.fixture(scope="module")
def shared():
    return mkdtemp()

def test_one(shared):
    pass

def test_two(shared):
    pass
""",
        "--tempscope-leaks=fail",
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_two*",
            "- a temporary file or directory: * (of module fixture 'shared')",
            "    made at test_it.py:* in shared: return mkdtemp()",
        ]
    )


def test_what_nobody_owns_is_not_told(sessions: Sessions) -> None:
    """What is made while tests are collected belongs to none of them."""
    result = sessions.run("mkdtemp()\ndef test_it(): pass", "--tempscope-leaks=fail")
    result.assert_outcomes(passed=1)


def test_a_detector_leaves_no_trace(sessions: Sessions) -> None:
    """After the session everything that was watched is as it was."""
    before = (_open_scopes.note, _open_scopes.forget, TempFileManager.keep, list(watch._watching))
    sessions.run(LEAKY, "--tempscope-leaks=fail").assert_outcomes(passed=1, errors=1)
    assert (_open_scopes.note, _open_scopes.forget, TempFileManager.keep, watch._watching) == before


# -- in parallel


def test_workers(sessions: Sessions) -> None:
    """Under xdist each worker tells its own tests' leaks and keeps its own tests' files."""
    result = sessions.run(
        """
@pytest.mark.parametrize("number", range(4))
def test_leaving(number):
    mkdtemp()

@pytest.mark.parametrize("number", range(4))
def test_shared(number, tmp_path_factory):
    mkdtemp(dir=tmp_path_factory.getbasetemp().parent)

@pytest.mark.parametrize("number", range(4))
def test_failing(number, temp_manager):
    temp_manager.new_file().write_text("evidence")
    assert False
""",
        "-n2",
        "--tempscope-leaks=fail",
        here=False,
    )
    result.assert_outcomes(passed=8, errors=4, failed=4)
    kept = kept_paths(result)
    assert len(set(kept)) == 4
    assert all(sessions.base in path.parents and len(list(path.glob("tempscope_*"))) == 1 for path in kept)


def test_workers_warn(sessions: Sessions) -> None:
    """A worker's warning arrives in the session that started it."""
    result = sessions.run(
        LEAKY,
        "-n1",
        "--tempscope-leaks=warn",
        "-W",
        "default::tempscope.pytest_plugin.TempLeakWarning",
        here=False,
    )
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines("*TempLeakWarning: test_it.py::test_it left*")
