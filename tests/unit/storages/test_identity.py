"""What an outside path is: an inode that is made again at the same path is another one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tempscope.storages import _identity
from tempscope.storages._identity import Identity, identify

from .conftest import needs_root


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Path]:
    """A fresh ext4 file system, which gives a freed inode to the next file at once."""
    image, place = tmp_path / "image", tmp_path / "ext4"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(8 << 20)
    for command in (["mkfs.ext4", "-q", "-F", str(image)], ["mount", "-o", "loop", str(image), str(place)]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip(f"{command[0]} is not installed")
        if done.returncode:
            pytest.skip(f"{' '.join(command)} failed: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@needs_root
@pytest.mark.parametrize("told_by", ["birth", "handle"])
def test_a_file_made_again_in_the_same_inode_is_another(ext4, told_by):
    """On ext4 the same inode comes again at once; birth time tells it apart, and so does the handle alone."""
    path, reused = ext4 / "f", 0
    for _ in range(50):
        path.write_text("x")
        before = identify(str(path))
        path.unlink()
        path.write_text("y")
        after = identify(str(path))
        path.unlink()
        reused += (before.device, before.inode) == (after.device, after.inode)
        assert getattr(before, told_by) != getattr(after, told_by)
    assert reused


def test_a_file_stays_what_it_is(tmp_path):
    """
    Writing, renaming, linking and changing the mode leave the identity.

    A directory's descriptor leads there too.
    """
    path = tmp_path / "f"
    path.write_text("x")
    identity = identify(str(path))
    path.write_text("changed")
    path.chmod(0o600)
    path.rename(tmp_path / "g")
    os.link(tmp_path / "g", tmp_path / "h")
    fd = os.open(tmp_path, os.O_RDONLY)
    assert identify(str(tmp_path / "g")) == identify("h", dir_fd=fd) == identity
    os.close(fd)


def test_nothing_there_and_links(tmp_path):
    """Where nothing is there is no identity; a link is itself, not what it leads to."""
    assert identify(str(tmp_path / "none")) is None
    (tmp_path / "f").write_text("x")
    assert identify(str(tmp_path / "f" / "below")) is None
    (tmp_path / "link").symlink_to("f")
    assert identify(str(tmp_path / "link")).inode == (tmp_path / "link").lstat().st_ino
    (tmp_path / "dangling").symlink_to("none")
    assert identify(str(tmp_path / "dangling")) is not None
    with pytest.raises(OSError, match="name too long"):
        identify(str(tmp_path / ("n" * 300)))


numbers = st.integers(0, 10**23 - 1)


@given(numbers, numbers, numbers, st.binary(max_size=128))
def test_the_text_form_is_read_back(device, inode, birth, handle):
    """An identity's text is that identity again."""
    identity = Identity(device, inode, birth, handle.hex())
    assert Identity.parse(str(identity)) == identity


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":::",
        "1:2:3",
        "1:2:3:4:5",
        "a:2:3:",
        "-1:2:3:",
        "1:2:\u0663:",
        f"1:2:{'9' * 24}:",
        "1:2:3:xy",
        "1:2:3:AB",
        "1:2:3:" + "a" * 300,
    ],
)
def test_what_is_no_identity_is_none(text):
    """Row 103: any other text is None."""
    assert Identity.parse(text) is None


@given(st.text())
def test_any_text_has_an_answer(text):
    """Row 103: parsing is total."""
    identity = Identity.parse(text)
    assert identity is None or str(identity)


@pytest.fixture
def _fresh() -> Iterator[None]:
    """The system calls are looked for again."""
    _identity._kernel.cache_clear()
    yield
    _identity._kernel.cache_clear()


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("lack", ["platform", "library"])
def test_without_the_system_calls_there_is_no_birth_time(tmp_path, mocker, lack):
    """
    Elsewhere than on Linux, or with an old C library.

    Device and inode are all there is. Tested by a fake.
    """
    if lack == "platform":
        mocker.patch.object(_identity.sys, "platform", "darwin")
    else:
        mocker.patch.object(_identity._Kernel, "__init__", side_effect=AttributeError("statx"))
    status = tmp_path.stat()
    assert identify(str(tmp_path)) == Identity(status.st_dev, status.st_ino, 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="statx is Linux's")
def test_a_file_that_is_gone_or_another_has_no_birth_time_or_handle(tmp_path):
    """What the system calls cannot find, or find to be another inode, they tell nothing about."""
    kernel = _identity._kernel()
    name = os.fsencode(tmp_path / "none")
    assert (kernel.birth(-100, name, 1), kernel.handle(-100, name)) == (0, "")
    assert kernel.birth(-100, os.fsencode(tmp_path), tmp_path.stat().st_ino + 1) == 0
    proc = Path("/proc/self/status")
    assert kernel.birth(-100, os.fsencode(proc), proc.stat().st_ino) == 0
