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
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tempscope import (
    KeepAll,
    LocalDiskStorage,
    MemoryStorage,
    ScopeClosedError,
    TempScopes,
    UnsupportedError,
    sweep,
)


ROOT = f"tempscope-{os.geteuid()}"
WAITS = "import sys; sys.stdin.read()"
OWNER = """
import os, signal, subprocess, sys
from tempscope import LocalDiskStorage, TempScopes
waits = "import sys; sys.stdin.read()"
scopes = TempScopes(LocalDiskStorage(sys.argv[1]))
manager, other = scopes.open("job"), scopes.open("other")
path = manager.new_file(name="written.bin")
another = other.new_file(name="other.bin")
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The base directory."""
    return tmp_path / "base"


@pytest.fixture
def scopes(base: Path) -> Iterator[TempScopes]:
    """Scopes on a storage of this process."""
    with LocalDiskStorage(base) as storage:
        yield TempScopes(storage)


@pytest.fixture
def killed(base: Path) -> Iterator[Callable[[str], tuple[Path, Path, Callable[[], None]]]]:
    """
    Start an owner that starts a command, by the lines given, and is killed.

    Returns the files of its two scopes, and what ends the command: that reads our pipe to its end.
    """
    owners: list[subprocess.Popen[str]] = []

    def start(lines: str) -> tuple[Path, Path, Callable[[], None]]:
        program = f"{OWNER}{textwrap.dedent(lines)}\nprint(path, another, flush=True)\n"
        program += "os.kill(os.getpid(), signal.SIGKILL)\n"
        owner = subprocess.Popen(
            [sys.executable, "-c", program, str(base)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        owners.append(owner)
        assert owner.stdout is not None
        path, another = map(Path, owner.stdout.readline().split())
        assert owner.wait(timeout=60) == -signal.SIGKILL
        return path, another, lambda: end(owner)

    yield start
    for owner in owners:
        end(owner)


def end(owner: subprocess.Popen[str]) -> None:
    """Let the owner's command read the end of its input, and wait until nobody holds its output any more."""
    assert owner.stdin is not None
    assert owner.stdout is not None
    if not owner.stdin.closed:
        owner.stdin.close()
        owner.stdout.read()
        owner.stdout.close()


LEASE = "command = subprocess.Popen([sys.executable, '-c', waits], **manager.popen_kwargs())"


def test_the_lease_lives_as_long_as_the_command(base: Path, killed: Any) -> None:
    """
    The files stay while the command runs, and go with the next sweep afterwards; other scopes go at once.

    Row 15, L3, trap: owner dead, its commands still writing.
    Row 15, L3. Trap 9. Trap 10: a command holds the lease only if it is handed it.
    """
    path, other, end_command = killed(LEASE)

    report = sweep(base)
    assert path.exists()
    assert not other.exists()
    (told,) = [entry for entry in report.entries if entry.kind == "skipped"]
    assert "a command that its owner started still holds it: held by process " in told.reason
    assert Path(told.path) == path.parent
    assert sweep(base, dry_run=True).skipped == 1
    assert sweep(base).removed == 0

    end_command()
    report = sweep(base)
    assert (report.removed, report.skipped) == (1, 0)
    assert not path.exists()
    assert os.listdir(base / ROOT) == [".tempscope-root"]


def test_a_descendant_holds_it_too(base: Path, killed: Any) -> None:
    """The command's own child, which outlives it, keeps the files as well."""
    grandchild = "import os, sys\nif os.fork(): os._exit(0)\nsys.stdin.read()"
    path, _, end_command = killed(
        f"subprocess.run([sys.executable, '-c', {grandchild!r}], check=True, **manager.popen_kwargs())"
    )
    sweep(base)
    assert path.exists()

    end_command()
    sweep(base)
    assert not path.exists()


@pytest.mark.parametrize(
    "started",
    [
        "manager.popen_kwargs(); subprocess.Popen([sys.executable, '-c', waits])",
        "manager.popen_kwargs(); subprocess.Popen([sys.executable, '-c', waits], close_fds=False)",
        "manager.popen_kwargs(); subprocess.Popen([sys.executable, '-c', waits], **other.popen_kwargs())",
    ],
    ids=["plain", "all descriptors", "another's lease"],
)
def test_a_command_without_the_lease_holds_nothing(base: Path, killed: Any, started: str) -> None:
    """Row 77, rule 15, trap: lock descriptors are close-on-exec, and a command holds what it was given."""
    path, _, _ = killed(started)

    sweep(base)

    assert not path.exists()


def test_a_forked_worker_holds_nothing(base: Path, killed: Any) -> None:
    """L1: a forked child of the owner closes its copy of every lease, so it is no command that holds it."""
    path, _, _ = killed(
        """
        manager.popen_kwargs()
        reading, writing = os.pipe()
        if not os.fork():
            os.write(writing, b"x")
            sys.stdin.read()
            os._exit(0)
        os.read(reading, 1)
        """
    )

    sweep(base)

    assert not path.exists()


def test_a_held_scope_that_is_to_be_kept_waits_for_its_command(base: Path, killed: Any) -> None:
    """What its owner wanted to keep is retained once nobody writes to it any more."""
    lines = (
        "from tempscope import KeepAll\nmanager = scopes.open(policy=KeepAll())\npath = manager.new_file()\n"
    )
    path, _, end_command = killed(lines + LEASE)
    sweep(base)
    assert path.exists()
    end_command()
    sweep(base)
    (kept,) = (base / ROOT).glob("k-*")
    assert (kept / path.name).exists()


def test_a_commands_temporary_files_are_the_scopes(scopes: TempScopes) -> None:
    """TMPDIR, TMP and TEMP lead a command into the scope, and what it leaves goes with the scope."""
    with scopes.open("job") as manager:
        program = "import tempfile; print(tempfile.mkstemp()[1], tempfile.gettempdir())"
        options = manager.popen_kwargs(env={"KEPT": "yes", "TMPDIR": "/nowhere"})
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True, **options
        )
        made, directory = map(Path, done.stdout.split())
        assert directory == manager.directory
        assert made.parent == directory
        assert options["env"] == {"KEPT": "yes", **dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(directory))}
    assert not made.exists()


