"""
Real file systems on loop files: made, mounted, and copied in the middle of it all as a power cut leaves them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


KINDS = {"ext4": "32M", "xfs": "300M", "btrfs": "112M"}
"""Each with the least size that it can be made of, or a little more."""

_OPTIONS = {"xfs": "nouuid"}  # a copy has the UUID of what it was copied from


def run(*command: str | Path) -> None:
    """Run a command of the system, and skip the test, saying why, if it cannot be."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"{command[0]} cannot be run: {error}")
    if done.returncode:
        pytest.skip(f"{command[0]} failed: {done.stderr.strip()}")


def make_image(kind: str, image: Path) -> None:
    """Make an empty file system in the new file *image*."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    with image.open("wb") as file:
        file.truncate(int(KINDS[kind][:-1]) << 20)
    run(f"mkfs.{kind}", "-q", image)


@contextmanager
def mounted(kind: str, image: Path, place: Path) -> Iterator[Path]:
    """Mount *image* at *place* for the block."""
    place.mkdir(exist_ok=True)
    run("mount", "-t", kind, "-o", ",".join(filter(None, ["loop", _OPTIONS.get(kind)])), image, place)
    try:
        yield place
    finally:
        # -d frees the loop device; busy is busy only for a moment, so not lazily.
        if subprocess.run(["umount", "-d", place], capture_output=True, check=False).returncode:
            subprocess.run(["umount", "-l", place], check=True)


def cut_power(image: Path, copy: Path) -> None:
    """Copy the image of a mounted file system as it is on the disk at this moment."""
    subprocess.run(["cp", "--sparse=always", image, copy], check=True)


@contextmanager
def made(kind: str, directory: Path) -> Iterator[Path]:
    """Make and mount an empty file system for the block; nothing of it stays."""
    image = directory / f"{kind}.image"
    make_image(kind, image)
    try:
        with mounted(kind, image, directory / kind) as place:
            yield place
    finally:
        image.unlink()
        shutil.rmtree(directory / kind)
