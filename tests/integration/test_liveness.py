"""
Who is alive is told by the kernel's lock alone: never by a pid, a namespace, an age or a heartbeat.

Rows 78 to 81 of the fault catalogue, failure modes L7 and L8.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest

from tempscope import Instant, LocalDiskStorage, TempScopes, sweep
from tempscope._clock import SystemClock


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no os.fork")

OWNER = Path(__file__).resolve().parent / "programs" / "owner.py"
DAY = 24 * 3600.0
SWEEP = "import sys, tempscope, json; print(json.dumps(tempscope.sweep(sys.argv[1]).to_dict()))"


@attrs.frozen
class Owner:
    """A running owner."""

    process: subprocess.Popen[str]
    pid: int
    file: Path

    def end(self) -> None:
        """Have it end without cleaning up."""
        self.process.communicate()


StartOwner = Callable[..., Owner]


@pytest.fixture
def start(tmp_path: Path, unmeasured: dict[str, str]) -> Iterator[StartOwner]:
    """Start an owner, perhaps under a command; all are killed in the end."""
    with ExitStack() as stack:

        def start_owner(*prefix: str) -> Owner:
            process = subprocess.Popen(
                [*prefix, sys.executable, str(OWNER), str(tmp_path)],
                env=unmeasured,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            pid, file = process.stdout.readline().split()
            return Owner(process, int(pid), Path(file))

        yield start_owner


@pytest.fixture(scope="session")
def own_pids() -> tuple[str, ...]:
    """The command prefix that gives a program pids of its own; killing it kills all in it."""
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    prefix = ("unshare", *user, "--pid", "--fork", "--mount-proc", "--kill-child")
    try:
        answer = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("the command unshare is missing")
    if answer.returncode:
        pytest.skip(f"{' '.join(prefix)} true failed: {answer.stderr.strip()}")
    return prefix


def swept_all(base: Path) -> bool:
    """Sweep, and return whether nothing is left."""
    sweep(base)
    return [path.name for path in base.glob("tempscope-*/*") if not path.name.startswith(".")] == []


def test_an_owner_in_another_pid_namespace_lives(
    start: StartOwner, own_pids: tuple[str, ...], tmp_path: Path
) -> None:
    """
    A sweep outside sees that an owner inside a pid namespace lives, whatever number it has there.

    Row 78.
    Trap 8: containers: pid 1 everywhere.
    """
    owner = start(*own_pids)
    assert owner.pid < 10, "it does not look as if it had a namespace of its own"

    report = sweep(tmp_path)

    assert report.live == 1
    assert report.removed == 0
    assert owner.file.read_text() == "alive"


def test_a_sweep_in_another_pid_namespace_sees_the_owner(
    start: StartOwner, own_pids: tuple[str, ...], tmp_path: Path, unmeasured: dict[str, str]
) -> None:
    """
    A sweep inside a pid namespace, where the owner's pid means nothing, sees that it lives.

    Row 78, the other way.
    """
    owner = start()

    command = [*own_pids, sys.executable, "-c", SWEEP, str(tmp_path)]
    answer = subprocess.run(command, env=unmeasured, capture_output=True, text=True, check=True)

    report = json.loads(answer.stdout)
    assert report["live"] == 1
    assert report["removed"] == 0
    assert owner.file.read_text() == "alive"


def test_a_killed_container_is_swept_from_outside(
    start: StartOwner, own_pids: tuple[str, ...], tmp_path: Path
) -> None:
    """
    When a container is killed as a whole, a sweep outside removes what its processes left.

    Row 81.
    """
    owner = start(*own_pids)
    owner.process.kill()
    owner.process.wait()
    deadline = time.monotonic() + 10
    while not swept_all(tmp_path):  # the namespace's end is not waited for by the kill
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_reused_pid_keeps_nothing_alive(
    start: StartOwner, own_pids: tuple[str, ...], tmp_path: Path, unmeasured: dict[str, str]
) -> None:
    """
    A dead owner's pid that names a living process, here the sweeping one itself, saves nothing.

    Row 79.
    Trap 7: PID reuse.
    """
    owner = start(*own_pids)
    owner.end()
    code = f"import os; assert os.getpid() == {owner.pid}, os.getpid(); {SWEEP}"

    command = [*own_pids, sys.executable, "-c", code, str(tmp_path)]
    answer = subprocess.run(command, env=unmeasured, capture_output=True, text=True, check=True)

    assert json.loads(answer.stdout)["live"] == 0
    assert swept_all(tmp_path)
    assert not owner.file.exists()


@pytest.mark.parametrize("forged", [{"pid": os.getpid()}, {"pid": os.getpid(), "started": 1}, {"pid": 1}])
def test_a_forged_owner_record_keeps_nothing_alive(
    forged: dict[str, int], start: StartOwner, tmp_path: Path
) -> None:
    """
    An owner record that names a living process saves nothing when nobody holds the lock.

    Row 79.
    Trap 7: PID reuse: a forged owner record naming our own live pid with another start time.
    """
    owner = start()
    record = owner.file.parent.parent / "owner"
    owner.end()
    record.write_text(json.dumps({**json.loads(record.read_text()), **forged}))

    assert swept_all(tmp_path)


def test_a_record_of_a_dead_pid_kills_nobody(start: StartOwner, tmp_path: Path) -> None:
    """
    An owner record that names no living process, or nothing at all, costs a living owner nothing.

    Row 79.
    """
    owner = start()
    record = owner.file.parent.parent / "owner"
    for text in (json.dumps({**json.loads(record.read_text()), "pid": 2**22 + 1}), "", "{"):
        record.write_text(text)

        sweep(tmp_path)

        assert owner.file.read_text() == "alive"


def test_a_stopped_owner_lives(start: StartOwner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An owner that is stopped for thirty days is not deleted: no heartbeat decides, no age does.

    Row 80, failure mode L7.
    """
    owner = start()
    os.kill(owner.pid, signal.SIGSTOP)
    now = SystemClock().now()
    later = Instant(now.wall + 30 * DAY, now.boot + 30 * DAY, now.boot_id)
    monkeypatch.setattr(SystemClock, "now", lambda self: later)
    for path in (owner.file, owner.file.parent, owner.file.parent.parent):
        os.utime(path, (0, 0))

    report = sweep(tmp_path)

    assert report.live == 1
    assert owner.file.read_text() == "alive"
    os.kill(owner.pid, signal.SIGCONT)


def test_a_zombie_is_dead(tmp_path: Path) -> None:
    """
    An owner that ended but was not waited for is dead, though its pid is still there.

    Failure mode L8.
    """
    pid = os.fork()
    if pid == 0:
        TempScopes(LocalDiskStorage(tmp_path)).open("job").new_file()
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        os.kill(pid, 0)

        assert swept_all(tmp_path)
    finally:
        os.waitpid(pid, 0)


def test_a_closed_owner_leaves_nothing_to_sweep(tmp_path: Path) -> None:
    """A sweep beside nobody finds nothing to do: the canary of the tests above."""
    with LocalDiskStorage(tmp_path) as storage, TempScopes(storage).open("job") as scope:
        file = scope.new_file()
        assert sweep(tmp_path).live == 1
        assert file.exists()

    assert swept_all(tmp_path)
    assert sweep(tmp_path).live == 0