def test_our_own_environment_stays_as_it_is(scopes: TempScopes) -> None:
    """The environment for the command is a copy; this process goes on using its own temporary directory."""
    before, directory = dict(os.environ), tempfile.gettempdir()
    with scopes.open() as manager:
        given = manager.popen_kwargs()["env"]
        assert (dict(os.environ), tempfile.gettempdir()) == (before, directory)
        assert {**before, **{name: given[name] for name in ("TMPDIR", "TMP", "TEMP")}} == given


def descriptors_on(path: Path) -> list[int]:
    """Return this process's descriptors that are open at *path*."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{number}") == str(path):
                found.append(int(number))
        except FileNotFoundError:  # the listing's own
            continue
    return found


@pytest.mark.parametrize("how", ["close", "keep", "detach", "storage"])
def test_one_descriptor_a_scope_closed_with_it(base: Path, how: str) -> None:
    """However often it is called, popen_kwargs opens one descriptor; it is closed with the scope."""
    storage = LocalDiskStorage(base)
    manager = TempScopes(storage).open(policy=KeepAll() if how == "keep" else None)
    directory = manager.directory
    (own,) = descriptors_on(directory)
    first, second = manager.popen_kwargs()["pass_fds"], manager.popen_kwargs(pass_fds=(0,))["pass_fds"]
    (lease,) = first
    assert second == (0, lease)
    assert sorted(descriptors_on(directory)) == sorted((own, lease))
    assert not os.get_inheritable(lease)
    {"close": manager.close, "keep": manager.close, "detach": manager.detach, "storage": storage.close}[how]()
    assert not [
        fd for fd in map(int, os.listdir("/proc/self/fd")) if is_below(fd, base / ROOT, directory.name)
    ]
    with pytest.raises(ScopeClosedError):
        manager.popen_kwargs()
    manager.close()
    storage.close()


def is_below(fd: int, root: Path, name: str) -> bool:
    """Return whether *fd* is open at a scope under *root*, whatever its name is now."""
    try:
        target = os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return False
    return target.startswith(str(root)) and (f"/{name}" in target or "/k-" in target or "/d-" in target)


def test_threads_share_one_lease(scopes: TempScopes) -> None:
    """Sixteen threads that ask at once get the same descriptor."""
    with scopes.open() as manager:
        start, got = threading.Barrier(16), list[int]()

        def ask() -> None:
            start.wait()
            got.extend(manager.popen_kwargs()["pass_fds"])

        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 16
        assert len(set(got)) == 1


def test_a_scope_without_files_can_be_held(scopes: TempScopes) -> None:
    """The scope's directory is made for the command, if it was not there."""
    with scopes.open() as manager:
        assert os.path.isdir(manager.popen_kwargs()["env"]["TMPDIR"])


