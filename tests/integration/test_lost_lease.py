"""Leases lost while their owner lives: noticed, never acted on blindly, repaired or reported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = f"tempscope-{os.geteuid()}"

SETUP = """
import fcntl, logging, os, shutil, subprocess, sys
import tempscope
from tempscope.errors import LeaseLostError

warnings = []
class Handler(logging.Handler):
    def emit(self, record):
        warnings.append(record.getMessage())
logging.getLogger("tempscope").addHandler(Handler(logging.WARNING))

base, outside = sys.argv[1:3]
# A look-alike in our own root, unlocked and of our user, is a dead instance to any sweep.
storage = tempscope.LocalDiskStorage(base, sweep_on_start=False)
scopes = tempscope.TempScopes(storage)
scope = scopes.open("the job")
path = scope.new_file(".txt")
path.write_bytes(b"content")
home = os.path.dirname(os.path.dirname(path))
root = os.path.dirname(home)

def sweep_elsewhere():
    program = "import sys, tempscope; r = tempscope.sweep(sys.argv[1]); print(r.removed, r.live)"
    command = [sys.executable, "-c", program, base]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout

def close_descriptors():
    # As a daemoniser does; something else gets the numbers at once.
    os.closerange(3, 256)
    return [os.open(os.path.join(outside, "precious"), os.O_RDWR | os.O_APPEND) for _ in range(12)]

def raises(call):
    try:
        call()
    except LeaseLostError as error:
        return str(error)
    raise AssertionError("it was not noticed")
"""

PROGRAMS = {
    "closed descriptors are opened and locked again": """
others = close_descriptors()
late = scopes.open("late")
late.new_file()
assert warnings == ["a lease whose descriptors were closed was taken again"], warnings
assert sweep_elsewhere() == "0 1\\n"
assert path.read_bytes() == b"content"
scope.new_file()
assert scope.close().complete and late.close().complete
storage.close()
assert all(os.fstat(fd).st_size == 8 for fd in others)
assert os.listdir(root) == [".tempscope-root"]
""",
    "closed descriptors and a sweep in between": """
others = close_descriptors()
assert sweep_elsewhere() == "1 0\\n"
late = scopes.open("late")
assert late.new_file().exists()
assert "was taken away" in raises(lambda: scope.new_dir())
report = scope.close()
assert report.skipped == 1
assert "the lease on a directory was lost" in warnings
assert late.close().complete
storage.close()
assert all(os.fstat(fd).st_size == 8 for fd in others)
assert os.listdir(root) == [".tempscope-root"]
""",
    "rm -rf of the instance": """
shutil.rmtree(home)
assert "was taken away" in raises(lambda: scope.new_file())
late = scopes.open("late")
assert late.new_file().exists()
assert scope.close().skipped == 1
assert late.close().complete
storage.close()
assert os.listdir(root) == [".tempscope-root"]
""",
    "rm -rf of the scope": """
shutil.rmtree(os.path.dirname(path))
assert "removed or replaced" in raises(lambda: scope.new_file())
assert scope.close().complete
assert warnings == ["a scope's directory was removed by somebody else"], warnings
late = scopes.open()
assert late.new_file().exists()
late.close()
storage.close()
assert os.listdir(root) == [".tempscope-root"]
""",
    "rm -rf of the root": """
shutil.rmtree(root)
late = scopes.open("late")
assert late.new_file().exists()
assert os.path.exists(os.path.join(root, ".tempscope-root"))
assert scope.close().skipped == 1
assert late.close().complete
storage.close()
assert os.listdir(root) == [".tempscope-root"]
""",
    "a directory in the place of the instance": """
os.rename(home, home + "-moved")
shutil.copytree(outside, home)
os.mkdir(os.path.join(home, "a1"))
shutil.copy(os.path.join(outside, "precious"), os.path.join(home, "a1", "precious"))
late = scopes.open("late")
assert os.path.dirname(os.path.dirname(late.new_file())) != home
assert scope.close().skipped == 1
assert os.path.exists(os.path.join(home, "a1", "precious"))
assert os.path.exists(os.path.join(home + "-moved", "a1", os.path.basename(path)))
""",
    "a link in the place of the scope": """
directory = os.path.dirname(path)
os.rename(directory, home + "-moved")
os.symlink(outside, directory)
report = scope.close()
assert report.skipped == 1, report
assert os.path.exists(os.path.join(outside, "precious"))
""",
    "a parent of the root in another place": """
os.rename(base, base + "-moved")
os.symlink(outside, base)
scope.new_file()
assert scope.close().complete
storage.close()
assert os.listdir(os.path.join(base + "-moved", os.path.basename(root))) == [".tempscope-root"]
""",
    "registering after the descriptors were closed": """
others = close_descriptors()
victim = os.path.join(base, "victim")
open(victim, "w").close()
scope.register_file(victim)
with open(os.path.join(home, "journal")) as journal:
    assert victim in journal.read()
assert scope.close().complete
assert not os.path.exists(victim)
storage.close()
assert all(os.fstat(fd).st_size == 8 for fd in others)
""",
    "keeping after the descriptors were closed": """
others = close_descriptors()
kept = scope.keep(path)
assert kept.read_bytes() == b"content"
assert scope.close().complete
storage.close()
assert all(os.fstat(fd).st_size == 8 for fd in others)
""",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_lost_lease(tmp_path: Path, program: str) -> None:
    """
    L4, row 26, 46, 51: a lost lease is noticed, repaired or reported, and nothing foreign is touched.

    Trap 16: the directory with the locks is removed under us.
    """
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    done = subprocess.run(
        [sys.executable, "-c", SETUP + PROGRAMS[program], tmp_path / "base", outside],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (outside / "precious").read_bytes() == b"precious"
    assert os.listdir(outside) == ["precious"] or program == "a parent of the root in another place"
