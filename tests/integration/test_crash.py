"""Deaths of every kind inside a scope: what is left is found by proved ownership, and goes by one sweep."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import tempscope
from tempscope import KeepAll, LocalDiskStorage, TempScopes, sweep


ROOT = f"tempscope-{os.geteuid()}"

OWNER = """
import json, os, signal, sys
import tempscope

base, outside, policy = sys.argv[1:4]
storage = tempscope.LocalDiskStorage(base, application="owner", sweep_on_start=False)
scopes = tempscope.TempScopes(storage, getattr(tempscope, policy)())
scope = scopes.open("the job")
with scope:
    path = scope.new_file(".txt")
    path.write_bytes(b"content")
    (scope.new_dir() / "deep").mkdir()
    with scope.scope("a child") as child:
        child.new_file()
        for name in ("file", "replaced"):
            scope.register_file(os.path.join(outside, name))
        print(path, flush=True)
"""

DEATHS = {
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
    "_exit": "os._exit(0)",
    "abort": "os.abort()",
    "segfault": "import ctypes; ctypes.string_at(0)",
    "execv": "os.execv(sys.executable, [sys.executable, '-c', 'print(1, flush=True); input()'])",
    "killed from outside": "sys.stdin.read()",
}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Two files of the user's."""
    place = tmp_path / "outside"
    place.mkdir()
    for name in ("file", "replaced"):
        (place / name).write_bytes(name.encode())
    return place


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base directory."""
    return tmp_path / "base"


@attrs.define(eq=False)
class Owner:
    """A process with an open scope, and what it holds."""

    process: subprocess.Popen[str]
    path: Path

    @property
    def home(self) -> Path:
        """Its instance's directory."""
        return self.path.parents[1]


@pytest.fixture
def owners(base: Path, outside: Path) -> Iterator[list[Owner]]:
    """The owners that were started; they end with the test."""
    started: list[Owner] = []
    yield started
    for owner in started:
        owner.process.kill()
        for stream in (owner.process.stdin, owner.process.stdout):
            assert stream is not None
            stream.close()
        owner.process.wait()


def start(owners: list[Owner], base: Path, outside: Path, then: str, policy: str = "DeleteOnClose") -> Owner:
    """Start an owner that does *then* inside of its block, and wait until it is there."""
    # A crash on purpose leaves no core file.
    program = f"import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n{OWNER}        {then}\n"
    process = subprocess.Popen(
        [sys.executable, "-c", program, base, outside, policy],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    owner = Owner(process, Path(process.stdout.readline().strip()))
    owners.append(owner)
    return owner


def died(owner: Owner, how: str = "SIGKILL") -> None:
    """Wait until the owner is dead, or another program by ``execv``."""
    assert owner.process.stdout is not None
    if how == "execv":
        assert owner.process.stdout.readline() == "1\n"
        return
    if how == "killed from outside":
        owner.process.kill()
    owner.process.wait(timeout=20)


def names_in(base: Path) -> list[str]:
    """Return what is in the root."""
    return sorted(os.listdir(base / ROOT))


@pytest.mark.parametrize("how", DEATHS)
def test_one_sweep_after_a_death(base: Path, outside: Path, owners: list[Owner], how: str) -> None:
    """Row 7, 3: after a death inside the block the lease is free at once, and one sweep leaves nothing."""
    died(start(owners, base, outside, DEATHS[how]), how)
    report = sweep(base)
    assert (report.removed, report.failed, report.skipped, report.live) == (4, 0, 0, 0)
    assert names_in(base) == [".tempscope-root"]
    assert os.listdir(outside) == []
    assert sweep(base).entries == ()


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """A control group that may use 40 MiB of memory (version 1); skip where none can be made."""
    group = Path(f"/sys/fs/cgroup/memory/tempscope-test-{os.getpid()}")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(40 << 20))
    except OSError as error:
        pytest.skip(f"no memory control group (version 1) can be made: {error}")
    yield group
    group.rmdir()


