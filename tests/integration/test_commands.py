"""
Commands that a job starts: where they put their files, and how long those stay.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tempscope import LocalDiskStorage, MemoryStorage, TempScopes, UnsupportedError, sweep


WAITS = "import sys; sys.stdin.read()"


@pytest.fixture
def scopes(tmp_path: Path) -> Iterator[TempScopes]:
    """Scopes on a storage of this process."""
    with LocalDiskStorage(tmp_path / "base") as storage:
        yield TempScopes(storage)


OWNER = """
import os, signal, subprocess, sys
from tempscope import LocalDiskStorage, TempScopes
manager = TempScopes(LocalDiskStorage(sys.argv[1])).open("job")
path = manager.new_file(name="written.bin")
options = manager.popen_kwargs() if sys.argv[2] == "lease" else {}
command = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], **options)
print(path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def start_owner(tmp_path: Path, how: str) -> tuple[subprocess.Popen[str], Path]:
    """Start an owner that starts a command and is killed; the command reads our pipe to its end."""
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER), str(tmp_path / "base"), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    path = Path(owner.stdout.readline().strip())
    assert owner.wait(timeout=60) == -signal.SIGKILL
    return owner, path


def end_command(owner: subprocess.Popen[str]) -> None:
    """Let the command read the end of its input, and wait until its output pipe is closed."""
    assert owner.stdin is not None
    assert owner.stdout is not None
    owner.stdin.close()
    owner.stdout.read()
    owner.stdout.close()


def test_the_lease_lives_as_long_as_the_command(tmp_path: Path) -> None:
    """Row 15, trap (owner dead, its commands still writing): the files stay while the command runs,
    and go with the next sweep afterwards."""
    owner, path = start_owner(tmp_path, "lease")

    report = sweep(tmp_path / "base")
    assert path.exists()
    assert report.skipped
    assert any("command" in entry.reason or "hold" in entry.reason for entry in report.entries)

    end_command(owner)
    sweep(tmp_path / "base")
    assert not path.exists()


def test_without_the_lease_the_files_go_with_their_owner(tmp_path: Path) -> None:
    """Trap: lock descriptors are close-on-exec, so an ordinary command holds nothing."""
    owner, path = start_owner(tmp_path, "plain")

    sweep(tmp_path / "base")

    assert not path.exists()
    end_command(owner)


def test_one_daemon_does_not_pin_the_whole_process(tmp_path: Path) -> None:
    """The command holds the lease of its scope alone; the other scopes of a dead owner go."""
    program = OWNER.replace('options =', 'other = TempScopes(manager.storage).open("other").new_file()\noptions =')
    program = program.replace("print(path,", "print(path, other,")
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "base"), "lease"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    path, other = map(Path, owner.stdout.readline().split())
    owner.wait(timeout=60)

    sweep(tmp_path / "base")

    assert path.exists()
    assert not other.exists()
    end_command(owner)


def test_a_commands_temporary_files_are_the_scopes(scopes: TempScopes) -> None:
    """TMPDIR, TMP and TEMP lead a command into the scope, and what it leaves goes with the scope."""
    with scopes.open("job") as manager:
        program = "import tempfile; print(tempfile.mkstemp()[1], tempfile.gettempdir())"
        options = manager.popen_kwargs(env={**os.environ, "KEPT": "yes"})
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True, **options
        )
        made, directory = map(Path, done.stdout.split())
        assert directory == manager.directory
        assert made.exists()
        assert options["env"]["KEPT"] == "yes"
        assert all(options["env"][name] == str(manager.directory) for name in ("TMPDIR", "TMP", "TEMP"))
    assert not made.exists()


def test_our_own_environment_stays_as_it_is(scopes: TempScopes) -> None:
    """The environment for the command is a copy; this process goes on using its own temporary directory."""
    before = dict(os.environ), tempfile.gettempdir()
    with scopes.open() as manager:
        manager.popen_kwargs()
        assert (dict(os.environ), tempfile.gettempdir()) == before


def test_one_descriptor_a_scope_closed_with_it(scopes: TempScopes) -> None:
    """popen_kwargs opens one descriptor however often it is called, beside those handed in."""
    with scopes.open() as manager:
        manager.new_file()
        before = set(os.listdir("/proc/self/fd"))
        first, second = manager.popen_kwargs()["pass_fds"], manager.popen_kwargs(pass_fds=(0,))["pass_fds"]
        opened = set(os.listdir("/proc/self/fd")) - before
        assert len(opened & {str(fd) for fd in first}) == 1
        assert second == (0, *first)
        assert not os.get_inheritable(first[0])
    assert not os.path.exists(f"/proc/self/fd/{first[0]}") or os.fstat(first[0]).st_nlink


def test_a_normal_close_removes_the_area_while_a_command_runs(scopes: TempScopes) -> None:
    """The lease is for the owner's death; closing the scope removes its files all the same."""
    with scopes.open() as manager:
        path = manager.new_file()
        command = subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE, **manager.popen_kwargs())
    assert not path.exists()
    assert manager.report is not None
    assert manager.report.complete
    command.communicate(timeout=60)


def test_memory_has_no_lease_for_commands() -> None:
    """A command cannot work in memory, and popen_kwargs says so."""
    with TempScopes(MemoryStorage()).open() as manager, pytest.raises(UnsupportedError, match="command"):
        manager.popen_kwargs()
