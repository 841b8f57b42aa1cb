"""
What staging and publishing cost, as ratios to what does the same by hand, measured side by side in one run.

``python -m tests.benchmarks`` or ``python tests/benchmarks/bench_staging.py [DIRECTORY]``

The reflinks are measured on XFS and btrfs in loop files, for which one must be root.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from side_by_side import Contestants, Mark, measure, show

from tempscope import HardlinkStorage, LocalDiskStorage, TempFileManager, TempScopes


_FICLONE = 0x40049409
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_LARGE = 64 << 20
_SIZES = {"ext4": 256, "xfs": 320, "btrfs": 320}


def links(job: TempFileManager, source: Path) -> Contestants:
    """Stage by hard link, beside a bare ``os.link``; the names are given, and taken away by both."""
    directory, text = str(job.directory), str(source)
    names = map(str, itertools.count())

    def bare() -> None:
        target = f"{directory}/{next(names)}"
        os.link(text, target)

    def staged() -> object:
        return job.stage(source, name=next(names)).path

    return {"os.link": bare, "stage": staged}


def reflinks(job: TempFileManager, source: Path) -> Contestants:
    """Stage by reflink, beside a bare FICLONE into a new file."""
    directory, text = str(job.directory), str(source)
    names = map(str, itertools.count())

    def bare() -> None:
        reading = os.open(text, os.O_RDONLY | os.O_CLOEXEC)
        writing = os.open(f"{directory}/{next(names)}", _FLAGS, 0o600)
        fcntl.ioctl(writing, _FICLONE, reading)
        os.close(writing)
        os.close(reading)

    def staged() -> object:
        return job.stage(source, name=next(names)).path

    return {"FICLONE": bare, "stage": staged}


def copies(job: TempFileManager, source: Path) -> Contestants:
    """Stage a large file by copying, beside ``shutil.copyfile``; both take the copy away."""
    target = f"{job.directory}/by hand"

    def by_hand() -> None:
        shutil.copyfile(source, target)
        os.unlink(target)

    def staged() -> None:
        job.stage(source, name="staged", writable=True).path.unlink()

    return {"copyfile": by_hand, "stage": staged}


def publications(job: TempFileManager, out: Path) -> Contestants:
    """Publish durably, beside fsync, rename and fsync by hand; each makes and fills its file first."""
    directory = str(job.directory)
    names = map(str, itertools.count())

    def fill(path: str) -> int:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.write(fd, b"x" * 4096)
        return fd

    def by_hand() -> None:
        path = f"{directory}/{next(names)}"
        fd = fill(path)
        os.fsync(fd)
        os.close(fd)
        os.rename(path, out / "by hand")
        parent = os.open(out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fsync(parent)
        os.close(parent)

    def published() -> None:
        path = f"{directory}/{next(names)}"
        os.close(fill(path))
        job.publish(path, out / "published")

    return {"by hand": by_hand, "publish": published}


@contextlib.contextmanager
def file_system(kind: str, directory: str) -> Iterator[Path | None]:
    """Give a file system of its own in a loop file; None where there can be none."""
    image, place = Path(directory, f"{kind}.image"), Path(directory, kind)
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(_SIZES[kind] << 20)
    commands = [[f"mkfs.{kind}", "-q", str(image)], ["mount", "-o", "loop", str(image), str(place)]]
    try:
        for command in commands:
            subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "-d", str(place)], check=False)


def link_marks(base: Path) -> bool:
    """Compare hard links of a file of one KiB and one of ten GiB."""
    reached = []
    for title, size in (("1 KiB", 1 << 10), ("10 GiB, sparse", 10 << 30)):
        source = base / "source"
        source.unlink(missing_ok=True)
        with source.open("wb") as file:
            file.truncate(size)
        with HardlinkStorage(base, sweep_on_start=False) as storage, TempScopes(storage).open() as job:
            found = measure(links(job, source), 100)
        reached.append(show(f"A hard link, {title}", found, Mark("stage", "os.link", 8.0)))
    return all(reached)


def reflink_marks(directory: str) -> bool:
    """Compare reflinks, where there are any."""
    reached = []
    for kind in ("xfs", "btrfs"):
        with file_system(kind, directory) as place:
            if place is None:
                print(f"\nA reflink, {kind}: not measured, it cannot be made and mounted here")
                continue
            source = place / "source"
            source.write_bytes(os.urandom(1 << 20))
            with LocalDiskStorage(place, sweep_on_start=False) as storage, TempScopes(storage).open() as job:
                assert job.stage(source).method == "reflink"
                found = measure(reflinks(job, source), 50, 10)
            reached.append(show(f"A reflink, {kind}", found, Mark("stage", "FICLONE", 2.0)))
    return all(reached)


def main(directory: str | None = None) -> int:
    """Print all tables for a base directory in *directory*; return 0 if all marks are reached, else 1."""
    base = tempfile.mkdtemp(dir=directory)
    print(f"Python {sys.version.split()[0]}, files in {base}")
    try:
        reached = [link_marks(Path(base)), reflink_marks(base)]
        source, out = Path(base, "large"), Path(base, "out")
        source.write_bytes(os.urandom(_LARGE))
        out.mkdir()
        with LocalDiskStorage(base, sweep_on_start=False) as storage, TempScopes(storage).open() as job:
            job.new_file()
            found = measure(copies(job, source), 1, 15)
            reached.append(show(f"A copy of {_LARGE >> 20} MiB", found, Mark("stage", "copyfile", 1.0)))
            found = measure(publications(job, out), 5, 15)
            reached.append(show("A durable product", found, Mark("publish", "by hand", 1.2)))
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