def test_one_sweep_after_the_system_ran_out_of_memory(
    base: Path, outside: Path, owners: list[Owner], little_memory: Path
) -> None:
    """Row 8: an owner that the kernel kills for want of memory is swept as any other."""
    then = (
        f"open('{little_memory}/cgroup.procs', 'w').write(str(os.getpid())), bytearray(os.urandom(1 << 27))"
    )
    owner = start(owners, base, outside, f"print({then})")
    died(owner)
    assert owner.process.returncode == -signal.SIGKILL
    assert sweep(base).removed == 4
    assert names_in(base) == [".tempscope-root"]


def test_a_command_does_not_hold_the_lease_by_itself(base: Path, outside: Path, owners: list[Owner]) -> None:
    """
    Row 77: a command that was started with all descriptors passed on holds nothing of ours. Security rule 15.

    Trap 4: a pure close leaks the lock into a command that is forked at that moment.
    Trap 10: a command holds the lease only if it is handed it.
    """
    then = """
        import subprocess
        command = subprocess.Popen(["sleep", "600"], close_fds=False)
        held = [os.readlink(f"/proc/{command.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{command.pid}/fd")]
        print(command.pid, [path for path in held if path.startswith(base)], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""
    owner = start(owners, base, outside, then.strip())
    assert owner.process.stdout is not None
    command, held = owner.process.stdout.readline().split(maxsplit=1)
    try:
        assert held == "[]\n"
        owner.process.wait(timeout=20)
        assert sweep(base).removed == 4
    finally:
        os.kill(int(command), signal.SIGKILL)


def test_a_second_interpreter(base: Path) -> None:
    """Row 72: a sub-interpreter has an instance of its own, and neither takes the other's away."""
    program = '''
import sys
subinterpreters = __import__("_xxsubinterpreters" if sys.version_info < (3, 13) else "_interpreters")
from tempscope import LocalDiskStorage, TempScopes
base = sys.argv[1]
INNER = """
from tempscope import LocalDiskStorage, TempScopes
with LocalDiskStorage(base) as storage, TempScopes(storage).open() as job:
    assert job.new_file().exists()
"""
with TempScopes(LocalDiskStorage(base)).open() as job:
    path = job.new_file()
    inner = subinterpreters.create()
    said = subinterpreters.run_string(inner, f"base = {base!r}" + INNER)
    subinterpreters.destroy(inner)
    assert said is None, said
    assert path.exists() and job.new_file().exists()
'''
    done = subprocess.run(
        [sys.executable, "-c", program, base], capture_output=True, text=True, timeout=60, check=False
    )
    if "No module named" in done.stderr and "interpreters" in done.stderr:
        pytest.skip("this Python has no sub-interpreters to be made from Python")
    assert done.returncode == 0, done.stderr
    assert names_in(base) == [".tempscope-root"]


@pytest.mark.parametrize("how", ["SIGKILL", "_exit"])
def test_evidence_is_kept_as_its_owner_wanted(
    base: Path, outside: Path, owners: list[Owner], how: str
) -> None:
    """A dead owner's scopes are retained if it wanted that, whole, with what is known of them."""
    died(start(owners, base, outside, DEATHS[how], "KeepAll"))
    report = sweep(base)
    assert (report.kept, report.failed) == (2, 0)
    kept = {record.name: record for record in LocalDiskStorage(base).areas()}
    assert set(kept) == {"the job", "a child"}
    job = kept["the job"]
    assert job.directory is not None
    assert {entry.name for entry in job.directory.iterdir() if entry.is_file()} >= {"tempscope_1.txt"}
    assert job.outcome is not None
    assert job.outcome.kind == "never_closed"
    assert kept["a child"].parent == job.token
    assert job.application == "owner"


