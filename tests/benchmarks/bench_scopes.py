"""
What a scope costs, as ratios measured side by side in one run.

``python -m tests.benchmarks`` or ``python tests/benchmarks/bench_scopes.py [DIRECTORY]``
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator

from side_by_side import Contestants, Mark, measure, show

from tempscope import LocalDiskStorage, TempScopes


_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def empty_scopes(scopes: TempScopes) -> Contestants:
    """A scope without files, beside the cheapest thing that has an end."""

    def scope() -> None:
        with scopes.open():
            pass

    def stack() -> None:
        with contextlib.ExitStack():
            pass

    return {"ExitStack": stack, "empty scope": scope}


@contextlib.contextmanager
def single_files(scopes: TempScopes) -> Iterator[Contestants]:
    """
    Create and delete an empty file: by system calls, by us, by the standard library.

    All in one directory: on ext4 what an inode costs depends on how full its directory's group is.
    """

    def raw() -> None:
        os.close(os.open(path, _FLAGS, 0o600))
        os.unlink(path)

    def named() -> None:
        with tempfile.NamedTemporaryFile(dir=directory):
            pass

    with scopes.open() as job:
        directory = job.directory
        path = str(directory / "raw")

        def block() -> None:
            with job.create_temp_file():
                pass

        yield {"system calls": raw, "create_temp_file": block, "NamedTemporaryFile": named}


def scopes_with_a_file(scopes: TempScopes, directory: str) -> Contestants:
    """A scope with one file, crash-proof, beside a temporary directory with one."""

    def scope() -> None:
        with scopes.open() as job:
            job.new_file()

    def temporary_directory() -> None:
        with tempfile.TemporaryDirectory(dir=directory) as made:
            os.close(os.open(f"{made}/file", _FLAGS, 0o600))

    return {"TemporaryDirectory": temporary_directory, "scope with a file": scope}


def main(directory: str | None = None) -> int:
    """Print all tables for a base directory in *directory*; return 0 if all marks are reached, else 1."""
    base = tempfile.mkdtemp(dir=directory)
    storage = LocalDiskStorage(base, sweep_on_start=False)
    scopes = TempScopes(storage)
    print(f"Python {sys.version.split()[0]}, files in {base}")
    try:
        reached = [
            show(
                "An empty scope",
                measure(empty_scopes(scopes), 2000),
                Mark("empty scope", "ExitStack", 6.0),
            )
        ]
        with single_files(scopes) as files:
            reached.append(
                show(
                    "An empty file, created and deleted in an open scope",
                    measure(files, 300),
                    Mark("create_temp_file", "system calls", 2.0, 1.6),
                    Mark("create_temp_file", "NamedTemporaryFile", 1 / 1.5),
                )
            )
        reached.append(
            show(
                "A scope with one file",
                measure(scopes_with_a_file(scopes, base), 100),
                Mark("scope with a file", "TemporaryDirectory", 1.0),
            )
        )
    finally:
        storage.close()
        shutil.rmtree(base, ignore_errors=True)
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