@pytest.mark.parametrize("background", [False, True])
def test_a_normal_close_removes_the_area_while_a_command_runs(base: Path, background: bool) -> None:
    """The lease is for the owner's death; closing the scope removes its files all the same."""
    with LocalDiskStorage(base, background_removal=background) as storage:
        with TempScopes(storage).open() as manager:
            path = manager.new_file()
            command = subprocess.Popen(
                [sys.executable, "-c", WAITS], stdin=subprocess.PIPE, **manager.popen_kwargs()
            )
        assert not path.exists()
        assert manager.report is not None
        assert manager.report.complete
    assert os.listdir(base / ROOT) == [".tempscope-root"]
    command.communicate(timeout=60)


def test_a_scope_can_be_handed_over_while_its_command_runs(base: Path, scopes: TempScopes) -> None:
    """A command goes on in a scope that another process takes over, where its files now stand."""
    manager = scopes.open()
    program = "import os, sys; os.chdir(os.environ['TMPDIR']); print(flush=True)\n"
    program += "sys.stdin.read(); open('late', 'w')"
    command = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **manager.popen_kwargs(),
    )
    assert command.stdout is not None
    command.stdout.readline()
    with scopes.attach(manager.detach()) as again:
        command.communicate(timeout=60)
        assert os.listdir(again.directory) == ["late"]


def test_a_waiting_scope_that_a_command_holds_is_not_swept(base: Path, scopes: TempScopes) -> None:
    """Its time has passed, but a command still works in it: it stays until that ends."""
    manager = scopes.open()
    manager.new_file()
    command = subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE, **manager.popen_kwargs())
    manager.detach(ttl="0.001ms")
    assert sweep(base).removed == 0
    command.communicate(timeout=60)
    assert sweep(base).removed == 1


def test_a_lease_that_was_closed_behind_our_back_is_taken_again(tmp_path: Path, scopes: TempScopes) -> None:
    """L4: a number that is somebody else's by now is not handed to commands, nor closed."""
    with scopes.open() as manager:
        (lease,) = manager.popen_kwargs()["pass_fds"]
        with open(tmp_path / "other", "w") as other:
            os.dup2(other.fileno(), lease)
            (again,) = manager.popen_kwargs()["pass_fds"]
            assert again != lease
            assert os.path.samestat(os.fstat(again), os.stat(manager.directory))
            os.fstat(lease)
            os.close(lease)


def test_memory_moves_to_the_disk_for_a_command(base: Path) -> None:
    """With a disk to spill to the whole area moves there first; without, memory says that it cannot."""
    with (
        LocalDiskStorage(base) as disk,
        MemoryStorage(spill_to=disk) as memory,
        TempScopes(memory).open() as manager,
    ):
        (manager.new_dir(name="d") / "file").write_text("content")
        program = "import os; os.chdir(os.environ['TMPDIR']); print(open('d/file').read()); open('made', 'w')"
        command = [sys.executable, "-c", program]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, **manager.popen_kwargs()
        )
        assert done.stdout == "content\n"
        assert sorted(path.name for path in manager.directory.iterdir()) == ["d", "made"]
    with TempScopes(MemoryStorage()).open() as manager:
        path = manager.new_file()
        with pytest.raises(UnsupportedError, match="spill_to"):
            manager.popen_kwargs()
        assert path.exists()
