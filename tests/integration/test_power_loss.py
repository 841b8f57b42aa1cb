"""
Power cuts while something is published: the disk has the old product or the new, whole.

A power cut is a copy of the file system's image, made without unmounting it, and mounted.
Nothing that the kernel still holds in memory is in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.integration.images import KINDS, cut_power, make_image, mounted

from tempscope import HardlinkStorage, TempFileManager, TempScopes


OLD, NEW = b"old" * 40_000, b"new!" * 60_000
MOMENTS = ("written", "synced", "renamed", "published")
STATES = [(moment, commit) for moment in MOMENTS for commit in (False, True)]
BOUNDED = [("synced", True), ("renamed", True), ("published", False)]


@attrs.define(eq=False)
class Machine:
    """A file system, and the calls at which its power is cut; lives for one test."""

    image: Path
    place: Path
    cuts: list[Path] = attrs.Factory(list)
    moment: str = ""
    commit: bool = False

    @property
    def out(self) -> Path:
        """Where products go."""
        return self.place / "out"

    def reached(self, moment: str) -> None:
        """Cut the power if it is to be cut now: once for each publication."""
        if self.moment != moment:
            return
        self.moment = ""
        if self.commit:
            # Somebody else's file is synced, which may bring half of ours along.
            with (self.place / "unrelated").open("wb") as file:
                file.write(os.urandom(5_000))
                file.flush()
                self.fsync(file.fileno())
        cut = self.image.with_name(f"cut-{len(self.cuts)}")
        cut_power(self.image, cut)
        self.cuts.append(cut)

    fsync: Callable[[int], None] = os.fsync


@pytest.fixture(params=KINDS)
def machine(request: pytest.FixtureRequest, tmp_path: Path, mocker: Any) -> Iterator[Machine]:
    """A machine with each file system in turn, whose syncs and renames are moments."""
    image = tmp_path / "image"
    make_image(request.param, image)
    with mounted(request.param, image, tmp_path / "disk") as place:
        machine = Machine(image, place)
        machine.out.mkdir()
        fsync, rename = os.fsync, os.rename

        def synced(fd: int) -> None:
            machine.reached("written")
            fsync(fd)
            machine.reached("synced")

        def renamed(*args: Any, **kwargs: Any) -> None:
            rename(*args, **kwargs)
            machine.reached("renamed")

        mocker.patch.object(os, "fsync", synced)
        mocker.patch.object(os, "rename", renamed)
        yield machine
    for cut in machine.cuts:
        cut.unlink()


def settle(machine: Machine, name: str) -> Path:
    """Put the old product in its place, to stay."""
    path = machine.out / name
    with path.open("wb") as file:
        file.write(OLD)
        file.flush()
        machine.fsync(file.fileno())
    fd = os.open(machine.out, os.O_RDONLY)
    machine.fsync(fd)
    os.close(fd)
    return path


def after(machine: Machine, kind: str, cut: Path, look: Callable[[Path], Any]) -> Any:
    """Mount the image of a power cut, and return what *look* sees in the products' directory."""
    with mounted(kind, cut, cut.with_name("after")) as place:
        return look(place / "out")


def publications(machine: Machine, states: list[tuple[str, bool]], job: Any) -> Iterator[tuple[str, Path]]:
    """Give a name and an old product for each state, the machine being ready to lose its power there."""
    for number, (moment, commit) in enumerate(states):
        name = f"product-{number}"
        path = settle(machine, name)
        machine.moment, machine.commit = moment, commit
        yield moment, path
        machine.reached("published")


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """Which file system it is."""
    return str(request.node.callspec.params["machine"])


@pytest.fixture
def states(full: bool) -> list[tuple[str, bool]]:
    """Where the power is cut: everywhere, or where it matters most."""
    return STATES if full else BOUNDED


@pytest.fixture
def job(machine: Machine) -> Iterator[TempFileManager]:
    """A job on the machine."""
    with HardlinkStorage(machine.place / "base") as storage, TempScopes(storage).open() as job:
        job.new_file()
        yield job


@pytest.mark.parametrize("way", ["rename", "copy"])
def test_a_durable_product_is_old_or_new(
    machine: Machine, kind: str, states: list[tuple[str, bool]], job: TempFileManager, way: str
) -> None:
    """P6, row 9: at every moment the product is the old or the new, whole; once published it is the new."""
    moments = []
    for moment, product in publications(machine, states, job):
        path = job.new_file()
        path.write_bytes(NEW)
        if way == "copy":
            os.link(path, path.with_suffix(".alias"))
        job.publish(path, product)
        moments.append((moment, product.name))
    assert len(machine.cuts) == len(moments)
    for cut, (moment, name) in zip(machine.cuts, moments, strict=True):
        found = after(machine, kind, cut, lambda out, name=name: (out / name).read_bytes())
        assert found in ((NEW,) if moment == "published" else (OLD, NEW)), (moment, len(found))


def test_a_durable_directory_is_there_whole_or_not(
    machine: Machine, kind: str, states: list[tuple[str, bool]], job: TempFileManager
) -> None:
    """Row 9, for directories: it is not there, or whole with all its files; once published it is there."""
    moments = []
    for moment, product in publications(machine, states, job):
        product.unlink()
        top = job.new_dir()
        (top / "sub").mkdir()
        for name in ("one", "sub/two"):
            (top / name).write_bytes(NEW)
        job.publish(top, product)
        moments.append((moment, product.name))
    assert len(machine.cuts) == len(moments)
    for cut, (moment, name) in zip(machine.cuts, moments, strict=True):

        def look(out: Path, name: str = name) -> list[bytes] | None:
            if not (out / name).is_dir():
                return None
            return [(out / name / each).read_bytes() for each in ("one", "sub/two")]

        found = after(machine, kind, cut, look)
        assert found in (([NEW, NEW],) if moment == "published" else (None, [NEW, NEW])), moment


@pytest.mark.full
def test_an_undurable_product_is_never_another(machine: Machine, kind: str, job: TempFileManager) -> None:
    """Row 10: not durable, a product may be old, new or short after a power cut; no name of ours stays."""
    for moment, product in publications(machine, [("published", True)], job):
        path = job.new_file()
        path.write_bytes(NEW)
        job.publish(path, product, durable=False)
        assert moment == "published"
    for cut in machine.cuts:
        names = after(machine, kind, cut, lambda out: sorted(os.listdir(out)))
        assert set(names) <= {"product-0"}
