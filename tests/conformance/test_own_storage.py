"""The example's storage, which can do only what it must, keeps the contract."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from tempscope.testing import StorageContract


EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own_storage" / "scratch_storage.py"


@pytest.fixture
def module(monkeypatch):
    """The module of the example, which is in no package."""
    spec = importlib.util.spec_from_file_location("scratch_storage", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "scratch_storage", module)
    spec.loader.exec_module(module)
    return module


class TestScratchStorage(StorageContract):
    @pytest.fixture
    def storage(self, module, tmp_path):
        with module.ScratchStorage(tmp_path) as storage:
            yield storage