def test_a_registered_file_that_was_replaced_stays(base: Path, outside: Path, owners: list[Owner]) -> None:
    """P2: of two registered files the one that somebody replaced since stays, and is told."""
    died(start(owners, base, outside, DEATHS["SIGKILL"]))
    (outside / "other").write_bytes(b"precious")
    os.rename(outside / "other", outside / "replaced")
    report = sweep(base)
    assert [entry.path for entry in report.entries if entry.kind == "skipped"] == [str(outside / "replaced")]
    assert os.listdir(outside) == ["replaced"]
    assert (outside / "replaced").read_bytes() == b"precious"


def test_a_registered_file_made_again_stays(base: Path, outside: Path, owners: list[Owner]) -> None:
    """P2: a registered file that was deleted and made again, with the same inode perhaps, is another file."""
    died(start(owners, base, outside, DEATHS["SIGKILL"]))
    (outside / "replaced").unlink()
    (outside / "replaced").write_bytes(b"precious")
    sweep(base)
    assert (outside / "replaced").read_bytes() == b"precious"


def test_unregistered_files_stay(base: Path, outside: Path, owners: list[Owner]) -> None:
    """A file that was unregistered before the crash is nobody's to delete."""
    then = "[scope.unregister_file(os.path.join(outside, 'file')), os.kill(os.getpid(), 9)]"
    died(start(owners, base, outside, then))
    sweep(base)
    assert os.listdir(outside) == ["file"]


@pytest.mark.parametrize(
    "then",
    [
        "scope.stage(source)",
        "scope.register_file(source); scope.stage(source, writable=True)",
        "scope.stage(source); scope.register_file(source)",
        "os.symlink(source, source + '-link'); scope.stage(source + '-link')",
    ],
)
def test_a_registered_file_that_is_staged_stays(
    base: Path, outside: Path, owners: list[Owner], then: str
) -> None:
    """
    A sweep deletes no source of a staged file, as the scope would not have, in whatever order it was told.

    DESIGN 7: the source is never harmed.
    """
    source = outside / "file"
    program = f"source = {str(source)!r}; {then}; {DEATHS['SIGKILL']}"
    start(owners, base, outside, program).process.wait()
    assert sweep(base).removed
    assert source.read_bytes() == b"file"
    assert not (outside / "replaced").exists()


def test_a_registered_file_that_could_not_be_staged_goes(
    base: Path, outside: Path, owners: list[Owner]
) -> None:
    """What was registered, and failed to be staged, is deleted after a death as if nobody had tried."""
    source = str(outside / "file")
    lines = [
        "scope.new_file(name='taken')",
        f"try: scope.stage({source!r}, name='taken')",
        f"except OSError: {DEATHS['SIGKILL']}",
    ]
    then = f"\n{' ' * 8}".join(lines)
    start(owners, base, outside, then).process.wait()
    assert sweep(base).removed
    assert not (outside / "file").exists()


@pytest.mark.parametrize("stop", [False, True])
def test_the_living_are_left_alone(base: Path, outside: Path, owners: list[Owner], stop: bool) -> None:
    """P1, L7, row 80: a living owner's scope stays, also while it is stopped, whatever sweeps."""
    owner = start(owners, base, outside, "sys.stdin.read()")
    if stop:
        owner.process.send_signal(signal.SIGSTOP)
    report = sweep(base)
    assert (report.removed, report.live) == (0, 1)
    assert owner.path.read_bytes() == b"content"
    owner.process.send_signal(signal.SIGCONT)
    owner.process.communicate("", timeout=20)
    assert names_in(base) == [".tempscope-root"]


def test_a_zombie_is_dead(base: Path, outside: Path, owners: list[Owner]) -> None:
    """L8: an owner that is dead and not yet waited for holds nothing, though its number is there."""
    owner = start(owners, base, outside, DEATHS["SIGKILL"])
    os.waitid(os.P_PID, owner.process.pid, os.WEXITED | os.WNOWAIT)
    assert os.path.exists(f"/proc/{owner.process.pid}")
    assert sweep(base).removed == 4


