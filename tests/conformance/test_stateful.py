"""Our storages against a dictionary, in random sequences of calls."""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tempscope import LocalDiskStorage, MemoryStorage
from tempscope.testing import stateful
from tempscope.testing.stateful import StorageMachine

from .breaking import Storage
from .broken_1_to_4 import CountsTrees, GreetsInNewFiles, LeavesANote


class MemoryMachine(StorageMachine):
    def make_storage(self):
        return MemoryStorage()


class DiskMachine(StorageMachine):
    def make_storage(self):
        self.base = tempfile.mkdtemp()
        return LocalDiskStorage(self.base)

    def teardown(self):
        super().teardown()
        shutil.rmtree(self.base)


class SpillingMachine(StorageMachine):
    def make_storage(self):
        self.base = tempfile.mkdtemp()
        self.disk = LocalDiskStorage(self.base)
        return MemoryStorage(spill_to=self.disk, spill_above=32)

    def teardown(self):
        super().teardown()
        self.disk.close()
        shutil.rmtree(self.base)


TestMemory = MemoryMachine.TestCase
TestDisk = DiskMachine.TestCase
TestSpilling = SpillingMachine.TestCase


@pytest.mark.parametrize(
    "area_class", [CountsTrees, GreetsInNewFiles, LeavesANote], ids=lambda cls: cls.__name__
)
def test_the_machine_bites(area_class: type) -> None:
    """A broken storage is caught by the state machine too."""

    class Broken(Storage):
        pass

    Broken.area_class = area_class

    class BrokenMachine(StorageMachine):
        def make_storage(self):
            return Broken(MemoryStorage())

    with pytest.raises(AssertionError):
        run_state_machine_as_test(BrokenMachine)


def test_without_hypothesis_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without hypothesis the import says what is missing and how to get it."""
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.setitem(sys.modules, "hypothesis.strategies", None)
    with pytest.raises(ImportError, match="needs hypothesis, which is not installed: pip install hypothesis"):
        importlib.reload(stateful)