def test_a_forged_number_changes_nothing(base: Path, outside: Path, owners: list[Owner]) -> None:
    """Row 79, trap: an owner file that names another, living process is not believed."""
    owner = start(owners, base, outside, DEATHS["SIGKILL"])
    died(owner)
    text = json.loads((owner.home / "owner").read_text(encoding="ascii"))
    (owner.home / "owner").write_text(json.dumps({**text, "pid": os.getpid()}), encoding="ascii")
    assert sweep(base).removed == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a pid namespace")
@pytest.mark.parametrize("alive", [True, False])
def test_another_pid_namespace(base: Path, outside: Path, owners: list[Owner], alive: bool) -> None:
    """Row 78, trap: from another pid namespace, an owner is judged rightly, not by its number."""
    owner = start(owners, base, outside, "sys.stdin.read()" if alive else DEATHS["SIGKILL"])
    if not alive:
        died(owner)
    program = "import sys, tempscope; r = tempscope.sweep(sys.argv[1]); print(r.removed, r.live, r.skipped)"
    said = subprocess.run(
        ["unshare", "-pf", "--mount-proc", sys.executable, "-c", program, base],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said == ("0 1 0\n" if alive else "4 0 0\n")
    assert owner.path.exists() is alive


def test_the_next_program_cleans_up(base: Path, outside: Path, owners: list[Owner]) -> None:
    """A program that is started again removes what its predecessor left, by its first file."""
    died(start(owners, base, outside, DEATHS["SIGKILL"]))
    with TempScopes(LocalDiskStorage(base)).open() as scope:
        scope.new_file()
        assert len(names_in(base)) == 2
    assert os.listdir(outside) == []


@pytest.mark.parametrize("kind", ["pages of zeros", "half a line", "rubbish", "empty", "missing"])
def test_a_damaged_journal(base: Path, outside: Path, owners: list[Owner], kind: str) -> None:
    """Row 14: whole lines of a damaged journal count, the rest is told, and the instance goes."""
    owner = start(owners, base, outside, DEATHS["SIGKILL"], "KeepAll")
    died(owner)
    journal = owner.home / "journal"
    text = journal.read_bytes()
    damaged = {
        "pages of zeros": bytes(8192),
        "half a line": text[: text.index(b"\n") + 20],
        "rubbish": text + b'{"area": [[[[\n' + b"\xff" * 70_000 + b"\n",
        "empty": b"",
    }
    if kind == "missing":
        journal.unlink()
    else:
        journal.write_bytes(damaged[kind])
    report = sweep(base)
    known = {"half a line": 1, "rubbish": 2}.get(kind, 0)
    assert (report.kept, report.failed) == (known, 0)
    told = [entry for entry in report.entries if "could not be read" in entry.reason]
    assert len(told) == (kind not in ("empty", "missing"))
    assert [name[:2] for name in names_in(base)] == [".t", *["k-"] * known]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("code", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_system_without_locks(base: Path, outside: Path, tmp_path: Path, code: str) -> None:
    """
    Row 22: without flock a program works and says so, and a sweep only reports.

    Trap 17: a file system without locks.
    """
    program = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s")
import tempscope
base = sys.argv[1]
storage = tempscope.LocalDiskStorage(base)
with tempscope.TempScopes(storage).open() as scope:
    print(scope.new_file().exists())
    report = tempscope.sweep(base)
    print(report.removed, report.skipped, report.entries[0].reason)
    print(len(list(storage.areas())))
storage.close()
"""
    log = tmp_path / "log"
    inject = ["-e", "signal=none", "-e", "trace=flock", "-e", f"inject=flock:error={code}"]
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", log, *inject, sys.executable, "-c", program, base],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "INJECTED" in log.read_text(encoding="utf-8")
    assert done.stdout.splitlines() == [
        "the file system has no locks: what this process leaves in a crash, a sweep only reports",
        "True",
        "0 1 its file system has no locks, so nothing shows whether its owner lives",
        "1",
    ]
    assert names_in(base) == [".tempscope-root"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_system_without_random_numbers(base: Path, tmp_path: Path) -> None:
    """Row 36: without getrandom(2) names come from another source of the system's, and are never the same."""
    program = "import sys, tempscope; print(tempscope.TempFileManager(base_dir=sys.argv[1]).new_file())"
    log, names = tmp_path / "log", set()
    inject = ["-e", "signal=none", "-e", "trace=getrandom", "-e", "inject=getrandom:error=ENOSYS:when=3+"]
    for _ in range(2):
        done = subprocess.run(
            ["strace", "-f", "-qq", "-o", log, *inject, sys.executable, "-c", program, base],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "INJECTED" in log.read_text(encoding="utf-8")
        names.add(Path(done.stdout).parts[-3])
    assert len(names) == 2
    assert names_in(base) == [".tempscope-root"]


def test_interrupted_calls_are_done_again(base: Path) -> None:
    """Row 23: a program that signals interrupt all the time, with a handler that returns, goes on."""
    program = """
import signal, sys, time
import tempscope
count = 0
def handler(*_):
    global count
    count += 1
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
with tempscope.LocalDiskStorage(sys.argv[1]) as storage:
    scopes, rounds = tempscope.TempScopes(storage), 0
    while count < 300:
        with scopes.open() as job:
            (job.new_dir() / "inner").mkdir()
            job.publish(job.new_file(), sys.argv[1] + "/published")
        assert job.report.complete
        tempscope.sweep(sys.argv[1])
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    subprocess.run([sys.executable, "-c", program, base], check=True, timeout=60)
    assert names_in(base) == [".tempscope-root"]


def test_a_child_inherits_the_lease(base: Path, outside: Path, owners: list[Owner]) -> None:
    """Trap 11: a lease that a child inherited past its hooks is told with its holder, and ends with that."""
    then = """
        import ctypes
        reading, writing = os.pipe()
        # As a C extension forks: no at-fork hook of Python's runs in the child.
        pid = ctypes.PyDLL(None).fork()
        if not pid:
            os.close(writing)
            os.read(0, 1)
            os._exit(0)
        print(pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""
    owner = start(owners, base, outside, then.strip())
    assert owner.process.stdout is not None
    heir = int(owner.process.stdout.readline())
    owner.process.wait(timeout=20)
    report = sweep(base)
    assert (report.removed, report.live, report.skipped) == (0, 1, 1)
    assert f"its lease is held by process {heir} (" in report.entries[0].reason
    assert f"inherited it from process {owner.process.pid}, which is gone" in report.entries[0].reason
    assert owner.path.exists()
    watched = os.pidfd_open(heir)
    assert owner.process.stdin is not None
    owner.process.stdin.close()
    ended = select.poll()
    ended.register(watched, select.POLLIN)
    assert ended.poll(20_000)
    os.close(watched)
    assert sweep(base).removed == 4


def test_retained_scopes_of_many_deaths(base: Path, outside: Path, owners: list[Owner]) -> None:
    """Many dead owners are settled by one sweep, each scope by its own record."""
    for policy in ("DeleteOnClose", "KeepAll", "KeepAll"):
        (outside / "file").touch()
        (outside / "replaced").touch()
        died(start(owners, base, outside, DEATHS["SIGKILL"], policy))
    report = sweep(base)
    assert (report.kept, report.failed) == (4, 0)
    assert sweep(base, policy=KeepAll()).kept == 4
    assert sweep(LocalDiskStorage(base, application="owner"), policy=tempscope.DeleteOnClose()).removed == 4
    assert names_in(base) == [".tempscope-root"]
